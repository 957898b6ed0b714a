// Package icmp is the measurement type of traceroute -I: ICMP and ICMPv6 echo
// requests.
//
// The identifier of a probe is its sequence number; the echo identifier is its
// flow's. The ICMP checksum, which some routers hash, equals the echo
// identifier and so is constant along the flow. Over IPv4 the IP
// identification is 16 bits of the tag. The payload starts with a word that
// makes the checksum valid, and the whole tag:
//
//	 0       2                               10
//	+-------+-------------------------------+-------
//	| fix-up|              tag              | zeros
//	+-------+-------------------------------+-------
//
// In that of [Carry] the identifier and the data of others follow.
package icmp

import (
	"encoding/binary"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wire"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

const identityLen = 10 // fix-up and tag

// Prober is the ICMP echo prober. The zero value is ready to use, and safe for
// concurrent use.
//
// The size of a probe is 38 to 65000 bytes over IPv4, 58 to 65000 over IPv6.
// The flow mode [probe.Classic] is refused.
type Prober struct{}

var _ probe.Prober = Prober{}

// Name returns "icmp".
func (Prober) Name() string { return "icmp" }

// Build implements [probe.Prober]. The error is [probe.ErrProbe].
func (pr Prober) Build(b []byte, p *probe.Probe) ([]byte, error) {
	const least = packet.ICMPHeaderLen + identityLen
	n, err := wire.Transport(p, least, least)
	if err != nil {
		return b, err
	}
	if err := wire.RefuseClassic(p, pr.Name()); err != nil {
		return b, err
	}
	protocol, typ := probe.ICMP, packet.ICMPv4Echo
	var sum packet.Sum
	if p.Dst.Is6() {
		protocol, typ = probe.ICMPv6, packet.ICMPv6Echo
		sum = packet.PseudoHeader(p.Src, p.Dst, protocol, n)
	}
	tag := p.Tag(protocol)
	start := len(b)
	b, err = wire.AppendIP(b, p, protocol, probe.Tag16(tag), n)
	if err != nil {
		return b[:start], err
	}
	start = len(b)
	b = packet.Echo(typ, p.Port(), p.ID).Append(b)
	b = wire.Zeros(b, n-packet.ICMPHeaderLen)
	msg := b[start:]
	payload := msg[packet.ICMPHeaderLen:]
	binary.BigEndian.PutUint64(payload[2:], tag)
	binary.BigEndian.PutUint16(payload, sum.Add(msg).Fixup(p.Port()))
	binary.BigEndian.PutUint16(msg[2:], p.Port())
	return b, nil
}

// Match implements [probe.Prober]. It accepts ICMP errors and echo replies.
func (Prober) Match(datagram []byte, a *probe.Answer) bool {
	*a = probe.Answer{}
	var d wire.Datagram
	if !wire.Read(datagram, &d) {
		return false
	}
	if matchReply(&d, a) || matchError(&d, a) {
		return true
	}
	*a = probe.Answer{}
	return false
}

// echo returns protocol, request and reply type of d's family.
func echo(d *wire.Datagram) (protocol, request, reply uint8) {
	if d.V6 {
		return probe.ICMPv6, packet.ICMPv6Echo, packet.ICMPv6EchoReply
	}
	return probe.ICMP, packet.ICMPv4Echo, packet.ICMPv4EchoReply
}

func matchReply(d *wire.Datagram, a *probe.Answer) bool {
	protocol, _, reply := echo(d)
	if d.Protocol != protocol {
		return false
	}
	h, payload, err := packet.ParseICMP(d.Payload)
	if err != nil || h.Type != reply || h.Code != 0 || !wire.InRange(h.ID()) || h.Seq() == 0 {
		return false
	}
	if carried(h, payload) {
		return false
	}
	direct(d, h, payload, a)
	return true
}

// direct fills what every echo reply says.
func direct(d *wire.Datagram, h packet.ICMP, payload []byte, a *probe.Answer) {
	wire.Direct(d, a, probe.EchoReply)
	a.ICMPType = h.Type
	a.ID = h.Seq()
	if len(payload) >= identityLen && wire.Intact(d) {
		a.Tag, a.TagBits = binary.BigEndian.Uint64(payload[2:]), 64
	}
}

func matchError(d *wire.Datagram, a *probe.Answer) bool {
	protocol, request, _ := echo(d)
	var q wire.Quote
	if !wire.ReadQuote(d, protocol, &q, a) {
		return false
	}
	h, payload, err := packet.ParseICMP(q.Payload)
	if err != nil || h.Type != request || h.Code != 0 || !wire.InRange(h.ID()) || h.Seq() == 0 {
		return false
	}
	a.ID = h.Seq()
	switch {
	case len(payload) >= identityLen && usePayload(&q, payload):
		a.Tag, a.TagBits = binary.BigEndian.Uint64(payload[2:]), 64
	case !q.V6:
		a.Tag, a.TagBits, a.Swappable = uint64(q.ID), 16, true
	}
	q.Finish(a)
	return true
}

// usePayload decides whether to believe the tag in a quoted payload: not where
// it is all padding, nor, over IPv4, where the header contradicts it and the
// quote may have been padded from the middle of the tag on.
func usePayload(q *wire.Quote, payload []byte) bool {
	tag := binary.BigEndian.Uint64(payload[2:])
	if q.V6 {
		return tag != 0
	}
	return !q.Partial(tag) || uint16(tag) != 0 && wire.Mangled(q.ID, uint16(tag))
}
