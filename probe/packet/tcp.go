package packet

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// TCPHeaderLen is the length in bytes of a TCP header without options.
const TCPHeaderLen = 20

// TCPFlags are the control bits of a TCP header.
type TCPFlags uint8

// Control bits (RFC 9293, RFC 3168).
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Kinds of TCP options.
const (
	tcpEnd = 0
	tcpNop = 1
	// TCPOptionMSS is the kind of the maximum segment size option.
	TCPOptionMSS uint8 = 2
)

// TCP is a TCP header (RFC 9293).
type TCP struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            TCPFlags
	Window           uint16
	Checksum         uint16
	Urgent           uint16
	Options          []byte // raw, 0 to 40 bytes, a multiple of 4; nil if none
}

// ParseTCP reads the TCP header at the start of b and returns it and its
// payload. A header cut short is [ErrTruncated]; of at least 8 bytes, as an
// ICMP error quotes, h then holds SrcPort, DstPort and Seq, and of at least 20
// all but the options. The checksum is not verified.
func ParseTCP(b []byte) (h TCP, payload []byte, err error) {
	if len(b) < 8 {
		return h, nil, errTCPShort
	}
	h.SrcPort = binary.BigEndian.Uint16(b)
	h.DstPort = binary.BigEndian.Uint16(b[2:])
	h.Seq = binary.BigEndian.Uint32(b[4:])
	if len(b) < TCPHeaderLen {
		return h, nil, errTCPShort
	}
	h.Ack = binary.BigEndian.Uint32(b[8:])
	h.Flags = TCPFlags(b[13])
	h.Window = binary.BigEndian.Uint16(b[14:])
	h.Checksum = binary.BigEndian.Uint16(b[16:])
	h.Urgent = binary.BigEndian.Uint16(b[18:])
	n := int(b[12]>>4) * 4
	if n < TCPHeaderLen {
		return h, nil, errTCPLength
	}
	if len(b) < n {
		return h, nil, errTCPShort
	}
	if n > TCPHeaderLen {
		h.Options = b[TCPHeaderLen:n:n]
	}
	return h, b[n:], nil
}

// Append appends the header to b as it stands, with its Checksum. The error is
// [ErrField] for options that are not 0 to 40 bytes in steps of 4; b is then
// returned as it was.
func (h *TCP) Append(b []byte) ([]byte, error) {
	if len(h.Options)%4 != 0 || len(h.Options) > 40 {
		return b, fmt.Errorf("%w: %d bytes of TCP options, want 0 to 40 in steps of 4", ErrField, len(h.Options))
	}
	b = binary.BigEndian.AppendUint16(b, h.SrcPort)
	b = binary.BigEndian.AppendUint16(b, h.DstPort)
	b = binary.BigEndian.AppendUint32(b, h.Seq)
	b = binary.BigEndian.AppendUint32(b, h.Ack)
	b = append(b, uint8((TCPHeaderLen+len(h.Options))/4)<<4, uint8(h.Flags))
	b = binary.BigEndian.AppendUint16(b, h.Window)
	b = binary.BigEndian.AppendUint16(b, h.Checksum)
	b = binary.BigEndian.AppendUint16(b, h.Urgent)
	return append(b, h.Options...), nil
}

// AppendMSS appends a maximum segment size option of mss bytes to the options
// in b.
func AppendMSS(b []byte, mss uint16) []byte {
	return append(b, TCPOptionMSS, 4, uint8(mss>>8), uint8(mss))
}

// AllOptions yields kind and value of each option but padding, up to the first
// malformed one.
func (h *TCP) AllOptions() iter.Seq2[uint8, []byte] {
	return func(yield func(uint8, []byte) bool) {
		for b := h.Options; len(b) > 0 && b[0] != tcpEnd; {
			if b[0] == tcpNop {
				b = b[1:]
				continue
			}
			if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
				return
			}
			n := int(b[1])
			if !yield(b[0], b[2:n:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// MSS returns the maximum segment size option in bytes, and whether there is
// one.
func (h *TCP) MSS() (uint16, bool) {
	for kind, value := range h.AllOptions() {
		if kind == TCPOptionMSS && len(value) == 2 {
			return binary.BigEndian.Uint16(value), true
		}
	}
	return 0, false
}
