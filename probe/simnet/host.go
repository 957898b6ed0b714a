package simnet

import (
	"encoding/binary"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// accept is what a node does with a packet to one of its addresses.
func (n *Network) accept(nd *node, f *flight) {
	if nd.nat != nil && f.dst == nd.nat.cfg.Address && f.in != own {
		if m := nd.nat.enter(f, n.current); m != nil {
			f.entered, f.tunnel, f.to, f.epoch = m, nil, nil, 0
			if n.find(f); !nd.owns(f.to) {
				n.forward(nd, f)
				return
			}
		}
	}
	if nd.door != nil {
		nd.door.deliver(f)
	}
	if _, outside := nd.door.(*Attachment); outside {
		n.stats.Delivered++
		n.give(f)
		return
	}
	if !f.v6 && f.in != own && nd.owns(n.table.lookup(f.src)) {
		n.drop(nd, f, DropMartian)
		return
	}
	if f.piece || f.more {
		if f = n.assemble(nd, f); f == nil {
			return
		}
		n.find(f)
	}
	if !f.intact() {
		n.drop(nd, f, DropMalformed)
		return
	}
	n.stats.Delivered++
	if !nd.silent {
		n.answer(nd, f)
	}
	n.give(f)
}

// intact tells whether the checksum of the transport header is right.
func (f *flight) intact() bool {
	p := f.payload()
	switch f.protocol {
	case probe.UDP:
		if len(p) < packet.UDPHeaderLen {
			return false
		}
		length := int(binary.BigEndian.Uint16(p[4:]))
		if length < packet.UDPHeaderLen || length > len(p) {
			return false
		}
		if p = p[:length]; binary.BigEndian.Uint16(p[6:]) == 0 {
			return !f.v6 // RFC 8200 section 8.1
		}
	case probe.ICMP:
		return f.v6 || len(p) >= packet.ICMPHeaderLen && packet.Checksum(p) == 0
	case probe.ICMPv6:
		if !f.v6 {
			return true
		}
	case probe.TCP:
	default:
		return true
	}
	return packet.PseudoHeader(f.src, f.dst, f.protocol, len(p)).Add(p).Checksum() == 0
}

// answer is the stack of a host, and of a router for its own addresses.
func (n *Network) answer(nd *node, f *flight) {
	if nd.host != nil {
		if r := match(nd.host.Firewall, f); r != nil && r.Action != ActionAccept {
			n.refuse(nd, f, r)
			return
		}
	}
	switch {
	case f.protocol == probe.UDP:
		n.answerUDP(nd, f)
	case f.protocol == probe.TCP:
		n.answerTCP(nd, f)
	case f.protocol == icmpOf(f.v6):
		n.answerEcho(nd, f)
	case f.v6 && f.protocol == noNextHeader:
	default:
		n.answerError(nd, f, unknownProtocol(f))
	}
}

func (n *Network) answerEcho(nd *node, f *flight) {
	p := f.payload()
	request, reply := packet.ICMPv4Echo, packet.ICMPv4EchoReply
	if f.v6 {
		request, reply = packet.ICMPv6Echo, packet.ICMPv6EchoReply
	}
	if len(p) < packet.ICMPHeaderLen || p[0] != request || nd.host != nil && nd.host.NoEcho {
		return
	}
	msg := n.scratch[:0]
	msg = append(msg, p...)
	n.scratch = msg[:0]
	msg[0] = reply
	sum := binary.BigEndian.Uint16(p[2:])
	binary.BigEndian.PutUint16(msg[2:], packet.UpdateChecksum(sum, uint16(request)<<8, uint16(reply)<<8))
	n.say(nd, f, f.dst, f.protocol, f.tos(), msg)
}

func (n *Network) answerUDP(nd *node, f *flight) {
	h, payload, err := packet.ParseUDP(f.payload())
	if err != nil {
		return
	}
	state := Closed
	if nd.host != nil {
		if serve := nd.host.Services[h.DstPort]; serve != nil {
			if response := serve(payload); response != nil {
				n.sayUDP(nd, f, &h, response)
			}
			return
		}
		state = nd.host.UDP.state(h.DstPort)
	}
	if state == Closed {
		n.answerError(nd, f, portUnreachable(f))
	}
}

func (n *Network) sayUDP(nd *node, f *flight, h *packet.UDP, response []byte) {
	length := packet.UDPHeaderLen + len(response)
	if length > 0xFFFF {
		return
	}
	msg := packet.UDP{SrcPort: h.DstPort, DstPort: h.SrcPort, Length: uint16(length)}.Append(n.scratch[:0])
	msg = append(msg, response...)
	n.scratch = msg[:0]
	sum := packet.PseudoHeader(f.dst, f.src, probe.UDP, length).Add(msg)
	binary.BigEndian.PutUint16(msg[6:], sum.UDPChecksum())
	n.say(nd, f, f.dst, probe.UDP, 0, msg)
}

func (p *Ports) state(port uint16) PortState {
	for _, l := range []struct {
		ranges []PortRange
		state  PortState
	}{{p.Open, Open}, {p.Closed, Closed}, {p.Filtered, Filtered}} {
		for _, r := range l.ranges {
			if r.contains(port) {
				return l.state
			}
		}
	}
	return p.Rest
}
