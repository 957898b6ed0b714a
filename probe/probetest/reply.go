package probetest

import (
	"bytes"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// DirectAnswers returns the datagrams with which ordinary destinations answer
// a probe, given as it is sent: to UDP those of the echo service (RFC 862) and
// of a closed port, to an ICMP echo request the reply, to TCP those of an open
// and of a closed port. It returns none for what it cannot read.
func DirectAnswers(datagram []byte) [][]byte {
	h, err := readIP(datagram)
	if err != nil {
		return nil
	}
	switch h.protocol {
	case probe.UDP:
		return udpAnswers(h, datagram)
	case probe.TCP:
		return tcpAnswers(h)
	case probe.ICMP, probe.ICMPv6:
		return echoAnswers(h)
	}
	return nil
}

func udpAnswers(h ip, datagram []byte) [][]byte {
	u, payload, err := packet.ParseUDP(h.payload)
	if err != nil {
		return nil
	}
	echo := packet.UDP{SrcPort: u.DstPort, DstPort: u.SrcPort, Length: uint16(packet.UDPHeaderLen + len(payload))}.Append(nil)
	answers := direct(h, append(echo, payload...))
	if h.v6 {
		// No error is longer than the least MTU (RFC 4443 section 2.4).
		quote := datagram[:min(len(datagram), 1280-packet.IPv6HeaderLen-packet.ICMPHeaderLen)]
		msg, err := packet.AppendICMPv6Error(nil, packet.ICMPError{Type: packet.ICMPv6Unreachable, Code: 4, Quote: quote}, h.dst, h.src)
		if err != nil {
			return answers
		}
		h.protocol = probe.ICMPv6
		return append(answers, direct(h, msg)...)
	}
	quote := datagram[:min(len(datagram), 576-packet.IPv4HeaderLen-packet.ICMPHeaderLen)] // RFC 1812 section 4.3.2.3
	msg, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: packet.ICMPv4Unreachable, Code: 3, Quote: quote})
	if err != nil {
		return answers
	}
	h.protocol = probe.ICMP
	return append(answers, direct(h, msg)...)
}

func tcpAnswers(h ip) [][]byte {
	t, payload, err := packet.ParseTCP(h.payload)
	if err != nil {
		return nil
	}
	reset := packet.TCP{SrcPort: t.DstPort, DstPort: t.SrcPort, Flags: packet.RST | packet.ACK, Ack: t.Seq + uint32(len(payload))}
	var open []byte
	switch { // RFC 9293 section 3.10.7.1
	case t.Flags&packet.ACK != 0:
		reset.Flags, reset.Seq, reset.Ack = packet.RST, t.Ack, 0
	case t.Flags&packet.SYN != 0:
		reset.Ack++
		accept := packet.TCP{
			SrcPort: t.DstPort, DstPort: t.SrcPort, Seq: 0xC0FFEE, Ack: t.Seq + 1,
			Flags: packet.SYN | packet.ACK, Window: 64240, Options: packet.AppendMSS(nil, 1400),
		}
		if open, err = accept.Append(nil); err != nil {
			return nil
		}
	}
	closed, err := reset.Append(nil)
	if err != nil {
		return nil
	}
	return direct(h, open, closed)
}

func echoAnswers(h ip) [][]byte {
	request, reply := packet.ICMPv4Echo, packet.ICMPv4EchoReply
	if h.v6 {
		request, reply = packet.ICMPv6Echo, packet.ICMPv6EchoReply
	}
	if len(h.payload) < packet.ICMPHeaderLen || h.payload[0] != request {
		return nil
	}
	msg := bytes.Clone(h.payload)
	msg[0] = reply
	return direct(h, msg)
}

// direct returns the datagrams that carry payloads, but for nil ones, from the
// destination of the probe with header h to its source.
func direct(h ip, payloads ...[]byte) [][]byte {
	var ds [][]byte
	for _, payload := range payloads {
		if payload == nil {
			continue
		}
		if b := header(h.dst, h.src, h.protocol, len(payload)); b != nil {
			ds = append(ds, seal(append(b, payload...)))
		}
	}
	return ds
}

// header returns the IP header of an answer, nil if it would be too long.
func header(src, dst netip.Addr, protocol uint8, length int) []byte {
	var b []byte
	var err error
	if src.Is6() {
		h := packet.IPv6{HopLimit: answerTTL, Protocol: protocol, Src: src, Dst: dst}
		b, err = h.Append(nil, length)
	} else {
		h := packet.IPv4{TTL: answerTTL, ID: 99, Protocol: protocol, Src: src, Dst: dst}
		b, err = h.Append(nil, length)
	}
	if err != nil {
		return nil
	}
	return b
}
