package probetest

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// foreign: what else a port may capture is left alone.
func foreign(s *suite) {
	for v6 := range s.families() {
		p := s.probe(v6)
		gs := slices.Concat(s.otherTypes(p), s.ownProbes(v6), s.otherPorts(p), s.noAnswers(p), s.strangers(p))
		for other := range s.families() {
			if other != v6 {
				gs = append(gs, genuine{"an error that quotes the other family", s.expired(p, s.build(s.probe(other)), nil)})
			}
		}
		for _, g := range gs {
			if a, ok := s.match(g.datagram); ok {
				s.Fatalf("Match takes for an answer, %+v, what is none: %s: %x", a, g.what, g.datagram)
			}
		}
	}
}

// otherTypes returns probes of other protocols with the identity of p, and the
// answers to them.
func (s *suite) otherTypes(p *probe.Probe) (gs []genuine) {
	v6 := p.Dst.Is6()
	for _, pr := range []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}} {
		b, err := pr.Build(nil, p)
		s.must(err)
		if h, _ := readIP(b); h.protocol == s.protocols[v6] {
			continue
		}
		gs = append(gs,
			genuine{"a probe of type " + pr.Name(), b},
			genuine{"an error that quotes a probe of type " + pr.Name(), s.expired(p, b, nil)},
			genuine{"an error that quotes 8 bytes of a probe of type " + pr.Name(), s.expired(p, b[:headerLen(b)+8], nil)})
		for _, d := range DirectAnswers(b) {
			gs = append(gs, genuine{"the destination's answer to a probe of type " + pr.Name(), d})
		}
	}
	return gs
}

// ownProbes returns probes as a port captures them that sees what leaves. None
// is to a port whose number is its identifier or that of a flow: in the flow
// mode classic only the tag tells the answer from such a probe.
func (s *suite) ownProbes(v6 bool) (gs []genuine) {
	for _, p := range s.probes(v6) {
		gs = append(gs, genuine{"the probe itself", s.build(p)})
	}
	return gs
}

// otherPorts returns errors that quote, and where it is no UDP also answers
// to, what came from none of the ports and echo identifiers of probes. A type
// with the flow mode classic has to look at more than the port, so for it
// there are none.
func (s *suite) otherPorts(p *probe.Probe) (gs []genuine) {
	v6 := p.Dst.Is6()
	protocol := s.protocols[v6]
	if protocol == probe.UDP && !s.o.NoClassic {
		return nil
	}
	b := s.build(p)
	at, here := headerLen(b), 0
	if protocol == probe.ICMP || protocol == probe.ICMPv6 {
		here = 4
	}
	for _, port := range []uint16{1, 53, 0x3039, probe.SourcePort - 1, probe.SourcePort + probe.MaxFlows, 0xFFFF} {
		moved := seal(set(b, at+here, port))
		gs = append(gs,
			genuine{"an error about another port or identifier", s.expired(p, moved, nil)},
			genuine{"an error that quotes 8 bytes from another port or identifier", s.expired(p, moved[:at+8], nil)})
		for _, d := range s.o.Reply(s.TB, moved) {
			gs = append(gs, genuine{"an answer to another port or identifier", d})
		}
	}
	return gs
}

// noAnswers returns datagrams about p that are no answers to it.
func (s *suite) noAnswers(p *probe.Probe) (gs []genuine) {
	v6 := p.Dst.Is6()
	b := s.build(p)
	at := headerLen(b)
	whole := s.expired(p, b, nil)
	outer := headerLen(whole)
	// There is no kind for a source quench, a redirect, a timestamp or an
	// address mask; nor, of ICMPv6, for a redirect or what is unassigned.
	types := []uint8{4, 5, 6, 13, 17, 18, 40, 255}
	if v6 {
		types = []uint8{0, 5, 100, 127, 130, 135, 137, 255}
	}
	for _, typ := range types {
		d := slices.Clone(whole)
		d[outer] = typ
		gs = append(gs, genuine{"an ICMP message that is no answer", seal(d)})
	}
	for n := range at + 8 {
		gs = append(gs, genuine{"an error that quotes less than 8 bytes", s.expired(p, b[:n], nil)})
	}
	if v6 {
		later := s.withExtensionHeaders(b, packet.Fragment, func(next uint8) []byte {
			f, err := packet.AppendFragment(nil, next, 64, false, 77)
			s.must(err)
			return f
		})
		inner := s.wrap(src6, dst6, probe.ICMP, whole[outer:])
		return append(gs,
			genuine{"an error that quotes a later fragment", s.expired(p, later, nil)},
			genuine{"ICMP for IPv4 over IPv6", inner})
	}
	msg := slices.Clone(whole[outer:])
	return append(gs,
		genuine{"an error that quotes a later fragment", s.expired(p, set(b, 6, 3), nil)},
		genuine{"a later fragment", seal(set(whole, 6, 3))},
		genuine{"ICMPv6 over IPv4", s.wrap(src4, dst4, probe.ICMPv6, msg)})
}

// strangers returns traffic that has nothing to do with probes.
func (s *suite) strangers(p *probe.Probe) (gs []genuine) {
	v6 := p.Dst.Is6()
	protocol, request, reply := probe.ICMP, packet.ICMPv4Echo, packet.ICMPv4EchoReply
	if v6 {
		protocol, request, reply = probe.ICMPv6, packet.ICMPv6Echo, packet.ICMPv6EchoReply
	}
	ping := func(typ uint8, id uint16) []byte {
		return seal(s.wrap(p.Dst, p.Src, protocol, append(packet.Echo(typ, id, 7).Append(nil), "abcdefghijklmnopqrstuvwabcdefghi"...)))
	}
	for _, id := range []uint16{1, 0x3039, p.Port()} {
		gs = append(gs, genuine{"somebody's ping", ping(request, id)})
	}
	gs = append(gs, genuine{"the reply to somebody's ping", ping(reply, 1)})

	segment := func(port uint16, flags packet.TCPFlags) []byte {
		h := packet.TCP{SrcPort: p.DstPort, DstPort: port, Seq: 5, Ack: 0x30390001, Flags: flags, Window: 1000}
		b, err := h.Append(nil)
		s.must(err)
		return seal(s.wrap(p.Dst, p.Src, probe.TCP, append(b, "data"...)))
	}
	for _, flags := range []packet.TCPFlags{packet.SYN, packet.ACK, packet.ACK | packet.PSH, packet.FIN | packet.ACK, 0} {
		gs = append(gs, genuine{"a segment that answers no probe", segment(p.Port(), flags)})
	}
	for _, flags := range []packet.TCPFlags{packet.SYN | packet.ACK, packet.RST | packet.ACK, packet.RST} {
		gs = append(gs, genuine{"a segment to another port", segment(443, flags)})
	}
	for _, other := range []uint8{0, 2, 47, 50, 89, 132, 255} {
		gs = append(gs, genuine{"another protocol", s.wrap(p.Dst, p.Src, other, s.build(p)[headerLen(s.build(p)):])})
	}
	quote := s.wrap(p.Src, p.Dst, 132, make([]byte, 40))
	return append(gs, genuine{"an error about another protocol", s.expired(p, quote, nil)})
}

// truncated: a datagram cut anywhere is known or not, but never misread.
func truncated(s *suite) {
	for v6 := range s.families() {
		for _, p := range []*probe.Probe{s.probe(v6), s.withTag(v6, 0)} {
			for _, g := range append(s.answers(p), genuine{"the probe", s.build(p)}) {
				for n := range s.sample(len(g.datagram)) {
					s.holds(p, slices.Clip(g.datagram[:n]))
				}
			}
		}
	}
}

// altered: an answer with any byte changed is never one to another probe, as
// it comes or with its checksums set right again by whoever changed it.
func altered(s *suite) {
	const ways = 10
	for v6 := range s.families() {
		p := s.probe(v6)
		gs := append(s.answers(p), genuine{"the probe", s.build(p)})
		total := 0
		for _, g := range gs {
			total += len(g.datagram) * ways
		}
		for i := range s.sample(total) {
			k := 0
			for i >= len(gs[k].datagram)*ways {
				i -= len(gs[k].datagram) * ways
				k++
			}
			d := slices.Clone(gs[k].datagram)
			switch at, way := i/ways, i%ways; way {
			case 8:
				d[at] = 0
			case 9:
				d[at] = 0xFF
			default:
				d[at] ^= 1 << way
			}
			s.holds(p, d)
			s.holds(p, seal(d))
		}
	}
}

// noise: random bytes, and random bytes behind headers that are right.
func noise(s *suite) {
	rnd := rand.New(rand.NewPCG(2, 2))
	fill := func(b []byte) []byte {
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for v6 := range s.families() {
		p := s.probe(v6)
		s.unproven(p, nil)
		gs := s.answers(p)
		version := byte(4 << 4)
		if v6 {
			version = 6 << 4
		}
		for i := range s.o.Samples {
			d := fill(make([]byte, rnd.IntN(200)))
			if len(d) > 0 && i%2 == 0 {
				d[0] = d[0]&0xF | version
			}
			s.unproven(p, d)

			d = slices.Clone(gs[i%len(gs)].datagram)
			if at := headerLen(d) + rnd.IntN(60); at < len(d) {
				fill(d[at:])
				s.unproven(p, d)
				s.unproven(p, seal(d))
			}

			q := slices.Clone(s.build(p))
			at := headerLen(q) + 6
			fill(q[at : at+2])
			if tail := q[at+2:]; i%4 == 0 {
				copy(tail, bytes.Repeat([]byte{byte(i / 4)}, len(tail)))
			} else {
				fill(tail)
			}
			s.unproven(p, s.expired(p, q, nil))
		}
	}
}

// holds checks what a datagram, made out of an answer to p, is taken for.
func (s *suite) holds(p *probe.Probe, datagram []byte) {
	s.Helper()
	if a, ok := s.match(datagram); ok {
		s.must(misled(p, &a))
	}
}

// unproven checks that a datagram, if it is no answer to p, proves nothing:
// many bits of a tag cannot have come about by chance.
func (s *suite) unproven(p *probe.Probe, datagram []byte) {
	s.Helper()
	a, ok := s.match(datagram)
	if !ok || a.TagBits < 32 {
		return
	}
	ids, n := a.Readings()
	for _, id := range ids[:n] {
		if (id != p.ID || a.Dst != p.Dst) && a.Verified(&p.Key, id) {
			s.Fatalf("Match vouches for probe %d to %v, which was never sent: %x", id, a.Dst, datagram)
		}
	}
}
