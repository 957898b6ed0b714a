//go:build unix

package plugins_test

import (
	"context"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
)

// sameBuild makes sure that a plugin builds what the type builds in process,
// and refuses in the same words.
func sameBuild(t *testing.T, p *plugins.Plugin, typ probe.Prober, ps []probe.Probe) [][]byte {
	t.Helper()
	out := make([]probe.Built, len(ps))
	require.NoError(t, p.BuildAll(context.Background(), ps, out))
	var built [][]byte
	for i := range ps {
		want, err := typ.Build(nil, &ps[i])
		if err != nil {
			require.EqualError(t, out[i].Err, err.Error())
			require.ErrorIs(t, out[i].Err, probe.ErrProbe)
			continue
		}
		require.NoError(t, out[i].Err)
		if string(want) != string(out[i].Data) {
			require.Equal(t, want, out[i].Data, "%+v", ps[i])
		}
		built = append(built, out[i].Data)
	}
	return built
}

// sameMatch makes sure that a plugin knows the answers that the type knows in
// process, and reads them alike. It returns how many.
func sameMatch(t *testing.T, p *plugins.Plugin, typ probe.Prober, datagrams [][]byte) (known int) {
	t.Helper()
	out := make([]probe.Matched, len(datagrams))
	require.NoError(t, p.MatchAll(context.Background(), datagrams, out))
	for i, d := range datagrams {
		var want probe.Matched
		if want.OK = typ.Match(d, &want.Answer); want.OK {
			known++
			want.Answer.Values = probe.CleanValues(want.Answer.Values)
		} else {
			want.Answer = probe.Answer{}
		}
		require.Equal(t, want, out[i], "%x", d)
	}
	return known
}

func TestSameAsInProcess(t *testing.T) {
	for mode, typ := range types {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := open(t, config(t, mode))
			var answers [][]byte
			for _, v6 := range []bool{false, true} {
				ps := everyIdentifier(v6)
				if raceEnabled || mode == "hello" || mode == "ping" || mode == "batcher" {
					ps = ps[:9_000]
				}
				for i, b := range sameBuild(t, p, typ, ps) {
					if i%16 == 0 && len(b) < 200 {
						answers = append(answers, probetest.DirectAnswers(b)...)
						answers = append(answers, timeExceeded(t, &ps[i], b), timeExceeded(t, &ps[i], b[:len(b)-len(b)/4]))
					}
				}
			}
			require.Greater(t, sameMatch(t, p, typ, answers), len(answers)*9/10)
			sameMatch(t, p, typ, damaged(answers[:40]))
			sameBuild(t, p, typ, impossible())
		})
	}
}

// everyIdentifier returns a probe for each, of all sorts.
func everyIdentifier(v6 bool) []probe.Probe {
	rnd := rand.New(rand.NewPCG(3, 4))
	ps := make([]probe.Probe, math.MaxUint16)
	for i := range ps {
		p := *probeTo(33434)
		p.ID, p.TTL, p.TOS, p.Flow = uint16(i+1), uint8(1+rnd.IntN(255)), uint8(rnd.Uint32()>>6), uint8(rnd.Uint32())
		if v6 {
			p.Src, p.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		}
		switch i / 1000 % 8 { // changes seldom, as in a measurement
		case 1:
			p.Key[0] = byte(i / 1000)
		case 2:
			p.DontFragment = true
		case 3:
			p.Dst = p.Dst.Next()
		case 4:
			dst := p.Dst.AsSlice()
			dst[len(dst)-1] = byte(2 + rnd.IntN(200))
			p.Dst, _ = netip.AddrFromSlice(dst)
		case 5:
			p.DstPort = uint16(rnd.Uint32())
		case 6:
			p.Mode = probe.Classic
		case 7:
			p.Size = []int{44, 60, 64, 100}[i%4]
		}
		ps[i] = p
	}
	for i := 0; i < len(ps); i += 5000 {
		ps[i].Size = []int{1500, 9000, 65000}[i/5000%3]
	}
	return ps
}

// impossible returns probes that no prober builds.
func impossible() (ps []probe.Probe) {
	for _, edit := range []func(p *probe.Probe){
		func(p *probe.Probe) { p.ID = 0 },
		func(p *probe.Probe) { p.TTL = 0 },
		func(p *probe.Probe) { p.Mode = 77 },
		func(p *probe.Probe) { p.Size = 1 },
		func(p *probe.Probe) { p.Size = -5 },
		func(p *probe.Probe) { p.Size = math.MinInt },
		func(p *probe.Probe) { p.Size = math.MaxInt },
		func(p *probe.Probe) { p.Src = netip.Addr{} },
		func(p *probe.Probe) { p.Dst = netip.Addr{} },
		func(p *probe.Probe) { p.Src, p.Dst = netip.Addr{}, netip.Addr{} },
		func(p *probe.Probe) { p.Src = netip.IPv4Unspecified() },
		func(p *probe.Probe) { p.Dst = netip.MustParseAddr("::ffff:192.0.2.1") },
		func(p *probe.Probe) { p.Dst = netip.MustParseAddr("2001:db8::1") },
	} {
		p := *probeTo(33434)
		edit(&p)
		ps = append(ps, p)
	}
	return ps
}

// damaged returns datagrams cut and changed in all sorts of ways.
func damaged(datagrams [][]byte) (all [][]byte) {
	all = append(all, nil, []byte{}, make([]byte, 70_000))
	for _, d := range datagrams {
		for n := range d {
			all = append(all, d[:n])
			for _, bit := range []byte{1, 0x10, 0x80} {
				b := slices.Clone(d)
				b[n] ^= bit
				all = append(all, b)
			}
		}
	}
	return all
}

// timeExceeded returns the error of a router that quotes a probe.
func timeExceeded(t *testing.T, p *probe.Probe, quote []byte) []byte {
	t.Helper()
	if p.Dst.Is6() {
		router := netip.MustParseAddr("2001:db8:f::1")
		msg, err := packet.AppendICMPv6Error(nil, packet.ICMPError{Type: packet.ICMPv6TimeExceeded, Quote: quote}, router, p.Src)
		require.NoError(t, err)
		h := packet.IPv6{HopLimit: 60, Protocol: probe.ICMPv6, Src: router, Dst: p.Src}
		b, err := h.Append(nil, len(msg))
		require.NoError(t, err)
		return append(b, msg...)
	}
	msg, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: packet.ICMPv4TimeExceeded, Quote: quote})
	require.NoError(t, err)
	h := packet.IPv4{TTL: 60, Protocol: probe.ICMP, Src: netip.MustParseAddr("203.0.113.1"), Dst: p.Src}
	b, err := h.Append(nil, len(msg))
	require.NoError(t, err)
	return append(b, msg...)
}

// A batch is as good as single calls, whatever its length.
func TestBatches(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "udp"))
	for _, n := range []int{0, 1, 2, 255, 256, 257, 1024, 1025, 5000} {
		ps := everyIdentifier(false)[:n]
		built := sameBuild(t, p, types["udp"], ps)
		var answers [][]byte
		for _, b := range built {
			answers = append(answers, probetest.DirectAnswers(b)[0])
		}
		require.Equal(t, len(built), sameMatch(t, p, types["udp"], answers))
	}
	// Long ones need more messages.
	ps := make([]probe.Probe, 300)
	for i := range ps {
		ps[i] = *probeTo(33434)
		ps[i].ID, ps[i].Size = uint16(i+1), []int{65000, 1500, 0}[i%3]
	}
	built := sameBuild(t, p, types["udp"], ps)
	var answers [][]byte
	for _, b := range built {
		answers = append(answers, probetest.DirectAnswers(b)[0])
	}
	require.Equal(t, 300, sameMatch(t, p, types["udp"], answers))
	require.Zero(t, p.State().Restarts)
}
