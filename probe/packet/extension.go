package packet

import (
	"encoding/binary"
	"fmt"
	"iter"
)

const (
	// extensionAt is where the extension structure starts at the earliest,
	// and always did before there was a length field (RFC 4884 section 5).
	extensionAt      = 128
	extensionHeader  = 4
	extensionVersion = 2
	objectHeader     = 4
)

// Classes of extension objects.
const (
	ClassMPLS          uint8 = 1 // RFC 4950
	ClassInterfaceInfo uint8 = 2 // RFC 5837
)

// splitExtension divides the body of an error, whose length field says that
// the quote is of length bytes, into quote and extension structure.
func splitExtension(body []byte, length int) (quote, ext []byte) {
	if length > 0 && length < len(body) && validExtension(body[length:], false) {
		return body[:length:length], body[length:]
	}
	if len(body) > extensionAt && validExtension(body[extensionAt:], true) {
		return body[:extensionAt:extensionAt], body[extensionAt:]
	}
	return body, nil
}

// validExtension tells whether b may be an extension structure. A checksum
// field of 0 means that none was sent.
func validExtension(b []byte, needChecksum bool) bool {
	if len(b) < extensionHeader || b[0]>>4 != extensionVersion {
		return false
	}
	if binary.BigEndian.Uint16(b[2:]) == 0 {
		return !needChecksum
	}
	return Checksum(b) == 0
}

// quoteWords returns the length field of an error: the padded length of its
// quote in words of unit bytes, 0 if there is no extension.
func quoteWords(e ICMPError, unit int) (int, error) {
	if len(e.Extension) == 0 {
		return 0, nil
	}
	n := (max(len(e.Quote), extensionAt) + unit - 1) / unit
	if n > 0xFF {
		return 0, fmt.Errorf("%w: quote of %d bytes before an extension, want at most %d", ErrField, len(e.Quote), 0xFF*unit)
	}
	return n, nil
}

// appendQuoted appends the quote, padded to n bytes, and the extension.
func appendQuoted(b []byte, e ICMPError, n int) []byte {
	b = append(b, e.Quote...)
	for range n - len(e.Quote) {
		b = append(b, 0)
	}
	return append(b, e.Extension...)
}

// Object is one extension object (RFC 4884 section 8).
type Object struct {
	Class, CType uint8
	Payload      []byte
}

// Objects yields the objects of an extension structure, as found in
// [ICMPError], up to the first malformed one.
func Objects(ext []byte) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		if len(ext) < extensionHeader {
			return
		}
		for b := ext[extensionHeader:]; len(b) >= objectHeader; {
			n := int(binary.BigEndian.Uint16(b))
			if n < objectHeader || n > len(b) {
				return
			}
			if !yield(Object{Class: b[2], CType: b[3], Payload: b[objectHeader:n:n]}) {
				return
			}
			b = b[n:]
		}
	}
}

// AppendExtension appends an extension structure of the objects to b, with its
// checksum. The error is [ErrField] for an object of more than 65531 bytes; b
// is then returned as it was.
func AppendExtension(b []byte, objects ...Object) ([]byte, error) {
	start := len(b)
	b = append(b, extensionVersion<<4, 0, 0, 0)
	for _, o := range objects {
		if len(o.Payload) > 0xFFFF-objectHeader {
			return b[:start], fmt.Errorf("%w: extension object of %d bytes, want at most %d", ErrField, len(o.Payload), 0xFFFF-objectHeader)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(objectHeader+len(o.Payload)))
		b = append(b, o.Class, o.CType)
		b = append(b, o.Payload...)
	}
	sum := Checksum(b[start:])
	if sum == 0 { // which would say that there is none
		sum = 0xFFFF
	}
	binary.BigEndian.PutUint16(b[start+2:], sum)
	return b, nil
}

// MPLSLabel is one entry of an MPLS label stack (RFC 3032).
type MPLSLabel struct {
	Label  uint32 // 20 bits
	TC     uint8  // traffic class, formerly EXP, 3 bits
	Bottom bool
	TTL    uint8
}

// MPLSLabels yields the entries of the payload of an object of [ClassMPLS] and
// C-Type 1, top first. A last entry cut short is left out.
func MPLSLabels(payload []byte) iter.Seq[MPLSLabel] {
	return func(yield func(MPLSLabel) bool) {
		for b := payload; len(b) >= 4; b = b[4:] {
			v := binary.BigEndian.Uint32(b)
			if !yield(MPLSLabel{Label: v >> 12, TC: uint8(v>>9) & 7, Bottom: v&0x100 != 0, TTL: uint8(v)}) {
				return
			}
		}
	}
}

// Append appends the entry to b. Bits of Label and TC that do not fit are cut
// off.
func (l MPLSLabel) Append(b []byte) []byte {
	v := l.Label<<12 | uint32(l.TC&7)<<9 | uint32(l.TTL)
	if l.Bottom {
		v |= 0x100
	}
	return binary.BigEndian.AppendUint32(b, v)
}
