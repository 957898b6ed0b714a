package udp

import (
	"encoding/binary"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wire"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// defaultPort is traceroute(8)'s.
const defaultPort = 33434

// Carry makes a measurement type of a payload: UDP datagrams whose data it
// makes, and whose direct answers it reads. They go to the payload's default
// port, or else to 33434.
//
// Every agent knows the ICMP errors that they cause, also one without the
// type. The size is that of the payload, with identity and headers, or any
// larger one up to 65000 bytes. Both flow modes are there, but ports capture no
// direct answers to [probe.Classic] probes. A payload that is a
// [probe.PayloadOptioner] makes a [probe.Optioner].
func Carry(p probe.Payload) probe.Prober {
	return wire.Carry(p, func(p probe.Payload) probe.Prober { return carrier{p} })
}

type carrier struct{ payload probe.Payload }

func (c carrier) Name() string { return c.payload.Name() }

func (c carrier) DefaultPort() uint16 {
	if p, ok := c.payload.(probe.Porter); ok {
		return p.DefaultPort()
	}
	return defaultPort
}

func (c carrier) Build(b []byte, p *probe.Probe) ([]byte, error) {
	tag := p.Tag(probe.UDP)
	checksum := p.ID
	if p.Dst.Is4() {
		checksum = probe.Tag16(tag)
	}
	port := p.DstPort
	if port == 0 {
		port = c.DefaultPort()
	}
	if err := wire.Check(p); err != nil {
		return b, err
	}
	ip := wire.IPHeaderLen(p)
	out, err := wire.AppendData(wire.Zeros(b, ip+packet.UDPHeaderLen), p, c.payload)
	if err != nil {
		return b, err
	}
	at := len(out) - len(b) - ip
	out = probe.AppendIdentity(out, p.ID, tag)
	if out, err = wire.Fill(out, len(out)-len(b), p); err != nil {
		return b, err
	}
	// The headers go where room was left for them.
	segment := out[len(b)+ip:]
	n := len(segment)
	header, err := wire.AppendIP(out[:len(b)], p, probe.UDP, p.ID, n)
	if err != nil {
		return b, err
	}
	packet.UDP{SrcPort: p.Port(), DstPort: port, Length: uint16(n)}.Append(header)
	wire.Fixup(segment, at, packet.PseudoHeader(p.Src, p.Dst, probe.UDP, n).Add(segment), checksum)
	binary.BigEndian.PutUint16(segment[6:], checksum)
	return out, nil
}

func (c carrier) Match(datagram []byte, a *probe.Answer) bool {
	*a = probe.Answer{}
	var d wire.Datagram
	if !wire.Read(datagram, &d) {
		return false
	}
	if d.Protocol != probe.UDP {
		return matchError(&d, a)
	}
	if c.matchReply(&d, a) {
		return true
	}
	*a = probe.Answer{}
	return false
}

func (c carrier) matchReply(d *wire.Datagram, a *probe.Answer) bool {
	h, payload, err := packet.ParseUDP(d.Payload)
	if err != nil {
		return false
	}
	wire.Direct(d, a, probe.UDPReply)
	return c.payload.ReadAnswer(payload, a) && a.ID != 0 && (wire.InRange(h.DstPort) || h.DstPort == a.ID)
}
