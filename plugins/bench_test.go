//go:build unix

package plugins_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
)

const batch = 1024

// sweep returns n probes: of a trace to one destination, or each to another.
func sweep(n int, trace, v6 bool) []probe.Probe {
	ps := make([]probe.Probe, n)
	for i := range ps {
		p := probe.Probe{
			ID: uint16(i + 1), Key: probe.Key{1, 2, 3}, DstPort: 33434, TTL: uint8(1 + i%30), Flow: uint8(i % 16),
			Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.AddrFrom4([4]byte{198, 18, 0, 1}),
		}
		if !trace {
			p.Dst = netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		}
		if v6 {
			p.Src = netip.MustParseAddr("2001:db8::1")
			dst := p.Dst.As4()
			p.Dst = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 12: dst[0], dst[1], dst[2], dst[3]})
		}
		ps[i] = p
	}
	return ps
}

// compare measures a batch by the plugin of a type, and says what one of its
// probes costs and how many times as much as in process.
func compare(b *testing.B, inprocess, plugin func()) {
	began, n := time.Now(), 0
	for ; time.Since(began) < 50*time.Millisecond; n++ {
		inprocess()
	}
	here := time.Since(began) / time.Duration(n)
	for b.Loop() {
		plugin()
	}
	there := b.Elapsed() / time.Duration(b.N)
	b.ReportMetric(float64(there.Nanoseconds())/batch, "ns/probe")
	b.ReportMetric(float64(here.Nanoseconds())/batch, "ns/inprocess")
	b.ReportMetric(float64(there)/float64(here), "times")
}

func BenchmarkBuild(b *testing.B) {
	for _, mode := range []string{"udp", "icmp", "tcp"} {
		for kind, trace := range map[string]bool{"trace": true, "sweep": false} {
			b.Run(mode+"/"+kind, func(b *testing.B) {
				p := open(b, config(b, mode))
				ps, out := sweep(batch, trace, false), make([]probe.Built, batch)
				typ, buf := types[mode], []byte(nil)
				compare(b, func() {
					for i := range ps {
						buf, _ = typ.Build(buf[:0], &ps[i])
					}
				}, func() { require.NoError(b, p.BuildAll(b.Context(), ps, out)) })
			})
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, mode := range []string{"udp", "icmp", "tcp"} {
		b.Run(mode, func(b *testing.B) {
			p := open(b, config(b, mode))
			typ, out := types[mode], make([]probe.Matched, batch)
			var answers [][]byte
			for _, p := range sweep(batch, false, false) {
				d, err := typ.Build(nil, &p)
				require.NoError(b, err)
				answers = append(answers, probetest.DirectAnswers(d)[0])
			}
			compare(b, func() {
				var a probe.Answer
				for _, d := range answers {
					typ.Match(d, &a)
				}
			}, func() { require.NoError(b, p.MatchAll(b.Context(), answers, out)) })
			require.True(b, out[0].OK)
		})
	}
}

// One probe at a time costs a way to the plugin and back each.
func BenchmarkBuildOne(b *testing.B) {
	p := open(b, config(b, "udp"))
	var buf []byte
	for b.Loop() {
		var err error
		buf, err = p.Build(buf[:0], probeTo(fine))
		require.NoError(b, err)
	}
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		p, err := plugins.Open(b.Context(), config(nil, "udp"))
		require.NoError(b, err)
		require.NoError(b, p.Close())
	}
}
