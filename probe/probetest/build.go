package probetest

import (
	"bytes"
	"math/rand/v2"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// name: one word that can be typed, the same from every prober at every call.
func name(s *suite) {
	first := s.sender.Name()
	if !probe.WellNamed(first) {
		s.Fatalf("Name is %q, want 1 to 32 lower-case letters, digits and hyphens, a letter first", first)
	}
	for range 10 {
		for _, pr := range []probe.Prober{s.sender, s.receiver} {
			if again := pr.Name(); again != first {
				s.Fatalf("Name is %q and then %q", first, again)
			}
		}
	}
}

// appends: Build appends to b and touches nothing else.
func appends(s *suite) {
	const prefix = "what was there"
	for v6 := range s.families() {
		p := s.probe(v6)
		whole, err := s.tryBuild(nil, s.probe(v6))
		s.must(err)
		first := bytes.Clone(whole)
		for room := range 2 * len(whole) {
			b := append(make([]byte, 0, len(prefix)+room), prefix...)
			out, err := s.tryBuild(b, p)
			s.must(err)
			if len(out) < len(prefix) || string(out[:len(prefix)]) != prefix || string(b) != prefix {
				s.Fatalf("Build after %q with room for %d bytes gave %q; it has to append", prefix, room, out)
			}
			if room >= len(out)-len(prefix) && &out[0] != &b[0] {
				s.Fatalf("Build with room for %d bytes did not append %d in place", room, len(out)-len(prefix))
			}
			s.must(valid(p, out[len(prefix):]))
		}
		other := s.probe(v6)
		other.ID++
		s.build(other)
		if !bytes.Equal(whole, first) {
			s.Fatalf("a datagram that Build returned changed when it built the next: %x, then %x", first, whole)
		}
		s.stale(p)
	}
}

// stale: nothing of what the buffer held before gets into the datagram. A type
// may put something random into each datagram; then this cannot be told.
func (s *suite) stale(p *probe.Probe) {
	s.Helper()
	over := func(dirt byte) []byte {
		b := bytes.Repeat([]byte{dirt}, 4096)
		out, err := s.tryBuild(b[:0], p)
		s.must(err)
		return out
	}
	if a := over(0xAA); bytes.Equal(a, over(0xAA)) && !bytes.Equal(a, over(0x55)) {
		s.Fatalf("Build leaves in the datagram what the buffer held before: %x", a)
	}
}

// datagrams: what Build makes is valid, and as the probe says.
func datagrams(s *suite) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for v6 := range s.families() {
		check := func(edit func(p *probe.Probe)) {
			s.Helper()
			p := s.probe(v6)
			edit(p)
			b, err := s.tryBuild(nil, p)
			s.must(err)
			s.must(valid(p, b))
		}
		for i := range s.sample(256) {
			check(func(p *probe.Probe) { p.TTL = uint8(max(1, i)) })
			check(func(p *probe.Probe) { p.TOS = uint8(i) })
			check(func(p *probe.Probe) { p.Flow = uint8(i) })
			check(func(p *probe.Probe) { p.DontFragment = i&1 == 0 })
		}
		for _, p := range s.probes(v6) {
			check(func(q *probe.Probe) { *q = *p })
		}
		for id := range s.identifiers() {
			check(func(p *probe.Probe) {
				p.ID, p.TTL, p.TOS, p.Flow = id, uint8(1+rnd.IntN(255)), uint8(rnd.Uint32()), uint8(rnd.Uint32())
				p.DontFragment = rnd.IntN(2) == 0
				for i := range p.Key {
					p.Key[i] = byte(rnd.Uint32())
				}
				dst := p.Dst.AsSlice()
				dst[len(dst)-1] = byte(1 + rnd.IntN(254))
				p.Dst, _ = netip.AddrFromSlice(dst)
			})
		}
		s.anotherPort(v6)
	}
}

// anotherPort: a destination port is honoured or refused.
func (s *suite) anotherPort(v6 bool) {
	s.Helper()
	for _, port := range []uint16{1, 53, 80, 443, 33435, 0xFFFF} {
		p := s.probe(v6)
		p.DstPort = port
		b, err := s.tryBuild(nil, p)
		if err != nil {
			s.must(refusal(p, err, number(int(port))))
			continue
		}
		s.must(valid(p, b))
	}
}

// flows: what routers hash is constant along a flow and differs between flows.
func flows(s *suite) {
	each := min(16, max(4, s.o.Samples/64)) // probes of a flow
	for v6 := range s.families() {
		seen := map[string]int{}
		for flow := range s.sample(probe.MaxFlows) {
			var first string
			i := 0
			for id := range s.identifiers() {
				p := s.probe(v6)
				p.Flow, p.ID, p.TTL = uint8(flow), id, uint8(1+i%64)
				got := path(s.build(p))
				if i == 0 {
					first = got
				}
				if got != first {
					s.Fatalf("%s: what routers hash is %x in one probe of a flow and %x in %s", s.sender.Name(), first, got, show(p))
				}
				if i++; i == each {
					break
				}
			}
			if was, ok := seen[first]; ok {
				s.Fatalf("%s: flows %d and %d are the same to a router, which hashes %x", s.sender.Name(), was, flow, first)
			}
			seen[first] = flow
		}
	}
}

// path is what routers may hash of a probe between two hosts: protocol, TOS,
// flow label, and the first four bytes of the transport header, which are the
// ports, or ICMP type, code and checksum.
func path(b []byte) string {
	h, err := readIP(b)
	if err != nil || len(h.payload) < 8 {
		return ""
	}
	hashed := []byte{h.protocol, h.tos, byte(h.label >> 16), byte(h.label >> 8), byte(h.label)}
	return string(append(hashed, h.payload[:4]...))
}

// classic: in this mode the source port is the identifier, and the answer is
// known all the same. Types that have no such port refuse it.
func classic(s *suite) {
	for v6 := range s.families() {
		p := s.probe(v6)
		p.Mode = probe.Classic
		if s.protocols[v6] != probe.UDP || s.o.NoClassic {
			b, err := s.tryBuild(nil, p)
			if err == nil {
				s.Fatalf("Build of %s: no error, want one: only types over UDP have a source port to carry the identifier, and Options.NoClassic says that this one does not: %x", show(p), b)
			}
			s.must(refusal(p, err))
			continue
		}
		for id := range s.identifiers() {
			p.ID, p.Flow = id, uint8(id)
			b := s.build(p)
			s.must(valid(p, b))
			s.finds(p, s.expired(p, b[:headerLen(b)+8], nil), s.tagged(v6), "flow mode classic, a quote of 8 bytes")
			s.finds(p, s.expired(p, b, nil), true, "flow mode classic, quoted whole")
			if id%16 == 1 {
				for _, d := range s.o.Reply(s.TB, b) {
					s.finds(p, d, true, "flow mode classic, the destination's answer")
				}
			}
		}
	}
}
