package simnet

import (
	"encoding/binary"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// flowKey names a connection from its host's side.
type flowKey struct {
	peer, local         netip.Addr
	peerPort, localPort uint16
}

// conn is a connection that was asked for: in the state SYN-RECEIVED of
// RFC 9293, and then established, though it carries no data.
type conn struct {
	theirs, ours uint32 // initial sequence numbers
	ecn          bool
	acked        int64 // when a segment that does not fit was last answered
	tries        int
	established  bool
	due          int64 // when the SYN-ACK is sent again, or the connection ends
}

const (
	maxConns    = 1 << 16
	synRetries  = 5                             // Linux, tcp_synack_retries
	ackInterval = int64(500 * time.Millisecond) // Linux, tcp_invalid_ratelimit
	idle        = int64(2 * time.Minute)        // of an established connection
	buffer      = 1 << 16                       // of a connection, Linux
	synFlags    = packet.SYN | packet.ACK | packet.RST | packet.FIN
	ecnSetup    = packet.ECE | packet.CWR // RFC 3168 section 6.1.1
)

// answerTCP opens connections and refuses them.
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
	case state == Closed || h.Flags&packet.ACK != 0:
		n.reset(nd, f, &h, len(payload), f.tos()&^3)
	case h.Flags&synFlags == packet.SYN && len(nd.conns) < maxConns:
		if nd.conns == nil {
			nd.conns = map[flowKey]*conn{}
		}
		c = &conn{
			theirs: h.Seq, ours: uint32(mix(n.seed ^ f.uid)), acked: -ackInterval,
			ecn: h.Flags&ecnSetup == ecnSetup && f.tos()&3 == 0,
		}
		nd.conns[key] = c
		n.synAck(nd, f, key, c)
		n.insist(nd, &flight{src: f.src, dst: f.dst, v6: f.v6, uid: f.uid, talk: f.talk}, key, c)
	}
}

// synAck answers a SYN, and begins anew to wait for what follows.
func (n *Network) synAck(nd *node, to *flight, key flowKey, c *conn) {
	flags := packet.SYN | packet.ACK
	if c.ecn {
		flags |= packet.ECE
	}
	c.due = n.current + int64(time.Second)<<c.tries
	n.sayTCP(nd, to, &key, flags, c.ours, c.theirs+1, 0)
}

// insist repeats a SYN-ACK after 1, 2, 4 seconds and so on, and forgets the
// connection in the end.
func (n *Network) insist(nd *node, to *flight, key flowKey, c *conn) {
	n.agenda.plan(c.due, nil, func() {
		switch {
		case nd.conns[key] != c:
			return
		case n.current < c.due:
		case c.established || c.tries == synRetries:
			delete(nd.conns, key)
			return
		default:
			c.tries++
			to.uid = child(to.uid, childRepeat)
			n.synAck(nd, to, key, c)
		}
		n.insist(nd, to, key, c)
	})
}

// segment handles a segment of a connection, as Linux does (tcp_check_req).
func (n *Network) segment(nd *node, f *flight, key flowKey, c *conn, h *packet.TCP, payload int) {
	flags := h.Flags & (packet.SYN | packet.ACK | packet.RST)
	switch {
	case !c.established && flags == packet.SYN && h.Seq == c.theirs: // sent again
		if c.mayAnswer(n.current) {
			n.synAck(nd, f, key, c)
		}
	case !c.established && flags&packet.ACK != 0 && h.Ack != c.ours+1:
		n.reset(nd, f, h, payload, f.tos()&^3)
	case !inWindow(h, payload, c.theirs+1, nd.window(f.v6)) || c.established && flags&packet.SYN != 0:
		if flags&packet.RST == 0 && (payload > 0 && flags&packet.SYN == 0 || c.mayAnswer(n.current)) {
			n.sayTCP(nd, f, &key, packet.ACK, c.ours+1, c.theirs+1, f.tos()&^3)
		}
	case flags&packet.RST != 0:
		delete(nd.conns, key)
	case flags&packet.SYN != 0:
		delete(nd.conns, key)
		n.reset(nd, f, h, payload, f.tos()&^3)
	case flags&packet.ACK != 0:
		c.established, c.due = true, n.current+idle
	}
}

// mayAnswer limits answers to what does not fit, so that two ends that disagree
// do not talk for ever.
func (c *conn) mayAnswer(now int64) bool {
	if now-c.acked < ackInterval {
		return false
	}
	c.acked = now
	return true
}

// window is how much a host takes: as many whole segments as there is room for
// (Linux).
func (nd *node) window(v6 bool) uint16 {
	mss := int(nd.mss(v6))
	return uint16(min(buffer/mss*mss, 0xFFFF))
}

// inWindow tells whether some of a segment lies within the window of that size
// that starts at next (RFC 9293 section 3.10.7.4).
func inWindow(h *packet.TCP, payload int, next uint32, window uint16) bool {
	start, size := int32(h.Seq-next), int32(window)
	end := start + int32(length(h, payload))
	return start == 0 || end > 0 && start < size || start == size && end == size
}

// length is how many sequence numbers a segment takes.
func length(h *packet.TCP, payload int) uint32 {
	n := uint32(payload)
	for _, flag := range []packet.TCPFlags{packet.SYN, packet.FIN} {
		if h.Flags&flag != 0 {
			n++
		}
	}
	return n
}

// reset answers a segment that fits no connection (RFC 9293 section 3.10.7.1).
func (n *Network) reset(nd *node, f *flight, h *packet.TCP, payload int, tos uint8) {
	key := flowKey{f.src, f.dst, h.SrcPort, h.DstPort}
	switch {
	case h.Flags&packet.RST != 0:
	case h.Flags&packet.ACK != 0:
		n.sayTCP(nd, f, &key, packet.RST, h.Ack, 0, tos)
	default:
		n.sayTCP(nd, f, &key, packet.RST|packet.ACK, 0, h.Seq+length(h, payload), tos)
	}
}

func (n *Network) sayTCP(nd *node, f *flight, key *flowKey, flags packet.TCPFlags, seq, ack uint32, tos uint8) {
	h := packet.TCP{SrcPort: key.localPort, DstPort: key.peerPort, Seq: seq, Ack: ack, Flags: flags}
	if flags&packet.RST == 0 {
		h.Window = nd.window(f.v6)
	}
	var options [4]byte
	if flags&packet.SYN != 0 {
		h.Options = packet.AppendMSS(options[:0], nd.mss(f.v6))
	}
	msg, err := h.Append(n.scratch[:0])
	if err != nil {
		return
	}
	n.scratch = msg[:0]
	sum := packet.PseudoHeader(key.local, key.peer, probe.TCP, len(msg)).Add(msg)
	binary.BigEndian.PutUint16(msg[16:], sum.Checksum())
	n.say(nd, f, key.local, probe.TCP, tos, msg)
}

// mtu is that of the link over which a host sends.
func (nd *node) mtu() int {
	if up := nd.uplink(); up != own {
		return nd.ifaces[up].out.MTU
	}
	return defaultMTU
}

// mss is the longest segment that fits over a host's link.
func (nd *node) mss(v6 bool) uint16 {
	mtu := nd.mtu()
	if v6 {
		return uint16(max(mtu, 1280) - packet.IPv6HeaderLen - packet.TCPHeaderLen)
	}
	return uint16(mtu - packet.IPv4HeaderLen - packet.TCPHeaderLen)
}
