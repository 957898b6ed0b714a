package simnet_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// anycast is twoSites with both sites silent, so that all that arrives is an
// answer to a probe.
func anycast() *simnet.Scenario {
	s := twoSites()
	s.Hosts[0].Name = "h"
	s.Links[0].Draw = "a --1ms-- r1 --2ms-- r2 --3ms-- r3 --4ms-- r4 --5ms-- h"
	return s
}

// caught sends d with each TTL from 1 on and returns which site caught the
// answer, "-" for none.
func (l *lab) caught(d datagram, ttls uint8) (all string) {
	l.t.Helper()
	for ttl := range ttls {
		l.send(d.hops(ttl + 1))
		time.Sleep(time.Second)
		site := "-"
		for _, name := range l.Sites() {
			if got := l.sites[name].pass(0); len(got) > 0 {
				require.Equal(l.t, "-", site, "answers at several sites")
				require.Len(l.t, got, 1)
				site = name
			}
		}
		all += site
	}
	return all
}

// The answers of routers nearer to b arrive at b.
func TestNearestSite(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		for _, c := range []struct {
			cost int // of the link between r1 and r2
			want string
		}{{1, "aabbb"}, {3, "abbbb"}} {
			s := anycast()
			s.Links = []simnet.Link{
				{Draw: "a -- r1"}, {Draw: "r1 -- r2", Properties: simnet.Properties{Cost: c.cost}},
				{Draw: "r2 -- r3 -- r4 -- h\nr3 -- b"},
			}
			simulate(t, s, func(l *lab) { require.Equal(t, c.want, l.caught(d, 5)) })
		}
	})
}

// The cost of the last link to a site counts, as does that of each direction.
func TestCost(t *testing.T) {
	s := anycast()
	s.Links[1].Cost = 10
	simulate(t, s, func(l *lab) { require.Equal(t, "aaaaa", l.caught(udp4, 5)) })

	s.Links[0], s.Links[1] = s.Links[1], s.Links[0] // though it is drawn first
	simulate(t, s, func(l *lab) { require.Equal(t, "aaaaa", l.caught(udp4, 5)) })

	s = anycast() // and of two links to a site the cheaper one
	s.Links = append([]simnet.Link{{Draw: "r3 -- b", Properties: simnet.Properties{Delay: time.Minute, Cost: 2}}}, s.Links...)
	simulate(t, s, func(l *lab) { require.Equal(t, "aabbb", l.caught(udp4, 5)) })

	s = anycast()
	s.Links[1].Back = &simnet.Properties{Cost: 10} // of what b sends
	simulate(t, s, func(l *lab) { require.Equal(t, "aabbb", l.caught(udp4, 5)) })
}

// Of several ways of equal cost a router without a hash takes the first drawn,
// be it to an owner or to a router that is as far from another one.
func TestTie(t *testing.T) {
	for draw, want := range map[string]string{
		"a -- r -- h\nr -- x -- h2\nr -- b": "a",
		"b -- r -- h\nr -- a":               "b",
		"r -- h\na -- r\nb -- r":            "a",
		"r -- h\nb -- r\na -- r":            "b",
	} {
		s := anycast()
		s.Hosts = append(s.Hosts, simnet.Host{Name: "h2"})
		s.Links = []simnet.Link{{Draw: draw}}
		simulate(t, s, func(l *lab) { require.Equal(t, want+want, l.caught(udp4, 2)) })
	}
	// r is one link from a, and x one from b: cost 2 either way.
	for draw, want := range map[string]string{
		"r -- h\nr -- x":      "b",
		"r -- h\nz -- r -- x": "b",
	} {
		for _, first := range []bool{true, false} {
			s := anycast()
			s.Links = []simnet.Link{{Draw: draw}}
			site := simnet.Link{Draw: "r -- a", Properties: simnet.Properties{Cost: 2}}
			want := want
			if first {
				s.Links = append([]simnet.Link{site}, s.Links...)
				want = "a"
			} else {
				s.Links = append(s.Links, site)
			}
			s.Links = append(s.Links, simnet.Link{Draw: "x -- b"})
			simulate(t, s, func(l *lab) { require.Equal(t, want, l.caught(udp4, 1)) })
		}
	}
}

// With a hash, ways of equal cost to several sites and of several kinds are
// all used.
func TestTieBalanced(t *testing.T) {
	s := router(anycast(), simnet.Router{Name: "r", ECMP: simnet.ECMP{Hash: []simnet.Field{simnet.FieldPacket}}})
	s.Links = []simnet.Link{
		{Draw: "r -- h\nr -- x -- b"}, {Draw: "r -- a", Properties: simnet.Properties{Cost: 2}},
		{Draw: "r -- b", Properties: simnet.Properties{Cost: 2}},
	}
	simulate(t, s, func(l *lab) {
		for range 600 {
			l.send(udp4.hops(1))
		}
		within(t, 600, 1.0/3, len(l.pass(time.Second)))
		within(t, 600, 2.0/3, len(l.sites["b"].pass(0)))
	})
}

// A static route wins over the shortest path; the longest prefix over others.
func TestStaticRoute(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		to := func(s4, s6 string) simnet.Route {
			if d.v6() {
				s4 = s6
			}
			return simnet.Route{At: "r4", To: prefixes(s4)[0], Via: []string{"h"}}
		}
		s := anycast()
		s.Hosts[0].UDP.Rest = simnet.Filtered
		for _, r := range []string{"r2", "r3"} {
			for _, p := range prefixes("192.0.2.0/24", "2001:db8:ff::/48") {
				s.Routes = append(s.Routes, simnet.Route{At: r, To: p, Via: []string{map[string]string{"r2": "r1", "r3": "r2"}[r]}})
			}
		}
		s.Routes = append(s.Routes,
			to("0.0.0.0/0", "::/0"),             // the host drops it
			to("192.0.2.0/24", "2001:db8::/32"), // it does so here
			func() simnet.Route { r := to("192.0.2.1/32", "2001:db8:ff::1/128"); r.Via = []string{"r3"}; return r }(),
		)
		simulate(t, s, func(l *lab) {
			require.Equal(t, "aaaa-", l.caught(d, 5))
			require.Equal(t, uint64(0), l.Stats().Dropped[simnet.DropNotOurs])
		})
		s.Routes = s.Routes[:len(s.Routes)-1]
		simulate(t, s, func(l *lab) {
			require.Equal(t, "aaa--", l.caught(d, 5))
			require.Equal(t, uint64(1), l.Stats().Dropped[simnet.DropNotOurs], "r4's answer goes to h")
		})
	})
}

// A static route spreads over its neighbours, leaves out those whose links are
// down, and when all are is as if it were not there: then a shorter one counts,
// and in the end the shortest path.
func TestStaticRouteDown(t *testing.T) {
	s := router(path("a -- r -- x1 -- t -- h\nr -- x2 -- t\nr -- x3 -- t\nr -- y1 -- y2 -- t"), simnet.Router{Name: "r", ECMP: simnet.ECMP{Hash: []simnet.Field{simnet.FieldPacket}}})
	s.Routes = []simnet.Route{
		{At: "r", To: prefixes("203.0.113.10/32")[0], Via: []string{"x2", "x3"}},
		{At: "r", To: prefixes("203.0.113.0/24")[0], Via: []string{"y1"}},
	}
	s.Changes = []simnet.Change{
		{At: time.Minute, Down: "r -- x2"}, {At: 2 * time.Minute, Down: "r -- x3"},
		{At: 3 * time.Minute, Down: "y1 -- r"}, {At: 4 * time.Minute, Up: "r -- x3"},
	}
	simulate(t, s, func(l *lab) {
		for minute, want := range []string{"x2 x3", "x3", "y1", "x1", "x3"} {
			time.Sleep(time.Until(l.began.Add(time.Duration(minute)*time.Minute + time.Second)))
			seen := map[string]bool{}
			for range 10 {
				l.send(udp4.hops(2))
				for _, got := range l.pass(10 * time.Millisecond) {
					seen[owners(l)[got.src]] = true
				}
			}
			require.Equal(t, want, strings.Join(slices.Sorted(maps.Keys(seen)), " "), "minute %d", minute)
		}
	})
}

func TestDropKinds(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		for drop, code := range map[simnet.DropKind][2]int{
			simnet.Blackhole:   {-1, -1},
			simnet.Unreachable: {1, 0},
			simnet.Prohibited:  {13, 1},
		} {
			s := path("a -- r1 -- r2 -- h")
			s.Routes = []simnet.Route{{At: "r2", To: prefixes("203.0.113.0/24")[0], Drop: drop}, {At: "r2", To: prefixes("2001:db8:fe::/48")[0], Drop: drop}}
			simulate(t, s, func(l *lab) {
				if want := code[map[bool]int{false: 0, true: 1}[d.v6()]]; want < 0 {
					l.silent(d)
				} else {
					got := l.ask(d)
					requireError(t, got, unreachable, uint8(want))
					require.Equal(t, "r2", owners(l)[got.src])
				}
				require.Equal(t, uint64(1), l.Stats().Dropped[simnet.DropNoRoute])
			})
		}
	})
}

// A loop ends where the TTL does, after exactly so many links.
func TestLoop(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := path("a -- r1 -- r2 -- h")
		for _, p := range prefixes("203.0.113.0/24", "2001:db8:fe::/48") {
			s.Routes = append(s.Routes, simnet.Route{At: "r2", To: p, Via: []string{"r1"}})
		}
		simulate(t, s, func(l *lab) {
			for ttl, want := range map[uint8]string{1: "r1", 2: "r2", 3: "r1", 4: "r2", 254: "r2", 255: "r1"} {
				before := l.Stats().Hops
				got := l.ask(d.hops(ttl))
				requireError(t, got, expired, 0)
				require.Equal(t, want, owners(l)[got.src])
				require.Equal(t, uint64(ttl)+uint64(map[string]int{"r1": 1, "r2": 2}[want]), l.Stats().Hops-before)
			}
		})
	})
}

// Withdrawn, a site gets nothing, and its neighbour all; and back.
func TestWithdraw(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := anycast()
		s.Changes = []simnet.Change{
			{At: time.Minute, Withdraw: "b"}, {At: 2 * time.Minute, Announce: "b"},
			{At: 3 * time.Minute, Withdraw: "a"}, {At: 4 * time.Minute, Withdraw: "b"},
			{At: 5 * time.Minute, Announce: "a"}, {At: 6 * time.Minute, Withdraw: "h"},
		}
		simulate(t, s, func(l *lab) {
			for minute, want := range []string{"aabbb", "aaaaa", "aabbb", "bbbbb", "-----", "aaaaa", "aaaaa"} {
				time.Sleep(time.Until(l.began.Add(time.Duration(minute) * time.Minute)))
				require.Equal(t, want, l.caught(d, 5), "minute %d", minute)
			}
			got := l.ask(d)
			requireError(t, got, unreachable, 0)
			require.Equal(t, "r1", owners(l)[got.src], "nobody leads to h any longer")
		})
	})
}

// A change happens at its time to the nanosecond, before the packets of that
// time, and again every so often.
func TestChangeTime(t *testing.T) {
	s := anycast()
	s.Changes = []simnet.Change{
		{At: time.Minute, Every: 2 * time.Minute, Withdraw: "b"},
		{At: 2 * time.Minute, Every: 2 * time.Minute, Announce: "b"},
	}
	simulate(t, s, func(l *lab) {
		for minute := range 10 {
			at := l.began.Add(time.Duration(minute+1) * time.Minute)
			// r3's answer leaves 6ms after the probe.
			for _, early := range []time.Duration{1, 0} {
				time.Sleep(time.Until(at.Add(-6*time.Millisecond - early)))
				l.send(udp4.hops(3))
				time.Sleep(time.Nanosecond)
			}
			time.Sleep(time.Second)
			a, b := len(l.sites["a"].pass(0)), len(l.sites["b"].pass(0))
			require.Equal(t, []int{1, 1}, []int{a, b}, "minute %d", minute)
		}
	})
}

// Links fail and come back, and traffic finds another way.
func TestLinkFailure(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := path("a -- r1 -- r2 -- h\nr1 -- x -- y -- r2")
		s.Changes = []simnet.Change{{At: time.Minute, Down: "r2 -- r1"}, {At: 2 * time.Minute, Down: "y -- x"}, {At: 3 * time.Minute, Up: "r1 -- r2\nx -- y"}}
		simulate(t, s, func(l *lab) {
			for minute, want := range []string{"r1 r2 h", "r1 x y r2 h", "r1", "r1 r2 h"} {
				time.Sleep(time.Until(l.began.Add(time.Duration(minute)*time.Minute + time.Second)))
				text := ""
				for ttl := uint8(1); ; ttl++ {
					got := l.ask(d.hops(ttl))
					if got.src == d.dst {
						text += "h"
						break
					}
					text += owners(l)[got.src]
					if got.isError(t).Type == map[bool]uint8{false: 3, true: 1}[d.v6()] {
						break
					}
					text += " "
				}
				require.Equal(t, want, text)
			}
		})
	})
}

// A link that is down is nobody's way, even to a neighbour who is as near.
func TestLinkDownBalanced(t *testing.T) {
	s := diamond(simnet.FieldPacket)
	s.Changes = []simnet.Change{{At: time.Second, Down: "r -- x1"}}
	simulate(t, s, func(l *lab) {
		time.Sleep(time.Second)
		count := ways(l, 60, func(int) datagram { return udp4 })
		require.Len(t, count, 3)
		require.Zero(t, count["x1"])
	})
}

// What is on a link when it fails arrives; what would take it as the host's only
// one does not, and the port says so.
func TestLinkDown(t *testing.T) {
	s := path("a --10ms-- r --10ms-- h")
	s.Changes = []simnet.Change{{At: time.Second, Down: "a -- r"}}
	simulate(t, s, func(l *lab) {
		time.Sleep(time.Second - 5*time.Millisecond)
		l.send(udp4)
		require.Empty(t, l.pass(time.Second), "the answer finds no way")
		require.Equal(t, uint64(2), l.Stats().Sent)
		requireSettled(t, l.Stats())
		require.Equal(t, uint64(1), l.Stats().Dropped[simnet.DropNoRoute])
	})
}

// A host with several links uses the first one that is up, and is reached over
// any.
func TestTwoUplinks(t *testing.T) {
	s := path("a -- r1 -- r3 -- h\na -- r2 -- r3")
	s.Changes = []simnet.Change{{At: time.Minute, Down: "a -- r1"}, {At: 2 * time.Minute, Up: "a -- r1"}}
	simulate(t, s, func(l *lab) {
		for _, want := range []string{"r1", "r2", "r1"} {
			require.Equal(t, want, owners(l)[l.ask(udp4.hops(1)).src])
			require.Equal(t, h4, l.ask(udp4).src)
			time.Sleep(time.Minute)
		}
	})
}

// Routes are set and forgotten.
func TestRouteChange(t *testing.T) {
	s := anycast()
	to := prefixes("192.0.2.0/24")[0]
	s.Routes = []simnet.Route{{At: "r1", To: to, Drop: simnet.Blackhole}}
	s.Changes = []simnet.Change{
		{At: time.Minute, Route: &simnet.Route{At: "r1", To: to, Via: []string{"r2"}}},
		{At: 2 * time.Minute, Forget: &simnet.Route{At: "r1", To: to}},
		{At: 3 * time.Minute, Forget: &simnet.Route{At: "r1", To: to}},
		{At: 4 * time.Minute, Route: &simnet.Route{At: "r2", To: to, Via: []string{"r3"}}},
	}
	simulate(t, s, func(l *lab) {
		for minute, want := range []string{"--bbb", "bbbbb", "aabbb", "aabbb", "abbbb"} {
			time.Sleep(time.Until(l.began.Add(time.Duration(minute) * time.Minute)))
			got := l.caught(udp4, 5)
			if minute == 1 { // r2 sends back to r1, and r1 to r2
				require.Equal(t, "--", got[:2])
				continue
			}
			require.Equal(t, want, got, "minute %d", minute)
		}
	})
}

// Networks of up to 512 links and of more are numbered without a clash.
func TestNumbering(t *testing.T) {
	for links, want := range map[int][2]string{
		4:    {"198.18.3.2", "2001:db8:3::2"},
		512:  {"198.19.255.2", "2001:db8:1ff::2"},
		513:  {"198.18.4.1", "2001:db8:200::1"},
		5000: {"198.18.39.15", "2001:db8:1387::1"},
	} {
		t.Run(fmt.Sprint(links), func(t *testing.T) {
			var draw strings.Builder
			fmt.Fprintln(&draw, "a -- hub -- h")
			for i := range links - 2 {
				fmt.Fprintf(&draw, "hub -- r%d\n", i)
			}
			s := path(draw.String())
			s.Sites[0].Addresses[1], s.Hosts[0].Addresses[1] = addr("2001:db8:ffff::1"), addr("2001:db8:ffff::2")
			simulate(t, s, func(l *lab) {
				for i, d := range []datagram{udp4, udp6.from(addr("2001:db8:ffff::1"))} {
					d = d.to(addr(want[i])).echo()
					require.Equal(t, want[i], l.ask(d).src.String())
					requireError(t, l.ask(d.to(addr(want[i]).Next().Next())), unreachable, 0)
				}
			})
		})
	}
}

// Links may be given addresses.
func TestLinkPrefixes(t *testing.T) {
	s := path("a -- r1\nr2 -- h")
	s.Links = append(s.Links, simnet.Link{Draw: "r1 -- r2", Prefixes: prefixes("198.51.100.8/30", "2001:db8:77::/127")})
	simulate(t, s, func(l *lab) {
		require.Equal(t, "198.51.100.10", l.ask(udp4.hops(2)).src.String())
		require.Equal(t, "2001:db8:77::1", l.ask(udp6.hops(2)).src.String())
		require.Equal(t, "198.51.100.9", l.ask(udp4.to(addr("198.51.100.9")).echo()).src.String())
	})
}
