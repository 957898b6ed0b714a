package wire

import (
	"math/bits"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// maxLabels bounds what an answer costs; no real label stack is that deep.
const maxLabels = 32

// Datagram is an IP datagram, captured or quoted, of either family.
type Datagram struct {
	V6       bool
	Src, Dst netip.Addr
	TTL, TOS uint8
	Protocol uint8
	// ID is the IPv4 identification.
	ID uint16
	// Label is the IPv6 flow label.
	Label   uint32
	Payload []byte
	// Whole says that Payload is all of it.
	Whole bool
}

// Read reads an IP datagram, whole or cut short. It reports false where the
// transport header is not in b, as in a fragment that is not the first.
func Read(b []byte, d *Datagram) bool {
	if len(b) == 0 {
		return false
	}
	if b[0]>>4 == 6 {
		h, payload, err := packet.ParseIPv6(b)
		*d = Datagram{
			V6: true, Src: h.Src, Dst: h.Dst, TTL: h.HopLimit, TOS: h.TrafficClass,
			Protocol: h.Protocol, Label: h.FlowLabel,
			Payload: payload, Whole: !h.Truncated && !h.MoreFragments,
		}
		return err == nil && h.FragmentOffset == 0
	}
	h, payload, err := packet.ParseIPv4(b)
	*d = Datagram{
		Src: h.Src, Dst: h.Dst, TTL: h.TTL, TOS: h.TOS,
		Protocol: h.Protocol, ID: h.ID,
		Payload: payload, Whole: !h.Truncated && !h.MoreFragments,
	}
	return err == nil && h.FragmentOffset == 0
}

// InRange tells whether a source port or echo identifier is a flow's.
func InRange(port uint16) bool {
	return port >= probe.SourcePort && port-probe.SourcePort < probe.MaxFlows
}

// Mangled tells whether an IPv4 identification may be quoted for id: as it is,
// byte-swapped, or one too high.
func Mangled(quoted, id uint16) bool {
	return quoted == id || bits.ReverseBytes16(quoted) == id || quoted-1 == id
}

// Direct fills what every direct answer says: d is from the destination.
func Direct(d *Datagram, a *probe.Answer, kind probe.Kind) {
	a.Kind = kind
	a.Dst, a.Src, a.From = d.Src, d.Dst, d.Src
	a.Protocol = d.Protocol
	a.TTL = d.TTL
}

// Quote is what an ICMP error says of a probe.
type Quote struct {
	Datagram        // the probe, as quoted
	ext      []byte // the error's extension structure
	intact   bool
}

// ReadQuote reads the ICMP error d and the datagram it quotes into q, and
// fills what the two headers say into a. It reports false for anything but an
// error that quotes protocol.
func ReadQuote(d *Datagram, protocol uint8, q *Quote, a *probe.Answer) bool {
	var e packet.ICMPError
	var err error
	switch {
	case d.V6 && d.Protocol == probe.ICMPv6:
		e, err = packet.ParseICMPv6Error(d.Payload)
		a.Kind = kind6(e.Type)
	case !d.V6 && d.Protocol == probe.ICMP:
		e, err = packet.ParseICMPv4Error(d.Payload)
		a.Kind = kind4(e.Type)
	default:
		return false
	}
	if err != nil || !Read(e.Quote, &q.Datagram) || q.V6 != d.V6 || q.Protocol != protocol {
		return false
	}
	q.ext = e.Extension
	q.intact = Intact(d)
	a.Protocol = protocol
	a.Dst, a.Src, a.From = q.Dst, q.Src, d.Src
	a.ICMPType, a.ICMPCode, a.MTU = e.Type, e.Code, e.MTU
	a.TTL, a.QuotedTTL, a.QuotedTOS = d.TTL, q.TTL, q.TOS
	return true
}

// Padded tells whether zeros may follow what was quoted (RFC 4884 section 5).
func (q *Quote) Padded() bool { return q.ext != nil }

// Partial tells whether a tag read from a quoted payload may be only the start
// of one: what ends in zeros may end in padding, or in what a router cleared.
func (q *Quote) Partial(tag uint64) bool {
	return uint16(tag) == 0 || q.Padded() && uint8(tag) == 0
}

// Finish fills the label stack into a matched answer, and takes from it what
// it knows of the tag where the error arrived corrupted.
func (q *Quote) Finish(a *probe.Answer) {
	if !q.intact {
		a.Tag, a.TagBits = 0, 0
	}
	for o := range packet.Objects(q.ext) {
		if o.Class != packet.ClassMPLS || o.CType != 1 {
			continue
		}
		for l := range packet.MPLSLabels(o.Payload) {
			if len(a.MPLS) == maxLabels {
				return
			}
			a.MPLS = append(a.MPLS, probe.Label(l))
		}
	}
}

// Intact tells whether the checksum of an ICMP or ICMPv6 message is right, as
// far as can be seen: one captured in part is taken to be.
func Intact(d *Datagram) bool {
	if !d.Whole {
		return true
	}
	var s packet.Sum
	if d.V6 {
		s = packet.PseudoHeader(d.Src, d.Dst, d.Protocol, len(d.Payload))
	}
	return s.Add(d.Payload).Checksum() == 0
}

func kind4(icmpType uint8) probe.Kind {
	switch icmpType {
	case packet.ICMPv4TimeExceeded:
		return probe.TimeExceeded
	case packet.ICMPv4ParameterProblem:
		return probe.ParameterProblem
	}
	return probe.Unreachable
}

func kind6(icmpType uint8) probe.Kind {
	switch icmpType {
	case packet.ICMPv6TimeExceeded:
		return probe.TimeExceeded
	case packet.ICMPv6ParameterProblem:
		return probe.ParameterProblem
	}
	return probe.Unreachable
}
