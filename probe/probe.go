package probe

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// Source ports (UDP, TCP) and echo identifiers (ICMP) of flow f are
// SourcePort+f. All agents of a fleet capture answers to this range, wherever
// the probe was sent from, so it is fixed. It lies above the ports that common
// kernels hand out by themselves.
const (
	SourcePort = 0xF000 // 61440
	MaxFlows   = 256
)

// IP protocol numbers of the probes.
const (
	ICMP   uint8 = 1
	TCP    uint8 = 6
	UDP    uint8 = 17
	ICMPv6 uint8 = 58
)

// Prober is one measurement type. Implementations are safe for concurrent use.
type Prober interface {
	// Name is the type as users write it, e.g. "udp".
	Name() string
	// Build appends to b the whole IP datagram that asks p and returns the
	// extended slice. It does not allocate if b has room. A probe that cannot
	// be built as asked is an error that names the value and its range.
	Build(b []byte, p *Probe) ([]byte, error)
	// Match says which probe a captured IP datagram answers. It fills a and
	// reports true for a candidate, which may still turn out to be forged:
	// only [Answer.Verified] tells. It does not retain datagram, accepts any
	// bytes, and does not allocate unless the answer carries extensions.
	Match(datagram []byte, a *Answer) bool
}

// FlowMode says which header fields stay constant between probes.
type FlowMode uint8

const (
	// Paris keeps every field that routers hash constant along a flow.
	Paris FlowMode = iota
	// Classic carries the identifier in the UDP source port: every probe is a
	// flow of its own. UDP only.
	Classic
)

// String returns "paris" or "classic".
func (m FlowMode) String() string {
	if m == Classic {
		return "classic"
	}
	return "paris"
}

// Key is the secret of one measurement, from which its tags are made.
type Key [16]byte

// Tag returns the 64-bit tag of the probe (dst, id) sent with the given IP
// protocol: SipHash-2-4 under k.
func (k *Key) Tag(dst netip.Addr, id uint16, protocol uint8) uint64 {
	var m [19]byte
	a := dst.As16()
	copy(m[:], a[:])
	binary.BigEndian.PutUint16(m[16:], id)
	m[18] = protocol
	return siphash.Hash(binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:]), m[:])
}

// Tag16 truncates a tag to the 16 bits of a header field that must not be 0.
func Tag16(tag uint64) uint16 {
	if t := uint16(tag); t != 0 {
		return t
	}
	return 0xFFFF
}

// Probe is one packet to be sent.
type Probe struct {
	ID  uint16 // never 0
	Key Key    // of the measurement
	Src netip.Addr
	Dst netip.Addr
	// DstPort is the destination port of UDP and TCP probes.
	DstPort uint16
	Flow    uint8 // which flow of the measurement, from 0
	Mode    FlowMode
	TTL     uint8 // or hop limit, 1 to 255
	TOS     uint8 // the whole TOS or traffic class byte
	// DontFragment sets the IPv4 DF bit.
	DontFragment bool
	// Size is the length of the whole datagram in bytes; 0 is the prober's
	// default (60 for IPv4 and 80 for IPv6, as traceroute(8), unless the
	// prober says otherwise).
	Size int
}

// Tag returns the probe's tag for a prober that sends with protocol.
func (p *Probe) Tag(protocol uint8) uint64 { return p.Key.Tag(p.Dst, p.ID, protocol) }

// Port returns the source port or echo identifier of the probe.
func (p *Probe) Port() uint16 {
	if p.Mode == Classic {
		return p.ID
	}
	return SourcePort + uint16(p.Flow)
}
