package packet

import (
	"encoding/binary"
	"net/netip"
)

// Sum is a running one's complement sum (RFC 1071) from which an Internet
// checksum is made. The zero value is the empty sum. It holds the sum of up to
// 16 GiB.
type Sum uint64

// Add adds b. An odd last byte counts as if a zero followed, so only the last
// slice added may have an odd length.
func (s Sum) Add(b []byte) Sum {
	for len(b) >= 4 {
		s += Sum(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		s += Sum(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += Sum(b[0]) << 8
	}
	return s
}

// Add16 adds one 16-bit word.
func (s Sum) Add16(v uint16) Sum { return s + Sum(v) }

func (s Sum) fold() uint16 {
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return uint16(s)
}

// Checksum returns the complement of the sum: the checksum field's value, if
// the field was 0 while it was summed, and 0 if the field was right.
func (s Sum) Checksum() uint16 { return ^s.fold() }

// UDPChecksum is [Sum.Checksum] with 0xFFFF for 0, which in a UDP header means
// that there is no checksum (RFC 768).
func (s Sum) UDPChecksum() uint16 {
	if c := s.Checksum(); c != 0 {
		return c
	}
	return 0xFFFF
}

// Fixup returns the word that makes want a valid checksum: s is the sum of all
// that is covered, with both the checksum field and the word, at an even
// offset, being 0.
func (s Sum) Fixup(want uint16) uint16 {
	return Sum(^want).Add16(^s.fold()).fold()
}

// PseudoHeader returns the sum of the pseudo header of UDP, TCP and ICMPv6
// (RFC 768, RFC 9293, RFC 8200 section 8.1): the two addresses, of either
// family, the protocol, and the length of header and payload in bytes.
func PseudoHeader(src, dst netip.Addr, protocol uint8, length int) Sum {
	s := Sum(protocol) + Sum(uint32(length))
	return addAddr(addAddr(s, src), dst)
}

func addAddr(s Sum, a netip.Addr) Sum {
	if a.Is4() {
		b := a.As4()
		return s.Add(b[:])
	}
	b := a.As16()
	return s.Add(b[:])
}

// Checksum returns the Internet checksum (RFC 1071) of b: the checksum field's
// value if the field in b is 0, and 0 if the field is right.
func Checksum(b []byte) uint16 { return Sum(0).Add(b).Checksum() }

// UpdateChecksum returns the checksum after one covered 16-bit word changed
// from old to new (RFC 1624, equation 3).
func UpdateChecksum(checksum, old, new uint16) uint16 {
	return Sum(^checksum).Add16(^old).Add16(new).Checksum()
}
