package simnet_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

func ports(first, last uint16) []simnet.PortRange {
	return []simnet.PortRange{{First: first, Last: last}}
}

// outcomes of a datagram to h, which is open.
const (
	passes     = "passes"
	dropped    = "dropped"
	rejected   = "rejected"    // administratively prohibited
	rejected10 = "rejected 10" // with code 10
	isReset    = "reset"
)

// Rules of a router on the way and of the host itself decide alike.
func TestRules(t *testing.T) {
	p := func(s string) simnet.Rule { return simnet.Rule{To: prefixes(s)[0]} }
	with := func(r simnet.Rule, change func(r *simnet.Rule)) simnet.Rule { change(&r); return r }
	action := func(a simnet.Action) simnet.Rule { return simnet.Rule{Action: a} }
	ten := uint8(10)
	for _, c := range []struct {
		name           string
		rules          []simnet.Rule
		udp, tcp, echo string
	}{
		{"none", nil, passes, passes, passes},
		{"drop", []simnet.Rule{action(simnet.ActionDrop)}, dropped, dropped, dropped},
		{"accept", []simnet.Rule{action(simnet.ActionAccept)}, passes, passes, passes},
		{"reject", []simnet.Rule{action(simnet.ActionReject)}, rejected, rejected, rejected},
		{"reject with code", []simnet.Rule{{Action: simnet.ActionReject, Code: &ten}}, rejected10, rejected10, rejected10},
		{"reset", []simnet.Rule{action(simnet.ActionReset)}, rejected, isReset, rejected},
		{"reset with code", []simnet.Rule{{Action: simnet.ActionReset, Code: &ten}}, rejected10, isReset, rejected10},
		{"UDP", []simnet.Rule{{Protocol: simnet.ProtocolUDP}}, dropped, passes, passes},
		{"TCP", []simnet.Rule{{Protocol: simnet.ProtocolTCP}}, passes, dropped, passes},
		{"ICMP", []simnet.Rule{{Protocol: simnet.ProtocolICMP}}, passes, passes, dropped},
		{"first counts", []simnet.Rule{{Protocol: simnet.ProtocolUDP, Action: simnet.ActionAccept}, action(simnet.ActionReject), action(simnet.ActionDrop)}, passes, rejected, rejected},
		{"port", []simnet.Rule{{Protocol: simnet.ProtocolUDP, Ports: ports(7, 7)[0]}}, dropped, passes, passes},
		{"port range", []simnet.Rule{{Protocol: simnet.ProtocolTCP, Ports: ports(80, 90)[0]}}, passes, dropped, passes},
		{"range before", []simnet.Rule{{Protocol: simnet.ProtocolTCP, Ports: ports(1, 79)[0]}}, passes, passes, passes},
		{"range after", []simnet.Rule{{Protocol: simnet.ProtocolTCP, Ports: ports(81, 1000)[0]}}, passes, passes, passes},
		{"source", []simnet.Rule{{From: prefixes("192.0.2.0/24")[0]}, {From: prefixes("2001:db8:ff::/48")[0]}}, dropped, dropped, dropped},
		{"other source", []simnet.Rule{{From: prefixes("192.0.2.2/32")[0]}, {From: prefixes("2001:db8:ff::2/128")[0]}}, passes, passes, passes},
		{"destination", []simnet.Rule{p("203.0.113.10/32"), p("2001:db8:fe::10/128")}, dropped, dropped, dropped},
		{"other destination", []simnet.Rule{p("203.0.113.11/32"), p("2001:db8:fe::11/128")}, passes, passes, passes},
		{"all must match", []simnet.Rule{with(p("203.0.113.10/32"), func(r *simnet.Rule) { r.Protocol = simnet.ProtocolTCP })}, passes, "", passes},
	} {
		for _, where := range []string{"router", "host"} {
			t.Run(c.name+" at "+where, func(t *testing.T) {
				families(t, func(t *testing.T, d datagram) {
					s := path("a -- r1 -- r2 -- h")
					s.Hosts[0].TCP.Open = ports(80, 80)
					s.Hosts[0].Services = map[uint16]func([]byte) []byte{7: func([]byte) []byte { return []byte("yes") }}
					at := "r2"
					if where == "host" {
						s.Hosts[0].Firewall = c.rules
						at = "h"
					} else {
						router(s, simnet.Router{Name: at, Filters: c.rules})
					}
					simulate(t, s, func(l *lab) {
						d.dport = 7
						for _, probe := range []struct {
							d    datagram
							want string
						}{{d, c.udp}, {d.syn(80, 9), c.tcp}, {d.echo(), c.echo}} {
							if probe.want == "" { // one family of the two
								probe.want = map[bool]string{false: dropped, true: passes}[d.v6()]
							}
							requireOutcome(l, probe.d, probe.want, at)
						}
					})
				})
			})
		}
	}
}

func requireOutcome(l *lab, d datagram, want, at string) {
	t := l.t
	t.Helper()
	before := l.Stats().Dropped[simnet.DropFiltered]
	l.send(d)
	got := l.pass(time.Second / 2) // before a SYN-ACK comes again
	if want == dropped {
		require.Empty(t, got)
	} else {
		require.Len(t, got, 1)
	}
	if want != passes && at == "r2" {
		require.Equal(t, before+1, l.Stats().Dropped[simnet.DropFiltered])
	}
	switch want {
	case passes:
		require.Equal(t, d.dst, got[0].src)
		require.NotContains(t, []uint8{3, 1}, got[0].icmp)
		require.Zero(t, got[0].flags&packet.RST)
	case isReset:
		require.Equal(t, []any{d.dst, packet.RST | packet.ACK, d.seq + 1}, []any{got[0].src, got[0].flags, got[0].ack})
	case rejected, rejected10:
		code := map[bool]uint8{false: 13, true: 1}[d.v6()]
		if want == rejected10 {
			code = 10
		}
		requireError(t, got[0], unreachable, code)
		if at == "h" {
			require.Equal(t, d.dst, got[0].src)
			return
		}
		require.Equal(t, at, owners(l)[got[0].src])
		// As in Linux, a filter sees the packet with the TTL that it would
		// have left with.
		require.Equal(t, d.ttl-2, got[0].quoted(t).ttl)
	}
}

// Route, TTL and MTU come before filters.
func TestFilterOrder(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := router(narrow(), simnet.Router{Name: "r1", Filters: []simnet.Rule{{Action: simnet.ActionReject}}})
		s.Routes = []simnet.Route{
			{At: "r1", To: prefixes("203.0.113.77/32")[0], Drop: simnet.Unreachable},
			{At: "r1", To: prefixes("2001:db8:fe::77/128")[0], Drop: simnet.Prohibited},
		}
		simulate(t, s, func(l *lab) {
			requireError(t, l.ask(d), unreachable, map[bool]uint8{false: 13, true: 1}[d.v6()])
			requireError(t, l.ask(d.hops(1)), expired, 0)
			d.df = true
			requireError(t, l.ask(d.size(1400)), tooBig, map[bool]uint8{false: 4}[d.v6()])
			lost := map[bool]datagram{false: d.to(addr("203.0.113.77")), true: udp6.to(addr("2001:db8:fe::77"))}[d.v6()]
			requireError(t, l.ask(lost.hops(1)), unreachable, 1)
		})
	})
}

// A router's filters do not concern what is for itself or from itself.
func TestFilterOwn(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := router(path("a -- r1 -- r2 -- h"), simnet.Router{Name: "r2", Filters: []simnet.Rule{{}}})
		simulate(t, s, func(l *lab) {
			requireError(t, l.ask(d.hops(2)), expired, 0)
			own := d.to(must(ownerAddr(l, "r2", d.v6())))
			require.Equal(t, own.dst, l.ask(own.echo()).src)
			l.silent(d.hops(3))
		})
	})
}

// Firewalls see whole datagrams, filters the pieces as they are.
func TestFilterFragments(t *testing.T) {
	for _, where := range []string{"host", "router"} {
		families(t, func(t *testing.T, d datagram) {
			rules := []simnet.Rule{{Protocol: simnet.ProtocolUDP, Ports: ports(33434, 33434)[0], Action: simnet.ActionReject}}
			s := path("a -- r -- h")
			if where == "host" {
				s.Hosts[0].Firewall = rules
			} else {
				router(s, simnet.Router{Name: "r", Filters: rules})
			}
			simulate(t, s, func(l *lab) {
				l.send(cut(d.size(200), 80)...)
				got := l.pass(time.Second)
				require.Len(t, got, 1)
				requireError(t, got[0], unreachable, map[bool]uint8{false: 13, true: 1}[d.v6()])
				want := uint64(0)
				if where == "router" {
					want = 1 // the piece with the port; the others arrive
				}
				require.Equal(t, want, l.Stats().Dropped[simnet.DropFiltered])
			})
		})
	}
}

// A piece without flags is not answered with a reset.
func TestResetFragment(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := router(path("a -- r -- h"), simnet.Router{Name: "r", Filters: []simnet.Rule{{Action: simnet.ActionReset}}})
		simulate(t, s, func(l *lab) {
			d = d.syn(80, 1)
			d.body = bytes.Repeat([]byte{0x50}, 100) // itself like a TCP header
			pieces := cut(d, 80)
			require.NotZero(t, l.ask(pieces[0]).flags&packet.RST)
			l.silent(pieces[1])
		})
	})
}

// Rejecting is subject to the rate limit and to silence.
func TestRejectLimited(t *testing.T) {
	for _, stack := range []simnet.Stack{{Errors: simnet.RateLimit{Rate: 0.01}}, {Silent: true}} {
		t.Run(fmt.Sprint(stack), func(t *testing.T) {
			s := path("a -- r -- h")
			s.Hosts[0].Stack = stack
			s.Hosts[0].Firewall = []simnet.Rule{{Action: simnet.ActionReject}}
			simulate(t, s, func(l *lab) {
				if !stack.Silent {
					requireError(t, l.ask(udp4), unreachable, 13)
				}
				l.silent(udp4)
			})
		})
	}
}
