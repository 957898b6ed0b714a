package rawsock_test

import (
	"encoding/binary"
	"net/netip"
)

const (
	protoICMP, protoTCP, protoUDP, protoICMPv6 = 1, 6, 17, 58

	flagSYN, flagRST, flagACK = 0x02, 0x04, 0x10
)

// ip returns a datagram of either family. id is the identification, or the low
// half of the flow label.
func ip(src, dst netip.Addr, proto, ttl uint8, id uint16, payload []byte) []byte {
	if src.Is4() {
		h := make([]byte, 20, 20+len(payload))
		h[0], h[8], h[9] = 0x45, ttl, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
		binary.BigEndian.PutUint16(h[4:], id)
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(h[10:], checksum(h))
		return append(h, payload...)
	}
	h := make([]byte, 40, 40+len(payload))
	h[0], h[6], h[7] = 0x60, proto, ttl
	binary.BigEndian.PutUint16(h[2:], id)
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(h, payload...)
}

// pseudo sets the transport checksum at offset at of m.
func pseudo(src, dst netip.Addr, proto uint8, m []byte, at int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = append(b, 0, proto)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	binary.BigEndian.PutUint16(m[at:], checksum(append(b, m...)))
	return m
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xFFFF + sum>>16
	}
	return ^uint16(sum)
}

func udp(sport, dport uint16, n int) []byte {
	b := make([]byte, 8+n)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(8+n))
	return b
}

func tcp(sport, dport uint16, flags uint8) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint32(b[4:], 0x01020304)
	b[12], b[13], b[14] = 5<<4, flags, 0x10
	return b
}

func echo(kind uint8, id, seq uint16) []byte {
	b := make([]byte, 16)
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	return b
}

// icmpError returns an ICMP or ICMPv6 error that quotes a datagram.
func icmpError(kind uint8, quote []byte) []byte {
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, quote...)
}

// udpProbe returns a UDP probe of n bytes of payload with a valid checksum.
func udpProbe(src, dst netip.Addr, ttl uint8, sport uint16, n int) []byte {
	return ip(src, dst, protoUDP, ttl, 0x1234, pseudo(src, dst, protoUDP, udp(sport, 33434, n), 6))
}

// tcpProbe returns a SYN with a valid checksum.
func tcpProbe(src, dst netip.Addr, ttl uint8, sport, dport uint16) []byte {
	return ip(src, dst, protoTCP, ttl, 0x1234, pseudo(src, dst, protoTCP, tcp(sport, dport, flagSYN), 16))
}

// echoProbe returns an echo request with a valid checksum.
func echoProbe(src, dst netip.Addr, ttl uint8, id uint16) []byte {
	if src.Is4() {
		m := echo(8, id, 1)
		binary.BigEndian.PutUint16(m[2:], checksum(m))
		return ip(src, dst, protoICMP, ttl, 0x1234, m)
	}
	return ip(src, dst, protoICMPv6, ttl, 0, pseudo(src, dst, protoICMPv6, echo(128, id, 1), 2))
}

func outerSource(d []byte) netip.Addr {
	if d[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(d[12:16]))
	}
	return netip.AddrFrom16([16]byte(d[8:24]))
}
