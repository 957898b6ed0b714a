package contract

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// Sort is the sort of probes that a plugin builds.
type Sort struct {
	Protocol pluginv1.Protocol
	Port     uint16 // of probes that have none
}

// wrong says what is wrong with a datagram that was built for p, whose tag is
// known: what, what it is and what it should be. It is strict, as what is
// asked for is: there are no options or extension headers, through which a
// plugin could send elsewhere. Nothing is allocated if all is well.
func (s Sort) wrong(b []byte, p *probe.Probe, tag uint64) (what string, got, want any) {
	switch {
	case p.ID == 0 || p.TTL == 0 || p.Mode > probe.Classic || !host(p.Src) || !host(p.Dst) || p.Src.Is4() != p.Dst.Is4():
		return "probe", fmt.Sprintf("%d from %v to %v, TTL %d, %v", p.ID, p.Src, p.Dst, p.TTL, p.Mode), "one that can be: it had to be refused"
	case p.Size != 0 && len(b) != p.Size:
		return "size", len(b), p.Size
	case p.Size == 0 && len(b) > MaxDefaultSize:
		return "size", len(b), fmt.Sprintf("%d at most", MaxDefaultSize)
	case p.Dst.Is4():
		return s.wrong4(b, p, tag)
	}
	return s.wrong6(b, p, tag)
}

func host(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() && !a.Is4In6() }

func (s Sort) wrong4(b []byte, p *probe.Probe, tag uint64) (what string, got, want any) {
	if len(b) < packet.IPv4HeaderLen {
		return "size", len(b), "20 bytes at least"
	}
	flags := uint16(0)
	if p.DontFragment {
		flags = 0x4000
	}
	id := p.ID
	if s.Protocol != pluginv1.Protocol_PROTOCOL_UDP {
		id = probe.Tag16(tag)
	}
	if s.Protocol == pluginv1.Protocol_PROTOCOL_TCP {
		id = word(b, 4) // which says nothing
	}
	next := number(s.Protocol, false)
	switch {
	case b[0] != 0x45:
		return "first byte", hex8(b[0]), "0x45: IPv4 without options"
	case int(word(b, 2)) != len(b):
		return "total length", word(b, 2), len(b)
	case packet.Checksum(b[:packet.IPv4HeaderLen]) != 0:
		return "IPv4 header checksum", hex16(word(b, 10)), "a valid one"
	case netip.AddrFrom4([4]byte(b[12:])) != p.Src:
		return "source", netip.AddrFrom4([4]byte(b[12:])), p.Src
	case netip.AddrFrom4([4]byte(b[16:])) != p.Dst:
		return "destination", netip.AddrFrom4([4]byte(b[16:])), p.Dst
	case b[9] != next:
		return "protocol", b[9], next
	case b[8] != p.TTL:
		return "TTL", b[8], p.TTL
	case b[1] != p.TOS:
		return "TOS", hex8(b[1]), hex8(p.TOS)
	case word(b, 6) != flags:
		return "flags and fragment offset", hex16(word(b, 6)), hex16(flags)
	case word(b, 4) != id:
		return "identification", hex16(word(b, 4)), hex16(id)
	}
	return s.wrongTransport(b[packet.IPv4HeaderLen:], next, p, tag)
}

func (s Sort) wrong6(b []byte, p *probe.Probe, tag uint64) (what string, got, want any) {
	if len(b) < packet.IPv6HeaderLen {
		return "size", len(b), "40 bytes at least"
	}
	next := number(s.Protocol, true)
	first := binary.BigEndian.Uint32(b)
	switch src, dst := p.Src.WithZone(""), p.Dst.WithZone(""); {
	case first>>28 != 6:
		return "version", first >> 28, 6
	case int(word(b, 4)) != len(b)-packet.IPv6HeaderLen:
		return "payload length", word(b, 4), len(b) - packet.IPv6HeaderLen
	case netip.AddrFrom16([16]byte(b[8:])) != src:
		return "source", netip.AddrFrom16([16]byte(b[8:])), src
	case netip.AddrFrom16([16]byte(b[24:])) != dst:
		return "destination", netip.AddrFrom16([16]byte(b[24:])), dst
	case b[6] != next:
		return "next header", b[6], next
	case b[7] != p.TTL:
		return "hop limit", b[7], p.TTL
	case uint8(first>>20) != p.TOS:
		return "traffic class", hex8(uint8(first >> 20)), hex8(p.TOS)
	case first&0xFFFFF != uint32(p.Port()):
		return "flow label", first & 0xFFFFF, p.Port()
	}
	return s.wrongTransport(b[packet.IPv6HeaderLen:], next, p, tag)
}

func (s Sort) wrongTransport(b []byte, protocol uint8, p *probe.Probe, tag uint64) (what string, got, want any) {
	least := packet.UDPHeaderLen
	switch protocol {
	case probe.TCP:
		least = packet.TCPHeaderLen
	case probe.ICMP, probe.ICMPv6:
		least = packet.ICMPHeaderLen + 10
	}
	if len(b) < least {
		return "length of the IP payload", len(b), fmt.Sprintf("%d bytes at least", least)
	}
	var sum packet.Sum
	if protocol != probe.ICMP {
		sum = packet.PseudoHeader(p.Src, p.Dst, protocol, len(b))
	}
	if sum.Add(b).Checksum() != 0 {
		return "checksum of the IP payload", "a wrong one", "a valid one"
	}
	port := p.DstPort
	if port == 0 {
		port = s.Port
	}
	switch protocol {
	case probe.UDP:
		return wrongUDP(b, p, port, tag)
	case probe.TCP:
		return wrongTCP(b, p, port, tag)
	}
	return wrongEcho(b, protocol, p, tag)
}

func wrongUDP(b []byte, p *probe.Probe, port uint16, tag uint64) (what string, got, want any) {
	checksum := p.ID
	if p.Dst.Is4() {
		checksum = probe.Tag16(tag)
	}
	switch {
	case word(b, 0) != p.Port():
		return "source port", word(b, 0), p.Port()
	case word(b, 2) != port:
		return "destination port", word(b, 2), port
	case int(word(b, 4)) != len(b):
		return "UDP length", word(b, 4), len(b)
	case word(b, 6) != checksum:
		return "UDP checksum", hex16(word(b, 6)), hex16(checksum)
	}
	payload := b[packet.UDPHeaderLen:]
	if len(payload) < probe.IdentityLen && p.Dst.Is4() || identified(payload, p.ID, tag) {
		return "", nil, nil
	}
	return "end of the payload", fmt.Sprintf("%x", payload[max(0, len(payload)-probe.IdentityLen):]),
		fmt.Sprintf("two bytes, ID %04x and tag %016x, and perhaps zeros", p.ID, tag)
}

// identified tells whether an identity is where agents look for it: at the end
// but for zeros, of which the tag may have some itself, or at the start.
func identified(payload []byte, id uint16, tag uint64) bool {
	is := func(end int) bool {
		return end <= len(payload) && end >= probe.IdentityLen &&
			word(payload, end-10) == id && binary.BigEndian.Uint64(payload[end-8:]) == tag
	}
	if is(len(payload)) || is(probe.IdentityLen) {
		return true
	}
	first := len(bytes.TrimRight(payload, "\x00"))
	for end := first; end < first+8; end++ {
		if is(end) {
			return true
		}
	}
	return false
}

func wrongTCP(b []byte, p *probe.Probe, port uint16, tag uint64) (what string, got, want any) {
	const notSYN = byte(packet.FIN | packet.RST | packet.PSH | packet.ACK | packet.URG)
	const reserved = 0x0E // but for AE (RFC 9768)
	seq := uint32(p.ID)<<16 | uint32(probe.Tag16(tag))
	switch {
	case word(b, 0) != p.Port():
		return "source port", word(b, 0), p.Port()
	case word(b, 2) != port:
		return "destination port", word(b, 2), port
	case binary.BigEndian.Uint32(b[4:]) != seq:
		return "sequence number", fmt.Sprintf("%#08x", b[4:8]), fmt.Sprintf("%#08x", seq)
	case b[13]&byte(packet.SYN) == 0 || b[13]&notSYN != 0 || b[12]&reserved != 0:
		return "TCP flags", fmt.Sprintf("%#x", b[12:14]), "SYN, and none but AE, CWR and ECE besides"
	case int(b[12]>>4)*4 != len(b):
		return "TCP header length", int(b[12]>>4) * 4, fmt.Sprintf("%d: SYN probes carry no payload", len(b))
	}
	return "", nil, nil
}

func wrongEcho(b []byte, protocol uint8, p *probe.Probe, tag uint64) (what string, got, want any) {
	request := packet.ICMPv4Echo
	if protocol == probe.ICMPv6 {
		request = packet.ICMPv6Echo
	}
	switch {
	case p.Mode == probe.Classic:
		return "flow mode", p.Mode, "paris: only UDP has a source port to carry the identifier"
	case b[0] != request || b[1] != 0:
		return "ICMP type and code", fmt.Sprintf("[%d %d]", b[0], b[1]), fmt.Sprintf("[%d 0]: an echo request", request)
	case word(b, 2) != p.Port():
		return "ICMP checksum", hex16(word(b, 2)), hex16(p.Port())
	case word(b, 4) != p.Port():
		return "echo identifier", word(b, 4), p.Port()
	case word(b, 6) != p.ID:
		return "echo sequence number", word(b, 6), p.ID
	case binary.BigEndian.Uint64(b[10:]) != tag:
		return "tag at byte 2 of the payload", fmt.Sprintf("%#016x", b[10:18]), fmt.Sprintf("%#016x", tag)
	}
	return "", nil, nil
}

func word(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }

func hex8(v uint8) string { return fmt.Sprintf("%#02x", v) }

func hex16(v uint16) string { return fmt.Sprintf("%#04x", v) }
