package simnet_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// A packet that runs out of hops is answered by the router where it does, with
// the address of the link it came in on, and quoted as it came.
func TestTimeExceeded(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		simulate(t, path("a --1ms-- r1 --2ms-- r2 --3ms-- h"), func(l *lab) {
			for i, link := range []int{0, 1} {
				began := time.Since(l.began)
				ttl := uint8(i + 1)
				sent := d.hops(ttl)
				sent.tos = 0x2E
				got := l.ask(sent)
				requireError(t, got, expired, 0)
				require.Equal(t, map[bool]netip.Addr{false: addr(fmt.Sprintf("198.18.%d.2", link)), true: addr(fmt.Sprintf("2001:db8:%d::2", link))}[d.v6()], got.src)
				require.Equal(t, []time.Duration{2 * time.Millisecond, 6 * time.Millisecond}[i], got.at-began)
				require.Equal(t, 255-uint8(i), got.ttl)
				// RFC 1812 section 4.3.2.5, but Linux keeps the low bits of the TOS.
				require.Equal(t, map[bool]uint8{false: 0xCE, true: 0}[d.v6()], got.tos)

				sent.ttl = 1
				require.Equal(t, sent.bytes(), got.quoted(t).whole)
			}
			requireError(t, l.ask(d.hops(3)), unreachable, map[bool]uint8{false: 3, true: 4}[d.v6()])
			require.Equal(t, uint64(2), l.Stats().Dropped[simnet.DropTTL])
		})
	})
}

// Nobody answers an ICMP error, or what came from or goes to many.
func TestNoErrorAbout(t *testing.T) {
	for name, d := range map[string]datagram{
		"error":              func() datagram { d := echo4; d.icmp = 3; return d }(),
		"ICMPv6 error":       func() datagram { d := udp6.echo(); d.icmp = 1; return d }(),
		"empty ICMP":         func() datagram { d := echo4; d.raw = []byte{}; return d }(),
		"unspecified source": udp4.from(netip.IPv4Unspecified()),
		"multicast source":   udp4.from(addr("224.0.0.1")),
		"loopback source":    udp4.from(addr("127.0.0.1")),
		"multicast":          udp4.to(addr("224.0.0.1")),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, path("a -- r -- h"), func(l *lab) {
				before := l.Stats().Sent
				l.silent(d.hops(1))
				require.Equal(t, before+1, l.Stats().Sent)
			})
		})
	}
}

func TestSilent(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := router(path("a -- r1 -- r2 -- h"), simnet.Router{
			Name: "r1", Stack: simnet.Stack{Silent: true},
			Filters: []simnet.Rule{{Protocol: simnet.ProtocolTCP, Action: simnet.ActionReset}},
		})
		s.Changes = []simnet.Change{{At: time.Minute, Speak: "r1"}, {At: 2 * time.Minute, Silence: "h"}}
		simulate(t, s, func(l *lab) {
			own := map[bool]netip.Addr{false: addr("198.18.0.2"), true: addr("2001:db8::2")}[d.v6()]
			l.silent(d.hops(1))
			l.silent(d.to(own).echo())
			l.silent(d.syn(80, 1))
			requireError(t, l.ask(d.hops(2)), expired, 0)
			time.Sleep(time.Minute)
			requireError(t, l.ask(d.hops(1)), expired, 0)
			require.Equal(t, own, l.ask(d.to(own).echo()).src)
			require.Equal(t, d.dst, l.ask(d.syn(80, 1)).src)
			require.Equal(t, d.dst, l.ask(d.echo()).src)
			time.Sleep(time.Minute)
			l.silent(d.echo())
		})
	})
}

// Routers are hosts for their own addresses.
func TestRouterItself(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		simulate(t, path("a -- r1 -- r2 -- h"), func(l *lab) {
			d := d.to(map[bool]netip.Addr{false: addr("198.18.1.2"), true: addr("2001:db8:1::2")}[d.v6()])
			require.Equal(t, d.dst, l.ask(d.echo()).src)
			got := l.ask(d)
			require.Equal(t, d.dst, got.src)
			requireError(t, got, unreachable, map[bool]uint8{false: 3, true: 4}[d.v6()])
			require.Equal(t, packet.RST|packet.ACK, l.ask(d.syn(80, 1)).flags)
			requireError(t, l.ask(d.hops(1)), expired, 0)
		})
	})
}

func TestErrorSource(t *testing.T) {
	lo4, lo6 := addr("198.51.100.1"), addr("2001:db8:10::1")
	for _, c := range []struct {
		router   simnet.Router
		back     string // who leads from r back to a
		ip4, ip6 string
	}{
		{simnet.Router{}, "", "198.18.0.2", "2001:db8::2"},
		{simnet.Router{From: simnet.FromOutbound}, "", "198.18.0.2", "2001:db8::2"},
		{simnet.Router{}, "other", "198.18.0.2", "2001:db8::2"},
		{simnet.Router{From: simnet.FromOutbound}, "other", "198.18.4.2", "2001:db8:4::2"},
		{simnet.Router{From: simnet.FromOwn}, "other", "198.18.0.2", "2001:db8::2"},
		{simnet.Router{Addresses: []netip.Addr{lo4, lo6}, From: simnet.FromOwn}, "", lo4.String(), lo6.String()},
		{simnet.Router{Addresses: []netip.Addr{lo4, lo6}}, "", lo4.String(), lo6.String()},
		{simnet.Router{Addresses: []netip.Addr{lo4}}, "", lo4.String(), ""},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				c.router.Name = "r"
				s := router(path("x -- r -- h\na -- x -- other -- r"), c.router)
				if c.back != "" {
					for _, to := range prefixes("192.0.2.0/24", "2001:db8:ff::/64") {
						s.Routes = append(s.Routes, simnet.Route{At: "r", To: to, Via: []string{c.back}})
					}
				}
				simulate(t, s, func(l *lab) {
					want := map[bool]string{false: c.ip4, true: c.ip6}[d.v6()]
					if want == "" {
						l.silent(d.hops(2))
						return
					}
					require.Equal(t, want, l.ask(d.hops(2)).src.String())
				})
			})
		})
	}
}

// The source of what runs out of hops may be the router's own address.
func TestErrorToItself(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := router(path("a -- r -- h"), simnet.Router{Name: "r", From: simnet.FromOutbound})
		simulate(t, s, func(l *lab) {
			l.silent(d.from(map[bool]netip.Addr{false: addr("198.18.0.2"), true: addr("2001:db8::2")}[d.v6()]).hops(1))
			require.Equal(t, uint64(2), l.Stats().Sent)
			require.Equal(t, uint64(1), l.Stats().Delivered)
		})
	})
}

// A token bucket of 10 a second that holds 3.
func TestRateLimit(t *testing.T) {
	for _, perDestination := range []bool{false, true} {
		t.Run(fmt.Sprint(perDestination), func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				s := router(path("a -- r -- h"), simnet.Router{Name: "r", Stack: simnet.Stack{
					Errors: simnet.RateLimit{Rate: 10, Burst: 3, PerDestination: perDestination},
				}})
				other := simnet.Site{Host: simnet.Host{Name: "b", Addresses: addrs("192.0.2.2", "2001:db8:ff::2")}}
				s.Sites = append(s.Sites, other)
				s.Links = append(s.Links, simnet.Link{Draw: "b -- r"})
				simulate(t, s, func(l *lab) {
					count := func(n int) int {
						for range n {
							l.send(d.hops(1))
						}
						return len(l.pass(time.Microsecond))
					}
					require.Equal(t, 3, count(10))
					b := l.sites["b"]
					b.send(d.hops(1).from(other.Addresses[map[bool]int{false: 0, true: 1}[d.v6()]]))
					require.Len(t, b.pass(time.Microsecond), map[bool]int{false: 0, true: 1}[perDestination])

					time.Sleep(99 * time.Millisecond)
					require.Zero(t, count(5))
					time.Sleep(time.Millisecond)
					require.Equal(t, 1, count(5))
					time.Sleep(time.Hour)
					require.Equal(t, 3, count(10))

					// Twice too fast for 100 seconds: exactly one of two, whatever
					// is lost in fractions.
					time.Sleep(time.Second)
					total := 0
					for range 2000 {
						total += count(1)
						time.Sleep(50*time.Millisecond - time.Microsecond)
					}
					require.Equal(t, 3+999, total)

					// Only errors are limited.
					for range 20 {
						require.Equal(t, d.dst, l.ask(d.echo()).src)
					}
				})
			})
		})
	}
}

func TestQuote(t *testing.T) {
	for _, c := range []struct {
		quote, size4, size6 int
		extension           bool
		want4, want6        int // bytes
	}{
		{0, 60, 80, false, 60, 80},
		{0, 1400, 1400, false, 548, 1232},
		{8, 60, 80, false, 28, 48},
		{8, 1400, 1400, false, 28, 48},
		{64, 1400, 1400, false, 84, 104},
		{1 << 16, 1400, 1400, false, 548, 1232},
		{0, 60, 80, true, 60, 80},
		{8, 60, 80, true, 28, 48},
		{0, 1400, 1400, true, 524, 1192}, // less 24 or 36 of extension, in whole words
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				size, want := c.size4, c.want4
				if d.v6() {
					size, want = c.size6, c.want6
				}
				s := router(path("a -- r -- h"), simnet.Router{Name: "r", InterfaceInfo: c.extension, Stack: simnet.Stack{Quote: c.quote}})
				simulate(t, s, func(l *lab) {
					d := d.size(size).hops(1)
					got := l.ask(d)
					e := requireError(t, got, expired, 0)
					require.Equal(t, c.extension, e.Extension != nil)
					if c.extension && want < 128 { // RFC 4884 section 5
						require.Len(t, e.Quote, 128)
						require.Equal(t, make([]byte, 128-want), e.Quote[want:])
						e.Quote = e.Quote[:want]
					}
					require.Equal(t, d.bytes()[:want], e.Quote)
					require.LessOrEqual(t, len(got.whole), map[bool]int{false: 576, true: 1280}[d.v6()])
				})
			})
		})
	}
}

// The quote of a datagram with options has the bytes after them.
func TestQuoteOptions(t *testing.T) {
	s := router(path("a -- r -- h"), simnet.Router{Name: "r", Stack: simnet.Stack{Quote: 8}})
	simulate(t, s, func(l *lab) {
		d := udp4.hops(1)
		d.options = []byte{0x94, 4, 0, 0, 1, 1, 1, 1}
		require.Equal(t, d.bytes()[:36], l.ask(d).isError(t).Quote)
	})
}

func TestStackTTL(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := router(path("a -- r -- h"), simnet.Router{Name: "r", Stack: simnet.Stack{TTL: 64}})
		s.Hosts[0].TTL = 128
		simulate(t, s, func(l *lab) {
			require.Equal(t, uint8(64), l.ask(d.hops(1)).ttl)
			require.Equal(t, uint8(127), l.ask(d).ttl)
			require.Equal(t, uint8(127), l.ask(d.echo()).ttl)
			require.Equal(t, uint8(127), l.ask(d.syn(80, 1)).ttl)
		})
	})
}

func TestQuirks(t *testing.T) {
	sent := udp4.hops(1)
	sent.id = 0x1234
	sent.tos = 0xB8
	udp := sent.bytes()
	for _, c := range []struct {
		quirks []simnet.Quirk
		change func(b []byte)
	}{
		{nil, func([]byte) {}},
		{[]simnet.Quirk{simnet.QuirkSwapID}, func(b []byte) { b[4], b[5] = 0x34, 0x12 }},
		{[]simnet.Quirk{simnet.QuirkIncrementID}, func(b []byte) { b[5] = 0x35 }},
		{[]simnet.Quirk{simnet.QuirkZeroChecksum}, func(b []byte) { b[26], b[27] = 0, 0 }},
		{[]simnet.Quirk{simnet.QuirkZeroTTL}, func(b []byte) { b[8] = 0 }},
		{[]simnet.Quirk{simnet.QuirkSwapID, simnet.QuirkIncrementID, simnet.QuirkZeroTTL}, func(b []byte) { b[4], b[5], b[8] = 0x34, 0x13, 0 }},
	} {
		t.Run(fmt.Sprintf("%d", c.quirks), func(t *testing.T) {
			s := router(path("a -- r -- h"), simnet.Router{Name: "r", Stack: simnet.Stack{Quirks: c.quirks}})
			simulate(t, s, func(l *lab) {
				want := slices.Clone(udp)
				c.change(want)
				require.Equal(t, want, l.ask(sent).isError(t).Quote)
			})
		})
	}
	t.Run("IPv6", func(t *testing.T) {
		s := router(path("a -- r -- h"), simnet.Router{Name: "r", Stack: simnet.Stack{
			Quirks: []simnet.Quirk{simnet.QuirkSwapID, simnet.QuirkIncrementID, simnet.QuirkZeroChecksum, simnet.QuirkZeroTTL},
		}})
		simulate(t, s, func(l *lab) {
			d := udp6.hops(1)
			want := d.bytes()
			want[7], want[46], want[47] = 0, 0, 0
			require.Equal(t, want, l.ask(d).isError(t).Quote)
			d = d.syn(80, 1).hops(1)
			want = d.bytes()
			want[7] = 0
			require.Equal(t, want, l.ask(d).isError(t).Quote)
		})
	})
}

func TestAnswerDelay(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := router(path("a --1ms-- r --1ms-- h"), simnet.Router{Name: "r", Stack: simnet.Stack{Delay: 5 * time.Millisecond}})
		s.Hosts[0].Delay = 7 * time.Millisecond
		simulate(t, s, func(l *lab) {
			for i, c := range []struct {
				d    datagram
				want time.Duration
			}{
				{d.hops(1), 7 * time.Millisecond},
				{d, 11 * time.Millisecond},
				{d.echo(), 11 * time.Millisecond},
				{d.syn(80, 1), 11 * time.Millisecond},
			} {
				require.Equal(t, c.want, l.ask(c.d).at-time.Duration(i)*time.Second)
			}
		})
	})
}

// labels returns the label stack of an error, nil if none.
func labels(t *testing.T, d datagram) (all []packet.MPLSLabel) {
	for o := range packet.Objects(d.isError(t).Extension) {
		if o.Class == packet.ClassMPLS {
			require.Equal(t, uint8(1), o.CType)
			all = slices.Collect(packet.MPLSLabels(o.Payload))
		}
	}
	return all
}

func TestTunnel(t *testing.T) {
	outer := func(l uint32) []packet.MPLSLabel { return []packet.MPLSLabel{{Label: l, TTL: 1, Bottom: true}} }
	for _, c := range []struct {
		name   string
		tunnel simnet.Tunnel
		path   []string // routers that answer, by TTL
		labels [][]packet.MPLSLabel
	}{
		{"uniform", simnet.Tunnel{}, []string{"pe1", "p1", "p2", "p3", "pe2"}, [][]packet.MPLSLabel{nil, outer(100), outer(200), outer(300), nil}},
		{"bare", simnet.Tunnel{Bare: true}, []string{"pe1", "p1", "p2", "p3", "pe2"}, [][]packet.MPLSLabel{nil, nil, nil, nil, nil}},
		{"hidden", simnet.Tunnel{Hidden: true}, []string{"pe1", "pe2"}, [][]packet.MPLSLabel{nil, nil}},
		{"stack", simnet.Tunnel{Inner: []uint32{16, 1048575}}, []string{"pe1", "p1", "p2", "p3", "pe2"}, [][]packet.MPLSLabel{
			nil,
			{{Label: 100, TTL: 1}, {Label: 16, TTL: 1}, {Label: 1048575, TTL: 1, Bottom: true}},
			{{Label: 200, TTL: 1}, {Label: 16, TTL: 2}, {Label: 1048575, TTL: 2, Bottom: true}},
			{{Label: 300, TTL: 1}, {Label: 16, TTL: 3}, {Label: 1048575, TTL: 3, Bottom: true}},
			nil,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				c.tunnel.Draw = "pe1 -- p1 -- p2 -- p3 -- pe2"
				c.tunnel.Labels = []uint32{100, 200, 300}
				s := path("a -- pe1 -- p1 -- p2 -- p3 -- pe2 -- h")
				s.Tunnels = []simnet.Tunnel{c.tunnel}
				simulate(t, s, func(l *lab) {
					names := owners(l)
					for i, want := range c.path {
						got := l.ask(d.hops(uint8(i + 1)))
						requireError(t, got, expired, 0)
						require.Equal(t, want, names[got.src])
						require.Equal(t, c.labels[i], labels(t, got.datagram))
						require.Equal(t, uint8(1), got.quoted(t).ttl)
					}
					got := l.ask(d.hops(uint8(len(c.path) + 1)))
					require.Equal(t, d.dst, got.src)
				})
			})
		})
	}
}

// owners maps the addresses of links to nodes of a path whose links were
// numbered in the order drawn.
func owners(l *lab) map[netip.Addr]string {
	all := map[netip.Addr]string{}
	i := 0
	for _, link := range l.Scenario().Links {
		for _, pair := range drawn(link.Draw) {
			for end, name := range pair {
				all[addr(fmt.Sprintf("198.18.%d.%d", i, end+1))] = name
				all[addr(fmt.Sprintf("2001:db8:%x::%d", i, end+1))] = name
			}
			i++
		}
	}
	return all
}

// A packet error inside a tunnel carries the labels with the TTL that they
// have; a hidden tunnel's own TTL begins at 255.
func TestTunnelTooBig(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		s := path("a -- pe1 -- p1 -- p2\npe2 -- h")
		s.Links = append(s.Links, simnet.Link{Draw: "p2 -- pe2", Properties: simnet.Properties{MTU: 1000}})
		s.Tunnels = []simnet.Tunnel{{Draw: "pe1 -- p1 -- p2 -- pe2", Labels: []uint32{1, 2}, Hidden: hidden}}
		simulate(t, s, func(l *lab) {
			d := udp4.size(1400).hops(20)
			d.df = true
			got := l.ask(d)
			requireError(t, got, tooBig, 4)
			ttl := map[bool]uint8{false: 18, true: 254}[hidden]
			require.Equal(t, []packet.MPLSLabel{{Label: 2, TTL: ttl, Bottom: true}}, labels(t, got.datagram))
		})
	}
}

// What is not for the tunnel's far end stays out of it, and so does everything
// while it is broken: there is another way.
func TestTunnelLeft(t *testing.T) {
	s := path("a -- pe1 -- p1 -- p2 -- pe2 -- h\npe1 -- q -- q2 -- q3 -- q4 -- pe2\np1 -- q3")
	s.Tunnels = []simnet.Tunnel{{Draw: "pe1 -- p1 -- p2 -- pe2", Labels: []uint32{1, 2}}}
	s.Changes = []simnet.Change{{At: time.Minute, Down: "p2 -- pe2"}}
	simulate(t, s, func(l *lab) {
		require.NotNil(t, labels(t, l.ask(udp4.hops(2)).datagram))
		require.Equal(t, addr("198.18.1.2"), l.ask(udp4.to(addr("198.18.1.2")).echo()).src, "an address inside")
		time.Sleep(time.Minute)
		got := l.ask(udp4.hops(2))
		require.Equal(t, "p1", owners(l)[got.src])
		require.Nil(t, labels(t, got.datagram))
		require.Equal(t, h4, l.ask(udp4).src)
	})
}

// What is in a tunnel when a link of it fails is lost there.
func TestTunnelBroken(t *testing.T) {
	s := path("a --10ms-- pe1 --10ms-- p1 --10ms-- p2 --10ms-- pe2 --10ms-- h\np1 -- q -- pe2")
	s.Tunnels = []simnet.Tunnel{{Draw: "pe1 -- p1 -- p2 -- pe2", Labels: []uint32{1, 2}}}
	s.Changes = []simnet.Change{{At: 15 * time.Millisecond, Down: "p1 -- p2"}}
	simulate(t, s, func(l *lab) {
		l.silent(udp4)
		require.EqualValues(t, 1, l.Stats().Dropped[simnet.DropLinkDown])
		require.Equal(t, h4, l.ask(udp4).src)
	})
}

// With several links between two routers all lead into the tunnel.
func TestTunnelParallel(t *testing.T) {
	s := router(path("a -- pe1 -- p\npe1 -- p -- pe2 -- h"), simnet.Router{Name: "pe1", ECMP: simnet.ECMP{Hash: simnet.FlowFields()}})
	s.Tunnels = []simnet.Tunnel{{Draw: "pe1 -- p -- pe2", Labels: []uint32{1}}}
	simulate(t, s, func(l *lab) {
		seen := map[netip.Addr]bool{}
		for port := range uint16(32) {
			d := udp4.hops(2)
			d.dport = port
			got := l.ask(d)
			seen[got.src] = true
			require.NotNil(t, labels(t, got.datagram))
		}
		require.Len(t, seen, 2)
	})
}

func TestInterfaceInfo(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := path("a -- r\nr -- r2 -- h")
		s.Links[0].Draw = "x -- r\na -- r\nr -- r2 -- h"
		s.Tunnels = []simnet.Tunnel{{Draw: "r -- r2 -- r3", Labels: []uint32{5}}}
		s.Links = append(s.Links, simnet.Link{Draw: "r2 -- r3"})
		router(s, simnet.Router{Name: "r", InterfaceInfo: true})
		router(s, simnet.Router{Name: "r2", InterfaceInfo: true})
		simulate(t, s, func(l *lab) {
			info := func(ttl uint8) packet.InterfaceInfo {
				for o := range packet.Objects(l.ask(d.hops(ttl)).isError(t).Extension) {
					if o.Class == packet.ClassInterfaceInfo {
						i, err := packet.ParseInterfaceInfo(o)
						require.NoError(t, err)
						return i
					}
				}
				t.Fatal("no interface information")
				return packet.InterfaceInfo{}
			}
			require.Equal(t, packet.InterfaceInfo{
				Role: packet.IncomingInterface, HasIndex: true, Index: 2, HasMTU: true, MTU: 1500,
				Addr: map[bool]netip.Addr{false: addr("198.18.1.2"), true: addr("2001:db8:1::2")}[d.v6()],
			}, info(1))
			require.Equal(t, uint32(1), info(2).Index, "beside a label stack")
			require.Equal(t, uint32(5), labels(t, l.ask(d.hops(2)).datagram)[0].Label)
		})
	})
}

// What a router rewrites is seen in the quotes of those after it.
func TestRewrite(t *testing.T) {
	dscp := uint8(10)
	for _, c := range []struct {
		rewrite   simnet.Rewrite
		sent, out uint8
	}{
		{simnet.Rewrite{}, 0xBB, 0xBB},
		{simnet.Rewrite{BleachECN: true}, 0xBB, 0xB8},
		{simnet.Rewrite{BleachECN: true}, 0xB8, 0xB8},
		{simnet.Rewrite{DSCP: &dscp}, 0xBB, 0x2B},
		{simnet.Rewrite{DSCP: new(uint8)}, 0xBA, 0x02},
		{simnet.Rewrite{DSCP: &dscp, BleachECN: true}, 0xBB, 0x28},
	} {
		families(t, func(t *testing.T, d datagram) {
			s := router(path("a -- r1 -- r2 -- h"), simnet.Router{Name: "r1", Rewrite: c.rewrite})
			simulate(t, s, func(l *lab) {
				d.tos, d.label = c.sent, 0xABCDE
				require.Equal(t, c.sent, l.ask(d.hops(1)).quoted(t).tos)
				for ttl := range uint8(2) {
					q := l.ask(d.hops(ttl + 2)).quoted(t)
					require.Equal(t, c.out, q.tos)
					require.Equal(t, map[bool]uint32{false: 0, true: 0xABCDE}[d.v6()], q.label)
					if !d.v6() {
						require.Zero(t, packet.Checksum(q.whole[:20]))
					}
				}
				// The echo reply takes the TOS that arrived, and is rewritten on
				// its way as well.
				require.Equal(t, c.out, l.ask(d.echo()).tos)
			})
		})
	}
}
