package probetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// ip is what an IP header says, with extension headers or options passed over.
type ip struct {
	v6       bool
	src, dst netip.Addr
	ttl, tos uint8
	protocol uint8
	id       uint16 // of IPv4
	label    uint32 // of IPv6
	payload  []byte
}

// readIP reads a datagram, whole or cut short, that is no later fragment.
func readIP(b []byte) (ip, error) {
	if len(b) > 0 && b[0]>>4 == 6 {
		h, payload, err := packet.ParseIPv6(b)
		if err == nil && h.FragmentOffset != 0 {
			err = errors.New("a later fragment")
		}
		return ip{true, h.Src, h.Dst, h.HopLimit, h.TrafficClass, h.Protocol, 0, h.FlowLabel, payload}, err
	}
	h, payload, err := packet.ParseIPv4(b)
	if err == nil && h.FragmentOffset != 0 {
		err = errors.New("a later fragment")
	}
	return ip{false, h.Src, h.Dst, h.TTL, h.TOS, h.Protocol, h.ID, 0, payload}, err
}

// headerLen returns the length of a datagram's IP header.
func headerLen(b []byte) int {
	h, err := readIP(b)
	if err != nil {
		return len(b)
	}
	return len(b) - len(h.payload)
}

// valid says what is wrong with the datagram b, built for p. It reads bytes
// and sums them by itself: what built b may have been built with package
// packet.
func valid(p *probe.Probe, b []byte) error {
	wrong := func(what string, got, want any) error {
		return broken("Build of %s: %s is %v, want %v: %x", show(p), what, got, want, b)
	}
	if len(b) < packet.IPv4HeaderLen || p.Dst.Is6() && len(b) < packet.IPv6HeaderLen {
		return wrong("length", len(b), "that of an IP header at least")
	}
	if p.Size != 0 && len(b) != p.Size {
		return wrong("size", len(b), p.Size)
	}
	if p.Dst.Is4() {
		flags := uint16(0)
		if p.DontFragment {
			flags = 0x4000
		}
		switch n := int(b[0]&0xF) * 4; {
		case b[0]>>4 != 4:
			return wrong("version", b[0]>>4, 4)
		case n < packet.IPv4HeaderLen || n > len(b):
			return wrong("header length", n, "20 to 60 in the datagram")
		case word(b, 2) != uint16(len(b)):
			return wrong("total length", word(b, 2), len(b))
		case sum(b[:n]) != 0xFFFF:
			return wrong("IPv4 header checksum", fmt.Sprintf("%#04x", word(b, 10)), "a valid one")
		case b[8] != p.TTL:
			return wrong("TTL", b[8], p.TTL)
		case b[1] != p.TOS:
			return wrong("TOS", b[1], p.TOS)
		case word(b, 6) != flags:
			return wrong("flags and fragment offset", fmt.Sprintf("%#04x", word(b, 6)), fmt.Sprintf("%#04x", flags))
		case netip.AddrFrom4([4]byte(b[12:])) != p.Src:
			return wrong("source", netip.AddrFrom4([4]byte(b[12:])), p.Src)
		case netip.AddrFrom4([4]byte(b[16:])) != p.Dst:
			return wrong("destination", netip.AddrFrom4([4]byte(b[16:])), p.Dst)
		}
	} else {
		switch class := uint8(word(b, 0) >> 4); {
		case b[0]>>4 != 6:
			return wrong("version", b[0]>>4, 6)
		case int(word(b, 4)) != len(b)-packet.IPv6HeaderLen:
			return wrong("payload length", word(b, 4), len(b)-packet.IPv6HeaderLen)
		case b[7] != p.TTL:
			return wrong("hop limit", b[7], p.TTL)
		case class != p.TOS:
			return wrong("traffic class", class, p.TOS)
		case netip.AddrFrom16([16]byte(b[8:])) != p.Src:
			return wrong("source", netip.AddrFrom16([16]byte(b[8:])), p.Src)
		case netip.AddrFrom16([16]byte(b[24:])) != p.Dst:
			return wrong("destination", netip.AddrFrom16([16]byte(b[24:])), p.Dst)
		}
	}
	h, err := readIP(b)
	if err != nil {
		return broken("Build of %s: %w: %x", show(p), err, b)
	}
	return validTransport(p, h, wrong)
}

func validTransport(p *probe.Probe, h ip, wrong func(what string, got, want any) error) error {
	t := h.payload
	least := map[uint8]int{probe.UDP: packet.UDPHeaderLen, probe.TCP: packet.TCPHeaderLen}[h.protocol]
	switch {
	case h.protocol == probe.ICMP && !h.v6, h.protocol == probe.ICMPv6 && h.v6:
		least = packet.ICMPHeaderLen
	case least == 0:
		return wrong("protocol", h.protocol, "17 (UDP), 6 (TCP), or 1 (ICMP over IPv4) or 58 (ICMPv6 over IPv6): ports capture answers to these")
	}
	if len(t) < least {
		return wrong("length of the IP payload", len(t), fmt.Sprintf("%d at least", least))
	}
	if h.protocol == probe.UDP && word(t, 6) == 0 {
		return wrong("UDP checksum", 0, "another value: 0 says that there is none")
	}
	if sum(pseudo(h), t) != 0xFFFF {
		return wrong("transport checksum", fmt.Sprintf("wrong in %x", t), "a valid one")
	}
	if h.protocol == probe.ICMP || h.protocol == probe.ICMPv6 {
		// A host answers no error with an error (RFC 1122, RFC 4443).
		switch isError := kind(h.v6, t[0]) != 0; {
		case isError:
			return wrong("ICMP type", t[0], "a request")
		case word(t, 4) != p.Port():
			return wrong("echo identifier", word(t, 4), p.Port())
		}
		return nil
	}
	switch {
	case word(t, 0) != p.Port():
		return wrong("source port", word(t, 0), p.Port())
	case word(t, 2) != p.DstPort:
		return wrong("destination port", word(t, 2), p.DstPort)
	case h.protocol == probe.UDP && int(word(t, 4)) != len(t):
		return wrong("UDP length", word(t, 4), len(t))
	case h.protocol == probe.TCP && (t[12]>>4 < 5 || int(t[12]>>4)*4 > len(t)):
		return wrong("TCP header length", int(t[12]>>4)*4, "20 to 60 in the datagram")
	}
	return nil
}

// pseudo is what the checksum of a transport header covers besides, nothing
// for ICMP.
func pseudo(h ip) []byte {
	if h.protocol == probe.ICMP {
		return nil
	}
	b := append(h.src.AsSlice(), h.dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.payload)))
	return append(b, 0, 0, 0, h.protocol)
}

// sum is the one's complement sum (RFC 1071) of slices of which all but the
// last are of an even length.
func sum(slices ...[]byte) uint16 {
	s := uint32(0)
	for _, b := range slices {
		for i, v := range b {
			s += uint32(v) << (8 * (1 - i%2))
			s = s>>16 + s&0xFFFF
		}
	}
	return uint16(s)
}

func word(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }
