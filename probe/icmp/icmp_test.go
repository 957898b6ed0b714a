package icmp_test

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wiretest"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

func families(t *testing.T, f func(t *testing.T, v6 bool)) {
	t.Run("IPv4", func(t *testing.T) { f(t, false) })
	t.Run("IPv6", func(t *testing.T) { f(t, true) })
}

func protocol(v6 bool) uint8 {
	if v6 {
		return probe.ICMPv6
	}
	return probe.ICMP
}

func TestBuildWire(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		p.Flow = 3
		b := wiretest.Build(t, icmp.Prober{}, p)
		wiretest.RequireChecksums(t, b, protocol(v6))
		h, _, err := packet.ParseICMP(b[wiretest.HeaderLen(v6):])
		require.NoError(t, err)
		require.Equal(t, []any{uint16(0xF003), p.ID, uint16(0xF003)}, []any{h.ID(), h.Seq(), h.Checksum})
		if v6 {
			require.Len(t, b, 80)
			require.Equal(t, packet.ICMPv6Echo, h.Type)
			return
		}
		require.Len(t, b, 60)
		require.Equal(t, packet.ICMPv4Echo, h.Type)
		require.Equal(t, probe.Tag16(p.Tag(probe.ICMP)), wiretest.Word(b, 4), "identification")
	})
}

// Every probe has valid checksums, and the first four bytes of its ICMP
// message and its identifier are constant along the flow.
func TestBuildChecksums(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		at, least := wiretest.HeaderLen(v6), wiretest.HeaderLen(v6)+18
		rnd := rand.New(rand.NewPCG(3, 4))
		flows := map[uint8]string{}
		distinct := map[string]bool{}
		var b []byte
		for id := 1; id <= 0xFFFF; id++ {
			p.ID = uint16(id)
			p.Flow = uint8(rnd.Uint32())
			p.TTL = uint8(1 + rnd.IntN(255))
			p.Size = least + rnd.IntN(80)
			var err error
			b, err = icmp.Prober{}.Build(b[:0], p)
			require.NoError(t, err)
			require.Len(t, b, p.Size)
			wiretest.RequireChecksums(t, b, protocol(v6))
			fields := string(b[at : at+6])
			if v6 {
				fields += string(b[1:4]) + string(b[8:40])
			} else {
				fields += string(b[12:20])
			}
			if first, ok := flows[p.Flow]; ok {
				require.Equal(t, first, fields)
			}
			flows[p.Flow], distinct[fields] = fields, true
		}
		require.Len(t, distinct, 256)
	})
}

func TestBuildRefuses(t *testing.T) {
	cases := []struct {
		name string
		edit func(p *probe.Probe)
		text string
	}{
		{"ID", func(p *probe.Probe) { p.ID = 0 }, "ID 0, want 1 to 65535"},
		{"TTL", func(p *probe.Probe) { p.TTL = 0 }, "TTL 0, want 1 to 255"},
		{"classic", func(p *probe.Probe) { p.Mode = probe.Classic }, "flow mode classic with prober icmp"},
		{"small", func(p *probe.Probe) { p.Size = 37 }, "size 37, want 38 to 65000"},
		{"large", func(p *probe.Probe) { p.Size = 70000 }, "size 70000"},
		{"small IPv6", func(p *probe.Probe) { p.Src, p.Dst, p.Size = wiretest.Src6, wiretest.Dst6, 57 }, "size 57, want 58 to 65000"},
		{"mixed", func(p *probe.Probe) { p.Dst = wiretest.Dst6 }, "want one family"},
		{"no source", func(p *probe.Probe) { p.Src = probe.Probe{}.Src }, "source invalid IP"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := wiretest.Probe(false)
			c.edit(p)
			b, err := icmp.Prober{}.Build([]byte("kept"), p)
			require.ErrorIs(t, err, probe.ErrProbe)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, "kept", string(b))
		})
	}
}

func TestMatchError(t *testing.T) {
	ext := wiretest.LabelsExtension(t)
	whole := func(_ *testing.T, b []byte) []byte { return b }
	first := func(n int) func(*testing.T, []byte) []byte {
		return func(_ *testing.T, b []byte) []byte { return b[:n] }
	}
	cases := []struct {
		name  string
		v6    bool
		size  int
		quote func(t *testing.T, b []byte) []byte
		ext   []byte
		bits  uint8
	}{
		{name: "8 bytes", quote: first(28), bits: 16},
		{name: "cut in the tag", quote: first(37), bits: 16},
		{name: "just whole", quote: first(38), bits: 64},
		{name: "smallest", size: 38, quote: whole, bits: 64},
		{name: "whole", quote: whole, bits: 64},
		{name: "total length beyond the quote", size: 1500, quote: first(548), bits: 64},
		{name: "options", quote: func(t *testing.T, b []byte) []byte { return wiretest.WithIPv4Options(t, b) }, bits: 64},
		{name: "options, 8 bytes", quote: func(t *testing.T, b []byte) []byte { return wiretest.WithIPv4Options(t, b)[:32] }, bits: 16},
		{name: "labels", quote: whole, ext: ext, bits: 64},
		{name: "8 bytes padded, labels", quote: first(28), ext: ext, bits: 16},
		{name: "cut in the tag and padded, labels", quote: first(35), ext: ext, bits: 16},
		{name: "swapped, 8 bytes", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetID(b, bits.ReverseBytes16(wiretest.Word(b, 4)))[:28]
		}, bits: 16},
		{name: "one too high, 8 bytes", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetID(b, wiretest.Word(b, 4)+1)[:28]
		}, bits: 16},
		{name: "identification rewritten", quote: func(_ *testing.T, b []byte) []byte { return wiretest.SetID(b, 7) }, bits: 64},
		{name: "checksum zeroed", quote: func(_ *testing.T, b []byte) []byte { return wiretest.SetWord(b, 22, 0) }, bits: 64},
		{name: "IPv6 just whole", v6: true, quote: first(58), bits: 64},
		{name: "IPv6 whole", v6: true, quote: whole, bits: 64},
		{name: "IPv6 labels", v6: true, quote: whole, ext: ext, bits: 64},
		{name: "IPv6 extension headers", v6: true, quote: func(t *testing.T, b []byte) []byte { return wiretest.WithExtensionHeaders(t, b) }, bits: 64},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := wiretest.Probe(c.v6)
			p.Size = c.size
			quote := c.quote(t, wiretest.Build(t, icmp.Prober{}, p))
			a := probe.Answer{Tag: 1, MPLS: []probe.Label{{}}, Swappable: true, MTU: 3}
			require.True(t, icmp.Prober{}.Match(wiretest.TimeExceeded(t, p, quote, c.ext), &a))
			require.Equal(t, p.ID, a.ID)
			require.True(t, a.Verified(&wiretest.Key, p.ID))
			require.False(t, a.Verified(&wiretest.Other, p.ID))
			require.False(t, a.Verified(&wiretest.Key, p.ID+1))
			require.Equal(t, c.bits, a.TagBits)
			require.Equal(t, c.bits == 16, a.Swappable)
			if c.ext != nil {
				require.Equal(t, wiretest.Labels, a.MPLS)
			} else {
				require.Nil(t, a.MPLS)
			}
			require.Equal(t, []any{protocol(c.v6), probe.TimeExceeded, uint32(0)}, []any{a.Protocol, a.Kind, a.MTU})
			require.Equal(t, []any{p.Dst, p.Src, wiretest.Router(p)}, []any{a.Dst, a.Src, a.From})
			require.Equal(t, []uint8{61, 7, 2}, []uint8{a.TTL, a.QuotedTTL, a.QuotedTOS})
		})
	}
}

// reply returns the echo reply to a probe.
func reply(t testing.TB, p *probe.Probe, b []byte) []byte {
	v6 := p.Dst.Is6()
	msg := bytes.Clone(b[wiretest.HeaderLen(v6):])
	msg[0] = packet.ICMPv4EchoReply
	if v6 {
		msg[0] = packet.ICMPv6EchoReply
	}
	old := wiretest.Word(b, wiretest.HeaderLen(v6))
	sum := packet.UpdateChecksum(wiretest.Word(msg, 2), old, wiretest.Word(msg, 0))
	return wiretest.Wrap(t, p.Dst, p.Src, protocol(v6), wiretest.SetWord(msg, 2, sum))
}

func TestMatchReply(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		d := reply(t, p, wiretest.Build(t, icmp.Prober{}, p))
		wiretest.RequireChecksums(t, d, protocol(v6))
		var a probe.Answer
		require.True(t, icmp.Prober{}.Match(d, &a))
		require.Equal(t, []any{p.ID, probe.EchoReply, p.Dst, p.Src, p.Dst, uint8(61)}, []any{a.ID, a.Kind, a.Dst, a.Src, a.From, a.TTL})
		require.True(t, a.Verified(&wiretest.Key, p.ID))
		require.False(t, a.Verified(&wiretest.Other, p.ID))

		damaged := bytes.Clone(d)
		damaged[len(damaged)-1] ^= 0x10
		require.True(t, icmp.Prober{}.Match(damaged, &a), "a damaged answer is counted")
		require.Zero(t, a.TagBits)

		require.True(t, icmp.Prober{}.Match(d[:wiretest.HeaderLen(v6)+12], &a))
		require.Zero(t, a.TagBits, "no tag came back")

		at := wiretest.HeaderLen(v6)
		require.False(t, icmp.Prober{}.Match(wiretest.SetWord(d, at+4, 0x1234), &a), "somebody's ping")
		require.False(t, icmp.Prober{}.Match(wiretest.SetWord(d, at+6, 0), &a), "identifier 0")
		require.Zero(t, a)
	})
}

func TestMatchRefuses(t *testing.T) {
	p := wiretest.Probe(false)
	b := wiretest.Build(t, icmp.Prober{}, p)
	whole := wiretest.TimeExceeded(t, p, b, nil)
	p6 := wiretest.Probe(true)
	b6 := wiretest.Build(t, icmp.Prober{}, p6)
	v4InV6 := wiretest.Wrap(t, wiretest.Router6, p6.Src, probe.ICMP, wiretest.TimeExceeded(t, p, b, nil)[20:])
	cases := map[string][]byte{
		"nothing":              nil,
		"the probe itself":     b,
		"the IPv6 probe":       b6,
		"an identifier":        wiretest.TimeExceeded(t, p, wiretest.SetWord(b, 24, 0xEFFF), nil),
		"sequence 0":           wiretest.TimeExceeded(t, p, wiretest.SetWord(b, 26, 0), nil),
		"an echo reply quoted": wiretest.TimeExceeded(t, p, wiretest.SetWord(b, 20, 0), nil),
		"7 bytes":              wiretest.TimeExceeded(t, p, b[:27], nil),
		"a later fragment":     wiretest.SetWord(whole, 6, 1),
		"ICMP over IPv6":       v4InV6,
	}
	for name, datagram := range cases {
		a := probe.Answer{ID: 5, Kind: probe.Reset}
		require.False(t, icmp.Prober{}.Match(datagram, &a), name)
		require.Zero(t, a, name)
	}
}

func TestAllocations(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		b := wiretest.Build(t, icmp.Prober{}, p)
		d, r := wiretest.TimeExceeded(t, p, b, nil), reply(t, p, b)
		var a probe.Answer
		var pr probe.Prober = icmp.Prober{}
		require.Zero(t, testing.AllocsPerRun(100, func() { b, _ = pr.Build(b[:0], p) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { pr.Match(d, &a) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { pr.Match(r, &a) }))
	})
}

func FuzzMatch(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		p := wiretest.Probe(v6)
		b := wiretest.Build(f, icmp.Prober{}, p)
		f.Add(reply(f, p, b))
		f.Add(wiretest.TimeExceeded(f, p, b, nil))
		f.Add(wiretest.TimeExceeded(f, p, b[:len(b)-20], wiretest.LabelsExtension(f)))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var a probe.Answer
		if !(icmp.Prober{}).Match(datagram, &a) {
			require.Zero(t, a)
			return
		}
		require.NotZero(t, a.ID)
		require.NotZero(t, a.Kind)
		require.True(t, a.From.IsValid() && a.Dst.IsValid() && a.Src.IsValid())
		if a.TagBits == 64 {
			require.False(t, a.Verified(&wiretest.Other, a.ID))
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	p := wiretest.Probe(false)
	buf := wiretest.Build(b, icmp.Prober{}, p)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = icmp.Prober{}.Build(buf[:0], p)
	}
}

func BenchmarkMatch(b *testing.B) {
	p := wiretest.Probe(false)
	d := wiretest.TimeExceeded(b, p, wiretest.Build(b, icmp.Prober{}, p), nil)
	var a probe.Answer
	b.ReportAllocs()
	for b.Loop() {
		icmp.Prober{}.Match(d, &a)
	}
}

func TestMatchKernel(t *testing.T) { wiretest.RequireKernel(t, icmp.Prober{}) }
