package tcp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wiretest"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
)

func families(t *testing.T, f func(t *testing.T, v6 bool)) {
	t.Run("IPv4", func(t *testing.T) { f(t, false) })
	t.Run("IPv6", func(t *testing.T) { f(t, true) })
}

func TestBuildWire(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		p.Flow = 200
		b := wiretest.Build(t, tcp.Prober{}, p)
		wiretest.RequireChecksums(t, b, probe.TCP)
		h, payload, err := packet.ParseTCP(b[wiretest.HeaderLen(v6):])
		require.NoError(t, err)
		require.Empty(t, payload)
		require.Equal(t, []uint16{0xF0C8, 33434}, []uint16{h.SrcPort, h.DstPort})
		require.Equal(t, uint32(p.ID)<<16|uint32(probe.Tag16(p.Tag(probe.TCP))), h.Seq)
		require.Equal(t, packet.SYN, h.Flags)
		require.NotZero(t, h.Window)
		mss, ok := h.MSS()
		require.True(t, ok)
		if v6 {
			require.Len(t, b, 64)
			require.Equal(t, uint16(1440), mss)
			return
		}
		require.Len(t, b, 44)
		require.Equal(t, uint16(1460), mss)
		require.Equal(t, p.ID, wiretest.Word(b, 4), "identification")
	})
}

func TestBuildChecksums(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		at := wiretest.HeaderLen(v6)
		flows, distinct := map[uint8]string{}, map[string]bool{}
		var b []byte
		for id := 1; id <= 0xFFFF; id++ {
			p.ID, p.Flow, p.TTL = uint16(id), uint8(id), uint8(1+id%255)
			var err error
			b, err = tcp.Prober{}.Build(b[:0], p)
			require.NoError(t, err)
			wiretest.RequireChecksums(t, b, probe.TCP)
			fields := string(b[at : at+4])
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
		{"classic", func(p *probe.Probe) { p.Mode = probe.Classic }, "flow mode classic with prober tcp"},
		{"size", func(p *probe.Probe) { p.Size = 60 }, "size 60, want 0 or 44 bytes: SYN probes carry no payload"},
		{"IPv6 size", func(p *probe.Probe) { p.Src, p.Dst, p.Size = wiretest.Src6, wiretest.Dst6, 44 }, "size 44, want 0 or 64 bytes"},
		{"mixed", func(p *probe.Probe) { p.Dst = wiretest.Dst6 }, "want one family"},
		{"no destination", func(p *probe.Probe) { p.Dst = probe.Probe{}.Dst }, "destination invalid IP"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := wiretest.Probe(false)
			c.edit(p)
			b, err := tcp.Prober{}.Build([]byte("kept"), p)
			require.ErrorIs(t, err, probe.ErrProbe)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, "kept", string(b))
		})
	}
	p := wiretest.Probe(false)
	p.Size = 44
	require.Len(t, wiretest.Build(t, tcp.Prober{}, p), 44)
}

func TestMatchError(t *testing.T) {
	ext := wiretest.LabelsExtension(t)
	first := func(n int) func(*testing.T, []byte) []byte {
		return func(_ *testing.T, b []byte) []byte { return b[:n] }
	}
	cases := []struct {
		name  string
		v6    bool
		quote func(t *testing.T, b []byte) []byte
		ext   []byte
	}{
		{name: "8 bytes", quote: first(28)},
		{name: "cut in the header", quote: first(39)},
		{name: "whole", quote: first(44)},
		{name: "options", quote: func(t *testing.T, b []byte) []byte { return wiretest.WithIPv4Options(t, b) }},
		{name: "8 bytes padded, labels", quote: first(28), ext: ext},
		{name: "labels", quote: first(44), ext: ext},
		{name: "identification mangled", quote: func(_ *testing.T, b []byte) []byte { return wiretest.SetID(b, 1) }},
		{name: "checksum zeroed", quote: func(_ *testing.T, b []byte) []byte { return wiretest.SetWord(b, 36, 0) }},
		{name: "IPv6, 8 bytes", v6: true, quote: first(48)},
		{name: "IPv6 whole", v6: true, quote: first(64)},
		{name: "IPv6 labels", v6: true, quote: first(64), ext: ext},
		{name: "IPv6 extension headers", v6: true, quote: func(t *testing.T, b []byte) []byte { return wiretest.WithExtensionHeaders(t, b) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := wiretest.Probe(c.v6)
			quote := c.quote(t, wiretest.Build(t, tcp.Prober{}, p))
			a := probe.Answer{Tag: 1, MPLS: []probe.Label{{}}, Swappable: true, MTU: 3}
			d := wiretest.TimeExceeded(t, p, quote, c.ext)
			require.True(t, tcp.Prober{}.Match(d, &a))
			require.Equal(t, p.ID, a.ID)
			require.True(t, a.Verified(&wiretest.Key, p.ID))
			require.False(t, a.Verified(&wiretest.Other, p.ID))
			require.False(t, a.Verified(&wiretest.Key, p.ID+1))
			require.Equal(t, uint8(16), a.TagBits)
			require.False(t, a.Swappable)
			if c.ext != nil {
				require.Equal(t, wiretest.Labels, a.MPLS)
			} else {
				require.Nil(t, a.MPLS)
			}
			require.Equal(t, []any{probe.TCP, probe.TimeExceeded, uint32(0)}, []any{a.Protocol, a.Kind, a.MTU})
			require.Equal(t, []any{p.Dst, p.Src, wiretest.Router(p)}, []any{a.Dst, a.Src, a.From})
			require.Equal(t, []uint8{61, 7, 2}, []uint8{a.TTL, a.QuotedTTL, a.QuotedTOS})

			d[len(d)-1] ^= 1
			require.True(t, tcp.Prober{}.Match(d, &a), "a damaged answer is counted")
			require.Zero(t, a.TagBits)
		})
	}
}

// reply returns the segment with which the destination answers b, its checksum
// left undone.
func reply(t testing.TB, p *probe.Probe, b []byte, flags packet.TCPFlags) []byte {
	h, _, err := packet.ParseTCP(b[wiretest.HeaderLen(p.Dst.Is6()):])
	require.NoError(t, err)
	r := packet.TCP{SrcPort: h.DstPort, DstPort: h.SrcPort, Seq: 1, Ack: h.Seq + 1, Flags: flags, Options: packet.AppendMSS(nil, 1460)}
	segment, err := r.Append(nil)
	require.NoError(t, err)
	return wiretest.Wrap(t, p.Dst, p.Src, probe.TCP, segment)
}

func TestMatchReply(t *testing.T) {
	cases := []struct {
		flags packet.TCPFlags
		kind  probe.Kind
	}{
		{packet.SYN | packet.ACK, probe.SYNACK},
		{packet.SYN | packet.ACK | packet.ECE, probe.SYNACK},
		{packet.RST | packet.ACK, probe.Reset},
		{packet.RST, 0},
		{packet.SYN, 0},
		{packet.ACK, 0},
		{packet.ACK | packet.PSH, 0},
		{packet.FIN | packet.ACK, 0},
	}
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		b := wiretest.Build(t, tcp.Prober{}, p)
		for _, c := range cases {
			d := reply(t, p, b, c.flags)
			a := probe.Answer{ID: 4}
			require.Equal(t, c.kind != 0, tcp.Prober{}.Match(d, &a), "flags %#x", c.flags)
			if c.kind == 0 {
				require.Zero(t, a)
				continue
			}
			require.Equal(t, []any{p.ID, c.kind, p.Dst, p.Src, p.Dst, uint8(61)}, []any{a.ID, a.Kind, a.Dst, a.Src, a.From, a.TTL})
			require.True(t, a.Verified(&wiretest.Key, p.ID))
			require.False(t, a.Verified(&wiretest.Other, p.ID))
			require.False(t, tcp.Prober{}.Match(wiretest.SetWord(d, wiretest.HeaderLen(v6)+2, 443), &a), "not to our ports")
		}
	})
}

// The sequence number may end in 0xFFFF, so that the acknowledgement carries
// into the identifier.
func TestMatchReplyCarry(t *testing.T) {
	p := wiretest.Probe(false)
	b := wiretest.Build(t, tcp.Prober{}, p)
	b = wiretest.SetWord(b, 26, 0xFFFF)
	var a probe.Answer
	require.True(t, tcp.Prober{}.Match(reply(t, p, b, packet.RST|packet.ACK), &a))
	require.Equal(t, []any{p.ID, uint64(0xFFFF)}, []any{a.ID, a.Tag})
	b = wiretest.SetWord(b, 24, 0xFFFF)
	require.True(t, tcp.Prober{}.Match(reply(t, p, b, packet.RST|packet.ACK), &a))
	require.Equal(t, uint16(0xFFFF), a.ID)
}

func TestMatchRefuses(t *testing.T) {
	p := wiretest.Probe(false)
	b := wiretest.Build(t, tcp.Prober{}, p)
	whole := wiretest.TimeExceeded(t, p, b, nil)
	rst := wiretest.SetWord(b, 32, 0x6004)
	cases := map[string][]byte{
		"nothing":          nil,
		"the probe itself": b,
		"a port":           wiretest.TimeExceeded(t, p, wiretest.SetWord(b, 20, 80), nil),
		"identifier 0":     wiretest.TimeExceeded(t, p, wiretest.SetWord(b, 24, 0), nil),
		"a RST quoted":     wiretest.TimeExceeded(t, p, rst, nil),
		"7 bytes":          wiretest.TimeExceeded(t, p, b[:27], nil),
		"a later fragment": wiretest.SetWord(whole, 6, 1),
	}
	for name, datagram := range cases {
		a := probe.Answer{ID: 5, Kind: probe.Reset}
		require.False(t, tcp.Prober{}.Match(datagram, &a), name)
		require.Zero(t, a, name)
	}
}

func TestAllocations(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		b := wiretest.Build(t, tcp.Prober{}, p)
		d, r := wiretest.TimeExceeded(t, p, b, nil), reply(t, p, b, packet.SYN|packet.ACK)
		var a probe.Answer
		var pr probe.Prober = tcp.Prober{}
		require.Zero(t, testing.AllocsPerRun(100, func() { b, _ = pr.Build(b[:0], p) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { pr.Match(d, &a) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { pr.Match(r, &a) }))
	})
}

func FuzzMatch(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		p := wiretest.Probe(v6)
		b := wiretest.Build(f, tcp.Prober{}, p)
		f.Add(reply(f, p, b, packet.SYN|packet.ACK))
		f.Add(wiretest.TimeExceeded(f, p, b, nil))
		f.Add(wiretest.TimeExceeded(f, p, b[:len(b)-16], wiretest.LabelsExtension(f)))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var a probe.Answer
		if !(tcp.Prober{}).Match(datagram, &a) {
			require.Zero(t, a)
			return
		}
		require.NotZero(t, a.ID)
		require.NotZero(t, a.Kind)
		require.LessOrEqual(t, a.TagBits, uint8(16))
		require.True(t, a.From.IsValid() && a.Dst.IsValid() && a.Src.IsValid())
	})
}

func BenchmarkBuild(b *testing.B) {
	p := wiretest.Probe(false)
	buf := wiretest.Build(b, tcp.Prober{}, p)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = tcp.Prober{}.Build(buf[:0], p)
	}
}

func BenchmarkMatch(b *testing.B) {
	p := wiretest.Probe(false)
	d := wiretest.TimeExceeded(b, p, wiretest.Build(b, tcp.Prober{}, p), nil)
	var a probe.Answer
	b.ReportAllocs()
	for b.Loop() {
		tcp.Prober{}.Match(d, &a)
	}
}

func TestMatchKernel(t *testing.T) { wiretest.RequireKernel(t, tcp.Prober{}) }
