// Package direct reads what a captured datagram says if it is a direct answer
// to a probe of whatever measurement type: all but which probe it answers.
package direct

import (
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// Read returns the facts of a datagram that may be a direct answer: UDP, a SYN
// or RST that acknowledges something, or an echo reply, to a port or
// identifier that flows are sent from. It does not allocate.
func Read(b []byte) (a probe.Answer, ok bool) {
	if len(b) == 0 {
		return a, false
	}
	var payload []byte
	if b[0]>>4 == 6 {
		h, rest, err := packet.ParseIPv6(b)
		if err != nil || h.FragmentOffset != 0 {
			return a, false
		}
		a.Dst, a.Src, a.TTL, a.Protocol, payload = h.Src, h.Dst, h.HopLimit, h.Protocol, rest
	} else {
		h, rest, err := packet.ParseIPv4(b)
		if err != nil || h.FragmentOffset != 0 {
			return a, false
		}
		a.Dst, a.Src, a.TTL, a.Protocol, payload = h.Src, h.Dst, h.TTL, h.Protocol, rest
	}
	a.From = a.Dst
	return a, kind(&a, payload)
}

func kind(a *probe.Answer, payload []byte) bool {
	switch a.Protocol {
	case probe.UDP:
		h, _, err := packet.ParseUDP(payload)
		a.Kind = probe.UDPReply
		return err == nil && ours(h.DstPort)
	case probe.TCP:
		h, _, err := packet.ParseTCP(payload)
		if err != nil || h.Flags&packet.ACK == 0 || !ours(h.DstPort) {
			return false
		}
		switch {
		case h.Flags&packet.RST != 0:
			a.Kind = probe.Reset
		case h.Flags&packet.SYN != 0:
			a.Kind = probe.SYNACK
		}
		return a.Kind != 0
	case probe.ICMP, probe.ICMPv6:
		reply := packet.ICMPv4EchoReply
		if a.Protocol == probe.ICMPv6 {
			reply = packet.ICMPv6EchoReply
		}
		h, _, err := packet.ParseICMP(payload)
		a.Kind, a.ICMPType = probe.EchoReply, h.Type
		return err == nil && a.Dst.Is6() == (a.Protocol == probe.ICMPv6) && h.Type == reply && h.Code == 0 && ours(h.ID())
	}
	return false
}

// ours tells whether a port or echo identifier is a flow's.
func ours(port uint16) bool {
	return port >= probe.SourcePort && port-probe.SourcePort < probe.MaxFlows
}
