package probetest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

var (
	src4    = netip.MustParseAddr("192.0.2.1")
	dst4    = netip.MustParseAddr("198.51.100.7")
	router4 = netip.MustParseAddr("203.0.113.5")
	src6    = netip.MustParseAddr("2001:db8:ff::1")
	dst6    = netip.MustParseAddr("2001:db8:1::7")
	router6 = netip.MustParseAddr("2001:db8:2::5")

	key = probe.Key{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

const answerTTL = 61

// probe returns a probe to be changed.
func (s *suite) probe(v6 bool) *probe.Probe {
	p := &probe.Probe{ID: 0x3039, Key: key, Src: src4, Dst: dst4, DstPort: s.o.DstPort, TTL: 7, TOS: 2}
	if v6 {
		p.Src, p.Dst = src6, dst6
	}
	return p
}

// probes returns probes whose identifiers and tags are of the sort that is
// easily got wrong: alike when swapped, carrying into each other, ending like
// padding.
func (s *suite) probes(v6 bool) []*probe.Probe {
	var ps []*probe.Probe
	for _, id := range []uint16{0x3039, 1, 0x0100, 0xFF00, 0xFFFE} {
		p := s.probe(v6)
		p.ID = id
		ps = append(ps, p)
	}
	for _, low := range []uint16{0, 1, 0x1200, 0xFFFF} {
		ps = append(ps, s.withTag(v6, low))
	}
	return ps
}

// withTag returns a probe whose tag ends in the 16 bits low.
func (s *suite) withTag(v6 bool, low uint16) *probe.Probe {
	type sought struct {
		protocol uint8
		v6       bool
		low      uint16
	}
	type identity struct {
		id  uint16
		key probe.Key
	}
	p := s.probe(v6)
	want := sought{s.protocols[v6], v6, low}
	if v, ok := withTags.Load(want); ok {
		p.ID, p.Key = v.(identity).id, v.(identity).key
		return p
	}
	for uint16(p.Tag(want.protocol)) != low {
		if p.ID--; p.ID == 0 {
			p.ID--
			p.Key[15]++
		}
	}
	withTags.Store(want, identity{p.ID, p.Key})
	return p
}

// withTags is what withTag found, by what it sought: it takes some 65,536
// tries.
var withTags sync.Map

// tagged tells whether the tag of the type's probes has to be in the 8 bytes
// after the IP header, or in that itself. Over IPv6 only TCP has the room.
func (s *suite) tagged(v6 bool) bool { return !v6 || s.protocols[v6] == probe.TCP }

// asSent returns a built datagram as it leaves a host: Linux fills in an IPv4
// identification of 0.
func asSent(b []byte) []byte {
	if len(b) < packet.IPv4HeaderLen || b[0]>>4 != 4 || word(b, 4) != 0 {
		return b
	}
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[4:], 0x5EED)
	return seal(b)
}

// wrap returns a datagram from src to dst.
func (s *suite) wrap(src, dst netip.Addr, protocol uint8, payload []byte) []byte {
	s.Helper()
	b := header(src, dst, protocol, len(payload))
	if b == nil {
		s.Fatalf("an answer of %d bytes is too long for an IP datagram", len(payload))
	}
	return append(b, payload...)
}

// report returns the datagram in which a router reports e to the source of p.
func (s *suite) report(p *probe.Probe, e packet.ICMPError) []byte {
	s.Helper()
	if p.Dst.Is6() {
		msg, err := packet.AppendICMPv6Error(nil, e, router6, p.Src)
		s.must(err)
		return s.wrap(router6, p.Src, probe.ICMPv6, msg)
	}
	msg, err := packet.AppendICMPv4Error(nil, e)
	s.must(err)
	return s.wrap(router4, p.Src, probe.ICMP, msg)
}

// expired returns the report that p, of which it quotes quote, ran out of hops.
func (s *suite) expired(p *probe.Probe, quote, extension []byte) []byte {
	s.Helper()
	typ := packet.ICMPv4TimeExceeded
	if p.Dst.Is6() {
		typ = packet.ICMPv6TimeExceeded
	}
	return s.report(p, packet.ICMPError{Type: typ, Quote: quote, Extension: extension})
}

// labels is a label stack, and stack the extension that carries it.
var labels = []probe.Label{{Label: 16004, TC: 3, TTL: 1}, {Label: 1, TC: 7, TTL: 254}, {Label: 0xFFFFF, Bottom: true, TTL: 255}}

func (s *suite) stack(labels ...probe.Label) []byte {
	s.Helper()
	var payload []byte
	for _, l := range labels {
		payload = packet.MPLSLabel(l).Append(payload)
	}
	return s.extension(packet.Object{Class: packet.ClassMPLS, CType: 1, Payload: payload})
}

func (s *suite) extension(objects ...packet.Object) []byte {
	s.Helper()
	ext, err := packet.AppendExtension(nil, objects...)
	s.must(err)
	return ext
}

// withOptions returns a datagram with a router alert between the IP header and
// the rest, as routers put it there or as hosts that filter leave it.
func (s *suite) withOptions(datagram []byte) []byte {
	s.Helper()
	if datagram[0]>>4 == 4 {
		h, payload, err := packet.ParseIPv4(datagram)
		s.must(err)
		h.Options = append([]byte{148, 4, 0, 0}, h.Options...)
		b, err := h.Append(nil, len(payload))
		s.must(err)
		return append(b, payload...)
	}
	return s.withExtensionHeaders(datagram, packet.HopByHop, func(next uint8) []byte {
		b, err := packet.AppendOptions(nil, next, []byte{5, 2, 0, 0})
		s.must(err)
		return b
	})
}

// withFragmentHeader returns an IPv6 datagram as the first of its fragments.
func (s *suite) withFragmentHeader(datagram []byte) []byte {
	s.Helper()
	return s.withExtensionHeaders(datagram, packet.Fragment, func(next uint8) []byte {
		b, err := packet.AppendFragment(nil, next, 0, true, 77)
		s.must(err)
		return b
	})
}

// withExtensionHeaders returns an IPv6 datagram with one more header, made by
// header, after the fixed one.
func (s *suite) withExtensionHeaders(datagram []byte, typ uint8, header func(next uint8) []byte) []byte {
	s.Helper()
	h, payload, err := packet.ParseIPv6(datagram)
	s.must(err)
	h.Extensions = append(header(h.NextHeader), h.Extensions...)
	h.NextHeader = typ
	b, err := h.Append(nil, len(payload))
	s.must(err)
	return append(b, payload...)
}

// set returns a copy of a datagram with another 16-bit word at offset at.
func set(datagram []byte, at int, v uint16) []byte {
	b := bytes.Clone(datagram)
	binary.BigEndian.PutUint16(b[at:], v)
	return b
}

// seal sets the checksums of a datagram right, as far as it can be read, and
// returns it.
func seal(b []byte) []byte {
	h, err := readIP(b)
	if err != nil {
		return b
	}
	if !h.v6 {
		n := int(b[0]&0xF) * 4
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], ^sum(b[:n]))
	}
	at, ok := map[uint8]int{probe.UDP: 6, probe.TCP: 16, probe.ICMP: 2, probe.ICMPv6: 2}[h.protocol]
	if !ok || len(h.payload) < at+2 {
		return b
	}
	binary.BigEndian.PutUint16(h.payload[at:], 0)
	c := ^sum(pseudo(h), h.payload)
	if c == 0 && h.protocol == probe.UDP {
		c = 0xFFFF
	}
	binary.BigEndian.PutUint16(h.payload[at:], c)
	return b
}

// genuine is an answer to a probe, and what is special about it.
type genuine struct {
	what     string
	datagram []byte
}

// answers returns answers of every sort to p, each of which Match has to know.
func (s *suite) answers(p *probe.Probe) []genuine {
	s.Helper()
	b := s.build(p)
	v6 := p.Dst.Is6()
	short := b[:headerLen(b)+8]
	unreachable := packet.ICMPError{Type: packet.ICMPv4Unreachable, Code: 3, Quote: b}
	tooBig := packet.ICMPError{Type: packet.ICMPv4Unreachable, Code: 4, MTU: 1400, Quote: b}
	problem := packet.ICMPError{Type: packet.ICMPv4ParameterProblem, Pointer: 1, Quote: short}
	if v6 {
		unreachable.Type, unreachable.Code = packet.ICMPv6Unreachable, 4
		tooBig.Type, tooBig.Code = packet.ICMPv6PacketTooBig, 0
		problem.Type = packet.ICMPv6ParameterProblem
	}
	gs := []genuine{
		{"time exceeded that quotes 8 bytes", s.expired(p, short, nil)},
		{"time exceeded that quotes all", s.expired(p, b, nil)},
		{"time exceeded that quotes 8 bytes, with labels", s.expired(p, short, s.stack(labels...))},
		{"time exceeded that quotes all, with labels", s.expired(p, b[:min(len(b), 1000)], s.stack(labels...))},
		{"time exceeded that quotes IP options", s.expired(p, s.withOptions(b), nil)},
		{"port unreachable", s.report(p, unreachable)},
		{"too big", s.report(p, tooBig)},
		{"parameter problem", s.report(p, problem)},
	}
	for _, d := range s.o.Reply(s.TB, b) {
		gs = append(gs, genuine{"answer of the destination", d})
	}
	return gs
}
