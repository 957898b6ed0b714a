package packet

import "encoding/binary"

// UDPHeaderLen is the length in bytes of a UDP header.
const UDPHeaderLen = 8

// UDP is a UDP header (RFC 768).
type UDP struct {
	SrcPort, DstPort uint16
	Length           uint16 // of header and payload, in bytes
	Checksum         uint16 // 0: none
}

// ParseUDP reads the UDP header at the start of b and returns it and its
// payload: up to the header's length, or up to the end of b where that comes
// first. A length under 8 leaves the payload empty. The checksum is not
// verified; see [PseudoHeader].
func ParseUDP(b []byte) (h UDP, payload []byte, err error) {
	if len(b) < UDPHeaderLen {
		return h, nil, errUDPShort
	}
	h = UDP{
		SrcPort:  binary.BigEndian.Uint16(b),
		DstPort:  binary.BigEndian.Uint16(b[2:]),
		Length:   binary.BigEndian.Uint16(b[4:]),
		Checksum: binary.BigEndian.Uint16(b[6:]),
	}
	end := min(max(int(h.Length), UDPHeaderLen), len(b))
	return h, b[UDPHeaderLen:end:end], nil
}

// Append appends the header to b as it stands, with its Length and Checksum.
func (h UDP) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.SrcPort)
	b = binary.BigEndian.AppendUint16(b, h.DstPort)
	b = binary.BigEndian.AppendUint16(b, h.Length)
	return binary.BigEndian.AppendUint16(b, h.Checksum)
}
