//go:build unix

package plugins_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// probers are the built-in ones by name.
var probers = map[string]probe.Prober{"udp": udp.Prober{}, "icmp": icmp.Prober{}, "tcp": tcp.Prober{}}

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

const batch = 1024

func BenchmarkBuild(b *testing.B) {
	for _, name := range []string{"udp", "icmp", "tcp"} {
		for _, trace := range []bool{true, false} {
			ps := sweep(batch, trace, false)
			kind := map[bool]string{true: "trace", false: "sweep"}[trace]
			b.Run(fmt.Sprintf("%s/%s/inprocess", name, kind), func(b *testing.B) {
				var buf []byte
				for b.Loop() {
					for i := range ps {
						buf, _ = probers[name].Build(buf[:0], &ps[i])
					}
				}
				perItem(b)
			})
			b.Run(fmt.Sprintf("%s/%s/plugin", name, kind), func(b *testing.B) {
				p := open(b, config(b, name))
				out := make([]probe.Built, len(ps))
				for b.Loop() {
					require.NoError(b, p.BuildAll(b.Context(), ps, out))
				}
				perItem(b)
			})
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, name := range []string{"udp", "icmp", "tcp"} {
		var answers [][]byte
		for _, p := range sweep(batch, false, false) {
			d, err := probers[name].Build(nil, &p)
			require.NoError(b, err)
			answers = append(answers, probetest.DirectAnswers(d)[0])
		}
		b.Run(name+"/inprocess", func(b *testing.B) {
			var a probe.Answer
			for b.Loop() {
				for _, d := range answers {
					probers[name].Match(d, &a)
				}
			}
			perItem(b)
		})
		b.Run(name+"/plugin", func(b *testing.B) {
			p := open(b, config(b, name))
			out := make([]probe.Matched, len(answers))
			for b.Loop() {
				require.NoError(b, p.MatchAll(b.Context(), answers, out))
			}
			require.True(b, out[0].OK)
			perItem(b)
		})
	}
}

func perItem(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/item")
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		p, err := plugins.Open(b.Context(), config(nil, "udp"))
		require.NoError(b, err)
		require.NoError(b, p.Close())
	}
}
