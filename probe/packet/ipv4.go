package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// IPv4HeaderLen is the length in bytes of an IPv4 header without options.
const IPv4HeaderLen = 20

const (
	flagDontFragment  = 0x4000
	flagMoreFragments = 0x2000
	offsetMask        = 0x1FFF
)

// IPv4 is an IPv4 header (RFC 791).
type IPv4 struct {
	TOS uint8 // the whole byte: DSCP and ECN
	// TotalLen is the length in bytes of header and payload, as read. When
	// building it is worked out.
	TotalLen       uint16
	ID             uint16
	DontFragment   bool
	MoreFragments  bool
	FragmentOffset uint16 // in bytes, a multiple of 8
	TTL            uint8
	Protocol       uint8
	// Checksum is as read. When building it is worked out.
	Checksum uint16
	Src, Dst netip.Addr
	Options  []byte // raw, 0 to 40 bytes, a multiple of 4; nil if none
	// Truncated is set by [ParseIPv4] where the bytes end before the datagram
	// does.
	Truncated bool
}

// ParseIPv4 reads the IPv4 header at the start of b and returns it and its
// payload: up to the total length, or up to the end of b where that comes
// first. A total length shorter than the header, as left by segmentation
// offload and by some routers in quotes, counts as unknown: the payload is all
// that follows. The checksum is not verified.
func ParseIPv4(b []byte) (h IPv4, payload []byte, err error) {
	if len(b) < 1 {
		return h, nil, errIPv4Short
	}
	if b[0]>>4 != 4 {
		return h, nil, errIPv4Version
	}
	n := int(b[0]&0xF) * 4
	if n < IPv4HeaderLen {
		return h, nil, errIPv4Length
	}
	if len(b) < n {
		return h, nil, errIPv4Short
	}
	frag := binary.BigEndian.Uint16(b[6:])
	h = IPv4{
		TOS:            b[1],
		TotalLen:       binary.BigEndian.Uint16(b[2:]),
		ID:             binary.BigEndian.Uint16(b[4:]),
		DontFragment:   frag&flagDontFragment != 0,
		MoreFragments:  frag&flagMoreFragments != 0,
		FragmentOffset: frag & offsetMask * 8,
		TTL:            b[8],
		Protocol:       b[9],
		Checksum:       binary.BigEndian.Uint16(b[10:]),
		Src:            netip.AddrFrom4([4]byte(b[12:])),
		Dst:            netip.AddrFrom4([4]byte(b[16:])),
	}
	if n > IPv4HeaderLen {
		h.Options = b[IPv4HeaderLen:n:n]
	}
	end := int(h.TotalLen)
	switch {
	case end < n:
		end = len(b)
	case end > len(b):
		end = len(b)
		h.Truncated = true
	}
	return h, b[n:end:end], nil
}

// Append appends the header of a datagram with payload bytes of payload to b,
// with total length and checksum worked out. The error is [ErrField] for an
// address that is not IPv4, options that are not 0 to 40 bytes in steps of 4,
// a fragment offset that is not a multiple of 8, or a total length over 65535;
// b is then returned as it was.
func (h *IPv4) Append(b []byte, payload int) ([]byte, error) {
	if !h.Src.Is4() || !h.Dst.Is4() {
		return b, fmt.Errorf("%w: IPv4 addresses %v and %v, want two of IPv4", ErrField, h.Src, h.Dst)
	}
	if len(h.Options)%4 != 0 || len(h.Options) > 40 {
		return b, fmt.Errorf("%w: %d bytes of IPv4 options, want 0 to 40 in steps of 4", ErrField, len(h.Options))
	}
	if h.FragmentOffset%8 != 0 {
		return b, fmt.Errorf("%w: IPv4 fragment offset %d, want a multiple of 8", ErrField, h.FragmentOffset)
	}
	n := IPv4HeaderLen + len(h.Options)
	if payload < 0 || n+payload > 0xFFFF {
		return b, fmt.Errorf("%w: %d bytes of IPv4 payload, want 0 to %d", ErrField, payload, 0xFFFF-n)
	}
	frag := h.FragmentOffset / 8
	if h.DontFragment {
		frag |= flagDontFragment
	}
	if h.MoreFragments {
		frag |= flagMoreFragments
	}
	start := len(b)
	b = append(b, 4<<4|uint8(n/4), h.TOS)
	b = binary.BigEndian.AppendUint16(b, uint16(n+payload))
	b = binary.BigEndian.AppendUint16(b, h.ID)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, h.TTL, h.Protocol, 0, 0)
	src, dst := h.Src.As4(), h.Dst.As4()
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	b = append(b, h.Options...)
	binary.BigEndian.PutUint16(b[start+10:], Checksum(b[start:]))
	return b, nil
}
