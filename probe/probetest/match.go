package probetest

import (
	"fmt"
	"math/bits"
	"slices"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// identity: the IP header and the 8 bytes after it, which are all that an ICMP
// error has to quote, are enough to know the probe by.
func identity(s *suite) {
	for v6 := range s.families() {
		for id := range s.identifiers() {
			p := s.probe(v6)
			p.ID, p.TTL, p.Flow = id, uint8(1+id%255), uint8(id>>8)
			p.Key[3] = byte(id)
			b := s.build(p)
			s.read(p, b[:headerLen(b)+8], nil, s.tagged(v6), "8 bytes quoted")
		}
		for _, p := range s.probes(v6) {
			b := s.build(p)
			s.read(p, b[:headerLen(b)+8], nil, s.tagged(v6), "8 bytes quoted")
			s.read(p, b, nil, true, "quoted whole")
		}
	}
}

// read checks the error that quotes p as it was sent, up to some byte: what is
// said to be known of the tag is right.
func (s *suite) read(p *probe.Probe, quote, extension []byte, proven bool, what string) {
	s.Helper()
	a := s.finds(p, s.expired(p, quote, extension), proven, what)
	if padded := extension != nil && len(quote) > headerLen(quote)+8; !padded && a.TagBits >= enough && !a.Verified(&p.Key, p.ID) {
		s.Fatalf("%s: Match knows %d bits of the tag, %#x, which %s did not carry", what, a.TagBits, a.Tag, show(p))
	}
}

// quotes: an error may quote any number of bytes, from 8 after the IP header
// on. Before extensions the quote is padded with zeros, of which none may be
// taken for the probe's.
func quotes(s *suite) {
	for v6 := range s.families() {
		ext := s.stack(labels...)
		for _, p := range s.probes(v6) {
			b := s.build(p)
			least := headerLen(b) + 8
			for i := range s.sample(len(b) - least + 1) {
				n := least + i
				what := fmt.Sprintf("%d of %d bytes quoted", n, len(b))
				s.read(p, b[:n], nil, n == len(b) || s.tagged(v6), what)
				if n <= 1020 {
					s.read(p, b[:n], ext, n == len(b) || s.tagged(v6), what+", padded")
				}
			}
		}
	}
}

// icmpErrors: every code of every type is an answer, and says what it is.
func icmpErrors(s *suite) {
	for v6 := range s.families() {
		// The codes of a type count from 0 on.
		types := map[uint8]int{packet.ICMPv4Unreachable: 16, packet.ICMPv4TimeExceeded: 2, packet.ICMPv4ParameterProblem: 3}
		if v6 {
			types = map[uint8]int{packet.ICMPv6Unreachable: 9, packet.ICMPv6PacketTooBig: 1, packet.ICMPv6TimeExceeded: 2, packet.ICMPv6ParameterProblem: 11}
		}
		p := s.probe(v6)
		b := s.build(p)
		for typ, codes := range types {
			for i := range codes + 1 {
				code := uint8(i)
				if i == codes {
					code = 255 // which nobody has assigned yet
				}
				e := packet.ICMPError{Type: typ, Code: code}
				switch {
				case !v6 && typ == packet.ICMPv4Unreachable && code == 4:
					e.MTU = 1400
				case v6 && typ == packet.ICMPv6PacketTooBig:
					e.MTU = 70000
				case typ == packet.ICMPv4ParameterProblem || v6 && typ == packet.ICMPv6ParameterProblem:
					e.Pointer = 40
				}
				what := fmt.Sprintf("ICMP type %d code %d", typ, code)
				e.Quote = b[:headerLen(b)+8]
				s.finds(p, s.report(p, e), s.tagged(v6), what+" that quotes 8 bytes")
				e.Quote = b
				s.finds(p, s.report(p, e), true, what+" that quotes all")
			}
		}
	}
}

// extensions: the label stack of an RFC 4884 extension arrives in order, from
// among other objects; a broken extension costs no more than itself.
func extensions(s *suite) {
	for v6 := range s.families() {
		p := s.probe(v6)
		b := s.build(p)
		info := packet.InterfaceInfo{HasIndex: true, Index: 3, Name: []byte("eth0")}
		payload, ctype, err := info.Append(nil)
		s.must(err)
		about := packet.Object{Class: packet.ClassInterfaceInfo, CType: ctype, Payload: payload}
		unknown := packet.Object{Class: 250, CType: 1, Payload: []byte{1, 2, 3, 4}}
		mpls := packet.Object{Class: packet.ClassMPLS, CType: 1, Payload: s.stack(labels...)[8:]}
		for _, c := range []struct {
			what string
			ext  []byte
			want []probe.Label
		}{
			{"one label", s.stack(labels[2]), labels[2:]},
			{"three labels", s.stack(labels...), labels},
			{"labels after other objects", s.extension(about, unknown, mpls), labels},
			{"labels before other objects", s.extension(mpls, unknown, about), labels},
			{"no labels", s.extension(about, unknown), nil},
			{"no objects", s.extension(), nil},
		} {
			for _, quote := range [][]byte{b[:headerLen(b)+8], b[:min(len(b), 1000)]} {
				a := s.finds(p, s.expired(p, quote, c.ext), s.tagged(v6), c.what)
				if !slices.Equal(a.MPLS, c.want) || c.want == nil && a.MPLS != nil {
					s.Fatalf("Match reads labels %v, want %v: %s", a.MPLS, c.want, c.what)
				}
			}
		}
		for i := range len(s.stack(labels...)) {
			for _, v := range []byte{0, 1, 0xFF} {
				ext := s.stack(labels...)
				ext[i] = v
				s.finds(p, s.expired(p, b[:headerLen(b)+8], ext), s.tagged(v6), "a broken extension")
			}
		}
	}
}

// rewritten: what is done to a probe on its way before it is quoted.
func rewritten(s *suite) {
	for v6 := range s.families() {
		for _, p := range s.probes(v6) {
			s.quotedFields(p)
			if !v6 {
				s.mangled(p)
			}
			if s.protocols[v6] == probe.UDP {
				s.checksum(p)
			}
		}
	}
}

// quotedFields: TTL and TOS are reported as quoted, from headers with options
// too.
func (s *suite) quotedFields(p *probe.Probe) {
	s.Helper()
	for i, ttl := range []uint8{0, 1, 2, 255} {
		b := slices.Clone(s.build(p))
		if tos := []uint8{0, 1, 0xB8, 0xFF}[i]; p.Dst.Is6() {
			b[0], b[1], b[7] = 6<<4|tos>>4, b[1]&0xF|tos<<4, ttl
		} else {
			b[1], b[8] = tos, ttl
		}
		whole := s.withOptions(b)
		s.finds(p, s.expired(p, b, nil), true, "another TTL and TOS")
		s.finds(p, s.expired(p, whole, nil), true, "IP options")
		s.finds(p, s.expired(p, whole[:headerLen(whole)+8], nil), s.tagged(p.Dst.Is6()), "IP options and 8 bytes")
		if p.Dst.Is6() {
			s.finds(p, s.expired(p, s.withFragmentHeader(b), nil), true, "a fragment header")
			s.finds(p, s.expired(p, s.withFragmentHeader(whole), nil), true, "options after a fragment header")
		}
	}
}

// mangled: some routers quote the IPv4 identification byte-swapped, some one
// too high. It is found and proven all the same.
func (s *suite) mangled(p *probe.Probe) {
	s.Helper()
	b := s.build(p)
	least := headerLen(b) + 8
	for what, id := range map[string]uint16{
		"the identification byte-swapped": bits.ReverseBytes16(word(b, 4)),
		"the identification one too high": word(b, 4) + 1,
	} {
		if id == 0 {
			continue // which is what hosts and routers that clear it quote too
		}
		for _, n := range []int{least, len(b)} {
			s.finds(p, s.expired(p, set(b, 4, id)[:n], nil), true, what)
		}
	}
}

// checksum: a quoted UDP checksum may have been cleared, and then says nothing
// of the tag, or changed by a NAT. Over IPv4 the identifier is still there.
func (s *suite) checksum(p *probe.Probe) {
	s.Helper()
	b := s.build(p)
	at := headerLen(b)
	for _, n := range []int{at + 8, len(b)} {
		cleared := s.expired(p, set(b, at+6, 0)[:n], nil)
		changed := s.expired(p, set(b, at+6, word(b, at+6)+0x0777)[:n], nil)
		if p.Dst.Is6() {
			for _, d := range [][]byte{cleared, changed} {
				if a, ok := s.match(d); ok {
					s.must(misled(p, &a))
				}
			}
			continue
		}
		s.finds(p, changed, false, "the UDP checksum changed")
		a := s.finds(p, cleared, false, "the UDP checksum cleared")
		if n == at+8 && a.TagBits != 0 {
			s.Fatalf("Match knows %d bits of a tag of which nothing came back, the UDP checksum being 0", a.TagBits)
		}
	}
}

// carried: the answer itself may come with IP options, and with the padding of
// a short Ethernet frame behind it.
func carried(s *suite) {
	for v6 := range s.families() {
		p := s.probe(v6)
		for _, g := range s.answers(p) {
			proven := s.finds(p, g.datagram, false, g.what).TagBits >= enough
			s.finds(p, append(slices.Clone(g.datagram), make([]byte, 18)...), proven, g.what+", with link-layer padding")
			s.finds(p, s.withOptions(g.datagram), proven, g.what+", with IP options")
		}
	}
}

// replies: the destination's own answers identify the probe and prove it.
func replies(s *suite) {
	for v6 := range s.families() {
		ps := s.probes(v6)
		for id := range s.identifiers() {
			if len(ps) > 300 {
				break
			}
			p := s.probe(v6)
			p.ID, p.TTL, p.Flow = id, uint8(1+id%255), uint8(id)
			ps = append(ps, p)
		}
		for _, p := range ps {
			for i, d := range s.o.Reply(s.TB, s.build(p)) {
				s.finds(p, d, true, fmt.Sprintf("answer %d of the destination", i+1))
			}
		}
	}
}
