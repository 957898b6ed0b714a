package simnet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

var nat4, nat6 = addr("198.51.100.1"), addr("2001:db8:99::1")

// home has sites a and b behind a router that translates, one family, and h
// and site w outside.
func home(v6, stale bool) *simnet.Scenario {
	s := path("a -- in -- nat -- out -- h\nb -- in\nw -- out")
	s.Sites = append(s.Sites,
		simnet.Site{Host: simnet.Host{Name: "b", Addresses: addrs("192.0.2.2", "2001:db8:ff::2")}},
		simnet.Site{Host: simnet.Host{Name: "w", Addresses: addrs("203.0.113.99", "2001:db8:fe::99")}})
	outer := nat4
	if v6 {
		outer = nat6
	}
	return router(s, simnet.Router{Name: "nat", NAT: &simnet.NAT{Address: outer, Outside: []string{"out"}, StaleQuotes: stale}})
}

// nat returns the translating address of d's family, b that of site b.
func (d datagram) nat() netip.Addr {
	if d.v6() {
		return nat6
	}
	return nat4
}

func (d datagram) b() netip.Addr {
	if d.v6() {
		return addr("2001:db8:ff::2")
	}
	return addr("192.0.2.2")
}

// toW sends a datagram to site w and returns it as it arrives there.
func (l *lab) toW(from string, d datagram) arrival {
	l.t.Helper()
	d.dst = addr("203.0.113.99")
	if d.src.Is6() {
		d.dst = addr("2001:db8:fe::99")
	}
	l.sites[from].send(d)
	got := l.sites["w"].pass(time.Second)
	require.Len(l.t, got, 1)
	l.sites[from].take()
	return got[0]
}

func TestNATRoundTrip(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := home(d.v6(), false)
		s.Hosts[0].Services = map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return bytes.Clone(b) }}
		s.Hosts[0].TCP.Open = []simnet.PortRange{{First: 80, Last: 80}}
		simulate(t, s, func(l *lab) {
			d.dport = 7
			got := l.ask(d)
			require.Equal(t, []any{d.dst, d.src, d.sport, d.body}, []any{got.src, got.dst, got.dport, got.body})

			got = l.ask(d.echo())
			require.Equal(t, []any{d.dst, d.src, d.sport, d.body}, []any{got.src, got.dst, got.sport, got.body})

			d.sport++ // so that the echo's mapping is another one
			got = l.ask(d.syn(80, 5))
			require.Equal(t, packet.SYN|packet.ACK, got.flags)
			require.Equal(t, []any{d.dst, d.src, d.sport, uint32(6)}, []any{got.src, got.dst, got.dport, got.ack})

			// What w sees.
			seen := l.toW("a", d)
			require.Equal(t, []any{d.nat(), d.sport, d.body}, []any{seen.src, seen.sport, seen.body})
			seen = l.toW("a", d.echo())
			require.Equal(t, []any{d.nat(), d.sport, d.body}, []any{seen.src, seen.sport, seen.body})
			seen = l.toW("a", d.syn(99, 5))
			require.Equal(t, []any{d.nat(), d.sport, uint32(5)}, []any{seen.src, seen.sport, seen.seq})
			// A protocol without ports is translated as well.
			other := d
			other.proto, other.raw = 47, []byte("GRE header, and more")
			seen = l.toW("a", other)
			require.Equal(t, []any{d.nat(), other.raw}, []any{seen.src, seen.raw})
		})
	})
}

// Errors about what left come back with the quote that the inside knows.
func TestNATErrors(t *testing.T) {
	for _, stale := range []bool{false, true} {
		families(t, func(t *testing.T, d datagram) {
			simulate(t, home(d.v6(), stale), func(l *lab) {
				// Two hosts with one port: the second gets another one outside.
				b := d.from(d.b())
				l.sites["b"].send(b, b.syn(99, 7), b.echo())
				l.sites["b"].pass(time.Second)
				for name, sent := range map[string]datagram{"udp": d, "tcp": d.syn(99, 7), "echo": d.echo()} {
					for ttl := uint8(1); ttl <= 3; ttl++ {
						got := l.ask(sent.hops(ttl))
						requireError(t, got, expired, 0)
						require.Equal(t, sent.src, got.dst)
						want := sent.hops(1).bytes()
						if stale && ttl == 3 {
							at := header(d) + map[string]int{"udp": 6, "tcp": 16, "echo": 2}[name]
							require.NotEqual(t, want[at:at+2], got.quoted(t).whole[at:at+2], name)
							copy(want[at:], got.quoted(t).whole[at:at+2])
						}
						require.Equal(t, want, got.quoted(t).whole, "%s with TTL %d", name, ttl)
					}
				}
				got := l.ask(d)
				requireError(t, got, unreachable, map[bool]uint8{false: 3, true: 4}[d.v6()])
				require.Equal(t, d.sport, got.quoted(t).sport)
			})
		})
	}
}

func header(d datagram) int {
	if d.v6() {
		return 40
	}
	return 20
}

// A datagram without checksum stays one.
func TestNATNoChecksum(t *testing.T) {
	simulate(t, home(false, false), func(l *lab) {
		d := udp4
		d.noChecksum = true
		seen := l.toW("a", d)
		require.Equal(t, []any{nat4, true, d.body}, []any{seen.src, seen.noChecksum, seen.body})
	})
}

// A checksum that becomes 0 is sent as 0xFFFF (RFC 768).
func TestNATChecksumZero(t *testing.T) {
	d := udp4.to(addr("203.0.113.99"))
	for x := range 1 << 16 {
		binary.BigEndian.PutUint16(d.body, uint16(x))
		if out := d.from(nat4).bytes(); binary.BigEndian.Uint16(out[26:]) == 0xFFFF {
			break
		}
	}
	simulate(t, home(false, false), func(l *lab) {
		seen := l.toW("a", d)
		require.Equal(t, []byte{0xFF, 0xFF}, seen.whole[26:28])
	})
}

// A translator inside a tunnel takes what it translates out of it.
func TestNATInTunnel(t *testing.T) {
	s := home(false, false)
	s.Links[0].Draw = "a -- in -- nat -- out -- h\nb -- in\nw -- edge -- out\nnat -- side"
	s.Tunnels = []simnet.Tunnel{{Draw: "edge -- out -- nat -- side", Labels: []uint32{1, 2}}}
	simulate(t, s, func(l *lab) {
		l.send(udp4.to(addr("203.0.113.99")))
		require.Len(t, l.sites["w"].pass(time.Second), 1)
		got := l.pass(0)
		require.Len(t, got, 1, "the answer, through the tunnel")
		require.Equal(t, uint8(60), got[0].ttl, "over edge, out, nat and in")
	})
}

// Ports are kept where they are free; flows of two hosts never share one.
func TestNATPorts(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		for _, kind := range []func(datagram) datagram{
			func(d datagram) datagram { return d },
			func(d datagram) datagram { return d.syn(99, 1) },
			datagram.echo,
		} {
			simulate(t, home(d.v6(), false), func(l *lab) {
				require.Equal(t, d.sport, l.toW("a", kind(d)).sport)
				other := l.toW("b", kind(d.from(d.b()))).sport
				require.NotEqual(t, d.sport, other)
				require.GreaterOrEqual(t, other, uint16(1024))
				require.Equal(t, d.sport, l.toW("a", kind(d)).sport, "as before")
				require.Equal(t, other, l.toW("b", kind(d.from(d.b()))).sport, "as before")

				// Other destinations share the mapping.
				sent := kind(d.from(d.b()))
				l.sites["b"].send(sent)
				got := l.sites["b"].pass(time.Second)
				require.Len(t, got, 1)
				require.Equal(t, d.b(), got[0].dst)

				// After two idle minutes the port is anybody's.
				time.Sleep(2 * time.Minute)
				require.Equal(t, other, l.toW("a", kind(func() datagram { d := d; d.sport = other; return d }())).sport)
			})
		}
	})
}

// The outside reaches only what has sent something.
func TestNATUnasked(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		simulate(t, home(d.v6(), false), func(l *lab) {
			w := l.sites["w"]
			ask := func() []arrival {
				in := d.from(addr("203.0.113.99")).to(d.nat())
				if d.v6() {
					in.src = addr("2001:db8:fe::99")
				}
				in.sport, in.dport = 99, d.sport
				w.send(in)
				return w.pass(time.Second)
			}
			got := ask()
			require.Len(t, got, 1, "the router itself answers")
			require.Equal(t, d.nat(), got[0].src)

			l.toW("a", d)
			got = ask()
			require.Len(t, l.sites["a"].take(), 1)
			// The site's own answer, port unreachable, shows nothing of the
			// inside.
			require.Len(t, got, 1)
			requireError(t, got[0], unreachable, map[bool]uint8{false: 3, true: 4}[d.v6()])
			require.Equal(t, d.nat(), got[0].src)
			require.Equal(t, []any{d.nat(), d.sport}, []any{got[0].quoted(t).dst, got[0].quoted(t).dport})

			time.Sleep(2 * time.Minute)
			got = ask()
			require.Empty(t, l.sites["a"].take(), "forgotten")
			require.Len(t, got, 1)
		})
	})
}

// Errors about what came in show nothing of the inside either: neither those
// of the translating router nor of one behind it.
func TestNATInboundErrors(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		simulate(t, home(d.v6(), false), func(l *lab) {
			l.sites["b"].send(d.from(d.b()))
			l.sites["b"].pass(time.Second)
			seen := l.toW("a", d)
			require.NotEqual(t, d.sport, seen.sport)
			w := l.sites["w"]
			for ttl, from := range map[uint8]string{2: "nat", 3: "in"} {
				in := d.from(seen.dst).to(seen.src).hops(ttl)
				in.sport, in.dport = 99, seen.sport
				w.send(in)
				got := w.pass(time.Second)
				require.Len(t, got, 1)
				requireError(t, got[0], expired, 0)
				require.Equal(t, in.hops(1).bytes(), got[0].quoted(t).whole, from)
				if from == "nat" {
					require.Equal(t, "nat", owners(l)[got[0].src])
				} else {
					require.Equal(t, d.nat(), got[0].src)
				}
			}
		})
	})
}

// Fragments are translated too, both ways.
func TestNATFragments(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		simulate(t, home(d.v6(), false), func(l *lab) {
			d := d.echo()
			d.body = bytes.Repeat([]byte("abcdef"), 32)
			for range 2 {
				l.send(cut(d, 80)...)
				got := l.pass(time.Second)
				require.Len(t, got, 1)
				require.Equal(t, d.body, got[0].body)
				// A second time with another identifier, the first being b's.
				d.sport++
				l.sites["b"].send(d.from(d.b()))
				l.sites["b"].pass(time.Second)
				d.id++
			}
			// Back in pieces.
			seen := l.toW("a", d)
			back := seen.datagram
			back.src, back.dst, back.ttl = seen.dst, seen.src, 64
			back.icmp = map[bool]uint8{false: packet.ICMPv4EchoReply, true: packet.ICMPv6EchoReply}[d.v6()]
			l.sites["w"].send(cut(back, 80)...)
			pieces := l.pass(time.Second)
			require.Len(t, pieces, 3)
			var all []byte
			for _, p := range pieces {
				require.Equal(t, d.src, p.dst)
				all = append(all, p.raw...)
			}
			require.Equal(t, d.body, all[8:])
			require.Equal(t, d.sport, binary.BigEndian.Uint16(all[4:]))
			sum := packet.PseudoHeader(seen.dst, d.src, d.proto, len(all))
			if d.proto == probe.ICMP {
				sum = 0
			}
			require.Zero(t, sum.Add(all).Checksum())
		})
	})
}

// When all ports are taken, what would need another is dropped; it costs little
// to find out, and ends when a mapping does.
func TestNATFull(t *testing.T) {
	simulate(t, home(false, false), func(l *lab) {
		d := udp4.to(addr("203.0.113.99"))
		for i := range 1 << 16 {
			d.sport = uint16(i)
			require.NoError(t, l.Inject("a", d.bytes()))
		}
		time.Sleep(time.Second)
		d.src = addr("192.0.2.2")
		for i := range 1000 {
			d.sport = uint16(i)
			require.NoError(t, l.Inject("b", d.bytes()))
		}
		time.Sleep(time.Second)
		require.Equal(t, uint64(1000), l.Stats().Dropped[simnet.DropNATFull])
		l.sites["w"].take()
		l.toW("b", udp4.from(addr("192.0.2.2")).echo()) // another protocol
		time.Sleep(2 * time.Minute)
		l.toW("b", udp4.from(addr("192.0.2.2")))
		require.Equal(t, uint64(1000), l.Stats().Dropped[simnet.DropNATFull])
	})
}

// What crosses between neighbours outside, and what is of the other family,
// stays as it is.
func TestNATPasses(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := home(!d.v6(), false)
		simulate(t, s, func(l *lab) {
			require.Equal(t, d.src, l.toW("a", d).src)
		})
		s = home(d.v6(), false)
		s.Routers[0].NAT.Outside = []string{"out", "in"}
		simulate(t, s, func(l *lab) {
			require.Equal(t, d.src, l.toW("a", d).src)
		})
	})
}
