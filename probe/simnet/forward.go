package simnet

import (
	"net/netip"
	"slices"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// arrive lets a node handle a packet, one of its own included.
func (n *Network) arrive(f *flight) {
	nd := n.nodes[f.at]
	n.find(f)
	switch {
	case nd.owns(f.to):
		n.see(nd, f, false, 0)
		n.accept(nd, f)
	case nd.router == nil && f.in == own:
		n.see(nd, f, false, 0)
		n.emit(nd, nd.uplink(), f)
	case nd.router == nil:
		n.drop(nd, f, DropNotOurs)
	default:
		n.see(nd, f, false, 0)
		n.forward(nd, f)
	}
}

// forward is what a router does with a packet of others, or with one of its
// own.
func (n *Network) forward(nd *node, f *flight) {
	for _, s := range nd.watchers {
		n.spy(s, f)
	}
	inTunnel := f.tunnel != nil && f.in != own
	hidden := inTunnel && f.tunnel.Hidden
	var out int32
	if inTunnel {
		out = f.tunnel.out[f.hop]
	} else {
		var drop DropKind
		var ok bool
		if out, drop, ok = n.route(nd, f); !ok {
			n.noRoute(nd, f, drop)
			return
		}
	}
	if f.in == own {
		n.emit(nd, out, f)
		return
	}
	if f.ttl() <= 1 && !hidden {
		n.answerError(nd, f, timeExceeded(f))
		n.drop(nd, f, DropTTL)
		return
	}
	if mtu := nd.ifaces[out].out.MTU; len(f.data) > mtu && (f.v6 || f.data[6]&0x40 != 0) {
		n.answerError(nd, f, tooBig(f, mtu))
		n.drop(nd, f, DropTooBig)
		return
	}
	if !hidden {
		f.decrement()
	}
	if r := match(nd.router.Filters, f); r != nil && r.Action != ActionAccept {
		n.refuse(nd, f, r)
		n.drop(nd, f, DropFiltered)
		return
	}
	if inTunnel {
		f.hop++
		if f.hop == len(f.tunnel.out) {
			f.tunnel = nil // popped before the last hop
		}
	} else {
		nd.rewrite(f)
		n.push(nd, out, f)
	}
	if nd.nat != nil && slices.Contains(nd.nat.outside, out) && !slices.Contains(nd.nat.outside, f.in) {
		if !nd.nat.leave(f, n.current) {
			n.drop(nd, f, DropNATFull)
			return
		}
	}
	n.emit(nd, out, f)
}

func (nd *node) rewrite(f *flight) {
	r := nd.router.Rewrite
	tos := f.tos()
	if r.DSCP != nil {
		tos = *r.DSCP<<2 | tos&3
	}
	if r.BleachECN {
		tos &^= 3
	}
	if tos != f.tos() {
		f.setTOS(tos)
	}
}

func (n *Network) noRoute(nd *node, f *flight, drop DropKind) {
	if drop != Blackhole && f.in != own {
		n.answerError(nd, f, noRoute(f, drop))
	}
	n.drop(nd, f, DropNoRoute)
}

// emit puts a packet on a link, in pieces if it must be.
func (n *Network) emit(nd *node, out int32, f *flight) {
	if out == own {
		n.drop(nd, f, DropLinkDown)
		return
	}
	mtu := nd.ifaces[out].out.MTU
	if len(f.data) <= mtu {
		n.transmit(nd, out, f)
		return
	}
	if f.v6 && (f.in != own || f.piece || f.more) || !f.v6 && f.data[6]&0x40 != 0 {
		n.drop(nd, f, DropTooBig)
		return
	}
	for piece := range n.fragment(f, mtu) {
		n.transmit(nd, out, piece)
	}
	n.give(f)
	n.stats.Sent-- // each piece counts, and not the whole
}

// Salts keep the draws of one packet on one link apart.
const (
	saltLoss = iota
	saltJitter
	saltDuplicate
	saltReorder
)

// transmit sends a packet over a link, where it may be lost, doubled or held
// back.
func (n *Network) transmit(nd *node, out int32, f *flight) {
	i := &nd.ifaces[out]
	d := i.out
	if d.down {
		n.drop(nd, f, DropLinkDown)
		return
	}
	draw := func(salt uint64) float64 {
		return fraction(mix(mix(n.seed^d.id<<8^salt) ^ child(f.uid, uint64(f.hops))))
	}
	if d.Loss > 0 && draw(saltLoss) < d.Loss {
		n.drop(nd, f, DropLoss)
		return
	}
	at := n.current + int64(d.Delay)
	if d.Jitter > 0 {
		at += int64(draw(saltJitter) * float64(d.Jitter))
	}
	if d.Reorder > 0 && draw(saltReorder) < d.Reorder {
		at += int64(d.ReorderBy)
	} else {
		at = max(at, d.last)
		d.last = at
	}
	if d.Duplicate > 0 && draw(saltDuplicate) < d.Duplicate {
		if c := n.copy(f); c != nil {
			n.land(i, c, at)
		}
	}
	n.land(i, f, at)
}

func (n *Network) land(i *iface, f *flight, at int64) {
	f.at, f.in, f.entered = i.peer, i.remote, nil
	f.hops++
	n.stats.Hops++
	n.agenda.plan(at, f, nil)
}

// copy returns a duplicate, or nil if there is no room.
func (n *Network) copy(f *flight) *flight {
	c := n.spawn(len(f.data))
	if c == nil {
		return nil
	}
	data := c.data
	copy(data, f.data)
	*c = *f
	c.data = data
	c.uid = child(f.uid, childDuplicate)
	n.stats.Sent++
	return c
}

// match returns the first rule that a packet matches.
func match(rules []Rule, f *flight) *Rule {
	for i := range rules {
		r := &rules[i]
		if r.Protocol == ProtocolUDP && f.protocol != probe.UDP ||
			r.Protocol == ProtocolTCP && f.protocol != probe.TCP ||
			r.Protocol == ProtocolICMP && f.protocol != probe.ICMP && f.protocol != probe.ICMPv6 ||
			r.From != (netip.Prefix{}) && !r.From.Contains(f.src) ||
			r.To != (netip.Prefix{}) && !r.To.Contains(f.dst) {
			continue
		}
		if !r.Ports.All() {
			if _, dst, ok := f.ports(); !ok || !r.Ports.contains(dst) {
				continue
			}
		}
		return r
	}
	return nil
}

// refuse answers a packet that a rule rejects.
func (n *Network) refuse(nd *node, f *flight, r *Rule) {
	switch {
	case r.Action == ActionReset && f.protocol == probe.TCP:
		if f.piece {
			return
		}
		if h, payload, err := packet.ParseTCP(f.payload()); err == nil {
			n.reset(nd, f, &h, len(payload), 0)
		}
	case r.Action == ActionReject, r.Action == ActionReset:
		n.answerError(nd, f, prohibited(f, r.Code))
	}
}

// respond sends a packet that a node made, after the time that it takes.
func (n *Network) respond(nd *node, f *flight, to *flight) {
	if nd.silent || to.talk == maxTalk {
		n.give(f)
		return
	}
	f.uid, f.talk = child(to.uid, childAnswer), to.talk+1
	n.originate(nd, f, nd.stack.Delay)
}

// maxTalk ends conversations that would never end, such as that of two services
// that answer each other.
const maxTalk = 64

func (n *Network) originate(nd *node, f *flight, after time.Duration) {
	if !f.read() {
		n.give(f)
		return
	}
	f.at, f.in = nd.index, own
	n.stats.Sent++
	if after == 0 {
		n.arrive(f)
		return
	}
	n.agenda.plan(n.current+int64(after), f, nil)
}
