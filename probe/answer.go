package probe

import (
	"math/bits"
	"net/netip"
	"time"
)

// Kind is what sort of answer was captured.
type Kind uint8

// The kinds of answers.
const (
	TimeExceeded     Kind = iota + 1 // ICMP type 11, ICMPv6 type 3
	Unreachable                      // ICMP type 3, ICMPv6 types 1 and 2
	ParameterProblem                 // ICMP type 12, ICMPv6 type 4
	EchoReply                        // ICMP type 0, ICMPv6 type 129
	SYNACK                           // TCP: the port is open
	Reset                            // TCP: the port is closed
	UDPReply                         // a UDP datagram from the destination
)

var kindNames = [...]string{"", "time-exceeded", "unreachable", "parameter-problem", "echo-reply", "syn-ack", "reset", "udp-reply"}

// String returns the kind in lower case, e.g. "time-exceeded".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// Direct tells whether the answer is no ICMP error but the destination's own.
func (k Kind) Direct() bool { return k >= EchoReply && k <= UDPReply }

// Stamp is where a time was taken.
type Stamp uint8

// The places.
const (
	// UserStamp is in user space, around the system call.
	UserStamp Stamp = iota
	// KernelStamp is where the kernel shows a packet to captures: a capture
	// on the interface has the same time.
	KernelStamp
	// DriverStamp is in the kernel too, where the interface's driver gave a
	// packet to the hardware: some microseconds later than KernelStamp. Only
	// times of sending have it.
	DriverStamp
)

// String returns "user", "kernel" or "driver". Of a place that is none of
// these nothing better than "user" is known.
func (s Stamp) String() string {
	switch s {
	case KernelStamp:
		return "kernel"
	case DriverStamp:
		return "driver"
	}
	return "user"
}

// Label is one entry of an MPLS label stack (RFC 4950).
type Label struct {
	Label  uint32 `json:"label"` // 20 bits
	TC     uint8  `json:"tc"`    // traffic class, formerly EXP, 3 bits
	Bottom bool   `json:"bottom"`
	TTL    uint8  `json:"ttl"`
}

// minTagBits is how much of a tag proves something.
const minTagBits = 8

// Limits of what a prober may say with an answer.
const (
	MaxValues    = 16
	MaxValueName = 32  // bytes
	MaxValueText = 255 // bytes
)

// Value is something that an answer says, for people.
type Value struct {
	Name string `json:"name"` // lower-case letters, digits or '-', e.g. "site"
	Text string `json:"text"` // UTF-8 without control characters
}

// Answer is one captured datagram that claims to answer a probe.
type Answer struct {
	// ID, Tag and Protocol are what the answer says of the probe. Only the
	// low TagBits bits of Tag are known: 64, 16 as [Tag16] makes them, any
	// other number as they are, or 0 where nothing of the tag came back. Protocol is the probe's (UDP, TCP, ICMP, ICMPv6).
	ID       uint16
	Tag      uint64
	TagBits  uint8
	Protocol uint8
	// Swappable says that ID (UDP, TCP) or Tag (ICMP) was read from a quoted
	// IPv4 identification alone, which some routers return byte-swapped or
	// one too high.
	Swappable bool

	Kind Kind
	// Dst and Src are the probe's destination and source: the quoted ones of
	// an ICMP error, the reversed ones of a direct answer.
	Dst, Src netip.Addr
	// From is who answered: the outer source address.
	From netip.Addr

	ICMPType, ICMPCode uint8 // 0 for TCP and UDP answers
	TTL                uint8 // of the answer, as captured
	QuotedTTL          uint8 // of the probe, as quoted
	QuotedTOS          uint8 // of the probe, as quoted
	// MTU is the next hop's, of "fragmentation needed" and "packet too big".
	MTU  uint32
	MPLS []Label // from an RFC 4884 extension, nil if none
	// Values are what a direct answer says besides, nil for most types: a
	// name such as "site" and its text. At most [MaxValues].
	Values []Value

	Time  time.Time // when it was captured
	Stamp Stamp
}

// Readings returns the identifiers that the answer may mean, likeliest first:
// ID, and where a router may have mangled it the repaired ones.
func (a *Answer) Readings() (ids [3]uint16, n int) {
	ids[0], n = a.ID, 1
	if a.Swappable && a.Protocol == UDP {
		ids[1], ids[2] = bits.ReverseBytes16(a.ID), a.ID-1
		n = 3
	}
	return ids, n
}

// Verified tells whether the answer proves knowledge of the tag that the
// probe id of a measurement with key k carried. With 64 tag bits it cannot be
// guessed; with 16, one guess in 65,535 passes, with 8 one in 256. Fewer prove
// nothing.
func (a *Answer) Verified(k *Key, id uint16) bool {
	if a.TagBits < minTagBits {
		return false
	}
	want := k.Tag(a.Dst, id, a.Protocol)
	if a.TagBits == 16 {
		got, want := uint16(a.Tag), Tag16(want)
		if got == want {
			return true
		}
		return a.Swappable && (a.Protocol == ICMP) &&
			(bits.ReverseBytes16(got) == want || got-1 == want)
	}
	unknown := 64 - min(a.TagBits, 64)
	return a.Tag<<unknown == want<<unknown
}
