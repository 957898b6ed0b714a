// Package tcp is the measurement type of traceroute -T: TCP SYN segments.
//
// The high 16 bits of a probe's sequence number are its identifier, the low
// ones 16 bits of its tag. Every ICMP error quotes them, and a SYN-ACK or RST
// acknowledges the sequence number plus one.
//
// It carries no payload of others, as udp.Carry and icmp.Carry do: what answers
// a SYN brings no data back, and a RST acknowledges the SYN's data besides, so
// that only who knows the length of those could tell the probe.
package tcp

import (
	"encoding/binary"
	"fmt"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wire"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

const (
	segmentLen = packet.TCPHeaderLen + 4 // with the MSS option
	window     = 65535
	mss4       = 1460 // of a link with 1500 bytes
	mss6       = 1440
)

// Prober is the TCP SYN prober. The zero value is ready to use, and safe for
// concurrent use.
//
// A probe is 44 bytes long over IPv4 and 64 over IPv6; any other size but 0,
// and the flow mode [probe.Classic], are refused.
type Prober struct{}

var _ probe.Prober = Prober{}

// Name returns "tcp".
func (Prober) Name() string { return "tcp" }

// Build implements [probe.Prober]. The error is [probe.ErrProbe].
func (pr Prober) Build(b []byte, p *probe.Probe) ([]byte, error) {
	if err := wire.Check(p); err != nil {
		return b, err
	}
	if err := wire.RefuseClassic(p, pr.Name()); err != nil {
		return b, err
	}
	size, mss := packet.IPv4HeaderLen+segmentLen, uint16(mss4)
	if p.Dst.Is6() {
		size, mss = packet.IPv6HeaderLen+segmentLen, mss6
	}
	if p.Size != 0 && p.Size != size {
		return b, fmt.Errorf("%w: size %d, want 0 or %d bytes: SYN probes carry no payload", probe.ErrProbe, p.Size, size)
	}
	start := len(b)
	b, err := wire.AppendIP(b, p, probe.TCP, p.ID, segmentLen)
	if err != nil {
		return b[:start], err
	}
	var options [4]byte
	h := packet.TCP{
		SrcPort: p.Port(),
		DstPort: p.DstPort,
		Seq:     uint32(p.ID)<<16 | uint32(probe.Tag16(p.Tag(probe.TCP))),
		Flags:   packet.SYN,
		Window:  window,
		Options: packet.AppendMSS(options[:0], mss),
	}
	segment := len(b)
	b, err = h.Append(b)
	if err != nil {
		return b[:start], fmt.Errorf("%w: %w", probe.ErrProbe, err)
	}
	sum := packet.PseudoHeader(p.Src, p.Dst, probe.TCP, segmentLen).Add(b[segment:])
	binary.BigEndian.PutUint16(b[segment+16:], sum.Checksum())
	return b, nil
}

// Match implements [probe.Prober]. It accepts ICMP errors, and SYN-ACK and RST
// segments that acknowledge something. Their TCP checksum is not looked at: on
// capture, offloading may have left it undone.
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

func matchReply(d *wire.Datagram, a *probe.Answer) bool {
	if d.Protocol != probe.TCP {
		return false
	}
	h, _, err := packet.ParseTCP(d.Payload)
	if err != nil || h.Flags&packet.ACK == 0 || !wire.InRange(h.DstPort) {
		return false
	}
	switch {
	case h.Flags&packet.RST != 0:
		wire.Direct(d, a, probe.Reset)
	case h.Flags&packet.SYN != 0:
		wire.Direct(d, a, probe.SYNACK)
	default:
		return false
	}
	return identify(h.Ack-1, a)
}

func matchError(d *wire.Datagram, a *probe.Answer) bool {
	var q wire.Quote
	if !wire.ReadQuote(d, probe.TCP, &q, a) || len(q.Payload) < 8 {
		return false
	}
	// A quote may end before the flags, which padding may then stand for; what
	// it has of the header is in h.
	h, _, err := packet.ParseTCP(q.Payload)
	cut := err != nil || h.Flags == 0 && q.Padded()
	if !wire.InRange(h.SrcPort) || !cut && h.Flags&(packet.SYN|packet.ACK|packet.RST) != packet.SYN {
		return false
	}
	if !identify(h.Seq, a) {
		return false
	}
	q.Finish(a)
	return true
}

// identify takes the identity from a probe's sequence number.
func identify(seq uint32, a *probe.Answer) bool {
	a.ID = uint16(seq >> 16)
	a.Tag, a.TagBits = uint64(uint16(seq)), 16
	return a.ID != 0
}
