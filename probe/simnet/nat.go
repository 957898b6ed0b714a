package simnet

import (
	"encoding/binary"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

const (
	natIdle     = int64(2 * time.Minute)
	natFirst    = 1024 // ports that are given out
	natPorts    = 1<<16 - natFirst
	maxMappings = 1 << 16
)

// nat translates the sources of what leaves.
type nat struct {
	cfg     *NAT
	outside []int32
	out     map[natKey]*mapping // by inside address and port
	back    map[natKey]*mapping // by outside address and port
	next    uint16
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
	return &nat{cfg: cfg, out: map[natKey]*mapping{}, back: map[natKey]*mapping{}}
}

// leave translates a packet on its way out. It reports false where no port is
// left. What has no port, or is of another family, passes as it is.
func (t *nat) leave(f *flight, now int64) bool {
	if f.src.Is4() != t.cfg.Address.Is4() || f.piece {
		return true
	}
	port, ok := portOf(f.payload(), f.protocol, true)
	if !ok {
		return true
	}
	key := natKey{f.protocol, f.src, port}
	m := t.out[key]
	if m == nil {
		if m = t.open(key, now); m == nil {
			return false
		}
	}
	m.used = now
	rewrite(f.data, f.transport, f.protocol, true, m.outside.addr, m.outside.port, true)
	f.src = m.outside.addr
	return true
}

// open finds a free port for a flow: its own, or the next one.
func (t *nat) open(inside natKey, now int64) *mapping {
	if len(t.out) >= maxMappings {
		for _, m := range t.out {
			if now-m.used > natIdle {
				delete(t.out, m.inside)
				delete(t.back, m.outside)
			}
		}
	}
	outside := natKey{inside.protocol, t.cfg.Address, inside.port}
	for try := 0; try <= natPorts; try++ {
		m, taken := t.back[outside]
		if taken && now-m.used > natIdle {
			delete(t.out, m.inside)
			taken = false
		}
		if !taken {
			m = &mapping{inside: inside, outside: outside}
			t.out[inside], t.back[outside] = m, m
			return m
		}
		t.next = (t.next + 1) % natPorts
		outside.port = natFirst + t.next
	}
	return nil
}

// enter translates an answer back. It reports false for what answers nothing
// that left.
func (t *nat) enter(f *flight, now int64) bool {
	if f.piece {
		return false
	}
	if f.isICMPError() {
		return t.enterError(f, now)
	}
	port, ok := portOf(f.payload(), f.protocol, false)
	if !ok {
		return false
	}
	m := t.back[natKey{f.protocol, f.dst, port}]
	if m == nil {
		return false
	}
	m.used = now
	rewrite(f.data, f.transport, f.protocol, false, m.inside.addr, m.inside.port, true)
	f.dst = m.inside.addr
	return true
}

// enterError translates an ICMP error and the packet that it quotes.
func (t *nat) enterError(f *flight, now int64) bool {
	msg := f.payload()
	if len(msg) < packet.ICMPHeaderLen {
		return false
	}
	quote := msg[packet.ICMPHeaderLen:]
	protocol, transport, src, ok := readQuote(quote, f.v6)
	if !ok || src != t.cfg.Address {
		return false
	}
	port, ok := portOf(quote[transport:], protocol, true)
	if !ok {
		return false
	}
	m := t.back[natKey{protocol, src, port}]
	if m == nil {
		return false
	}
	m.used = now
	rewrite(quote, transport, protocol, true, m.inside.addr, m.inside.port, !t.cfg.StaleQuotes)
	rewrite(f.data, f.transport, 0, false, m.inside.addr, 0, false)
	f.dst = m.inside.addr
	msg[2], msg[3] = 0, 0
	var sum packet.Sum
	if f.v6 {
		sum = packet.PseudoHeader(f.src, f.dst, f.protocol, len(msg))
	}
	binary.BigEndian.PutUint16(msg[2:], sum.Add(msg).Checksum())
	return true
}

func readQuote(b []byte, v6 bool) (protocol uint8, transport int, src netip.Addr, ok bool) {
	if v6 {
		h, _, err := packet.ParseIPv6(b)
		return h.Protocol, packet.IPv6HeaderLen + len(h.Extensions), h.Src, err == nil && h.FragmentOffset == 0
	}
	h, _, err := packet.ParseIPv4(b)
	return h.Protocol, packet.IPv4HeaderLen + len(h.Options), h.Src, err == nil && h.FragmentOffset == 0
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

// rewrite sets source or destination of a datagram, which may be cut short,
// and its port or echo identifier. Protocol 0 leaves the transport header
// alone; with fix its checksum follows.
func rewrite(b []byte, transport int, protocol uint8, source bool, addr netip.Addr, port uint16, fix bool) {
	at, size := 16, 4
	if source {
		at = 12
	}
	if addr.Is6() {
		at, size = 24, 16
		if source {
			at = 8
		}
	}
	checksum, portAt := -1, -1
	pseudo := true
	switch protocol {
	case probe.UDP:
		checksum, portAt = transport+6, transport+2
	case probe.TCP:
		checksum, portAt = transport+16, transport+2
	case probe.ICMP, probe.ICMPv6:
		checksum, portAt, pseudo = transport+2, transport+4, protocol == probe.ICMPv6
	}
	if source && (protocol == probe.UDP || protocol == probe.TCP) {
		portAt = transport
	}
	if !fix || len(b) < checksum+2 || protocol == probe.UDP && checksum >= 0 && b[checksum] == 0 && b[checksum+1] == 0 {
		checksum = -1
	}
	set := func(at int, v uint16, covered bool) {
		old := binary.BigEndian.Uint16(b[at:])
		binary.BigEndian.PutUint16(b[at:], v)
		if covered && checksum >= 0 {
			c := packet.UpdateChecksum(binary.BigEndian.Uint16(b[checksum:]), old, v)
			binary.BigEndian.PutUint16(b[checksum:], c)
		}
		if addr.Is4() && at < transport {
			c := packet.UpdateChecksum(binary.BigEndian.Uint16(b[10:]), old, v)
			binary.BigEndian.PutUint16(b[10:], c)
		}
	}
	raw := addr.AsSlice()
	for i := 0; i < size; i += 2 {
		set(at+i, binary.BigEndian.Uint16(raw[i:]), pseudo)
	}
	if portAt >= 0 && len(b) >= portAt+2 {
		set(portAt, port, true)
	}
	if protocol == probe.UDP && checksum >= 0 && b[checksum] == 0 && b[checksum+1] == 0 {
		b[checksum], b[checksum+1] = 0xFF, 0xFF
	}
}
