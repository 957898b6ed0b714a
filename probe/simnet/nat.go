package simnet

import (
	"encoding/binary"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

const (
	natIdle   = int64(2 * time.Minute)
	natFirst  = 1024 // ports that are given out
	natPorts  = 1<<16 - natFirst
	natPieces = 1024
)

// nat translates the sources of what leaves, whatever its destination, and
// lets in whatever is sent to them (RFC 4787, endpoint-independent).
type nat struct {
	cfg     *NAT
	outside []int32
	out     map[natKey]*mapping // by inside address and port
	back    map[natKey]*mapping // by outside address and port
	next    uint16
	full    map[uint8]int64       // by protocol: no port is free before that time
	pieces  map[pieceKey]*mapping // of datagrams whose first fragment came in
}

type natKey struct {
	protocol uint8
	addr     netip.Addr
	port     uint16
}

type mapping struct {
	inside, outside natKey
	used            int64
}

func newNAT(cfg *NAT) *nat {
	return &nat{
		cfg: cfg, out: map[natKey]*mapping{}, back: map[natKey]*mapping{},
		full: map[uint8]int64{}, pieces: map[pieceKey]*mapping{},
	}
}

// leave translates a packet on its way out. It reports false where no port is
// left. What is of another family passes as it is.
func (t *nat) leave(f *flight, now int64) bool {
	if f.src.Is4() != t.cfg.Address.Is4() {
		return true
	}
	e := edit{source: true, addr: t.cfg.Address, port: noPort, fix: true}
	port, ok := portOf(f.payload(), f.protocol, true)
	switch {
	case f.piece:
		e.whole = true
	case f.isICMPError():
		t.leaveError(f)
		return true
	case ok:
		m := t.out[natKey{f.protocol, f.src, port}]
		if m == nil {
			if m = t.open(natKey{f.protocol, f.src, port}, now); m == nil {
				return false
			}
		}
		m.used = now
		e.port = int(m.outside.port)
	}
	e.apply(f.data, f.transport, f.protocol)
	f.src = t.cfg.Address
	return true
}

// open finds a free port for a flow: its own, or the next one.
func (t *nat) open(inside natKey, now int64) *mapping {
	if now < t.full[inside.protocol] {
		return nil
	}
	outside := natKey{inside.protocol, t.cfg.Address, inside.port}
	oldest := now
	for range natPorts + 1 {
		m := t.back[outside]
		if m == nil || m.idle(now) {
			if m != nil {
				delete(t.out, m.inside)
			}
			m = &mapping{inside: inside, outside: outside}
			t.out[inside], t.back[outside] = m, m
			return m
		}
		oldest = min(oldest, m.used)
		t.next = (t.next + 1) % natPorts
		outside.port = natFirst + t.next
	}
	t.full[inside.protocol] = oldest + natIdle
	return nil
}

func (m *mapping) idle(now int64) bool { return now-m.used >= natIdle }

// enter translates an answer back. It returns nil for what answers nothing
// that left.
func (t *nat) enter(f *flight, now int64) *mapping {
	e := edit{fix: true, port: noPort}
	var m *mapping
	port, ok := portOf(f.payload(), f.protocol, false)
	switch {
	case f.piece:
		key, _, _ := f.pieceKey()
		m, e.whole = t.pieces[key], true
	case f.isICMPError():
		return t.enterError(f, now)
	case ok:
		m = t.back[natKey{f.protocol, f.dst, port}]
	}
	if m == nil || m.idle(now) {
		return nil
	}
	if f.more && !f.piece {
		if len(t.pieces) >= natPieces {
			clear(t.pieces)
		}
		key, _, _ := f.pieceKey()
		t.pieces[key] = m
	}
	m.used = now
	e.addr = m.inside.addr
	if !f.piece {
		e.port = int(m.inside.port)
	}
	e.apply(f.data, f.transport, f.protocol)
	f.dst = m.inside.addr
	return m
}

// enterError translates an ICMP error about what left, and the quote in it.
func (t *nat) enterError(f *flight, now int64) *mapping {
	q, ok := readQuote(f)
	if !ok {
		return nil
	}
	port, ok := portOf(q.data[q.transport:], q.protocol, true)
	m := t.back[natKey{q.protocol, q.src, port}]
	if !ok || m == nil || m.idle(now) {
		return nil
	}
	inside := edit{source: true, addr: m.inside.addr, port: int(m.inside.port), fix: !t.cfg.StaleQuotes}
	inside.apply(q.data, q.transport, q.protocol)
	outer := edit{addr: m.inside.addr, port: noPort, whole: true}
	outer.apply(f.data, f.transport, f.protocol)
	f.dst = m.inside.addr
	f.fixICMP()
	return m
}

// leaveError translates an ICMP error about what came in, and the quote in it.
func (t *nat) leaveError(f *flight) {
	if q, ok := readQuote(f); ok {
		port, ok := portOf(q.data[q.transport:], q.protocol, false)
		if m := t.out[natKey{q.protocol, q.dst, port}]; ok && m != nil {
			m.hide(q.data, q.transport)
		}
	}
	outer := edit{source: true, addr: t.cfg.Address, port: noPort, whole: true}
	outer.apply(f.data, f.transport, f.protocol)
	f.src = t.cfg.Address
	f.fixICMP()
}

// hide gives a packet that was translated on its way in the destination back
// that it came with.
func (m *mapping) hide(b []byte, transport int) {
	e := edit{addr: m.outside.addr, port: int(m.outside.port), fix: true}
	e.apply(b, transport, m.outside.protocol)
}

// quoted is the start of a datagram in an ICMP error.
type quoted struct {
	data      []byte
	src, dst  netip.Addr
	protocol  uint8
	transport int
}

// readQuote reads what an ICMP error quotes.
func readQuote(f *flight) (quoted, bool) {
	p := f.payload()
	if len(p) < packet.ICMPHeaderLen {
		return quoted{}, false
	}
	return readCut(p[packet.ICMPHeaderLen:], f.v6)
}

// readCut reads a datagram that may be cut short. It reports false where the
// transport header would not be in it.
func readCut(b []byte, v6 bool) (quoted, bool) {
	if v6 {
		h, _, err := packet.ParseIPv6(b)
		return quoted{b, h.Src, h.Dst, h.Protocol, packet.IPv6HeaderLen + len(h.Extensions)}, err == nil && h.FragmentOffset == 0
	}
	h, _, err := packet.ParseIPv4(b)
	return quoted{b, h.Src, h.Dst, h.Protocol, packet.IPv4HeaderLen + len(h.Options)}, err == nil && h.FragmentOffset == 0
}

// fixICMP works out the checksum of an ICMP message.
func (f *flight) fixICMP() {
	msg := f.payload()
	if len(msg) < packet.ICMPHeaderLen {
		return
	}
	msg[2], msg[3] = 0, 0
	var sum packet.Sum
	if f.v6 {
		sum = packet.PseudoHeader(f.src, f.dst, f.protocol, len(msg))
	}
	binary.BigEndian.PutUint16(msg[2:], sum.Add(msg).Checksum())
}

// portOf returns the port by which a packet's flow is told: the source one, or
// the destination one, or an echo message's identifier.
func portOf(transport []byte, protocol uint8, source bool) (uint16, bool) {
	at := 2
	switch protocol {
	case probe.UDP, probe.TCP:
		if source {
			at = 0
		}
	case probe.ICMP, probe.ICMPv6:
		if len(transport) == 0 {
			return 0, false
		}
		switch transport[0] {
		case packet.ICMPv4Echo, packet.ICMPv4EchoReply, packet.ICMPv6Echo, packet.ICMPv6EchoReply:
			at = 4
		default:
			return 0, false
		}
	default:
		return 0, false
	}
	if len(transport) < at+2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(transport[at:]), true
}
