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

var key = probe.Key{1, 2, 3}

// spoofed is a path whose host stays silent, with a spoofer at r2 that claims
// to be someone else.
func spoofed(v6 bool, change func(s *simnet.Spoofer)) *simnet.Scenario {
	s := path("a -- r1 --1ms-- r2 -- r3 -- h")
	s.Hosts[0].Silent = true
	sp := simnet.Spoofer{At: "r2", To: a4, From: addr("198.51.100.66"), Claims: h4}
	if v6 {
		sp.To, sp.From, sp.Claims = a6, addr("2001:db8:66::66"), h6
	}
	change(&sp)
	s.Spoofers = []simnet.Spoofer{sp}
	return s
}

// Which forgeries fit which probes.
var forgeries = []struct {
	kind   simnet.Forgery
	prober probe.Prober
	answer probe.Kind // 0: none
}{
	{simnet.ForgeTimeExceeded, udp.Prober{}, probe.TimeExceeded},
	{simnet.ForgeTimeExceeded, icmp.Prober{}, probe.TimeExceeded},
	{simnet.ForgeTimeExceeded, tcp.Prober{}, probe.TimeExceeded},
	{simnet.ForgeUnreachable, udp.Prober{}, probe.Unreachable},
	{simnet.ForgeUnreachable, icmp.Prober{}, probe.Unreachable},
	{simnet.ForgeUnreachable, tcp.Prober{}, probe.Unreachable},
	{simnet.ForgeEchoReply, icmp.Prober{}, probe.EchoReply},
	{simnet.ForgeEchoReply, udp.Prober{}, 0},
	{simnet.ForgeEchoReply, tcp.Prober{}, 0},
	{simnet.ForgeReset, tcp.Prober{}, probe.Reset},
	{simnet.ForgeReset, udp.Prober{}, 0},
	{simnet.ForgeReset, icmp.Prober{}, 0},
}

// One that sees probes answers each; one that sees everything is believed, one
// that sees identifiers names them and is never believed.
func TestSpoofersThatSee(t *testing.T) {
	for _, sees := range []simnet.Sight{simnet.SeesID, simnet.SeesAll} {
		for _, f := range forgeries {
			t.Run(fmt.Sprint(sees, f.kind, f.prober.Name()), func(t *testing.T) {
				families(t, func(t *testing.T, d datagram) {
					s := spoofed(d.v6(), func(s *simnet.Spoofer) {
						s.Kind, s.Sees = f.kind, sees
						if f.answer.Direct() {
							s.From = d.dst
						}
					})
					simulate(t, s, func(l *lab) {
						const n = 300
						for id := range uint16(n) {
							b, err := f.prober.Build(nil, &probe.Probe{ID: 1 + 211*id, Src: d.src, Dst: d.dst, DstPort: 33434, TTL: 60, Key: key, Flow: uint8(id)})
							require.NoError(t, err)
							require.NoError(t, l.Inject("a", b))
							time.Sleep(time.Millisecond)
						}
						got := l.pass(time.Second)
						if f.answer == 0 {
							require.Empty(t, got)
							return
						}
						require.Len(t, got, n)
						for i, g := range got {
							var a probe.Answer
							require.True(t, f.prober.Match(g.whole, &a))
							require.Equal(t, f.answer, a.Kind)
							require.Equal(t, s.Spoofers[0].From, a.From)
							require.Equal(t, d.dst, a.Dst)
							require.Equal(t, uint16(1+211*i), a.ID)
							believed := false
							ids, k := a.Readings()
							for _, id := range ids[:k] {
								believed = believed || a.Verified(&key, id)
							}
							require.Equal(t, sees == simnet.SeesAll, believed, "probe %d", i)
						}
					})
				})
			})
		}
	}
}

// One that sees nothing forges at its rate, from its start until its end, and
// is not believed.
func TestSpooferThatGuesses(t *testing.T) {
	for _, kind := range []simnet.Forgery{simnet.ForgeTimeExceeded, simnet.ForgeUnreachable, simnet.ForgeEchoReply, simnet.ForgeReset} {
		families(t, func(t *testing.T, d datagram) {
			s := spoofed(d.v6(), func(s *simnet.Spoofer) {
				s.Kind, s.Rate, s.Start, s.Until = kind, 50, 10*time.Second, 20*time.Second
			})
			simulate(t, s, func(l *lab) {
				require.Empty(t, l.pass(10*time.Second))
				got := l.pass(time.Hour)
				require.Len(t, got, 500)
				ids := map[uint16]bool{}
				for i, g := range got {
					require.Equal(t, 10*time.Second+time.Duration(i)*20*time.Millisecond, g.at.Truncate(time.Millisecond)-time.Millisecond)
					require.Equal(t, s.Spoofers[0].From, g.src)
					for _, p := range []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}} {
						var a probe.Answer
						if p.Match(g.whole, &a) {
							ids[a.ID] = true
							require.Equal(t, d.dst == a.Dst, kind <= simnet.ForgeUnreachable)
						}
					}
				}
				require.Greater(t, len(ids), 450, "identifiers are guessed")
			})
		})
	}
}

// Two at one node guess apart, and another seed guesses otherwise.
func TestSpoofersApart(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(2) {
		s := spoofed(false, func(s *simnet.Spoofer) { s.Rate, s.Until = 10, time.Second })
		s.Seed = seed
		s.Spoofers = append(s.Spoofers, s.Spoofers[0])
		simulate(t, s, func(l *lab) {
			got := l.pass(time.Minute)
			require.Len(t, got, 20)
			for _, g := range got {
				seen[string(g.isError(t).Quote)]++
			}
		})
	}
	require.Len(t, seen, 40)
}

// It sees what passes to whom it claims to answer for, in its time, and no
// errors; nor what itself or others forge for ever.
func TestSpooferSight(t *testing.T) {
	s := spoofed(false, func(s *simnet.Spoofer) {
		s.Sees, s.Start, s.Until = simnet.SeesAll, time.Second, 10*time.Second
	})
	simulate(t, s, func(l *lab) {
		l.silent(udp4)
		require.Len(t, []arrival{l.ask(udp4)}, 1)
		l.silent(udp4.to(addr("203.0.113.11")).from(addr("224.0.0.1")))
		e := echo4
		e.icmp = 11
		l.silent(e)
		// What runs out of hops at the spoofer's router is seen as well.
		l.send(udp4.hops(2))
		require.Len(t, l.pass(time.Second), 2)
		l.send(udp4.hops(1))
		require.Equal(t, "r1", owners(l)[l.pass(time.Second)[0].src])
		time.Sleep(10 * time.Second)
		l.silent(udp4)
	})

	// What it forges itself it does not see.
	s = spoofed(false, func(s *simnet.Spoofer) { s.Sees, s.Kind, s.To = simnet.SeesAll, simnet.ForgeReset, h4 })
	simulate(t, s, func(l *lab) {
		l.silent(udp4.syn(80, 1))
		require.EqualValues(t, 2, l.Stats().Sent)
	})

	// Two that answer each other come to an end.
	s = spoofed(false, func(s *simnet.Spoofer) { s.Sees, s.Kind, s.From = simnet.SeesAll, simnet.ForgeReset, h4 })
	other := s.Spoofers[0]
	other.At, other.To, other.From, other.Claims = "r1", h4, a4, a4
	s.Spoofers = append(s.Spoofers, other)
	s.Sites[0].Silent = true
	simulate(t, s, func(l *lab) {
		l.send(udp4.syn(80, 1))
		got := l.pass(time.Minute)
		require.NotEmpty(t, got)
		require.Less(t, len(got), 1000)
	})
}

// A guess is sent from anywhere, a host too, and forged from any address.
func TestSpooferAtHost(t *testing.T) {
	s := spoofed(false, func(s *simnet.Spoofer) { s.At, s.Rate, s.Until = "h", 1, time.Second })
	simulate(t, s, func(l *lab) {
		got := l.pass(time.Minute)
		require.Len(t, got, 1)
		require.Equal(t, netip.MustParseAddr("198.51.100.66"), got[0].src)
	})
}
