package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// ICMPHeaderLen is the length in bytes of an ICMP or ICMPv6 header with the
// four bytes whose meaning the type decides.
const ICMPHeaderLen = 8

// Types of ICMP messages (RFC 792).
const (
	ICMPv4EchoReply        uint8 = 0
	ICMPv4Unreachable      uint8 = 3
	ICMPv4Echo             uint8 = 8
	ICMPv4TimeExceeded     uint8 = 11
	ICMPv4ParameterProblem uint8 = 12
)

// Types of ICMPv6 messages (RFC 4443).
const (
	ICMPv6Unreachable      uint8 = 1
	ICMPv6PacketTooBig     uint8 = 2
	ICMPv6TimeExceeded     uint8 = 3
	ICMPv6ParameterProblem uint8 = 4
	ICMPv6Echo             uint8 = 128
	ICMPv6EchoReply        uint8 = 129
)

// codeFragmentationNeeded is the ICMPv4Unreachable code that carries an MTU.
const codeFragmentationNeeded = 4

const protocolICMPv6 = 58

// ICMP is the header of an ICMP or ICMPv6 message.
type ICMP struct {
	Type, Code uint8
	Checksum   uint16
	Rest       uint32 // the second four bytes, which mean what Type says
}

// Echo returns the header of an echo message with the checksum left 0.
func Echo(typ uint8, id, seq uint16) ICMP {
	return ICMP{Type: typ, Rest: uint32(id)<<16 | uint32(seq)}
}

// ID returns the identifier of an echo message.
func (h ICMP) ID() uint16 { return uint16(h.Rest >> 16) }

// Seq returns the sequence number of an echo message.
func (h ICMP) Seq() uint16 { return uint16(h.Rest) }

// ParseICMP reads the ICMP or ICMPv6 header at the start of b and returns it
// and the body after it. The checksum is not verified: see [Checksum] and, for
// ICMPv6, [PseudoHeader].
func ParseICMP(b []byte) (h ICMP, body []byte, err error) {
	if len(b) < ICMPHeaderLen {
		return h, nil, errICMPShort
	}
	return ICMP{
		Type:     b[0],
		Code:     b[1],
		Checksum: binary.BigEndian.Uint16(b[2:]),
		Rest:     binary.BigEndian.Uint32(b[4:]),
	}, b[ICMPHeaderLen:], nil
}

// Append appends the header to b as it stands, with its Checksum.
func (h ICMP) Append(b []byte) []byte {
	b = append(b, h.Type, h.Code)
	b = binary.BigEndian.AppendUint16(b, h.Checksum)
	return binary.BigEndian.AppendUint32(b, h.Rest)
}

// ICMPError is an ICMP or ICMPv6 error message.
type ICMPError struct {
	Type, Code uint8
	// MTU is the next hop's in bytes, of "fragmentation needed" (16 bits,
	// RFC 1191) and "packet too big".
	MTU uint32
	// Pointer is the place of the fault in the quoted datagram, of a
	// parameter problem: 8 bits in ICMP, 32 in ICMPv6.
	Pointer uint32
	// Quote is the start of the datagram that caused the error. Where there
	// are extensions, padding may follow it.
	Quote []byte
	// Extension is the extension structure of RFC 4884 from its header on,
	// nil if none; see [Objects].
	Extension []byte
}

// ParseICMPv4Error reads an ICMP message of type 3, 11 or 12. Any other type
// is [ErrMalformed]. The checksum is not verified.
//
// The extension structure is looked for where the message's length field says
// and, for routers older than RFC 4884, at 128 bytes, where it needs a valid
// checksum.
func ParseICMPv4Error(msg []byte) (ICMPError, error) {
	h, body, err := ParseICMP(msg)
	if err != nil {
		return ICMPError{}, err
	}
	e := ICMPError{Type: h.Type, Code: h.Code}
	switch {
	case h.Type == ICMPv4Unreachable && h.Code == codeFragmentationNeeded:
		e.MTU = h.Rest & 0xFFFF
	case h.Type == ICMPv4ParameterProblem:
		e.Pointer = h.Rest >> 24
	case h.Type != ICMPv4Unreachable && h.Type != ICMPv4TimeExceeded:
		return ICMPError{}, errICMPNotError
	}
	e.Quote, e.Extension = splitExtension(body, int(uint8(h.Rest>>16))*4)
	return e, nil
}

// ParseICMPv6Error reads an ICMPv6 message of type 1 to 4. Any other type is
// [ErrMalformed]. The checksum is not verified. Extensions are looked for as
// by [ParseICMPv4Error], in types 1 and 3.
func ParseICMPv6Error(msg []byte) (ICMPError, error) {
	h, body, err := ParseICMP(msg)
	if err != nil {
		return ICMPError{}, err
	}
	e := ICMPError{Type: h.Type, Code: h.Code, Quote: body}
	switch h.Type {
	case ICMPv6Unreachable, ICMPv6TimeExceeded:
		e.Quote, e.Extension = splitExtension(body, int(h.Rest>>24)*8)
	case ICMPv6PacketTooBig:
		e.MTU = h.Rest
	case ICMPv6ParameterProblem:
		e.Pointer = h.Rest
	default:
		return ICMPError{}, errICMPNotError
	}
	return e, nil
}

// AppendICMPv4Error appends the whole message to b, with its checksum. Where
// there is an extension the quote is padded to at least 128 bytes. The error
// is [ErrField] for a type other than 3, 11 and 12, an MTU or pointer that
// does not fit, or a quote of more than 1020 bytes before an extension; b is
// then returned as it was.
func AppendICMPv4Error(b []byte, e ICMPError) ([]byte, error) {
	h := ICMP{Type: e.Type, Code: e.Code}
	switch {
	case e.Type == ICMPv4Unreachable && e.Code == codeFragmentationNeeded:
		if e.MTU > 0xFFFF {
			return b, fmt.Errorf("%w: MTU %d, want at most 65535", ErrField, e.MTU)
		}
		h.Rest = e.MTU
	case e.Type == ICMPv4ParameterProblem:
		if e.Pointer > 0xFF {
			return b, fmt.Errorf("%w: pointer %d, want at most 255", ErrField, e.Pointer)
		}
		h.Rest = e.Pointer << 24
	case e.Type != ICMPv4Unreachable && e.Type != ICMPv4TimeExceeded:
		return b, fmt.Errorf("%w: ICMP error type %d, want 3, 11 or 12", ErrField, e.Type)
	}
	words, err := quoteWords(e, 4)
	if err != nil {
		return b, err
	}
	h.Rest |= uint32(words) << 16
	start := len(b)
	b = appendQuoted(h.Append(b), e, words*4)
	binary.BigEndian.PutUint16(b[start+2:], Checksum(b[start:]))
	return b, nil
}

// AppendICMPv6Error appends the whole message to b, with its checksum as sent
// from src to dst. Where there is an extension the quote is padded to at least
// 128 bytes. The error is [ErrField] for a type other than 1 to 4, an
// extension in type 2 or 4, or a quote of more than 2040 bytes before an
// extension; b is then returned as it was.
func AppendICMPv6Error(b []byte, e ICMPError, src, dst netip.Addr) ([]byte, error) {
	h := ICMP{Type: e.Type, Code: e.Code}
	words := 0
	switch e.Type {
	case ICMPv6Unreachable, ICMPv6TimeExceeded:
		var err error
		if words, err = quoteWords(e, 8); err != nil {
			return b, err
		}
		h.Rest = uint32(words) << 24
	case ICMPv6PacketTooBig:
		h.Rest = e.MTU
	case ICMPv6ParameterProblem:
		h.Rest = e.Pointer
	default:
		return b, fmt.Errorf("%w: ICMPv6 error type %d, want 1 to 4", ErrField, e.Type)
	}
	if words == 0 && len(e.Extension) > 0 {
		return b, fmt.Errorf("%w: extension in ICMPv6 type %d, want type 1 or 3", ErrField, e.Type)
	}
	start := len(b)
	b = appendQuoted(h.Append(b), e, words*8)
	msg := b[start:]
	binary.BigEndian.PutUint16(msg[2:], PseudoHeader(src, dst, protocolICMPv6, len(msg)).Add(msg).Checksum())
	return b, nil
}
