package udp_test

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wiretest"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

func families(t *testing.T, f func(t *testing.T, v6 bool)) {
	t.Run("IPv4", func(t *testing.T) { f(t, false) })
	t.Run("IPv6", func(t *testing.T) { f(t, true) })
}

func TestBuildWire(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		p.DontFragment = true
		b := wiretest.Build(t, udp.Prober{}, p)
		wiretest.RequireChecksums(t, b, probe.UDP)
		var segment []byte
		if v6 {
			require.Len(t, b, 80)
			h, payload, err := packet.ParseIPv6(b)
			require.NoError(t, err)
			require.Equal(t, []any{p.TOS, p.TTL, p.Src, p.Dst, uint32(0xF000)}, []any{h.TrafficClass, h.HopLimit, h.Src, h.Dst, h.FlowLabel})
			segment = payload
		} else {
			require.Len(t, b, 60)
			h, payload, err := packet.ParseIPv4(b)
			require.NoError(t, err)
			require.Equal(t, []any{p.TOS, p.TTL, p.Src, p.Dst, p.ID, true}, []any{h.TOS, h.TTL, h.Src, h.Dst, h.ID, h.DontFragment})
			segment = payload
		}
		h, _, err := packet.ParseUDP(segment)
		require.NoError(t, err)
		require.Equal(t, []uint16{0xF000, 33434}, []uint16{h.SrcPort, h.DstPort})
		if v6 {
			require.Equal(t, p.ID, h.Checksum)
		} else {
			require.Equal(t, probe.Tag16(p.Tag(probe.UDP)), h.Checksum)
		}
	})
}

func TestBuildAppends(t *testing.T) {
	p := wiretest.Probe(false)
	whole := wiretest.Build(t, udp.Prober{}, p)
	dirty := append(make([]byte, 0, 100), "prefix"...)
	for i := range dirty[6:100] {
		dirty[6:100][i] = 0xAA
	}
	b, err := udp.Prober{}.Build(dirty, p)
	require.NoError(t, err)
	require.Equal(t, "prefix", string(b[:6]))
	require.Equal(t, whole, b[6:])
}

// Every probe has valid checksums, whatever its identifier, size and key.
func TestBuildChecksums(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		least := map[bool]int{false: 30, true: 60}[v6]
		rnd := rand.New(rand.NewPCG(1, 2))
		var b []byte
		for id := 1; id <= 0xFFFF; id++ {
			p.ID = uint16(id)
			p.Flow = uint8(rnd.Uint32())
			p.TTL = uint8(1 + rnd.IntN(255))
			p.Size = least + rnd.IntN(80)
			p.Mode = probe.FlowMode(rnd.IntN(2))
			var err error
			b, err = udp.Prober{}.Build(b[:0], p)
			require.NoError(t, err)
			require.Len(t, b, p.Size)
			wiretest.RequireChecksums(t, b, probe.UDP)
		}
		for _, size := range []int{65000, 1499, 1500} {
			p.Size = size
			wiretest.RequireChecksums(t, wiretest.Build(t, udp.Prober{}, p), probe.UDP)
		}
	})
}

// What routers hash is constant along a flow and differs between flows.
func TestFlowFields(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		fields := func(b []byte) string {
			if v6 {
				b = append([]byte(nil), b...)
				b[1] &= 0x0F // of traffic class, keep the flow label
				return string(b[1:4]) + string(b[8:44])
			}
			return string(b[12:24])
		}
		seen := map[string]int{}
		for flow := range 256 {
			var first string
			for i := range 20 {
				p := wiretest.Probe(v6)
				p.Flow, p.ID, p.TTL = uint8(flow), uint16(1+i*3000), uint8(1+i)
				f := fields(wiretest.Build(t, udp.Prober{}, p))
				if i == 0 {
					first = f
				}
				require.Equal(t, first, f)
			}
			seen[first]++
		}
		require.Len(t, seen, 256)
	})
}

func TestClassic(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		p.Mode = probe.Classic
		b := wiretest.Build(t, udp.Prober{}, p)
		require.Equal(t, p.ID, wiretest.Word(b, wiretest.HeaderLen(v6)), "source port")
		if v6 {
			require.Equal(t, p.ID, wiretest.Word(b, 2), "flow label")
		} else {
			require.Equal(t, p.ID, wiretest.Word(b, 4), "identification")
		}
		for _, n := range []int{wiretest.HeaderLen(v6) + 20, len(b)} {
			var a probe.Answer
			require.True(t, udp.Prober{}.Match(wiretest.TimeExceeded(t, p, b[:n], nil), &a))
			require.Equal(t, p.ID, a.ID)
			require.True(t, a.Verified(&wiretest.Key, p.ID))
			require.False(t, a.Verified(&wiretest.Other, p.ID))
		}
		var a probe.Answer
		require.False(t, udp.Prober{}.Match(wiretest.TimeExceeded(t, p, wiretest.SetWord(b, wiretest.HeaderLen(v6), p.ID+7), nil), &a))
		require.Zero(t, a)
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
		{"mode", func(p *probe.Probe) { p.Mode = 9 }, "flow mode 9"},
		{"small", func(p *probe.Probe) { p.Size = 29 }, "size 29, want 30 to 65000"},
		{"negative", func(p *probe.Probe) { p.Size = -1 }, "size -1, want 30 to 65000"},
		{"large", func(p *probe.Probe) { p.Size = 65001 }, "size 65001"},
		{"small IPv6", func(p *probe.Probe) { p.Src, p.Dst, p.Size = wiretest.Src6, wiretest.Dst6, 59 }, "size 59, want 60 to 65000"},
		{"mixed", func(p *probe.Probe) { p.Src = wiretest.Src6 }, "want one family"},
		{"no source", func(p *probe.Probe) { p.Src = probe.Probe{}.Src }, "source invalid IP"},
		{"no destination", func(p *probe.Probe) { p.Dst = probe.Probe{}.Dst }, "destination invalid IP"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := wiretest.Probe(false)
			c.edit(p)
			b, err := udp.Prober{}.Build([]byte("kept"), p)
			require.ErrorIs(t, err, probe.ErrProbe)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, "kept", string(b))
		})
	}
}

func TestMatchError(t *testing.T) {
	ext := wiretest.LabelsExtension(t)
	type want struct {
		bits      uint8
		swappable bool
		mpls      bool
	}
	cases := []struct {
		name  string
		v6    bool
		size  int
		quote func(t *testing.T, b []byte) []byte
		ext   []byte
		want  want
	}{
		{name: "8 bytes", quote: cut(28), want: want{bits: 16, swappable: true}},
		{name: "payload cut in the tag", quote: cut(39), want: want{bits: 16, swappable: true}},
		{name: "payload just whole", quote: cut(40), want: want{bits: 64}},
		{name: "whole", quote: cut(60), want: want{bits: 64}},
		{name: "too small for the tag", size: 39, quote: cut(39), want: want{bits: 16, swappable: true}},
		{name: "smallest", size: 30, quote: cut(30), want: want{bits: 16, swappable: true}},
		{name: "total length beyond the quote", size: 1400, quote: cut(548), want: want{bits: 64}},
		{name: "options", quote: optionsThen(100), want: want{bits: 64}},
		{name: "options, 8 bytes", quote: optionsThen(32), want: want{bits: 16, swappable: true}},
		{name: "labels", quote: cut(60), ext: ext, want: want{bits: 64, mpls: true}},
		{name: "8 bytes padded, labels", quote: cut(28), ext: ext, want: want{bits: 16, swappable: true, mpls: true}},
		{name: "cut in the tag and padded, labels", quote: cut(36), ext: ext, want: want{bits: 16, swappable: true, mpls: true}},
		{name: "swapped, 8 bytes", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetID(b, bits.ReverseBytes16(wiretest.Word(b, 4)))[:28]
		}, want: want{bits: 16, swappable: true}},
		{name: "one too high, 8 bytes", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetID(b, wiretest.Word(b, 4)+1)[:28]
		}, want: want{bits: 16, swappable: true}},
		{name: "swapped, whole", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetID(b, bits.ReverseBytes16(wiretest.Word(b, 4)))
		}, want: want{bits: 64}},
		{name: "identification rewritten, whole", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetID(b, 4242)
		}, want: want{bits: 64}},
		{name: "identification zeroed, whole", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetID(b, 0)
		}, want: want{bits: 64}},
		{name: "checksum zeroed, whole", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 26, 0)
		}, want: want{bits: 64}},
		{name: "checksum rewritten, whole", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 26, wiretest.Word(b, 26)+77)
		}, want: want{bits: 64}},
		{name: "payload replaced", quote: func(_ *testing.T, b []byte) []byte {
			return append(bytes.Clone(b[:28]), bytes.Repeat([]byte{0x5A}, 32)...)
		}, want: want{bits: 16, swappable: true}},
		{name: "UDP length 0", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 24, 0)
		}, want: want{bits: 16, swappable: true}},
		{name: "UDP length 3", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 24, 3)
		}, want: want{bits: 16, swappable: true}},
		{name: "UDP length 65535", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 24, 0xFFFF)
		}, want: want{bits: 64}},
		{name: "IPv4 total length 0", quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 2, 0)
		}, want: want{bits: 64}},

		{name: "IPv6 payload just whole", v6: true, quote: cut(60), want: want{bits: 64}},
		{name: "IPv6 whole", v6: true, quote: cut(80), want: want{bits: 64}},
		{name: "IPv6 smallest", v6: true, size: 60, quote: cut(60), want: want{bits: 64}},
		{name: "IPv6 long", v6: true, size: 3000, quote: cut(1232), want: want{bits: 64}},
		{name: "IPv6 labels", v6: true, quote: cut(80), ext: ext, want: want{bits: 64, mpls: true}},
		{name: "IPv6 extension headers", v6: true, quote: func(t *testing.T, b []byte) []byte {
			return wiretest.WithExtensionHeaders(t, b)
		}, want: want{bits: 64}},
		{name: "IPv6 checksum zeroed", v6: true, quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 46, 0)
		}, want: want{bits: 64}},
		{name: "IPv6 checksum rewritten", v6: true, quote: func(_ *testing.T, b []byte) []byte {
			return wiretest.SetWord(b, 46, 0x7777)
		}, want: want{bits: 64}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := wiretest.Probe(c.v6)
			p.Size = c.size
			quote := c.quote(t, wiretest.Build(t, udp.Prober{}, p))
			a := probe.Answer{ID: 1, Tag: 2, MPLS: []probe.Label{{}}, Swappable: true, MTU: 3}
			require.True(t, udp.Prober{}.Match(wiretest.TimeExceeded(t, p, quote, c.ext), &a))
			ids, n := a.Readings()
			require.Contains(t, ids[:n], p.ID)
			require.True(t, a.Verified(&wiretest.Key, p.ID))
			require.False(t, a.Verified(&wiretest.Other, p.ID))
			require.False(t, a.Verified(&wiretest.Key, p.ID+1000))
			require.Equal(t, c.want.bits, a.TagBits)
			require.Equal(t, c.want.swappable, a.Swappable)
			require.Equal(t, c.want.mpls, a.MPLS != nil)
			if c.want.mpls {
				require.Equal(t, wiretest.Labels, a.MPLS)
			}
			require.Equal(t, probe.UDP, a.Protocol)
			require.Equal(t, probe.TimeExceeded, a.Kind)
			require.Equal(t, []any{p.Dst, p.Src, wiretest.Router(p)}, []any{a.Dst, a.Src, a.From})
			require.Equal(t, []uint8{61, 7, 2}, []uint8{a.TTL, a.QuotedTTL, a.QuotedTOS})
			require.Zero(t, a.MTU)
			require.Zero(t, a.Time)
		})
	}
}

func cut(n int) func(*testing.T, []byte) []byte {
	return func(_ *testing.T, b []byte) []byte { return b[:n] }
}

func optionsThen(n int) func(*testing.T, []byte) []byte {
	return func(t *testing.T, b []byte) []byte {
		b = wiretest.WithIPv4Options(t, b)
		return b[:min(n, len(b))]
	}
}

func TestMatchKinds(t *testing.T) {
	cases := []struct {
		v6   bool
		e    packet.ICMPError
		kind probe.Kind
		mtu  uint32
	}{
		{false, packet.ICMPError{Type: 3, Code: 3}, probe.Unreachable, 0},
		{false, packet.ICMPError{Type: 3, Code: 4, MTU: 1400}, probe.Unreachable, 1400},
		{false, packet.ICMPError{Type: 11, Code: 1}, probe.TimeExceeded, 0},
		{false, packet.ICMPError{Type: 12, Code: 0, Pointer: 20}, probe.ParameterProblem, 0},
		{true, packet.ICMPError{Type: 1, Code: 4}, probe.Unreachable, 0},
		{true, packet.ICMPError{Type: 2, MTU: 70000}, probe.Unreachable, 70000},
		{true, packet.ICMPError{Type: 3}, probe.TimeExceeded, 0},
		{true, packet.ICMPError{Type: 4, Code: 1, Pointer: 40}, probe.ParameterProblem, 0},
	}
	for _, c := range cases {
		p := wiretest.Probe(c.v6)
		c.e.Quote = wiretest.Build(t, udp.Prober{}, p)
		var a probe.Answer
		require.True(t, udp.Prober{}.Match(wiretest.Error(t, p, c.e), &a))
		require.Equal(t, []any{c.kind, c.e.Type, c.e.Code, c.mtu}, []any{a.Kind, a.ICMPType, a.ICMPCode, a.MTU})
		require.True(t, a.Verified(&wiretest.Key, p.ID))
	}
}

// Nothing of the tag came back, or the answer is damaged: a candidate that
// cannot be verified.
func TestMatchUnverifiable(t *testing.T) {
	p4, p6 := wiretest.Probe(false), wiretest.Probe(true)
	b4, b6 := wiretest.Build(t, udp.Prober{}, p4), wiretest.Build(t, udp.Prober{}, p6)
	damaged := wiretest.TimeExceeded(t, p4, b4, nil)
	damaged[len(damaged)-1] ^= 1
	damaged6 := wiretest.TimeExceeded(t, p6, b6, nil)
	damaged6[len(damaged6)-1] ^= 1
	cases := map[string][]byte{
		"checksum zeroed, 8 bytes": wiretest.TimeExceeded(t, p4, wiretest.SetWord(b4, 26, 0)[:28], nil),
		"IPv6, 8 bytes":            wiretest.TimeExceeded(t, p6, b6[:48], nil),
		"damaged":                  damaged,
		"damaged IPv6":             damaged6,
	}
	for name, datagram := range cases {
		var a probe.Answer
		require.True(t, udp.Prober{}.Match(datagram, &a), name)
		require.Equal(t, p4.ID, a.ID, name)
		require.Zero(t, a.TagBits, name)
		require.False(t, a.Verified(&wiretest.Key, p4.ID), name)
	}
}

// An error captured only in part cannot be checked, and is believed.
func TestMatchCaptureCutShort(t *testing.T) {
	p := wiretest.Probe(false)
	d := wiretest.TimeExceeded(t, p, wiretest.Build(t, udp.Prober{}, p), nil)
	var a probe.Answer
	require.True(t, udp.Prober{}.Match(d[:len(d)-15], &a))
	require.True(t, a.Verified(&wiretest.Key, p.ID))

	first := wiretest.SetWord(wiretest.SetWord(d, 6, 0x2000), 2, 80) // the other fragment holds the rest
	require.True(t, udp.Prober{}.Match(first[:80], &a))
	require.True(t, a.Verified(&wiretest.Key, p.ID))
}

func TestMatchReply(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		b := wiretest.Build(t, udp.Prober{}, p)
		payload := b[wiretest.HeaderLen(v6)+8:]
		reply := func(port uint16, payload []byte) []byte {
			h := packet.UDP{SrcPort: p.DstPort, DstPort: port, Length: uint16(8 + len(payload)), Checksum: 0x1234}
			return wiretest.Wrap(t, p.Dst, p.Src, probe.UDP, append(h.Append(nil), payload...))
		}
		var a probe.Answer
		require.True(t, udp.Prober{}.Match(reply(p.Port(), payload), &a))
		require.True(t, a.Verified(&wiretest.Key, a.ID))
		require.Equal(t, []any{p.ID, probe.UDPReply, p.Dst, p.Src, p.Dst, uint8(61)}, []any{a.ID, a.Kind, a.Dst, a.Src, a.From, a.TTL})
		require.False(t, udp.Prober{}.Match(reply(p.Port(), payload[:11]), &a), "no room for the tag")
		require.False(t, udp.Prober{}.Match(reply(p.Port(), make([]byte, 40)), &a), "no identifier")
		require.False(t, udp.Prober{}.Match(reply(53, payload), &a), "not to our ports")

		want := p.ID
		if !v6 {
			want = probe.Tag16(p.Tag(probe.UDP))
		}
		fixed := func(tail string) []byte {
			b := append(append([]byte{0, 0}, payload[2:probe.IdentityLen]...), tail...)
			h := packet.UDP{SrcPort: p.DstPort, DstPort: p.Port(), Length: uint16(8 + len(b))}
			sum := packet.PseudoHeader(p.Dst, p.Src, probe.UDP, 8+len(b)).Add(append(h.Append(nil), b...))
			return reply(p.Port(), wiretest.SetWord(b, 0, sum.Fixup(want)))
		}
		require.True(t, udp.Prober{}.Match(fixed("\x00\x00\x00\x00"), &a))
		require.False(t, udp.Prober{}.Match(fixed("fra1"), &a), "more than a probe says")
	})
}

func TestMatchRefuses(t *testing.T) {
	p := wiretest.Probe(false)
	b := wiretest.Build(t, udp.Prober{}, p)
	whole := wiretest.TimeExceeded(t, p, b, nil)
	tcp := append([]byte(nil), b...)
	tcp[9] = probe.TCP
	p6 := wiretest.Probe(true)
	b6 := wiretest.Build(t, udp.Prober{}, p6)
	msg, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: 11, Quote: b6})
	require.NoError(t, err)
	cases := map[string][]byte{
		"nothing":                     nil,
		"the probe itself":            b,
		"the probe itself, IPv6":      b6,
		"a port out of the range":     wiretest.TimeExceeded(t, p, wiretest.SetWord(b, 20, 0xF100), nil),
		"another protocol":            wiretest.TimeExceeded(t, p, tcp, nil),
		"7 bytes":                     wiretest.TimeExceeded(t, p, b[:27], nil),
		"an empty quote":              wiretest.TimeExceeded(t, p, nil, nil),
		"a later fragment quoted":     wiretest.TimeExceeded(t, p, wiretest.SetWord(b, 6, 3), nil),
		"a later fragment":            wiretest.SetWord(whole, 6, 3),
		"IPv6 quoted in IPv4":         wiretest.Wrap(t, wiretest.Router4, p.Src, probe.ICMP, msg),
		"ICMPv6 over IPv4":            wiretest.Wrap(t, wiretest.Router4, p.Src, probe.ICMPv6, whole[20:]),
		"a redirect":                  wiretest.SetWord(whole, 20, 5<<8),
		"identification 0, 8 bytes":   wiretest.TimeExceeded(t, p, wiretest.SetID(b, 0)[:28], nil),
		"IPv6 checksum 0 and 8 bytes": wiretest.TimeExceeded(t, p6, wiretest.SetWord(b6, 46, 0)[:48], nil),
	}
	for name, datagram := range cases {
		a := probe.Answer{ID: 5, Kind: probe.Reset}
		require.False(t, udp.Prober{}.Match(datagram, &a), name)
		require.Zero(t, a, name)
	}
	for n := range whole {
		var a probe.Answer
		if (udp.Prober{}).Match(whole[:n], &a) {
			require.GreaterOrEqual(t, n, 56)
		}
	}
}

func TestAllocations(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		b := wiretest.Build(t, udp.Prober{}, p)
		d := wiretest.TimeExceeded(t, p, b, nil)
		junk := wiretest.TimeExceeded(t, p, b[:20], nil)
		var a probe.Answer
		var pr probe.Prober = udp.Prober{}
		require.Zero(t, testing.AllocsPerRun(100, func() { b, _ = pr.Build(b[:0], p) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { pr.Match(d, &a) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { pr.Match(junk, &a) }))
	})
}

func FuzzMatch(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		p := wiretest.Probe(v6)
		b := wiretest.Build(f, udp.Prober{}, p)
		f.Add(b)
		f.Add(wiretest.TimeExceeded(f, p, b, nil))
		f.Add(wiretest.TimeExceeded(f, p, b[:len(b)-20], wiretest.LabelsExtension(f)))
	}
	// The fuzzer has the seeds' tags but not this key's.
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var a probe.Answer
		if !(udp.Prober{}).Match(datagram, &a) {
			require.Zero(t, a)
			return
		}
		require.NotZero(t, a.ID)
		require.Equal(t, probe.UDP, a.Protocol)
		require.NotZero(t, a.Kind)
		require.True(t, a.From.IsValid() && a.Dst.IsValid() && a.Src.IsValid())
		if a.TagBits == 64 {
			require.False(t, a.Verified(&wiretest.Other, a.ID))
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	p := wiretest.Probe(false)
	buf := wiretest.Build(b, udp.Prober{}, p)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = udp.Prober{}.Build(buf[:0], p)
	}
}

func BenchmarkMatch(b *testing.B) {
	p := wiretest.Probe(false)
	d := wiretest.TimeExceeded(b, p, wiretest.Build(b, udp.Prober{}, p), nil)
	var a probe.Answer
	b.ReportAllocs()
	for b.Loop() {
		udp.Prober{}.Match(d, &a)
	}
}

func TestMatchKernel(t *testing.T) { wiretest.RequireKernel(t, udp.Prober{}) }

// What an answer costs is bounded, however long its label stack.
func TestMatchBoundsLabels(t *testing.T) {
	p := wiretest.Probe(false)
	ext, err := packet.AppendExtension(nil, packet.Object{Class: packet.ClassMPLS, CType: 1, Payload: make([]byte, 1000)})
	require.NoError(t, err)
	var a probe.Answer
	require.True(t, udp.Prober{}.Match(wiretest.TimeExceeded(t, p, wiretest.Build(t, udp.Prober{}, p), ext), &a))
	require.Len(t, a.MPLS, 32)
	require.True(t, a.Verified(&wiretest.Key, p.ID))
}

// Random bytes where the probe's own were, between headers that match, never
// pass for an answer.
func TestMatchNoise(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		quote := wiretest.Build(t, udp.Prober{}, p)
		at := wiretest.HeaderLen(v6)
		rnd := rand.New(rand.NewPCG(5, 6))
		candidates := 0
		for range 20000 {
			for i := at + 8; i < len(quote); i++ {
				quote[i] = byte(rnd.Uint32())
			}
			var a probe.Answer
			d := wiretest.TimeExceeded(t, p, wiretest.SetWord(quote, at+6, 0), nil)
			if !(udp.Prober{}).Match(d, &a) {
				continue
			}
			candidates++
			require.False(t, a.Verified(&wiretest.Key, a.ID))
			require.False(t, a.Verified(&wiretest.Key, p.ID))
		}
		require.NotZero(t, candidates)
	})
}
