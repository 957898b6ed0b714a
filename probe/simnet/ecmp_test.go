package simnet_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// diamond spreads over four ways from r.
func diamond(fields ...simnet.Field) *simnet.Scenario {
	return router(path("a -- r -- x1 -- t -- h\nr -- x2 -- t\nr -- x3 -- t\nr -- x4 -- t"),
		simnet.Router{Name: "r", ECMP: simnet.ECMP{Hash: fields}})
}

// ways counts which of the four ways n datagrams take.
func ways(l *lab, n int, make func(i int) datagram) map[string]int {
	names := owners(l)
	count := map[string]int{}
	for i := range n {
		d := make(i)
		d.ttl = 2
		count[names[l.ask(d).src]]++
	}
	return count
}

// vary changes one header field from packet to packet.
var vary = map[string]func(d datagram, i int) datagram{
	"nothing":     func(d datagram, _ int) datagram { return d },
	"source":      func(d datagram, i int) datagram { d.sport += uint16(i); return d },
	"destination": func(d datagram, i int) datagram { d.dport += uint16(i); return d },
	"dscp":        func(d datagram, i int) datagram { d.tos = uint8(i) << 2; return d },
	"ecn":         func(d datagram, i int) datagram { d.tos = uint8(i) & 3; return d },
	"label":       func(d datagram, i int) datagram { d.label = uint32(i); return d },
	"id":          func(d datagram, i int) datagram { d.id = uint16(i); return d },
	"payload":     func(d datagram, i int) datagram { d.body = []byte{byte(i)}; return d },
	"protocol": func(d datagram, i int) datagram {
		raw := d.bytes()[len(d.bytes())-8-len(d.body):]
		d.proto, d.raw = []uint8{probe.UDP, 47, 50, 99, 132}[i%5], raw
		return d
	},
	"address": func(d datagram, i int) datagram {
		b := d.dst.AsSlice()
		b[len(b)-1] = byte(i)
		d.dst = must(netip.AddrFromSlice(b))
		return d
	},
}

func TestHash(t *testing.T) {
	for _, c := range []struct {
		field         simnet.Field
		split, split6 []string // by what else than nothing
	}{
		{simnet.FieldAddresses, []string{"address"}, nil},
		{simnet.FieldPorts, []string{"source", "destination"}, nil},
		{simnet.FieldProtocol, []string{"protocol"}, nil},
		{simnet.FieldFlowLabel, nil, []string{"label"}},
		{simnet.FieldDSCP, []string{"dscp"}, nil},
		{simnet.FieldECN, []string{"ecn"}, nil},
		{simnet.FieldPacket, []string{"nothing", "source", "destination", "dscp", "ecn", "label", "id", "payload", "protocol", "address"}, nil},
	} {
		name, err := c.field.MarshalText()
		require.NoError(t, err)
		t.Run(string(name), func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				splits := map[string]bool{}
				for _, v := range c.split {
					splits[v] = true
				}
				if d.v6() {
					for _, v := range c.split6 {
						splits[v] = true
					}
				}
				for v, change := range vary {
					s := diamond(c.field)
					s.Hosts[0].Prefixes = prefixes("203.0.113.0/24", "2001:db8:fe::/64")
					simulate(t, s, func(l *lab) {
						count := ways(l, 24, func(i int) datagram { return change(d, i) })
						if splits[v] {
							require.Greater(t, len(count), 1, v)
						} else {
							require.Len(t, count, 1, v)
						}
					})
				}
			})
		})
	}
}

// The TTL in the hash makes hops of different paths.
func TestHashTTL(t *testing.T) {
	s := diamond(simnet.FieldTTL)
	s.Links[0].Draw = "a -- b1 -- b2 -- b3 -- b4 -- b5 -- b6 -- r -- x1 -- t -- h\nr -- x2 -- t\nr -- x3 -- t\nr -- x4 -- t"
	s.Hosts[0].UDP.Rest = simnet.Open
	seen := map[string]bool{}
	simulateWatched(t, s, func(s simnet.Sighting) {
		if s.Node[0] == 'x' && s.From == "r" {
			seen[s.Node] = true
		}
	}, func(l *lab) {
		for range 10 {
			l.send(udp4.hops(64))
		}
		l.pass(time.Second)
		require.Len(t, seen, 1)
		for ttl := range uint8(24) {
			l.send(udp4.hops(20 + ttl))
		}
		l.pass(time.Second)
		require.Greater(t, len(seen), 1)
	})
}

// A router that hashes nothing takes the first one drawn.
func TestNoHash(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		simulate(t, diamond(), func(l *lab) {
			require.Equal(t, map[string]int{"x1": 30}, ways(l, 30, func(i int) datagram { return vary["source"](vary["ecn"](d, i), i) }))
		})
	})
}

// Flows spread evenly, over links as over neighbours, whatever the seed; each
// seed has them otherwise.
func TestHashEven(t *testing.T) {
	var first map[int]string
	for seed := range uint64(2) {
		s := diamond(simnet.FlowFields()...)
		s.Seed = seed
		simulate(t, s, func(l *lab) {
			names := owners(l)
			way := map[int]string{}
			count := map[string]int{}
			for i := range 4000 {
				d := vary["source"](udp4.hops(2), i)
				l.send(d)
			}
			for i, got := range l.pass(time.Second) {
				count[names[got.src]]++
				way[i] = names[got.src]
			}
			require.Len(t, count, 4)
			for _, n := range count {
				within(t, 4000, 0.25, n)
			}
			require.NotEqual(t, first, way)
			first = way
		})
	}
}

// Two routers in a row choose independently.
func TestHashTwice(t *testing.T) {
	s := path("a -- r -- x1 -- y1 -- t -- h\nr -- x2 -- y1\nx1 -- y2 -- t\nx2 -- y2")
	for _, name := range []string{"r", "x1", "x2"} {
		router(s, simnet.Router{Name: name, ECMP: simnet.ECMP{Hash: simnet.FlowFields()}})
	}
	simulate(t, s, func(l *lab) {
		names, count := owners(l), map[string]int{}
		for i := range 4000 {
			d := vary["source"](udp4.hops(3), i)
			l.send(d)
		}
		for _, got := range l.pass(time.Second) {
			count[fmt.Sprint(names[got.src], got.src)]++
		}
		require.Len(t, count, 4, "each of y1 and y2 from each of x1 and x2")
		for _, n := range count {
			within(t, 4000, 0.25, n)
		}
	})
}

// Pieces of a datagram go the same way: no piece is hashed by ports, not even
// the one that has them.
func TestHashFragments(t *testing.T) {
	simulate(t, diamond(simnet.FieldPorts), func(l *lab) {
		names, seen := owners(l), map[string]bool{}
		for port := range uint16(16) {
			d := udp6.size(200).hops(2)
			d.sport = port
			for _, p := range cut(d, 80) {
				seen[names[l.ask(p).src]] = true
			}
		}
		require.Len(t, seen, 1)
	})
}

// A traceroute in one flow has one path, whatever hash is not faulty; each of
// the probes' own identifiers varies.
func TestParis(t *testing.T) {
	for _, prober := range []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}} {
		families(t, func(t *testing.T, d datagram) {
			t.Run(prober.Name(), func(t *testing.T) {
				simulate(t, diamond(simnet.FlowFields()...), func(l *lab) {
					names := owners(l)
					flows := map[string]bool{}
					for flow := range uint8(16) {
						way := map[string]bool{}
						for id := range uint16(10) {
							b, err := prober.Build(nil, &probe.Probe{ID: 1 + id<<6 | uint16(flow), Src: d.src, Dst: d.dst, DstPort: 33434, Flow: flow, TTL: 2, Key: probe.Key{flow}})
							require.NoError(t, err)
							require.NoError(t, l.Inject("a", b))
							for _, got := range l.pass(time.Second) {
								way[names[got.src]] = true
							}
						}
						require.Len(t, way, 1)
						for name := range way {
							flows[name] = true
						}
					}
					require.Greater(t, len(flows), 1, "flows differ")
				})
			})
		})
	}
}
