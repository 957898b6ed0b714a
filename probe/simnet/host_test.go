package simnet_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// What becomes of a port by the lists that hold it.
func TestPortStates(t *testing.T) {
	lists := simnet.Ports{
		Open:     []simnet.PortRange{{First: 10, Last: 19}, {First: 100, Last: 100}},
		Closed:   []simnet.PortRange{{First: 15, Last: 29}},
		Filtered: []simnet.PortRange{{First: 25, Last: 39}},
	}
	for _, rest := range []simnet.PortState{simnet.Closed, simnet.Open, simnet.Filtered} {
		families(t, func(t *testing.T, d datagram) {
			s := path("a -- r -- h")
			lists.Rest = rest
			s.Hosts[0].UDP, s.Hosts[0].TCP = lists, lists
			simulate(t, s, func(l *lab) {
				for port, want := range map[uint16]simnet.PortState{
					9: rest, 10: simnet.Open, 15: simnet.Open, 19: simnet.Open, 20: simnet.Closed, 25: simnet.Closed,
					29: simnet.Closed, 30: simnet.Filtered, 39: simnet.Filtered, 40: rest, 100: simnet.Open, 65535: rest,
				} {
					d.dport = port
					l.send(d)
					got := l.pass(time.Second / 2)
					if want == simnet.Closed {
						require.Len(t, got, 1, port)
						requireError(t, got[0], unreachable, map[bool]uint8{false: 3, true: 4}[d.v6()])
					} else {
						require.Empty(t, got, port)
					}
					l.send(d.syn(port, uint32(port)))
					got = l.pass(time.Second / 2)
					switch want {
					case simnet.Closed:
						require.Equal(t, packet.RST|packet.ACK, got[0].flags)
						require.Equal(t, uint32(port)+1, got[0].ack)
					case simnet.Open:
						require.Equal(t, packet.SYN|packet.ACK, got[0].flags)
						require.Equal(t, uint32(port)+1, got[0].ack)
						time.Sleep(2 * time.Minute)
						l.pass(0)
					default:
						require.Empty(t, got)
					}
				}
			})
		})
	}
}

func TestService(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := path("a -- r -- h")
		var asked [][]byte
		s.Hosts[0].UDP.Rest = simnet.Filtered
		s.Hosts[0].Services = map[uint16]func([]byte) []byte{
			53: func(b []byte) []byte { asked = append(asked, bytes.Clone(b)); return append([]byte("re:"), b...) },
			54: func([]byte) []byte { return nil },
			55: func([]byte) []byte { return []byte{} },
			56: func([]byte) []byte { return make([]byte, 1<<17) },
			57: func([]byte) []byte { return make([]byte, 65507) },
		}
		simulate(t, s, func(l *lab) {
			d.dport, d.body = 53, []byte("question")
			got := l.ask(d)
			require.Equal(t, []any{d.dst, d.src, uint16(53), d.sport, "re:question"}, []any{got.src, got.dst, got.sport, got.dport, string(got.body)})
			require.Equal(t, [][]byte{[]byte("question")}, asked)

			d.dport = 55
			require.Empty(t, l.ask(d).body)
			for _, port := range []uint16{54, 56} {
				d.dport = port
				l.silent(d)
			}
			d.dport = 57
			l.send(d)
			require.Greater(t, len(l.pass(time.Second)), 40, "in pieces")
		})
	})
}

func TestEcho(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := path("a -- r -- h")
		s.Hosts = append(s.Hosts, simnet.Host{Name: "mute", NoEcho: true, Addresses: addrs("203.0.113.11", "2001:db8:fe::11")})
		s.Links = append(s.Links, simnet.Link{Draw: "r -- mute"})
		simulate(t, s, func(l *lab) {
			e := d.echo()
			e.tos, e.dport = 0x2B, 77
			for _, size := range []int{0, 1, 33} {
				e.body = make([]byte, size)
				for i := range e.body {
					e.body[i] = byte(i * 91)
				}
				got := l.ask(e)
				require.Equal(t, []any{d.dst, d.src, e.sport, e.dport, e.tos}, []any{got.src, got.dst, got.sport, got.dport, got.tos})
				require.True(t, bytes.Equal(e.body, got.body))
				require.Equal(t, map[bool]uint8{false: packet.ICMPv4EchoReply, true: packet.ICMPv6EchoReply}[d.v6()], got.icmp)
			}
			e.code = 9 // as in Linux
			require.Equal(t, uint8(9), l.ask(e).code)

			mute := addr("203.0.113.11")
			if d.v6() {
				mute = addr("2001:db8:fe::11")
			}
			l.silent(e.to(mute))
			requireError(t, l.ask(d.to(mute)), unreachable, map[bool]uint8{false: 3, true: 4}[d.v6()])
		})
	})
}

// A wrong checksum is not answered, and counted.
func TestWrongChecksum(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := path("a -- r -- h")
		s.Hosts[0].TCP.Rest = simnet.Open
		simulate(t, s, func(l *lab) {
			for i, d := range []datagram{d, d.echo(), d.syn(80, 1)} {
				b := d.bytes()
				b[len(b)-1] ^= 1
				require.NoError(t, l.Inject("a", b))
				require.Empty(t, l.pass(time.Second))
				require.Equal(t, uint64(i+1), l.Stats().Dropped[simnet.DropMalformed])
			}
			// UDP without one is good enough for IPv4 (RFC 8200 section 8.1).
			d.noChecksum = true
			if d.v6() {
				l.silent(d)
			} else {
				requireError(t, l.ask(d), unreachable, 3)
			}
			// Lengths that cannot be.
			for _, length := range []uint16{0, 7, uint16(8 + len(d.body) + 1)} {
				d.raw = d.bytes()[header(d):]
				binary.BigEndian.PutUint16(d.raw[4:], length)
				l.silent(d)
				d.raw = nil
			}
		})
	})
}

// A protocol that hosts do not speak is refused.
func TestUnknownProtocol(t *testing.T) {
	for _, where := range []string{"host", "router"} {
		families(t, func(t *testing.T, d datagram) {
			simulate(t, path("a -- r -- h"), func(l *lab) {
				if where == "router" {
					d = d.to(must(ownerAddr(l, "r", d.v6())))
				}
				d.proto, d.raw = 47, []byte("GRE")
				got := l.ask(d)
				require.Equal(t, d.dst, got.src)
				if !d.v6() {
					requireError(t, got, unreachable, 2)
					d.proto = probe.ICMPv6
					requireError(t, l.ask(d), unreachable, 2)
					return
				}
				require.Equal(t, uint32(6), requireError(t, got, problem, 1).Pointer)
				d.next = packet.DestinationOptions
				d.options, _ = packet.AppendOptions(nil, 47, nil)
				require.Equal(t, uint32(40), requireError(t, l.ask(d), problem, 1).Pointer)
				d.next = packet.Fragment // a datagram in one piece, RFC 6946
				d.options, _ = packet.AppendFragment(nil, 47, 0, false, 1)
				require.Equal(t, uint32(40), requireError(t, l.ask(d), problem, 1).Pointer)
				d.options, _ = packet.AppendFragment(nil, packet.DestinationOptions, 0, false, 1)
				more, err := packet.AppendOptions(nil, 47, nil)
				require.NoError(t, err)
				d.options = append(d.options, more...)
				require.Equal(t, uint32(48), requireError(t, l.ask(d), problem, 1).Pointer)
				d.options = nil
				d.proto = 59 // no next header
				l.silent(d)
				d.proto = probe.ICMP
				requireError(t, l.ask(d), problem, 1)
			})
		})
	}
}

// All addresses of a host answer, those of its links and of blocks too.
func TestHostAddresses(t *testing.T) {
	s := path("a -- r -- h")
	s.Hosts[0].Prefixes = prefixes("198.51.100.0/24", "2001:db8:77::/48")
	simulate(t, s, func(l *lab) {
		for _, a := range []string{"203.0.113.10", "198.18.1.2", "198.51.100.0", "198.51.100.255", "2001:db8:fe::10", "2001:db8:1::2", "2001:db8:77::", "2001:db8:77:ffff::1"} {
			d := udp4.to(addr(a))
			if addr(a).Is6() {
				d = udp6.to(addr(a))
			}
			require.Equal(t, addr(a), l.ask(d.echo()).src)
		}
		requireError(t, l.ask(udp4.to(addr("198.51.101.1"))), unreachable, 0)
		requireError(t, l.ask(udp6.to(addr("2001:db8:78::1"))), unreachable, 0)
	})
}

// Services that answer each other, or themselves, come to an end.
func TestStorm(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := path("a -- r -- h")
		services := map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return bytes.Clone(b) }}
		s.Hosts[0].Services, s.Sites[0].Services = services, services
		simulate(t, s, func(l *lab) {
			d.sport, d.dport = 7, 7
			l.send(d)
			got := l.pass(time.Second)
			require.NotEmpty(t, got)
			require.Less(t, len(got), 1000)
			require.NoError(t, l.Inject("h", d.from(d.dst).bytes()))
			require.Empty(t, l.pass(time.Second))
		})
	})
}
