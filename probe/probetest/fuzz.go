package probetest

import (
	"testing"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Fuzz is the body of a fuzz test of the probers that open makes, with the
// options of [Run]. Its seeds are answers to probes. Whatever bytes are
// captured and whatever probe is asked for: Match does not panic, reads
// nothing that is not there, and vouches for no probe that was not answered;
// Build refuses with [probe.ErrProbe] or makes a valid datagram that Match
// knows again.
func Fuzz(f *testing.F, open func(t testing.TB) probe.Prober, o Options) {
	f.Helper()
	seeds := newSuite(f, open, o)
	for v6 := range seeds.families() {
		p := seeds.probe(v6)
		for i, g := range seeds.answers(p) {
			f.Add(g.datagram, v6, i%2 == 0, p.ID, p.DstPort, uint8(i), p.TTL, p.TOS, uint8(i%3), [...]int{0, 60, 1500}[i%3])
		}
		b := seeds.build(p)
		for _, wrong := range []struct {
			captured  []byte
			id        uint16
			ttl, mode uint8
			size      int
		}{
			{nil, 0, 1, 0, 0},
			{[]byte{4 << 4}, 1, 0, 0, 0},
			{b[:20], 1, 1, 2, 0},
			{b, 1, 1, 0, -1},
		} {
			f.Add(wrong.captured, v6, true, wrong.id, p.DstPort, uint8(255), wrong.ttl, uint8(255), wrong.mode, wrong.size)
		}
	}
	f.Fuzz(func(t *testing.T, datagram []byte, v6, df bool, id, port uint16, flow, ttl, tos, mode uint8, size int) {
		s := &suite{TB: t, o: seeds.o, sender: seeds.sender, receiver: seeds.receiver, protocols: seeds.protocols}
		s.unproven(s.probe(len(datagram) > 0 && datagram[0]>>4 == 6), datagram)
		if v6 && o.NoIPv6 || !v6 && o.NoIPv4 {
			return
		}
		p := s.probe(v6)
		p.ID, p.DstPort, p.Flow, p.TTL, p.TOS = id, port, flow, ttl, tos
		p.Mode, p.Size, p.DontFragment = probe.FlowMode(mode), size, df
		p.Key[0] ^= 0xFF // of which nothing in the seeds has a tag
		s.asked(p, datagram)
	})
}

// asked checks what Build makes of p, and Match of answers to it of which tail
// is a part.
func (s *suite) asked(p *probe.Probe, tail []byte) {
	s.Helper()
	const prefix = "kept"
	out, err := s.tryBuild([]byte(prefix), p)
	if err != nil {
		s.must(refusal(p, err))
		if string(out) != prefix {
			s.Fatalf("Build of %s refuses and returns %q, want what it was given, %q", show(p), out, prefix)
		}
		return
	}
	if p.ID == 0 || p.TTL == 0 || p.Mode > probe.Classic {
		s.Fatalf("Build of %s: no error, want probe.ErrProbe", show(p))
	}
	if len(out) < len(prefix) || string(out[:len(prefix)]) != prefix {
		s.Fatalf("Build after %q gave %q; it has to append", prefix, out)
	}
	b := out[len(prefix):]
	s.must(valid(s.resolved(p), b))
	b = asSent(b)
	short := b[:headerLen(b)+8]
	s.finds(p, s.expired(p, short, nil), s.tagged(p.Dst.Is6()), "8 bytes quoted")
	s.finds(p, s.expired(p, b[:min(len(b), 1200)], nil), true, "quoted whole, or 1200 bytes of it")
	if len(tail) < 1200 {
		s.holds(p, s.expired(p, append(short[:len(short):len(short)], tail...), nil))
	}
	if p.Size != 0 {
		return // which may leave no room for what direct answers return
	}
	for _, d := range s.o.Reply(s.TB, b) {
		s.finds(p, d, true, "the destination's answer")
	}
}
