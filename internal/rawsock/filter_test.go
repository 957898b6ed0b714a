package rawsock_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"bitbucket.org/uwpatio/voltadomar/internal/rawsock"
)

var (
	site4, target4, router4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("198.18.0.2")
	site6, target6, router6 = netip.MustParseAddr("2001:db8:ff::1"), netip.MustParseAddr("2001:db8:fe::10"), netip.MustParseAddr("2001:db8::2")
)

// machine runs a filter.
type machine struct{ vm *bpf.VM }

func newMachine(t testing.TB, ipv6 bool) machine {
	ins, err := rawsock.Filter(ipv6)
	require.NoError(t, err)
	return load(t, ins)
}

func load(t testing.TB, ins []bpf.Instruction) machine {
	vm, err := bpf.NewVM(ins)
	require.NoError(t, err)
	return machine{vm}
}

func (m machine) passes(t testing.TB, d []byte) bool {
	n, err := m.vm.Run(d)
	require.NoError(t, err)
	return n > 0
}

// with returns d changed by f.
func with(d []byte, f func([]byte)) []byte {
	d = append([]byte(nil), d...)
	f(d)
	return d
}

// ipOptions puts n words of options into an IPv4 datagram.
func ipOptions(d []byte, n int) []byte {
	out := append([]byte(nil), d[:20]...)
	out[0] = 0x40 | uint8(5+n)
	out = append(out, make([]byte, 4*n)...)
	return append(out, d[20:]...)
}

// extended puts an extension header before the payload of an IPv6 datagram.
func extended(d []byte, kind uint8, header []byte) []byte {
	out := append([]byte(nil), d[:40]...)
	out = append(out, header...)
	out[40], out[6] = d[6], kind
	return append(out, d[40:]...)
}

func TestFilterIPv4(t *testing.T) {
	m := newMachine(t, false)
	in := func(proto uint8, payload []byte) []byte { return ip(router4, site4, proto, 60, 7, payload) }
	out := func(proto uint8, payload []byte) []byte { return ip(site4, target4, proto, 1, 0x1234, payload) }
	exceeded := func(quote []byte) []byte { return in(protoICMP, icmpError(11, quote)) }

	quotedUDP := out(protoUDP, udp(61440, 33434, 32))
	quotedTCP := out(protoTCP, tcp(61695, 443, flagSYN))
	quotedEcho := out(protoICMP, echo(8, 61500, 1))
	classic := ip(site4, target4, protoUDP, 1, 10001, udp(10001, 33434, 32))

	tests := []struct {
		name string
		d    []byte
		want bool
	}{
		{"time exceeded quoting UDP", exceeded(quotedUDP), true},
		{"time exceeded quoting TCP", exceeded(quotedTCP), true},
		{"time exceeded quoting echo", exceeded(quotedEcho), true},
		{"time exceeded quoting classic UDP", exceeded(classic), true},
		{"unreachable", in(protoICMP, icmpError(3, quotedUDP)), true},
		{"parameter problem", in(protoICMP, icmpError(12, quotedUDP)), true},
		{"the least quote", exceeded(quotedUDP[:28]), true},
		{"outer options", ipOptions(exceeded(quotedUDP), 10), true},
		{"quoted options", exceeded(ipOptions(quotedUDP, 3)), true},
		{"both options", ipOptions(exceeded(ipOptions(quotedTCP, 10)), 10), true},
		{"a first fragment", with(exceeded(quotedUDP), func(d []byte) { d[6] = 0x20 }), true},
		{"don't fragment", with(exceeded(quotedUDP), func(d []byte) { d[6] = 0x40 }), true},
		{"echo reply", in(protoICMP, echo(0, 61440, 1)), true},
		{"SYN-ACK", in(protoTCP, tcp(443, 61440, flagSYN|flagACK)), true},
		{"RST-ACK", in(protoTCP, tcp(443, 61695, flagRST|flagACK)), true},
		{"UDP answer", in(protoUDP, udp(33434, 61441, 4)), true},

		{"nothing", nil, false},
		{"a later fragment", with(exceeded(quotedUDP), func(d []byte) { d[7] = 1 }), false},
		{"a later fragment quoted", exceeded(with(quotedUDP, func(d []byte) { d[6] = 0x01 })), false},
		{"quote without ports", exceeded(quotedUDP[:21]), false},
		{"quote without header", exceeded(quotedUDP[:8]), false},
		{"no quote", in(protoICMP, icmpError(11, nil)), false},
		{"truncated outer header", exceeded(quotedUDP)[:19], false},
		{"quote of IPv6", exceeded(with(quotedUDP, func(d []byte) { d[0] = 0x65 })), false},
		{"IPv6", with(exceeded(quotedUDP), func(d []byte) { d[0] = 0x65 }), false},
		{"quoted UDP of a port above", exceeded(out(protoUDP, udp(61696, 33434, 0))), false},
		{"quoted UDP of a port below", exceeded(out(protoUDP, udp(61439, 33434, 0))), false},
		{"quoted UDP to a flow's port", exceeded(out(protoUDP, udp(53, 61440, 0))), false},
		{"quoted TCP of another port", exceeded(out(protoTCP, tcp(50000, 443, flagSYN))), false},
		{"quoted TCP whose port is its identification", exceeded(ip(site4, target4, protoTCP, 1, 10001, tcp(10001, 443, flagSYN))), false},
		{"quoted echo of another identifier", exceeded(out(protoICMP, echo(8, 1000, 1))), false},
		{"quoted echo reply", exceeded(out(protoICMP, echo(0, 61500, 1))), false},
		{"quoted GRE", exceeded(out(47, udp(61440, 33434, 0))), false},
		{"redirect", in(protoICMP, icmpError(5, quotedUDP)), false},
		{"source quench", in(protoICMP, icmpError(4, quotedUDP)), false},
		{"echo request", in(protoICMP, echo(8, 61440, 1)), false},
		{"echo reply to a ping", in(protoICMP, echo(0, 1234, 1)), false},
		{"SYN", in(protoTCP, tcp(443, 61440, flagSYN)), false},
		{"RST alone", in(protoTCP, tcp(443, 61440, flagRST)), false},
		{"ACK alone", in(protoTCP, tcp(443, 61440, flagACK)), false},
		{"SYN-ACK to another port", in(protoTCP, tcp(61440, 50000, flagSYN|flagACK)), false},
		{"UDP to another port", in(protoUDP, udp(61440, 53, 4)), false},
		{"GRE", in(47, udp(61440, 61440, 4)), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, m.passes(t, test.d)) })
	}
}

func TestFilterIPv6(t *testing.T) {
	m := newMachine(t, true)
	in := func(proto uint8, payload []byte) []byte { return ip(router6, site6, proto, 60, 0, payload) }
	out := func(proto uint8, payload []byte) []byte { return ip(site6, target6, proto, 1, 0x1234, payload) }
	exceeded := func(quote []byte) []byte { return in(protoICMPv6, icmpError(3, quote)) }

	quotedUDP := out(protoUDP, udp(61440, 33434, 32))
	quotedTCP := out(protoTCP, tcp(61695, 443, flagSYN))
	quotedEcho := out(protoICMPv6, echo(128, 61500, 1))
	options8 := make([]byte, 8)
	options24 := append([]byte{0, 2}, make([]byte, 22)...)
	laterFragment := []byte{0, 0, 0x10, 0x01, 0, 0, 0, 1}
	firstFragment := []byte{0, 0, 0x00, 0x01, 0, 0, 0, 1}

	tests := []struct {
		name string
		d    []byte
		want bool
	}{
		{"time exceeded quoting UDP", exceeded(quotedUDP), true},
		{"time exceeded quoting TCP", exceeded(quotedTCP), true},
		{"time exceeded quoting echo", exceeded(quotedEcho), true},
		{"time exceeded quoting classic UDP", exceeded(ip(site6, target6, protoUDP, 1, 10001, udp(10001, 33434, 32))), true},
		{"unreachable", in(protoICMPv6, icmpError(1, quotedUDP)), true},
		{"packet too big", in(protoICMPv6, icmpError(2, quotedUDP)), true},
		{"parameter problem", in(protoICMPv6, icmpError(4, quotedUDP)), true},
		{"the least quote", exceeded(quotedUDP[:48]), true},
		{"hop-by-hop outside", extended(exceeded(quotedUDP), 0, options8), true},
		{"long destination options outside", extended(exceeded(quotedUDP), 60, options24), true},
		{"first fragment outside", extended(exceeded(quotedUDP), 44, firstFragment), true},
		{"hop-by-hop quoted", exceeded(extended(quotedUDP, 0, options24)), true},
		{"destination options quoted", exceeded(extended(quotedTCP, 60, options8)), true},
		{"first fragment quoted", exceeded(extended(quotedEcho, 44, firstFragment)), true},
		{"extensions on both", extended(exceeded(extended(quotedUDP, 60, options24)), 0, options24), true},
		{"echo reply", in(protoICMPv6, echo(129, 61440, 1)), true},
		{"SYN-ACK", in(protoTCP, tcp(443, 61440, flagSYN|flagACK)), true},
		{"RST-ACK", in(protoTCP, tcp(443, 61695, flagRST|flagACK)), true},
		{"UDP answer", in(protoUDP, udp(33434, 61441, 4)), true},

		{"nothing", nil, false},
		{"later fragment outside", extended(exceeded(quotedUDP), 44, laterFragment), false},
		{"later fragment quoted", exceeded(extended(quotedUDP, 44, laterFragment)), false},
		{"options beyond the end", extended(exceeded(quotedUDP), 0, []byte{0, 255, 0, 0, 0, 0, 0, 0}), false},
		{"quoted options beyond the end", exceeded(extended(quotedUDP, 0, []byte{0, 255, 0, 0, 0, 0, 0, 0})), false},
		{"quote without ports", exceeded(quotedUDP[:41]), false},
		{"no quote", in(protoICMPv6, icmpError(3, nil)), false},
		{"truncated outer header", exceeded(quotedUDP)[:39], false},
		{"quote of IPv4", exceeded(with(quotedUDP, func(d []byte) { d[0] = 0x45 })), false},
		{"IPv4", with(exceeded(quotedUDP), func(d []byte) { d[0] = 0x45 }), false},
		{"quoted UDP of another port", exceeded(out(protoUDP, udp(61696, 33434, 0))), false},
		{"quoted TCP of another port", exceeded(out(protoTCP, tcp(50000, 443, flagSYN))), false},
		{"quoted echo of another identifier", exceeded(out(protoICMPv6, echo(128, 1000, 1))), false},
		{"quoted echo reply", exceeded(out(protoICMPv6, echo(129, 61500, 1))), false},
		{"ICMPv6 type 0", in(protoICMPv6, icmpError(0, quotedUDP)), false},
		{"ICMPv6 type 5", in(protoICMPv6, icmpError(5, quotedUDP)), false},
		{"neighbour advertisement", in(protoICMPv6, echo(136, 61440, 1)), false},
		{"echo request", in(protoICMPv6, echo(128, 61440, 1)), false},
		{"echo reply to a ping", in(protoICMPv6, echo(129, 1234, 1)), false},
		{"SYN", in(protoTCP, tcp(443, 61440, flagSYN)), false},
		{"UDP to another port", in(protoUDP, udp(61440, 53, 4)), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, m.passes(t, test.d)) })
	}
}

// Every port of a flow passes and no other one does.
func TestFilterPortRange(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		m, src, dst := newMachine(t, ipv6), router4, site4
		if ipv6 {
			src, dst = router6, site6
		}
		d := ip(src, dst, protoUDP, 60, 0, udp(33434, 0, 0))
		for port := range 1 << 16 {
			binary.BigEndian.PutUint16(d[len(d)-6:], uint16(port))
			require.Equal(t, port >= 61440 && port < 61440+256, m.passes(t, d), port)
		}
	}
}

func TestFilterOut(t *testing.T) {
	ins, err := rawsock.FilterOut()
	require.NoError(t, err)
	m := load(t, ins)
	four := func(proto uint8, payload []byte) []byte { return ip(site4, target4, proto, 1, 0x1234, payload) }
	six := func(proto uint8, payload []byte) []byte { return ip(site6, target6, proto, 1, 0x1234, payload) }
	for _, test := range []struct {
		name string
		d    []byte
		want bool
	}{
		{"UDP", four(protoUDP, udp(61440, 33434, 32)), true},
		{"TCP", four(protoTCP, tcp(61695, 443, flagSYN)), true},
		{"echo", four(protoICMP, echo(8, 61500, 1)), true},
		{"classic UDP", ip(site4, target4, protoUDP, 1, 10001, udp(10001, 33434, 32)), true},
		{"options", ipOptions(four(protoUDP, udp(61440, 33434, 0)), 10), true},
		{"a first fragment", with(four(protoUDP, udp(61440, 33434, 32)), func(d []byte) { d[6] = 0x20 }), true},
		{"UDP, IPv6", six(protoUDP, udp(61440, 33434, 32)), true},
		{"TCP, IPv6", six(protoTCP, tcp(61695, 443, flagSYN)), true},
		{"echo, IPv6", six(protoICMPv6, echo(128, 61500, 1)), true},
		{"classic UDP, IPv6", ip(site6, target6, protoUDP, 1, 10001, udp(10001, 33434, 32)), true},
		{"destination options", extended(six(protoUDP, udp(61440, 33434, 32)), 60, make([]byte, 8)), true},

		{"nothing", nil, false},
		{"no header", []byte{0x45}, false},
		{"no payload", four(protoUDP, nil), false},
		{"no payload, IPv6", six(protoUDP, nil), false},
		{"another protocol's packet", with(four(protoUDP, udp(61440, 33434, 32)), func(d []byte) { d[0] = 0x85 }), false},
		{"a later fragment", with(four(protoUDP, udp(61440, 33434, 32)), func(d []byte) { d[7] = 1 }), false},
		{"UDP of another port", four(protoUDP, udp(61439, 61440, 32)), false},
		{"TCP of another port", four(protoTCP, tcp(61696, 443, flagSYN)), false},
		{"TCP whose port is its identification", ip(site4, target4, protoTCP, 1, 10001, tcp(10001, 443, flagSYN)), false},
		{"a ping", four(protoICMP, echo(8, 1000, 1)), false},
		{"an echo reply", four(protoICMP, echo(0, 61500, 1)), false},
		{"an ICMP error", four(protoICMP, icmpError(11, four(protoUDP, udp(61440, 33434, 32)))), false},
		{"GRE", four(47, udp(61440, 33434, 0)), false},
		{"UDP of another port, IPv6", six(protoUDP, udp(61439, 61440, 32)), false},
		{"a ping, IPv6", six(protoICMPv6, echo(128, 1000, 1)), false},
		{"an echo reply, IPv6", six(protoICMPv6, echo(129, 61500, 1)), false},
		{"ICMP in IPv6", six(protoICMP, echo(0, 61500, 1)), false},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, m.passes(t, test.d)) })
	}
}

// Random bytes neither fail the program nor pass in numbers.
func TestFilterRandomBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, ipv6 := range []bool{false, true} {
		m, passed := newMachine(t, ipv6), 0
		const rounds = 20000
		for range rounds {
			d := make([]byte, r.IntN(120))
			for i := range d {
				d[i] = byte(r.Uint32())
			}
			if m.passes(t, d) {
				passed++
			}
		}
		require.Less(t, passed, rounds/1000)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(ip(router4, site4, protoICMP, 60, 1, icmpError(11, ip(site4, target4, protoUDP, 1, 1, udp(61440, 33434, 0)))))
	f.Add(ip(router6, site6, protoICMPv6, 60, 1, icmpError(3, extended(ip(site6, target6, protoUDP, 1, 1, udp(61440, 33434, 0)), 60, make([]byte, 8)))))
	f.Add(ipOptions(ip(target4, site4, protoTCP, 60, 1, tcp(80, 61440, flagSYN|flagACK)), 2))
	f.Add([]byte{0x4F})
	v4, v6 := newMachine(f, false), newMachine(f, true)
	f.Fuzz(func(t *testing.T, d []byte) {
		four, six := v4.passes(t, d), v6.passes(t, d)
		if four {
			require.Equal(t, byte(4), d[0]>>4)
			require.GreaterOrEqual(t, len(d), 24)
		}
		if six {
			require.Equal(t, byte(6), d[0]>>4)
			require.GreaterOrEqual(t, len(d), 44)
		}
		// More bytes never turn away what passed.
		more := append(d[:len(d):len(d)], 0, 0, 0, 0)
		if four {
			require.True(t, v4.passes(t, more))
		}
		if six {
			require.True(t, v6.passes(t, more))
		}
	})
}
