package simnet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// lab is a network in virtual time, with an agent's port at each site.
type lab struct {
	t *testing.T
	*simnet.Network
	began time.Time
	sites map[string]*site
}

// simulate runs f over a scenario. When it is over, every packet must have
// come to some end.
func simulate(t *testing.T, s *simnet.Scenario, f func(l *lab)) {
	t.Helper()
	simulateWatched(t, s, nil, f)
}

func simulateWatched(t *testing.T, s *simnet.Scenario, watch func(simnet.Sighting), f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := s.StartWatched(watch)
		require.NoError(t, err)
		defer n.Close()
		l := &lab{t: t, Network: n, began: time.Now().Round(0), sites: map[string]*site{}}
		for _, name := range n.Sites() {
			l.sites[name] = l.open(name)
		}
		f(l)
		time.Sleep(5 * time.Minute)
		requireSettled(t, n.Stats())
		require.NoError(t, n.Close())
		for _, s := range l.sites {
			<-s.done
		}
	})
}

// requireSettled says that nothing is on its way and all is accounted for.
func requireSettled(t testing.TB, s simnet.Stats) {
	t.Helper()
	ended := s.Delivered
	for _, d := range s.Dropped {
		ended += d
	}
	require.Equal(t, s.Sent, ended, "%+v", s)
}

// site is an agent's port, of which all that arrives is kept.
type site struct {
	l    *lab
	port probe.Port
	done chan struct{}
	mu   sync.Mutex
	got  []probe.Incoming
}

// arrival is a datagram that arrived, read.
type arrival struct {
	datagram
	at time.Duration // since the start
}

func (l *lab) open(name string) *site {
	port, err := l.Port(name)
	require.NoError(l.t, err)
	s := &site{l: l, port: port, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		in := make([]probe.Incoming, 16)
		for {
			k, err := port.Receive(in)
			if err != nil {
				return
			}
			s.mu.Lock()
			for _, i := range in[:k] {
				i.Data = bytes.Clone(i.Data)
				s.got = append(s.got, i)
			}
			s.mu.Unlock()
		}
	}()
	return s
}

// send sends datagrams at once from site a.
func (l *lab) send(ds ...datagram) { l.t.Helper(); l.sites["a"].send(ds...) }

func (s *site) send(ds ...datagram) {
	s.l.t.Helper()
	out := make([]probe.Outgoing, len(ds))
	for i, d := range ds {
		out[i].Data = d.bytes()
	}
	require.NoError(s.l.t, s.port.Send(out))
	for _, o := range out {
		require.NoError(s.l.t, o.Err)
		require.Equal(s.l.t, time.Now().Round(0), o.Time)
	}
}

// pass lets time pass, and returns what arrived at site a.
func (l *lab) pass(d time.Duration) []arrival { return l.sites["a"].pass(d) }

func (s *site) pass(d time.Duration) []arrival {
	time.Sleep(d)
	synctest.Wait()
	return s.take()
}

func (s *site) take() (all []arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.got {
		all = append(all, arrival{readDatagram(s.l.t, i.Data), i.Time.Sub(s.l.began)})
	}
	s.got = nil
	return all
}

// ask sends a datagram from site a and returns the only answer that arrives
// there within a second.
func (l *lab) ask(d datagram) arrival {
	l.t.Helper()
	l.send(d)
	got := l.pass(time.Second)
	require.Len(l.t, got, 1)
	return got[0]
}

// silent sends a datagram from site a to which there must be no answer.
func (l *lab) silent(d datagram) {
	l.t.Helper()
	l.send(d)
	require.Empty(l.t, l.pass(time.Second))
}

// Addresses of the scenarios here.
var (
	a4, a6 = addr("192.0.2.1"), addr("2001:db8:ff::1")
	h4, h6 = addr("203.0.113.10"), addr("2001:db8:fe::10")
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// path is a scenario of one drawing, with a site a and a host h at its ends.
func path(draw string) *simnet.Scenario {
	return &simnet.Scenario{
		Sites: []simnet.Site{{Host: simnet.Host{Name: "a", Addresses: []netip.Addr{a4, a6}}}},
		Hosts: []simnet.Host{{Name: "h", Addresses: []netip.Addr{h4, h6}}},
		Links: []simnet.Link{{Draw: draw}},
	}
}

// router adds a router to a scenario, or its own properties to one drawn.
func router(s *simnet.Scenario, r simnet.Router) *simnet.Scenario {
	s.Routers = append(s.Routers, r)
	return s
}

// families runs f for IPv4 and for IPv6, with a datagram from a to h.
func families(t *testing.T, f func(t *testing.T, d datagram)) {
	t.Helper()
	t.Run("IPv4", func(t *testing.T) { f(t, udp4) })
	t.Run("IPv6", func(t *testing.T) { f(t, udp6) })
}

// datagram is an IP datagram of either family with a UDP, TCP or ICMP header.
type datagram struct {
	src, dst   netip.Addr
	proto      uint8
	ttl, tos   uint8
	id         uint16 // IPv4
	df, more   bool   // IPv4
	offset     uint16 // IPv4
	label      uint32 // IPv6
	options    []byte // IPv4 options, IPv6 extension headers
	next       uint8  // type of the first extension header
	sport      uint16 // or echo identifier
	dport      uint16 // or echo sequence number
	flags      packet.TCPFlags
	seq, ack   uint32
	icmp, code uint8
	body       []byte // after the transport header
	raw        []byte // instead of a transport header and body
	noChecksum bool   // UDP

	whole []byte // as it was read
}

var (
	udp4  = datagram{src: a4, dst: h4, proto: probe.UDP, ttl: 64, id: 7, sport: 61440, dport: 33434, body: make([]byte, 32)}
	udp6  = udp4.to(h6).from(a6)
	echo4 = datagram{src: a4, dst: h4, proto: probe.ICMP, ttl: 64, id: 7, icmp: packet.ICMPv4Echo, sport: 61440, dport: 1, body: []byte("0123456789")}
)

func (d datagram) to(a netip.Addr) datagram   { d.dst = a; return d }
func (d datagram) from(a netip.Addr) datagram { d.src = a; return d }
func (d datagram) hops(ttl uint8) datagram    { d.ttl = ttl; return d }
func (d datagram) v6() bool                   { return d.dst.Is6() }

// payload makes the whole datagram n bytes long.
func (d datagram) size(n int) datagram {
	d.body = make([]byte, len(d.body)+n-len(d.bytes()))
	for i := range d.body {
		d.body[i] = byte(i * 7)
	}
	return d
}

// echo makes it an echo request, syn a TCP SYN.
func (d datagram) echo() datagram {
	d.proto, d.icmp, d.dport = probe.ICMP, packet.ICMPv4Echo, 1
	if d.v6() {
		d.proto, d.icmp = probe.ICMPv6, packet.ICMPv6Echo
	}
	return d
}

func (d datagram) syn(port uint16, seq uint32) datagram {
	d.proto, d.flags, d.dport, d.seq, d.body = probe.TCP, packet.SYN, port, seq, nil
	return d
}

func (d datagram) bytes() []byte {
	var t []byte
	switch {
	case d.raw != nil:
		t = d.raw
	case d.proto == probe.UDP:
		t = packet.UDP{SrcPort: d.sport, DstPort: d.dport, Length: uint16(8 + len(d.body))}.Append(nil)
		t = append(t, d.body...)
		if !d.noChecksum {
			binary.BigEndian.PutUint16(t[6:], packet.PseudoHeader(d.src, d.dst, d.proto, len(t)).Add(t).UDPChecksum())
		}
	case d.proto == probe.TCP:
		h := packet.TCP{SrcPort: d.sport, DstPort: d.dport, Seq: d.seq, Ack: d.ack, Flags: d.flags, Window: 1000}
		t, _ = h.Append(nil)
		t = append(t, d.body...)
		binary.BigEndian.PutUint16(t[16:], packet.PseudoHeader(d.src, d.dst, d.proto, len(t)).Add(t).Checksum())
	default:
		h := packet.Echo(d.icmp, d.sport, d.dport)
		h.Code = d.code
		t = append(h.Append(nil), d.body...)
		sum := packet.Sum(0)
		if d.proto == probe.ICMPv6 {
			sum = packet.PseudoHeader(d.src, d.dst, d.proto, len(t))
		}
		binary.BigEndian.PutUint16(t[2:], sum.Add(t).Checksum())
	}
	var b []byte
	if d.v6() {
		h := packet.IPv6{TrafficClass: d.tos, FlowLabel: d.label, HopLimit: d.ttl, Protocol: d.proto, NextHeader: d.next, Extensions: d.options, Src: d.src, Dst: d.dst}
		b, _ = h.Append(nil, len(t))
	} else {
		h := packet.IPv4{TOS: d.tos, ID: d.id, DontFragment: d.df, MoreFragments: d.more, FragmentOffset: d.offset, TTL: d.ttl, Protocol: d.proto, Src: d.src, Dst: d.dst, Options: d.options}
		b, _ = h.Append(nil, len(t))
	}
	return append(b, t...)
}

// readDatagram reads what arrived, and requires it to be in order: lengths,
// checksums.
func readDatagram(t *testing.T, b []byte) datagram {
	d, payload := readHeader(t, b)
	require.Len(t, d.whole, len(b))
	if d.more || d.offset != 0 {
		d.raw = payload
		return d
	}
	d.readTransport(payload)
	switch sum := packet.PseudoHeader(d.src, d.dst, d.proto, len(payload)); {
	case d.proto == probe.ICMP:
		require.Zero(t, packet.Checksum(payload), "%x", b)
	case d.proto == probe.UDP && !d.v6() && d.noChecksum:
	case d.proto == probe.UDP, d.proto == probe.TCP, d.proto == probe.ICMPv6:
		require.Zero(t, sum.Add(payload).Checksum(), "%x", b)
	}
	return d
}

func readHeader(t *testing.T, b []byte) (d datagram, payload []byte) {
	b = append([]byte(nil), b...)
	if b[0]>>4 == 6 {
		h, payload, err := packet.ParseIPv6(b)
		require.NoError(t, err)
		d = datagram{src: h.Src, dst: h.Dst, proto: h.Protocol, ttl: h.HopLimit, tos: h.TrafficClass, label: h.FlowLabel, options: h.Extensions, next: h.NextHeader, more: h.MoreFragments, offset: h.FragmentOffset}
		d.whole = b[:40+min(int(h.PayloadLen), len(b)-40)]
		return d, payload
	}
	h, payload, err := packet.ParseIPv4(b)
	require.NoError(t, err)
	require.Zero(t, packet.Checksum(b[:20+len(h.Options)]), "%x", b)
	d = datagram{src: h.Src, dst: h.Dst, proto: h.Protocol, ttl: h.TTL, tos: h.TOS, id: h.ID, df: h.DontFragment, more: h.MoreFragments, offset: h.FragmentOffset, options: h.Options}
	d.whole = b[:min(int(h.TotalLen), len(b))]
	return d, payload
}

func (d *datagram) readTransport(p []byte) {
	switch d.proto {
	case probe.UDP:
		if h, body, err := packet.ParseUDP(p); err == nil {
			d.sport, d.dport, d.noChecksum, d.body = h.SrcPort, h.DstPort, h.Checksum == 0, body
		}
	case probe.TCP:
		h, body, _ := packet.ParseTCP(p)
		d.sport, d.dport, d.seq, d.ack, d.flags, d.body = h.SrcPort, h.DstPort, h.Seq, h.Ack, h.Flags, body
	case probe.ICMP, probe.ICMPv6:
		if h, body, err := packet.ParseICMP(p); err == nil {
			d.icmp, d.code, d.sport, d.dport, d.body = h.Type, h.Code, h.ID(), h.Seq(), body
		}
	default:
		d.raw = p
	}
}

// isError returns the ICMP error that d is.
func (d datagram) isError(t *testing.T) packet.ICMPError {
	t.Helper()
	msg := d.whole[len(d.whole)-8-len(d.body):]
	parse := packet.ParseICMPv4Error
	if d.v6() {
		parse = packet.ParseICMPv6Error
	}
	e, err := parse(msg)
	require.NoError(t, err)
	return e
}

// quoted returns the datagram that an ICMP error quotes, its checksums unread.
func (d datagram) quoted(t *testing.T) datagram {
	t.Helper()
	q := d.isError(t).Quote
	if d.v6() {
		inner, payload := readHeader(t, q)
		inner.readTransport(payload)
		return inner
	}
	h, payload, err := packet.ParseIPv4(q)
	require.NoError(t, err)
	inner := datagram{src: h.Src, dst: h.Dst, proto: h.Protocol, ttl: h.TTL, tos: h.TOS, id: h.ID, df: h.DontFragment, offset: h.FragmentOffset, more: h.MoreFragments, options: h.Options, whole: q}
	inner.readTransport(payload)
	return inner
}

// Types of ICMP errors by family, as the tables below name them.
const (
	expired     = "time exceeded"
	unreachable = "unreachable"
	tooBig      = "too big"
	problem     = "parameter problem"
)

// requireError requires an ICMP error with a code that quotes the datagram
// sent with some TTL.
func requireError(t *testing.T, got arrival, kind string, code uint8) packet.ICMPError {
	t.Helper()
	types := map[string][2]uint8{expired: {11, 3}, unreachable: {3, 1}, tooBig: {3, 2}, problem: {12, 4}}
	want := types[kind][0]
	if got.v6() {
		want = types[kind][1]
	}
	e := got.isError(t)
	require.Equal(t, []uint8{want, code}, []uint8{e.Type, e.Code}, kind)
	return e
}

// drawn returns the links of a drawing without delays.
func drawn(drawing string) (all [][2]string) {
	for line := range strings.Lines(drawing) {
		words := strings.Fields(line)
		for i := 0; i+2 < len(words); i += 2 {
			all = append(all, [2]string{words[i], words[i+2]})
		}
	}
	return all
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("not ok")
	}
	return v
}

// ownerAddr returns an address of a node's links.
func ownerAddr(l *lab, node string, v6 bool) (netip.Addr, bool) {
	for a, name := range owners(l) {
		if name == node && a.Is6() == v6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}
