package simnet

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// flight is a datagram on its way.
type flight struct {
	data []byte
	// uid is a node and a number there, or a digest of the packet's that this
	// one was made of. Chance is drawn from it, so the fate of a packet does
	// not depend on what else the computer was doing.
	uid  uint64
	at   int32  // the node it arrives at
	in   int32  // the interface it arrives by; own: none
	hops uint32 // links crossed
	talk uint8  // answers that led to it

	src, dst  netip.Addr
	protocol  uint8
	v6        bool
	piece     bool // a fragment that is not the first
	more      bool // a fragment that is not the last
	transport int  // where the header after that of IP starts

	to    *entry // what dst is, as of epoch
	epoch uint64

	entered *mapping // by which the node's NAT translated it on its way in

	tunnel *tunnel
	hop    int // of the tunnel's path, where it arrives next
}

const own = -1 // the interface of what a node sends itself

// child returns the uid of the k-th packet derived from one.
func child(uid uint64, k uint64) uint64 { return mix(mix(uid) ^ k) }

// What packets are made of others; fragments are counted from there on.
const (
	childDuplicate = iota
	childAnswer
	childForgery
	childRepeat
	childWhole
	childFragment
)

// read parses the header of f.data. It reports false for what no router would
// forward: malformed, truncated, or with a wrong header checksum.
func (f *flight) read() bool {
	b := f.data
	if len(b) < packet.IPv4HeaderLen {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		h, payload, err := packet.ParseIPv4(b)
		if err != nil || h.Truncated || int(h.TotalLen) < packet.IPv4HeaderLen {
			return false
		}
		f.transport = packet.IPv4HeaderLen + len(h.Options)
		if int(h.TotalLen) < f.transport || packet.Checksum(b[:f.transport]) != 0 {
			return false
		}
		f.data = b[:f.transport+len(payload)]
		f.src, f.dst, f.protocol, f.v6 = h.Src, h.Dst, h.Protocol, false
		f.piece, f.more = h.FragmentOffset != 0, h.MoreFragments
	case 6:
		h, payload, err := packet.ParseIPv6(b)
		if err != nil || h.Truncated {
			return false
		}
		f.transport = packet.IPv6HeaderLen + len(h.Extensions)
		f.data = b[:f.transport+len(payload)]
		f.src, f.dst, f.protocol, f.v6 = h.Src, h.Dst, h.Protocol, true
		f.piece, f.more = h.FragmentOffset != 0, h.MoreFragments
	default:
		return false
	}
	f.to, f.epoch = nil, 0
	return true
}

func (f *flight) payload() []byte { return f.data[f.transport:] }

func (f *flight) ttl() uint8 {
	if f.v6 {
		return f.data[7]
	}
	return f.data[8]
}

// decrement takes one from the TTL.
func (f *flight) decrement() {
	if f.v6 {
		f.data[7]--
		return
	}
	f.setWord(8, uint16(f.data[8]-1)<<8|uint16(f.data[9]))
}

// setWord changes a 16-bit word of the IPv4 header and its checksum with it.
func (f *flight) setWord(i int, v uint16) {
	b := f.data
	old := binary.BigEndian.Uint16(b[i:])
	binary.BigEndian.PutUint16(b[i:], v)
	binary.BigEndian.PutUint16(b[10:], packet.UpdateChecksum(binary.BigEndian.Uint16(b[10:]), old, v))
}

func (f *flight) tos() uint8 {
	if f.v6 {
		return f.data[0]<<4 | f.data[1]>>4
	}
	return f.data[1]
}

func (f *flight) setTOS(tos uint8) {
	if f.v6 {
		f.data[0] = 6<<4 | tos>>4
		f.data[1] = tos<<4 | f.data[1]&0xF
		return
	}
	f.setWord(0, uint16(f.data[0])<<8|uint16(tos))
}

// header6 is one header of an IPv6 datagram's chain: its type, the place that
// names it, and where it starts.
type header6 struct {
	typ       uint8
	named, at int
}

// headers yields the extension headers of an IPv6 datagram, and last what
// follows them.
func (f *flight) headers() iter.Seq[header6] {
	return func(yield func(header6) bool) {
		for h := (header6{f.data[6], 6, packet.IPv6HeaderLen}); yield(h) && h.at < f.transport; {
			size := (int(f.data[h.at+1]) + 1) * 8
			switch h.typ {
			case packet.Fragment:
				size = 8
			case packet.Authentication:
				size = max(8, (int(f.data[h.at+1])+2)*4)
			}
			h = header6{f.data[h.at], h.at, h.at + size}
		}
	}
}

// ports returns source and destination port of UDP and TCP.
func (f *flight) ports() (src, dst uint16, ok bool) {
	p := f.payload()
	if f.piece || len(p) < 4 || f.protocol != probe.UDP && f.protocol != probe.TCP {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), true
}

// isICMPError tells whether the datagram is an ICMP error, or something that
// cannot be told apart from one.
func (f *flight) isICMPError() bool {
	p := f.payload()
	switch {
	case f.protocol != icmpOf(f.v6):
		return false
	case len(p) == 0:
		return true
	case f.v6:
		return p[0] < 128
	}
	switch p[0] {
	case packet.ICMPv4EchoReply, packet.ICMPv4Echo, 13, 14:
		return false
	}
	return true
}

// mix is a round of SplitMix64 (Steele et al., OOPSLA 2014).
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// fraction maps a draw to [0, 1).
func fraction(x uint64) float64 { return float64(x>>11) / (1 << 53) }
