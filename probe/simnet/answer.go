package simnet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// complaint is an ICMP error to be made.
type complaint struct {
	typ, code uint8
	mtu       int
	pointer   int
}

func timeExceeded(f *flight) complaint {
	if f.v6 {
		return complaint{typ: packet.ICMPv6TimeExceeded}
	}
	return complaint{typ: packet.ICMPv4TimeExceeded}
}

func tooBig(f *flight, mtu int) complaint {
	if f.v6 {
		return complaint{typ: packet.ICMPv6PacketTooBig, mtu: mtu}
	}
	return complaint{typ: packet.ICMPv4Unreachable, code: 4, mtu: mtu}
}

// Codes of destination unreachable.
const (
	net4, host4, port4, prohibited4  = 0, 1, 3, 13 // RFC 792, RFC 1812
	noRoute6, prohibited6, address6  = 0, 1, 3     // RFC 4443
	port6                            = 4
	precedence                       = 0xC0 // internetwork control, RFC 1812
	maxError4, maxError6, leastQuote = 576, 1280, 128
)

func noRoute(f *flight, drop DropKind) complaint {
	switch {
	case f.v6 && drop == Prohibited:
		return complaint{typ: packet.ICMPv6Unreachable, code: prohibited6}
	case f.v6:
		return complaint{typ: packet.ICMPv6Unreachable, code: noRoute6}
	case drop == Prohibited:
		return complaint{typ: packet.ICMPv4Unreachable, code: prohibited4}
	case drop == Unreachable:
		return complaint{typ: packet.ICMPv4Unreachable, code: host4}
	}
	return complaint{typ: packet.ICMPv4Unreachable, code: net4}
}

func prohibited(f *flight, code *uint8) complaint {
	c := complaint{typ: packet.ICMPv4Unreachable, code: prohibited4}
	if f.v6 {
		c = complaint{typ: packet.ICMPv6Unreachable, code: prohibited6}
	}
	if code != nil {
		c.code = *code
	}
	return c
}

func portUnreachable(f *flight) complaint {
	if f.v6 {
		return complaint{typ: packet.ICMPv6Unreachable, code: port6}
	}
	return complaint{typ: packet.ICMPv4Unreachable, code: port4}
}

const noNextHeader = 59 // RFC 8200 section 4.7

// unknownProtocol is what a host says of a protocol that it does not speak.
func unknownProtocol(f *flight) complaint {
	if !f.v6 {
		return complaint{typ: packet.ICMPv4Unreachable, code: 2}
	}
	c := complaint{typ: packet.ICMPv6ParameterProblem, code: 1}
	for h := range f.headers() {
		c.pointer = h.named
	}
	return c
}

// answerError sends an ICMP error about f, unless f is one itself or the node
// may not (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
func (n *Network) answerError(nd *node, f *flight, c complaint) {
	if nd.silent || f.piece && !f.v6 || f.isICMPError() || f.src.IsUnspecified() || f.src.IsMulticast() || f.src.IsLoopback() || f.dst.IsMulticast() {
		return
	}
	src := n.errorSource(nd, f)
	if !src.IsValid() || c.mtu == 0 && !nd.mayError(f.src, n.current) {
		return
	}
	e := packet.ICMPError{Type: c.typ, Code: c.code, MTU: uint32(c.mtu), Pointer: uint32(c.pointer)}
	ext := nd.extension(f, c)
	e.Quote, e.Extension = n.quote(nd, f, len(ext)), ext
	var msg []byte
	var err error
	if f.v6 {
		msg, err = packet.AppendICMPv6Error(n.scratch[:0], e, src, f.src)
	} else {
		msg, err = packet.AppendICMPv4Error(n.scratch[:0], e)
	}
	if err != nil {
		return // an MTU over 65535 is refused when it is given
	}
	n.scratch = msg[:0]
	tos := f.tos()&0x1E | precedence
	if f.v6 {
		tos = 0
	}
	n.say(nd, f, src, icmpOf(f.v6), tos, msg)
}

func icmpOf(v6 bool) uint8 {
	if v6 {
		return probe.ICMPv6
	}
	return probe.ICMP
}

// say sends a message from src to the source of the packet to.
func (n *Network) say(nd *node, to *flight, src netip.Addr, protocol, tos uint8, msg []byte) {
	f := n.spawn(packet.IPv6HeaderLen + len(msg))
	if f == nil {
		return
	}
	h := header{src: src, dst: to.src, protocol: protocol, tos: tos, ttl: nd.stack.TTL, whole: protocol == probe.TCP}
	if protocol != probe.TCP {
		nd.id++
		h.id = nd.id
	}
	if protocol == probe.UDP { // Linux looks for the path's MTU
		h.whole = packet.IPv4HeaderLen+len(msg) <= nd.mtu()
	}
	b, err := h.append(f.data[:0], len(msg))
	if err != nil {
		n.give(f)
		return
	}
	b = append(b, msg...)
	f.data = b
	n.respond(nd, f, to)
}

// header is an IP header of either family.
type header struct {
	src, dst           netip.Addr
	protocol, tos, ttl uint8
	id                 uint16
	whole              bool // must not be fragmented
}

func (h *header) append(b []byte, n int) ([]byte, error) {
	if h.dst.Is6() {
		h := packet.IPv6{TrafficClass: h.tos, HopLimit: h.ttl, Protocol: h.protocol, Src: h.src, Dst: h.dst}
		return h.Append(b, n)
	}
	v4 := packet.IPv4{TOS: h.tos, ID: h.id, DontFragment: h.whole, TTL: h.ttl, Protocol: h.protocol, Src: h.src, Dst: h.dst}
	return v4.Append(b, n)
}

// errorSource returns the address an error about f comes from.
func (n *Network) errorSource(nd *node, f *flight) netip.Addr {
	fam := familyOf(f.v6)
	if nd.owns(f.to) {
		return f.dst
	}
	if nd.router == nil || nd.router.From == FromOwn || f.in == own {
		return nd.own[fam]
	}
	via := f.in
	if nd.router.From == FromOutbound {
		if out := n.wayBack(nd, f); out != own {
			via = out
		}
	}
	if a := nd.ifaces[via].addr[fam]; a.IsValid() {
		return a
	}
	return nd.own[fam]
}

// wayBack returns the interface over which a node answers f, own if there is
// none.
func (n *Network) wayBack(nd *node, f *flight) int32 {
	if nd.router == nil {
		return nd.uplink()
	}
	back := flight{data: f.data, src: f.dst, dst: f.src, v6: f.v6, protocol: icmpOf(f.v6), transport: f.transport, uid: f.uid}
	n.find(&back)
	if out, _, ok := n.route(nd, &back); ok {
		return out
	}
	return own
}

// quote returns the part of f that an error carries beside an extension of ext
// bytes, with the node's quirks.
func (n *Network) quote(nd *node, f *flight, ext int) []byte {
	room, unit := maxError4-packet.IPv4HeaderLen-packet.ICMPHeaderLen, 4
	if f.v6 {
		room, unit = maxError6-packet.IPv6HeaderLen-packet.ICMPHeaderLen, 8
	} else if nd.narrow {
		if out := n.wayBack(nd, f); out != own {
			room = min(room, nd.ifaces[out].out.MTU-packet.IPv4HeaderLen-packet.ICMPHeaderLen)
		}
	}
	if ext > 0 {
		room = max(room-ext, leastQuote) / unit * unit // RFC 4884 section 4
	}
	if nd.stack.Quote > 0 {
		room = min(room, f.transport+nd.stack.Quote)
	}
	q := f.data[:min(len(f.data), room)]
	if len(nd.stack.Quirks) == 0 && f.entered == nil {
		return q
	}
	q = slices.Clone(q)
	if f.entered != nil && !f.piece {
		f.entered.hide(q, f.transport)
	}
	for _, quirk := range nd.stack.Quirks {
		switch {
		case quirk == QuirkSwapID && !f.v6:
			binary.BigEndian.PutUint16(q[4:], bits.ReverseBytes16(binary.BigEndian.Uint16(q[4:])))
		case quirk == QuirkIncrementID && !f.v6:
			binary.BigEndian.PutUint16(q[4:], binary.BigEndian.Uint16(q[4:])+1)
		case quirk == QuirkZeroChecksum && f.protocol == probe.UDP && len(q) >= f.transport+packet.UDPHeaderLen:
			binary.BigEndian.PutUint16(q[f.transport+6:], 0)
		case quirk == QuirkZeroTTL && f.v6:
			q[7] = 0
		case quirk == QuirkZeroTTL:
			q[8] = 0
		}
	}
	return q
}

// extension returns the extension structure (RFC 4884) of an error, nil if
// there is nothing to say.
func (nd *node) extension(f *flight, c complaint) []byte {
	if f.v6 && c.typ == packet.ICMPv6PacketTooBig {
		return nil // has no room for it
	}
	var objects []packet.Object
	if t := f.tunnel; t != nil && f.in != own && !t.Bare {
		// Both were set where the tunnel begins; only the outer one counts
		// down (RFC 3443).
		inner := uint8(255)
		if !t.Hidden {
			inner = f.ttl() + uint8(f.hop-1)
		}
		top := packet.MPLSLabel{Label: t.Labels[f.hop-1], Bottom: len(t.Inner) == 0, TTL: inner - uint8(f.hop-1)}
		stack := top.Append(nil)
		for i, l := range t.Inner {
			stack = packet.MPLSLabel{Label: l, Bottom: i == len(t.Inner)-1, TTL: inner}.Append(stack)
		}
		objects = append(objects, packet.Object{Class: packet.ClassMPLS, CType: 1, Payload: stack})
	}
	if nd.router != nil && nd.router.InterfaceInfo && f.in != own {
		i := &nd.ifaces[f.in]
		info := packet.InterfaceInfo{
			Role: packet.IncomingInterface, HasIndex: true, Index: uint32(f.in + 1), Addr: i.addr[familyOf(f.v6)],
			HasMTU: true, MTU: uint32(i.out.MTU),
		}
		if payload, ctype, err := info.Append(nil); err == nil {
			objects = append(objects, packet.Object{Class: packet.ClassInterfaceInfo, CType: ctype, Payload: payload})
		}
	}
	if len(objects) == 0 {
		return nil
	}
	ext, err := packet.AppendExtension(nil, objects...)
	if err != nil {
		return nil
	}
	return ext
}
