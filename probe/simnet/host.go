package simnet

import (
	"encoding/binary"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// accept is what a node does with a packet to one of its addresses.
func (n *Network) accept(nd *node, f *flight) {
	if nd.nat != nil && f.dst == nd.nat.cfg.Address && f.in != own {
		if nd.nat.enter(f, n.current) {
			f.to, f.epoch = nil, 0
			n.find(f)
			n.forward(nd, f)
			return
		}
	}
	if nd.door != nil {
		nd.door.deliver(f)
	}
	if _, outside := nd.door.(*Attachment); !outside && (f.piece || f.more) {
		if f = n.assemble(nd, f); f == nil {
			return
		}
	} else if outside {
		n.stats.Delivered++
		n.give(f)
		return
	}
	n.stats.Delivered++
	if !nd.silent && n.intact(f) {
		n.answer(nd, f)
	}
	n.give(f)
}

// intact tells whether the checksum of the transport header is right.
func (n *Network) intact(f *flight) bool {
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
		return len(p) >= packet.ICMPHeaderLen && packet.Checksum(p) == 0
	case probe.TCP, probe.ICMPv6:
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
	}
}

func (n *Network) answerEcho(nd *node, f *flight) {
	p := f.payload()
	request, reply := packet.ICMPv4Echo, packet.ICMPv4EchoReply
	if f.v6 {
		request, reply = packet.ICMPv6Echo, packet.ICMPv6EchoReply
	}
	if len(p) < packet.ICMPHeaderLen || p[0] != request || p[1] != 0 || nd.host != nil && nd.host.NoEcho {
		return
	}
	msg := append(n.scratch[:0], p...)
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

// flowKey names a connection from its host's side.
type flowKey struct {
	peer, local         netip.Addr
	peerPort, localPort uint16
}

// conn is a connection that was asked for and not yet confirmed, as in the
// state SYN-RECEIVED of RFC 9293.
type conn struct {
	theirs, ours uint32 // initial sequence numbers
	acked        int64  // when an unexpected segment was last answered
	tries        int
	established  bool
}

const (
	maxConns    = 1 << 16
	synRetries  = 5 // Linux, tcp_synack_retries
	ackInterval = int64(500 * time.Millisecond)
	window      = 64240
	idle        = 2 * time.Minute
)

// answerTCP opens connections and refuses them; it carries no data.
func (n *Network) answerTCP(nd *node, f *flight) {
	h, payload, err := packet.ParseTCP(f.payload())
	if err != nil {
		return
	}
	key := flowKey{f.src, f.dst, h.SrcPort, h.DstPort}
	c := nd.conns[key]
	state := Closed
	if nd.host != nil {
		state = nd.host.TCP.state(h.DstPort)
	}
	switch {
	case state == Filtered:
	case c != nil:
		n.segment(nd, f, key, c, &h, len(payload))
	case h.Flags&packet.RST != 0:
	case state == Open && h.Flags&(packet.SYN|packet.ACK) == packet.SYN:
		if len(nd.conns) >= maxConns {
			return
		}
		if nd.conns == nil {
			nd.conns = map[flowKey]*conn{}
		}
		c = &conn{theirs: h.Seq, ours: uint32(mix(n.seed ^ f.uid)), acked: -ackInterval}
		nd.conns[key] = c
		n.sayTCP(nd, f, &key, packet.SYN|packet.ACK, c.ours, c.theirs+1)
		n.insist(nd, f, key, c)
	default:
		n.reset(nd, f, &h, len(payload))
	}
}

// segment handles a segment of a connection, as Linux does (tcp_check_req).
func (n *Network) segment(nd *node, f *flight, key flowKey, c *conn, h *packet.TCP, payload int) {
	offset := h.Seq - (c.theirs + 1)
	switch {
	case h.Flags&(packet.SYN|packet.ACK|packet.RST) == packet.SYN && h.Seq == c.theirs:
		n.sayTCP(nd, f, &key, packet.SYN|packet.ACK, c.ours, c.theirs+1)
	case offset >= window:
		if h.Flags&packet.RST == 0 && n.current-c.acked >= ackInterval {
			c.acked = n.current
			n.sayTCP(nd, f, &key, packet.ACK, c.ours+1, c.theirs+1)
		}
	case h.Flags&packet.RST != 0:
		delete(nd.conns, key)
	case h.Flags&packet.SYN != 0:
		delete(nd.conns, key)
		n.reset(nd, f, h, payload)
	case h.Flags&packet.ACK != 0 && h.Ack == c.ours+1:
		c.established = true
	case h.Flags&packet.ACK != 0:
		n.reset(nd, f, h, payload)
	}
}

// insist repeats a SYN-ACK, after 1, 2, 4 seconds and so on, and forgets the
// connection in the end.
func (n *Network) insist(nd *node, f *flight, key flowKey, c *conn) {
	syn := flight{src: f.src, dst: f.dst, v6: f.v6, uid: f.uid, talk: f.talk}
	uid := child(f.uid, childRepeat)
	wait := int64(time.Second) << c.tries
	if c.established {
		wait = int64(idle)
	}
	n.agenda.plan(n.current+wait, nil, func() {
		if nd.conns[key] != c {
			return
		}
		if c.tries++; c.established || c.tries > synRetries {
			delete(nd.conns, key)
			return
		}
		syn.uid = uid
		n.sayTCP(nd, &syn, &key, packet.SYN|packet.ACK, c.ours, c.theirs+1)
		n.insist(nd, &syn, key, c)
	})
}

// reset answers a segment that fits no connection (RFC 9293 section 3.10.7.1).
func (n *Network) reset(nd *node, f *flight, h *packet.TCP, payload int) {
	if h.Flags&packet.RST != 0 {
		return
	}
	key := flowKey{f.src, f.dst, h.SrcPort, h.DstPort}
	if h.Flags&packet.ACK != 0 {
		n.sayTCP(nd, f, &key, packet.RST, h.Ack, 0)
		return
	}
	next := h.Seq + uint32(payload)
	for _, flag := range []packet.TCPFlags{packet.SYN, packet.FIN} {
		if h.Flags&flag != 0 {
			next++
		}
	}
	n.sayTCP(nd, f, &key, packet.RST|packet.ACK, 0, next)
}

func (n *Network) sayTCP(nd *node, f *flight, key *flowKey, flags packet.TCPFlags, seq, ack uint32) {
	h := packet.TCP{SrcPort: key.localPort, DstPort: key.peerPort, Seq: seq, Ack: ack, Flags: flags}
	if flags&packet.RST == 0 {
		h.Window = window
	}
	var options [4]byte
	if flags&packet.SYN != 0 {
		mss := uint16(defaultMTU - packet.IPv4HeaderLen - packet.TCPHeaderLen)
		if f.v6 {
			mss = defaultMTU - packet.IPv6HeaderLen - packet.TCPHeaderLen
		}
		h.Options = packet.AppendMSS(options[:0], mss)
	}
	msg, err := h.Append(n.scratch[:0])
	if err != nil {
		return
	}
	n.scratch = msg[:0]
	sum := packet.PseudoHeader(key.local, key.peer, probe.TCP, len(msg)).Add(msg)
	binary.BigEndian.PutUint16(msg[16:], sum.Checksum())
	n.say(nd, f, key.local, probe.TCP, 0, msg)
}
