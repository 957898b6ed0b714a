// Package udp is the measurement type of classic traceroute: UDP datagrams to
// ports that nobody is expected to listen on.
//
// A probe over IPv4 carries its identifier as IP identification and 16 bits of
// its tag as UDP checksum, both within what every ICMP error quotes. Over IPv6
// the UDP checksum is the identifier. The payload starts with a word that
// makes the checksum valid and, where there is room, repeats the identifier
// and carries the whole tag:
//
//	 0       2       4                               12
//	+-------+-------+-------------------------------+-------
//	| fix-up|  ID   |              tag              | zeros
//	+-------+-------+-------------------------------+-------
//
// A payload that [Carry] makes a measurement type of ends with the same words.
package udp

import (
	"bytes"
	"encoding/binary"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wire"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

const (
	fixupLen    = 2
	identityLen = probe.IdentityLen
)

// Prober is the UDP prober. The zero value is ready to use, and safe for
// concurrent use.
//
// The size of a probe is 30 to 65000 bytes over IPv4, 60 to 65000 over IPv6;
// under 40 bytes over IPv4 the payload holds no tag. In flow mode
// [probe.Classic] the source port is the identifier, and so are the low 16
// bits of the IPv6 flow label.
type Prober struct{}

var _ probe.Prober = Prober{}

// Name returns "udp".
func (Prober) Name() string { return "udp" }

// Build implements [probe.Prober]. The error is [probe.ErrProbe].
func (Prober) Build(b []byte, p *probe.Probe) ([]byte, error) {
	n, err := wire.Transport(p, packet.UDPHeaderLen+fixupLen, packet.UDPHeaderLen+identityLen)
	if err != nil {
		return b, err
	}
	tag := p.Tag(probe.UDP)
	checksum := p.ID
	if p.Dst.Is4() {
		checksum = probe.Tag16(tag)
	}
	start := len(b)
	b, err = wire.AppendIP(b, p, probe.UDP, p.ID, n)
	if err != nil {
		return b[:start], err
	}
	start = len(b)
	b = packet.UDP{SrcPort: p.Port(), DstPort: p.DstPort, Length: uint16(n)}.Append(b)
	b = wire.Zeros(b, n-packet.UDPHeaderLen)
	datagram := b[start:]
	payload := datagram[packet.UDPHeaderLen:]
	if len(payload) >= identityLen {
		binary.BigEndian.PutUint16(payload[2:], p.ID)
		binary.BigEndian.PutUint64(payload[4:], tag)
	}
	sum := packet.PseudoHeader(p.Src, p.Dst, probe.UDP, n).Add(datagram)
	binary.BigEndian.PutUint16(payload, sum.Fixup(checksum))
	binary.BigEndian.PutUint16(datagram[6:], checksum)
	return b, nil
}

// Match implements [probe.Prober]. It accepts ICMP errors, and datagrams from
// the destination that send the probe's payload back.
func (Prober) Match(datagram []byte, a *probe.Answer) bool {
	*a = probe.Answer{}
	var d wire.Datagram
	if !wire.Read(datagram, &d) {
		return false
	}
	if d.Protocol == probe.UDP {
		return matchReply(&d, a)
	}
	return matchError(&d, a)
}

// matchReply accepts what sends the probe's payload back between the same
// addresses and ports: its checksum is the probe's.
func matchReply(d *wire.Datagram, a *probe.Answer) bool {
	h, payload, err := packet.ParseUDP(d.Payload)
	if err != nil {
		return false
	}
	id, tag, ok := identity(payload)
	if !ok || !wire.InRange(h.DstPort) && h.DstPort != id {
		return false
	}
	// 16 bits of checksum agree by chance now and then: what has more to say
	// than a probe is no probe sent back, but may answer another type's.
	if !wire.Zero(payload[identityLen:]) {
		return false
	}
	want := id
	if !d.V6 {
		want = probe.Tag16(tag)
	}
	if checksum(d, h, len(payload)) != want {
		return false
	}
	wire.Direct(d, a, probe.UDPReply)
	a.ID, a.Tag, a.TagBits = id, tag, 64
	return true
}

// checksum returns the UDP checksum of a captured datagram: what it has to be
// where all of it is there, since offloading may have left it undone.
func checksum(d *wire.Datagram, h packet.UDP, payload int) uint16 {
	if !d.Whole {
		return h.Checksum
	}
	n := packet.UDPHeaderLen + payload
	sum := packet.PseudoHeader(d.Src, d.Dst, probe.UDP, n).Add(d.Payload[:6])
	return sum.Add(d.Payload[packet.UDPHeaderLen:n]).UDPChecksum()
}

func matchError(d *wire.Datagram, a *probe.Answer) bool {
	var q wire.Quote
	if !wire.ReadQuote(d, probe.UDP, &q, a) {
		*a = probe.Answer{}
		return false
	}
	h, payload, err := packet.ParseUDP(q.Payload)
	if err != nil || !read(&q, h, payload, a) {
		*a = probe.Answer{}
		return false
	}
	q.Finish(a)
	return true
}

// read takes the identity from a quoted probe.
func read(q *wire.Quote, h packet.UDP, payload []byte, a *probe.Answer) bool {
	classic := !wire.InRange(h.SrcPort)
	id, tag, ok := quotedIdentity(q, h, payload)
	if q.V6 {
		if classic && uint16(q.Label) != h.SrcPort {
			return false
		}
		a.ID = h.Checksum
		if ok {
			a.ID, a.Tag, a.TagBits = id, tag, 64
		}
		return a.ID != 0
	}
	if classic && q.ID != h.SrcPort {
		return false
	}
	if ok && usePayload(q, h.Checksum, id, tag) {
		a.ID, a.Tag, a.TagBits = id, tag, 64
		return true
	}
	a.ID, a.Swappable = q.ID, !classic
	if h.Checksum != 0 {
		a.Tag, a.TagBits = uint64(h.Checksum), 16
	}
	return a.ID != 0
}

// quotedIdentity finds the identity in a quoted payload. Ours is at its start,
// with zeros behind it; that of a [Carry] is behind anything at all, with
// zeros behind it. The headers decide.
func quotedIdentity(q *wire.Quote, h packet.UDP, payload []byte) (id uint16, tag uint64, ok bool) {
	id, tag, ok = identity(payload)
	ours := ok && wire.Zero(payload[identityLen:])
	agreed := 0
	if ok {
		agreed = agreement(q, h.Checksum, id, tag)
	}
	if agreed == 2 && ours {
		return id, tag, true
	}
	end, best := wire.Locate(payload, func(id uint16, tag uint64) int { return agreement(q, h.Checksum, id, tag) })
	whole := int(h.Length) == packet.UDPHeaderLen+len(payload) && !q.Padded()
	switch {
	case agreed == 2 && best < 2, agreed > 0 && agreed >= best && ours:
		return id, tag, true
	case best > 0:
		return probe.TrailingIdentity(payload[:end])
	case whole && ours:
		return id, tag, true
	case whole:
		return probe.TrailingIdentity(bytes.TrimRight(payload, "\x00"))
	}
	return 0, 0, false
}

// agreement counts what of an identity in a payload the headers agree with.
// Over IPv6 it is all or nothing.
func agreement(q *wire.Quote, checksum, id uint16, tag uint64) int {
	switch {
	case q.V6 && checksum == id:
		return 2
	case q.V6:
		return 0
	case checksum == probe.Tag16(tag) && wire.Mangled(q.ID, id):
		return 2
	case checksum == probe.Tag16(tag), q.ID == id:
		return 1
	}
	return 0
}

// usePayload decides which identity of a quoted probe over IPv4 to believe:
// that in the payload unless both fields of the headers contradict it, or the
// quote may have been padded from the middle of the tag on.
func usePayload(q *wire.Quote, checksum, id uint16, tag uint64) bool {
	if checksum == 0 || checksum == uint16(tag) {
		return true
	}
	return !q.Partial(tag) && wire.Mangled(q.ID, id)
}

// identity reads identifier and tag from the payload of a probe. No tag at all
// is padding, of which the identifier may be a part.
func identity(payload []byte) (id uint16, tag uint64, ok bool) {
	return probe.TrailingIdentity(payload[:min(len(payload), identityLen)])
}
