package simnet

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// spoofer forges answers at a node.
type spoofer struct {
	*Spoofer
	nd   *node
	uid  uint64 // unlike that of any packet, and of other spoofers
	sent uint64
}

func (c *compiler) spoof() error {
	for i := range c.s.Spoofers {
		cfg, where := &c.s.Spoofers[i], fmt.Sprintf("spoofers[%d]", i)
		k, known := c.n.byName[cfg.At]
		if !known {
			return wrong(where+".at", "%q, want the name of a node", cfg.At)
		}
		for _, a := range []struct {
			name string
			addr netip.Addr
		}{{"to", cfg.To}, {"from", cfg.From}, {"claims", cfg.Claims}} {
			if err := checkAddr(a.addr); err != nil {
				return wrong(where+"."+a.name, "%v", err)
			}
			if a.addr.Is4() != cfg.To.Is4() {
				return wrong(where+"."+a.name, "%v and %v, want addresses of one family", a.addr, cfg.To)
			}
		}
		blind := cfg.Sees == SeesNothing
		switch {
		case int(cfg.Kind) >= len(forgeries):
			return wrong(where+".kind", "%d, want 0 to %d", cfg.Kind, len(forgeries)-1)
		case int(cfg.Sees) >= len(sights):
			return wrong(where+".sees", "%d, want 0 to %d", cfg.Sees, len(sights)-1)
		case blind && (math.IsNaN(cfg.Rate) || cfg.Rate < minRate || cfg.Rate > maxRate):
			return wrong(where+".rate", "%v, want %v to %.0f a second", cfg.Rate, minRate, maxRate)
		case !blind && cfg.Rate != 0:
			return wrong(where+".rate", "given for a spoofer that sees probes, which forges one answer to each")
		case cfg.Start < 0 || cfg.Until < 0:
			return wrong(where, "start %v, until %v, want 0 or more", cfg.Start, cfg.Until)
		case cfg.Until > 0 && cfg.Until <= cfg.Start:
			return wrong(where+".until", "%v, want a time after the start at %v, or 0 for ever", cfg.Until, cfg.Start)
		case !blind && c.n.nodes[k].router == nil:
			return wrong(where+".at", "%q is no router, want one that probes pass", cfg.At)
		}
		s := &spoofer{Spoofer: cfg, nd: c.n.nodes[k], uid: uint64(len(c.n.nodes)+i) << 40}
		if !blind {
			s.nd.watchers = append(s.nd.watchers, s)
			continue
		}
		c.n.forgeAt(s, int64(cfg.Start))
	}
	return nil
}

func (s *spoofer) active(now int64) bool {
	return now >= int64(s.Start) && (s.Until == 0 || now < int64(s.Until))
}

// forgeAt lets a spoofer that sees nothing forge at a time, and from then on.
func (n *Network) forgeAt(s *spoofer, at int64) {
	if !s.active(at) {
		return
	}
	n.agenda.plan(at, nil, func() {
		s.sent++
		r := child(n.seed^s.uid, s.sent)
		n.lie(s, s.invent(r), r, 0)
		n.forgeAt(s, at+max(1, int64(float64(time.Second)/s.Rate)))
	})
}

// spy lets a spoofer see a packet that passes.
func (n *Network) spy(s *spoofer, f *flight) {
	if f.dst != s.Claims || f.in == own || f.piece || f.isICMPError() || f.talk == maxTalk || !s.active(n.current) {
		return
	}
	seen := append([]byte(nil), f.data...)
	if s.Sees == SeesID {
		spoil(seen, f)
	}
	n.lie(s, seen, child(f.uid^s.uid, childForgery), f.talk+1)
}

// spoil makes wrong every place where a probe carries its tag, and leaves its
// identifier.
func spoil(b []byte, f *flight) {
	t := b[f.transport:]
	flip := func(b []byte, from, to int) {
		for i := from; i < min(to, len(b)); i++ {
			b[i] ^= 0x5A << (i & 1) // swapped, it is wrong as well
		}
	}
	switch f.protocol {
	case probe.UDP:
		if !f.v6 {
			flip(t, 6, 8)
		}
		flip(t, 12, 20)
	case probe.TCP:
		flip(t, 6, 8)
	case probe.ICMP, probe.ICMPv6:
		if !f.v6 {
			flip(b, 4, 6)
		}
		flip(t, 8, len(t))
	}
}

// invent returns a probe as the spoofer imagines it.
func (s *spoofer) invent(r uint64) []byte {
	var t []byte
	protocol := probe.UDP
	switch s.Kind {
	case ForgeTimeExceeded, ForgeUnreachable:
		t = packet.UDP{SrcPort: probe.SourcePort, DstPort: 33434, Length: 40, Checksum: uint16(r)}.Append(nil)
		t = binary.BigEndian.AppendUint64(append(t, 0, 0, byte(r>>24), byte(r>>16)), mix(r))
		t = append(t, make([]byte, 20)...)
	case ForgeEchoReply:
		protocol = icmpOf(s.To.Is6())
		t = packet.Echo(packet.ICMPv4Echo, probe.SourcePort, uint16(r>>16)).Append(nil)
		t = append(binary.BigEndian.AppendUint64(t, mix(r)), make([]byte, 24)...)
	case ForgeReset:
		protocol = probe.TCP
		h := packet.TCP{SrcPort: probe.SourcePort, DstPort: 80, Seq: uint32(r), Flags: packet.SYN}
		t, _ = h.Append(nil)
	}
	h := header{src: s.To, dst: s.Claims, protocol: protocol, ttl: 1, id: uint16(r >> 16)}
	b, err := h.append(nil, len(t))
	if err != nil {
		return nil
	}
	return append(b, t...)
}

// lie sends the answer that the spoofer would have its victim believe.
func (n *Network) lie(s *spoofer, seen []byte, uid uint64, talk uint8) {
	victim := flight{data: seen}
	q, ok := readCut(seen, s.To.Is6())
	if !ok {
		return
	}
	protocol, t := q.protocol, seen[q.transport:]
	v6 := s.To.Is6()
	reply := icmpOf(v6)
	var msg []byte
	var err error
	switch s.Kind {
	case ForgeTimeExceeded, ForgeUnreachable:
		victim.v6 = v6
		c := timeExceeded(&victim)
		if s.Kind == ForgeUnreachable {
			c = portUnreachable(&victim)
		}
		e := packet.ICMPError{Type: c.typ, Code: c.code, Quote: seen}
		if v6 {
			msg, err = packet.AppendICMPv6Error(nil, e, s.From, s.To)
		} else {
			msg, err = packet.AppendICMPv4Error(nil, e)
		}
	case ForgeEchoReply:
		if protocol != icmpOf(v6) || len(t) < packet.ICMPHeaderLen {
			return
		}
		msg = append([]byte(nil), t...)
		msg[0], msg[2], msg[3] = packet.ICMPv4EchoReply, 0, 0
		sum := packet.Sum(0)
		if v6 {
			msg[0] = packet.ICMPv6EchoReply
			sum = packet.PseudoHeader(s.From, s.To, reply, len(msg))
		}
		binary.BigEndian.PutUint16(msg[2:], sum.Add(msg).Checksum())
	case ForgeReset:
		reply = probe.TCP
		h, _, bad := packet.ParseTCP(t)
		if protocol != probe.TCP || bad != nil {
			return
		}
		r := packet.TCP{SrcPort: h.DstPort, DstPort: h.SrcPort, Ack: h.Seq + 1, Flags: packet.RST | packet.ACK}
		if msg, err = r.Append(nil); err == nil {
			binary.BigEndian.PutUint16(msg[16:], packet.PseudoHeader(s.From, s.To, reply, len(msg)).Add(msg).Checksum())
		}
	}
	if err != nil {
		return
	}
	f := n.spawn(packet.IPv6HeaderLen + len(msg))
	if f == nil {
		return
	}
	h := header{src: s.From, dst: s.To, protocol: reply, ttl: 64, id: uint16(uid >> 8)}
	b, err := h.append(f.data[:0], len(msg))
	if err != nil {
		n.give(f)
		return
	}
	b = append(b, msg...)
	f.data, f.uid, f.talk = b, uid, talk
	n.originate(s.nd, f, 0)
}
