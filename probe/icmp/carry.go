package icmp

import (
	"encoding/binary"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wire"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// Carry makes a measurement type of a payload: echo requests that carry its
// data. The replies bring it back, and the payload reads from it what there is
// to say besides which probe is answered.
//
// The identity comes first here, since the data means nothing to who answers.
// Every agent knows the ICMP errors that the requests cause, also one without
// the type. The size is that of the payload, with identity and headers, or any
// larger one up to 65000 bytes, filled with zeros. The flow mode
// [probe.Classic] is refused. A payload that is a [probe.PayloadOptioner] makes
// a [probe.Optioner].
func Carry(p probe.Payload) probe.Prober {
	return wire.Carry(p, func(p probe.Payload) probe.Prober { return carrier{p} })
}

// carriedLen is the length of fix-up, tag and identifier. The last of them,
// never 0, tells such a payload from ours, which has zeros there.
const carriedLen = probe.IdentityLen

// carried tells whether an echo message is one of [Carry].
func carried(h packet.ICMP, payload []byte) bool {
	return len(payload) >= carriedLen && binary.BigEndian.Uint16(payload[identityLen:]) == h.Seq()
}

type carrier struct{ payload probe.Payload }

func (c carrier) Name() string { return c.payload.Name() }

func (c carrier) Build(b []byte, p *probe.Probe) ([]byte, error) {
	if err := wire.Check(p); err != nil {
		return b, err
	}
	if err := wire.RefuseClassic(p, c.Name()); err != nil {
		return b, err
	}
	protocol, typ := probe.ICMP, packet.ICMPv4Echo
	if p.Dst.Is6() {
		protocol, typ = probe.ICMPv6, packet.ICMPv6Echo
	}
	tag, ip := p.Tag(protocol), wire.IPHeaderLen(p)
	out := wire.Zeros(b, ip+packet.ICMPHeaderLen+2)
	out = binary.BigEndian.AppendUint64(out, tag)
	out = binary.BigEndian.AppendUint16(out, p.ID)
	out, err := wire.AppendData(out, p, c.payload)
	if err != nil {
		return b, err
	}
	if out, err = wire.Fill(out, len(out)-len(b), p); err != nil {
		return b, err
	}
	// The headers go where room was left for them.
	msg := out[len(b)+ip:]
	header, err := wire.AppendIP(out[:len(b)], p, protocol, probe.Tag16(tag), len(msg))
	if err != nil {
		return b, err
	}
	packet.Echo(typ, p.Port(), p.ID).Append(header)
	var sum packet.Sum
	if p.Dst.Is6() {
		sum = packet.PseudoHeader(p.Src, p.Dst, protocol, len(msg))
	}
	wire.Fixup(msg, packet.ICMPHeaderLen, sum.Add(msg), p.Port())
	binary.BigEndian.PutUint16(msg[2:], p.Port())
	return out, nil
}

func (c carrier) Match(datagram []byte, a *probe.Answer) bool {
	*a = probe.Answer{}
	var d wire.Datagram
	if !wire.Read(datagram, &d) {
		return false
	}
	if c.matchReply(&d, a) || matchError(&d, a) {
		return true
	}
	*a = probe.Answer{}
	return false
}

func (c carrier) matchReply(d *wire.Datagram, a *probe.Answer) bool {
	protocol, _, reply := echo(d)
	if d.Protocol != protocol {
		return false
	}
	h, payload, err := packet.ParseICMP(d.Payload)
	if err != nil || h.Type != reply || h.Code != 0 || !wire.InRange(h.ID()) || h.Seq() == 0 || !carried(h, payload) {
		return false
	}
	direct(d, h, payload, a)
	return c.payload.ReadAnswer(payload[carriedLen:], a) && a.ID != 0
}
