package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// IPv6HeaderLen is the length in bytes of the fixed IPv6 header.
const IPv6HeaderLen = 40

// Extension headers that [ParseIPv6] passes over.
const (
	HopByHop           uint8 = 0
	Routing            uint8 = 43
	Fragment           uint8 = 44
	Authentication     uint8 = 51
	DestinationOptions uint8 = 60
	Mobility           uint8 = 135
	HostIdentity       uint8 = 139
	Shim6              uint8 = 140
)

// IPv6 is an IPv6 header (RFC 8200) with its extension headers.
type IPv6 struct {
	TrafficClass uint8  // the whole byte: DSCP and ECN
	FlowLabel    uint32 // 20 bits
	// PayloadLen is the length in bytes of extension headers and payload, as
	// read. When building it is worked out.
	PayloadLen uint16
	// NextHeader is the type of the first extension header. Where there are
	// none it equals Protocol as read, and is ignored when building.
	NextHeader uint8
	HopLimit   uint8
	Src, Dst   netip.Addr
	Extensions []byte // the raw extension headers, nil if none
	// Protocol is what follows the extension headers. When building, it must
	// be what the last of them says.
	Protocol uint8
	// FragmentOffset, in bytes, and MoreFragments are those of the fragment
	// header, as read. Where FragmentOffset is not 0 the payload is a middle
	// piece of the original one.
	FragmentOffset uint16
	MoreFragments  bool
	// Truncated is set by [ParseIPv6] where the bytes end before the datagram
	// does.
	Truncated bool
}

// ParseIPv6 reads the IPv6 header at the start of b and the extension headers
// after it, and returns them and the payload: up to the payload length, or up
// to the end of b where that comes first. Extension headers cut short are
// [ErrTruncated], with the fields of the fixed header filled in. Jumbograms
// (RFC 2675) read as empty.
func ParseIPv6(b []byte) (h IPv6, payload []byte, err error) {
	if len(b) < 1 {
		return h, nil, errIPv6Short
	}
	if b[0]>>4 != 6 {
		return h, nil, errIPv6Version
	}
	if len(b) < IPv6HeaderLen {
		return h, nil, errIPv6Short
	}
	first := binary.BigEndian.Uint32(b)
	h = IPv6{
		TrafficClass: uint8(first >> 20),
		FlowLabel:    first & 0xFFFFF,
		PayloadLen:   binary.BigEndian.Uint16(b[4:]),
		NextHeader:   b[6],
		HopLimit:     b[7],
		Src:          netip.AddrFrom16([16]byte(b[8:])),
		Dst:          netip.AddrFrom16([16]byte(b[24:])),
		Protocol:     b[6],
	}
	end := IPv6HeaderLen + int(h.PayloadLen)
	if end > len(b) {
		end = len(b)
		h.Truncated = true
	}
	at := IPv6HeaderLen
	for h.FragmentOffset == 0 && isExtension(h.Protocol) {
		rest := b[at:end]
		if len(rest) < 8 {
			return h, nil, errIPv6Chain
		}
		n := extensionLen(h.Protocol, rest[1])
		if len(rest) < n {
			return h, nil, errIPv6Chain
		}
		if h.Protocol == Fragment {
			frag := binary.BigEndian.Uint16(rest[2:])
			h.FragmentOffset = frag &^ 7
			h.MoreFragments = frag&1 != 0
		}
		h.Protocol = rest[0]
		at += n
	}
	if at > IPv6HeaderLen {
		h.Extensions = b[IPv6HeaderLen:at:at]
	}
	return h, b[at:end:end], nil
}

func isExtension(t uint8) bool {
	switch t {
	case HopByHop, Routing, Fragment, Authentication, DestinationOptions, Mobility, HostIdentity, Shim6:
		return true
	}
	return false
}

func extensionLen(t, field uint8) int {
	switch t {
	case Fragment:
		return 8
	case Authentication: // counted in 4 bytes, less 2 (RFC 4302)
		return max(8, (int(field)+2)*4)
	}
	return (int(field) + 1) * 8
}

// Append appends the fixed header and the extension headers of a datagram with
// payload bytes of payload to b, with the payload length worked out. The error
// is [ErrField] for an address that is not IPv6, a flow label of more than 20
// bits, extension headers that are not a multiple of 4 bytes, or a payload
// length over 65535; b is then returned as it was.
func (h *IPv6) Append(b []byte, payload int) ([]byte, error) {
	if !h.Src.Is6() || !h.Dst.Is6() {
		return b, fmt.Errorf("%w: IPv6 addresses %v and %v, want two of IPv6", ErrField, h.Src, h.Dst)
	}
	if h.FlowLabel > 0xFFFFF {
		return b, fmt.Errorf("%w: IPv6 flow label %#x, want at most 0xfffff", ErrField, h.FlowLabel)
	}
	if len(h.Extensions)%4 != 0 {
		return b, fmt.Errorf("%w: %d bytes of IPv6 extension headers, want a multiple of 4", ErrField, len(h.Extensions))
	}
	n := len(h.Extensions)
	if payload < 0 || n+payload > 0xFFFF {
		return b, fmt.Errorf("%w: %d bytes of IPv6 payload, want 0 to %d", ErrField, payload, 0xFFFF-n)
	}
	next := h.Protocol
	if n > 0 {
		next = h.NextHeader
	}
	b = binary.BigEndian.AppendUint32(b, 6<<28|uint32(h.TrafficClass)<<20|h.FlowLabel)
	b = binary.BigEndian.AppendUint16(b, uint16(n+payload))
	b = append(b, next, h.HopLimit)
	src, dst := h.Src.As16(), h.Dst.As16()
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	return append(b, h.Extensions...), nil
}

// AppendOptions appends a hop-by-hop or destination options header to b: next
// is the type of what follows it, options the raw options, which are padded to
// the next multiple of 8 (RFC 8200 section 4.2). The error is [ErrField] for
// more than 2046 bytes of options.
func AppendOptions(b []byte, next uint8, options []byte) ([]byte, error) {
	if len(options) > 2046 {
		return b, fmt.Errorf("%w: %d bytes of IPv6 options, want at most 2046", ErrField, len(options))
	}
	pad := (8 - (2+len(options))%8) % 8
	b = append(b, next, uint8((2+len(options)+pad)/8-1))
	b = append(b, options...)
	switch pad {
	case 0:
	case 1:
		b = append(b, 0)
	default:
		b = append(b, 1, uint8(pad-2))
		for range pad - 2 {
			b = append(b, 0)
		}
	}
	return b, nil
}

// AppendFragment appends a fragment header (RFC 8200 section 4.5) to b: next
// is the type of what the fragments make up, offset the place of this one in
// bytes. The error is [ErrField] for an offset that is not a multiple of 8.
func AppendFragment(b []byte, next uint8, offset uint16, more bool, id uint32) ([]byte, error) {
	if offset%8 != 0 {
		return b, fmt.Errorf("%w: IPv6 fragment offset %d, want a multiple of 8", ErrField, offset)
	}
	if more {
		offset |= 1
	}
	b = append(b, next, 0)
	b = binary.BigEndian.AppendUint16(b, offset)
	return binary.BigEndian.AppendUint32(b, id), nil
}
