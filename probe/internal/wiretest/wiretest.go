// Package wiretest crafts, for the tests of the probers, the datagrams that
// answer a probe.
package wiretest

import (
	"embed"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// Addresses of the probes and of those who answer.
var (
	Src4    = netip.MustParseAddr("192.0.2.1")
	Dst4    = netip.MustParseAddr("198.51.100.7")
	Router4 = netip.MustParseAddr("203.0.113.5")
	Src6    = netip.MustParseAddr("2001:db8:ff::1")
	Dst6    = netip.MustParseAddr("2001:db8:1::7")
	Router6 = netip.MustParseAddr("2001:db8:2::5")
)

// Key made the tags of the probes, Other those of another measurement.
var (
	Key   = probe.Key{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	Other = probe.Key{16, 15, 14}
)

// Probe returns a probe to fill in further.
func Probe(v6 bool) *probe.Probe {
	p := &probe.Probe{ID: 0x3039, Key: Key, Src: Src4, Dst: Dst4, DstPort: 33434, TTL: 7, TOS: 0x02}
	if v6 {
		p.Src, p.Dst = Src6, Dst6
	}
	return p
}

// Build builds p.
func Build(t testing.TB, pr probe.Prober, p *probe.Probe) []byte {
	t.Helper()
	b, err := pr.Build(nil, p)
	require.NoError(t, err)
	return b
}

// Router returns who answers, in the family of p.
func Router(p *probe.Probe) netip.Addr {
	if p.Dst.Is6() {
		return Router6
	}
	return Router4
}

// Error returns the datagram in which a router reports e to the source of p.
func Error(t testing.TB, p *probe.Probe, e packet.ICMPError) []byte {
	t.Helper()
	var msg []byte
	var err error
	if p.Dst.Is6() {
		msg, err = packet.AppendICMPv6Error(nil, e, Router6, p.Src)
	} else {
		msg, err = packet.AppendICMPv4Error(nil, e)
	}
	require.NoError(t, err)
	protocol := probe.ICMP
	if p.Dst.Is6() {
		protocol = probe.ICMPv6
	}
	return Wrap(t, Router(p), p.Src, protocol, msg)
}

// TimeExceeded returns the datagram in which a router reports that p, of which
// it quotes quote, ran out of hops; ext is the extension structure, or nil.
func TimeExceeded(t testing.TB, p *probe.Probe, quote, ext []byte) []byte {
	t.Helper()
	typ := packet.ICMPv4TimeExceeded
	if p.Dst.Is6() {
		typ = packet.ICMPv6TimeExceeded
	}
	return Error(t, p, packet.ICMPError{Type: typ, Quote: quote, Extension: ext})
}

// Wrap returns a datagram with TTL 61.
func Wrap(t testing.TB, src, dst netip.Addr, protocol uint8, payload []byte) []byte {
	t.Helper()
	var b []byte
	var err error
	if src.Is6() {
		h := packet.IPv6{HopLimit: 61, Protocol: protocol, Src: src, Dst: dst}
		b, err = h.Append(nil, len(payload))
	} else {
		h := packet.IPv4{TTL: 61, Protocol: protocol, Src: src, Dst: dst, ID: 99}
		b, err = h.Append(nil, len(payload))
	}
	require.NoError(t, err)
	return append(b, payload...)
}

// Labels is a label stack, and LabelsExtension the extension that carries it.
var Labels = []probe.Label{{Label: 16004, TC: 3, TTL: 1}, {Label: 0xFFFFF, Bottom: true, TTL: 255}}

// LabelsExtension returns an extension structure that carries [Labels] after
// an object of interface information.
func LabelsExtension(t testing.TB) []byte {
	t.Helper()
	info := packet.InterfaceInfo{HasIndex: true, Index: 3, Name: []byte("eth0")}
	payload, ctype, err := info.Append(nil)
	require.NoError(t, err)
	var stack []byte
	for _, l := range Labels {
		stack = packet.MPLSLabel(l).Append(stack)
	}
	ext, err := packet.AppendExtension(nil,
		packet.Object{Class: packet.ClassInterfaceInfo, CType: ctype, Payload: payload},
		packet.Object{Class: packet.ClassMPLS, CType: 1, Payload: stack})
	require.NoError(t, err)
	return ext
}

// WithIPv4Options returns a quote with four bytes of options in its header.
func WithIPv4Options(t testing.TB, datagram []byte) []byte {
	t.Helper()
	h, payload, err := packet.ParseIPv4(datagram)
	require.NoError(t, err)
	h.Options = []byte{148, 4, 0, 0} // router alert
	b, err := h.Append(nil, len(payload))
	require.NoError(t, err)
	return append(b, payload...)
}

// WithExtensionHeaders returns a quote with a hop-by-hop and a fragment header
// before the transport header.
func WithExtensionHeaders(t testing.TB, datagram []byte) []byte {
	t.Helper()
	h, payload, err := packet.ParseIPv6(datagram)
	require.NoError(t, err)
	ext, err := packet.AppendOptions(nil, packet.Fragment, []byte{5, 2, 0, 0})
	require.NoError(t, err)
	ext, err = packet.AppendFragment(ext, h.Protocol, 0, true, 77)
	require.NoError(t, err)
	h.Extensions, h.NextHeader = ext, packet.HopByHop
	b, err := h.Append(nil, len(payload))
	require.NoError(t, err)
	return append(b, payload...)
}

// SetID returns a copy of an IPv4 datagram with another identification.
func SetID(datagram []byte, id uint16) []byte {
	b := append([]byte(nil), datagram...)
	binary.BigEndian.PutUint16(b[4:], id)
	return b
}

// SetWord returns a copy of a datagram with another 16-bit word at offset at.
func SetWord(datagram []byte, at int, v uint16) []byte {
	b := append([]byte(nil), datagram...)
	binary.BigEndian.PutUint16(b[at:], v)
	return b
}

// Word returns the 16-bit word of a datagram at offset at.
func Word(datagram []byte, at int) uint16 { return binary.BigEndian.Uint16(datagram[at:]) }

// HeaderLen returns the length of the IP header of a probe.
func HeaderLen(v6 bool) int {
	if v6 {
		return packet.IPv6HeaderLen
	}
	return packet.IPv4HeaderLen
}

// RequireChecksums checks the checksums of IP and transport header of a probe,
// word by word and without the code under test.
func RequireChecksums(t testing.TB, datagram []byte, protocol uint8) {
	t.Helper()
	var pseudo, segment []byte
	if datagram[0]>>4 == 4 {
		require.Equal(t, uint16(0xFFFF), naiveSum(datagram[:20]), "IPv4 header checksum")
		require.Equal(t, len(datagram), int(Word(datagram, 2)), "total length")
		segment = datagram[20:]
		pseudo = append(append([]byte{}, datagram[12:20]...), 0, protocol, uint8(len(segment)>>8), uint8(len(segment)))
		if protocol == probe.ICMP {
			pseudo = nil
		}
	} else {
		require.Equal(t, len(datagram), 40+int(Word(datagram, 4)), "payload length")
		segment = datagram[40:]
		pseudo = append(append([]byte{}, datagram[8:40]...), 0, 0, uint8(len(segment)>>8), uint8(len(segment)), 0, 0, 0, protocol)
	}
	require.Equal(t, uint16(0xFFFF), naiveSum(append(pseudo, segment...)), "transport checksum")
	if protocol == probe.UDP {
		require.NotZero(t, Word(segment, 6), "UDP checksum 0 means none")
		require.Equal(t, len(segment), int(Word(segment, 4)), "UDP length")
	}
}

func naiveSum(b []byte) uint16 {
	var s uint32
	for i, v := range b {
		if i%2 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
		if s > 0xFFFF {
			s -= 0xFFFF
		}
	}
	return uint16(s)
}

//go:embed kernel/*.hex
var kernel embed.FS

// Kernel returns one of the datagrams in kernel/, which Linux 6.18 sent in
// answer to probes with [Key] between [Src4] and [Dst4], or [Src6] and [Dst6],
// through a router with an MTU of 1300 bytes behind it. They were captured on
// a veth, with the checksums of TCP and UDP answers left to offloading.
func Kernel(t testing.TB, name string) []byte {
	t.Helper()
	text, err := kernel.ReadFile("kernel/" + name + ".hex")
	require.NoError(t, err)
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	require.NoError(t, err)
	return b
}

// Captured is one datagram of [Kernel] and what it answers.
type Captured struct {
	Name      string // after the family
	Prober    string
	ID        uint16
	Kind      probe.Kind
	QuotedTTL uint8 // 0 where the answer is direct
	TagBits   uint8
	MTU       uint32
	V6Only    bool
}

// AllCaptured lists the datagrams of [Kernel]. All but those that are V6Only
// there are of both families, ipv4-Name and ipv6-Name.
var AllCaptured = []Captured{
	{Name: "udp-time-exceeded", Prober: "udp", ID: 12346, Kind: probe.TimeExceeded, QuotedTTL: 1, TagBits: 64},
	{Name: "udp-port-unreachable", Prober: "udp", ID: 12347, Kind: probe.Unreachable, QuotedTTL: 8, TagBits: 64},
	{Name: "icmp-time-exceeded", Prober: "icmp", ID: 12348, Kind: probe.TimeExceeded, QuotedTTL: 1, TagBits: 64},
	{Name: "icmp-echo-reply", Prober: "icmp", ID: 12349, Kind: probe.EchoReply, TagBits: 64},
	{Name: "tcp-time-exceeded", Prober: "tcp", ID: 12350, Kind: probe.TimeExceeded, QuotedTTL: 1, TagBits: 16},
	{Name: "tcp-reset", Prober: "tcp", ID: 12351, Kind: probe.Reset, TagBits: 16},
	{Name: "tcp-syn-ack", Prober: "tcp", ID: 12352, Kind: probe.SYNACK, TagBits: 16},
	{Name: "udp-reply", Prober: "udp", ID: 12353, Kind: probe.UDPReply, TagBits: 64},
	{Name: "udp-too-big", Prober: "udp", ID: 12354, Kind: probe.Unreachable, QuotedTTL: 7, TagBits: 64, MTU: 1300},
	{Name: "udp-long-time-exceeded", Prober: "udp", ID: 12355, Kind: probe.TimeExceeded, QuotedTTL: 1, TagBits: 64},
	{Name: "udp-options-time-exceeded", Prober: "udp", ID: 12356, Kind: probe.TimeExceeded, QuotedTTL: 1, TagBits: 64},
	{Name: "udp-option-problem", Prober: "udp", ID: 12358, Kind: probe.ParameterProblem, QuotedTTL: 8, TagBits: 64, V6Only: true},
}

// RequireKernel runs pr over all captured datagrams: those that answer its
// probes it must recognise in full, the others it must leave alone.
func RequireKernel(t *testing.T, pr probe.Prober) {
	for _, c := range AllCaptured {
		for _, v6 := range []bool{false, true} {
			if c.V6Only && !v6 {
				continue
			}
			name := "ipv4-" + c.Name
			if v6 {
				name = "ipv6-" + c.Name
			}
			t.Run(name, func(t *testing.T) {
				a := probe.Answer{ID: 1}
				ok := pr.Match(Kernel(t, name), &a)
				require.Equal(t, c.Prober == pr.Name(), ok)
				if !ok {
					require.Zero(t, a)
					return
				}
				p := Probe(v6)
				require.Equal(t, []any{c.ID, c.Kind, c.QuotedTTL, c.TagBits, c.MTU}, []any{a.ID, a.Kind, a.QuotedTTL, a.TagBits, a.MTU})
				require.Equal(t, []any{p.Dst, p.Src}, []any{a.Dst, a.Src})
				require.True(t, a.Verified(&Key, c.ID))
				require.False(t, a.Verified(&Other, c.ID))
				require.False(t, a.Verified(&Key, c.ID+1))
				if c.QuotedTTL == 1 || c.MTU > 0 {
					require.Equal(t, Router(p), a.From)
					require.Equal(t, uint8(64), a.TTL)
				} else {
					require.Equal(t, p.Dst, a.From)
					require.Equal(t, uint8(63), a.TTL)
				}
			})
		}
	}
}
