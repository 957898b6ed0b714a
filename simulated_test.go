package volta_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/result"
)

var (
	anycast4 = netip.MustParseAddr("192.0.2.1")
	anycast6 = netip.MustParseAddr("2001:db8:ff::1")
	target4  = netip.MustParseAddr("203.0.113.10")
	target6  = netip.MustParseAddr("2001:db8:fe::10")

	simulatedHops = map[netip.Addr][5]netip.Addr{
		target4: {simAddr("198.18.0.2"), simAddr("198.18.1.2"), simAddr("198.18.2.2"), simAddr("198.18.3.2"), target4},
		target6: {simAddr("2001:db8::2"), simAddr("2001:db8:1::2"), simAddr("2001:db8:2::2"), simAddr("2001:db8:3::2"), target6},
	}
	// simulatedTimes are those of the hops: 1 ms a link, answers to b from
	// the third one on.
	simulatedTimes = [5]time.Duration{2 * time.Millisecond, 4 * time.Millisecond, 4 * time.Millisecond, 6 * time.Millisecond, 8 * time.Millisecond}
)

func simAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// simulatedTwoSites is the network of netlab.TwoSites, simulated.
func simulatedTwoSites() *simnet.Scenario {
	anycast := []netip.Addr{anycast4, anycast6}
	return &simnet.Scenario{
		Sites: []simnet.Site{{Host: simnet.Host{Name: "a", Addresses: anycast}}, {Host: simnet.Host{Name: "b", Addresses: anycast}}},
		Hosts: []simnet.Host{{
			Name: "target", Addresses: []netip.Addr{target4, target6},
			TCP: simnet.Ports{Open: []simnet.PortRange{{First: 80, Last: 80}}},
		}},
		Links: []simnet.Link{
			{Draw: "a -- r1 -- r2 -- r3 -- r4 -- target", Properties: simnet.Properties{Delay: time.Millisecond}},
			{Draw: "r3 -- b", Properties: simnet.Properties{Delay: time.Millisecond}},
		},
	}
}

// simulated runs a test in virtual time, over a network with an agent at every
// site. door may put something in front of a site's port, and see may look at
// all packets.
func simulated(t *testing.T, s *simnet.Scenario, see func(simnet.Sighting), door func(site string, p probe.Port) probe.Port, test func(t *testing.T, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := s.StartWatched(see)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		f := newFleet(t, false, &volta.ControllerConfig{Resolver: n})
		for _, site := range n.Sites() {
			port, err := n.Port(site)
			require.NoError(t, err)
			if door != nil {
				port = door(site, port)
			}
			f.join(t, volta.AgentConfig{ID: site, Port: port, Clock: "simulated"})
		}
		test(t, f)
	})
}

// requireSimulated checks a complete trace over the two sites.
func requireSimulated(t *testing.T, trace *result.Trace, target netip.Addr) {
	t.Helper()
	requireTwoSites(t, trace, simulatedHops[target])
	for i, h := range trace.Hops {
		for _, p := range h.Probes {
			require.Equal(t, simulatedTimes[i], *p.RTT, trace.Text())
		}
	}
}

func TestSimulatedTwoSites(t *testing.T) {
	simulated(t, simulatedTwoSites(), nil, nil, func(t *testing.T, f *fleet) {
		for _, options := range []string{
			"", "-I", "-T -p 80", "-T -p 81", "-U", "--flows 3", "--flows 3 -I", "--flows 3 -T -p 81",
			"--flows 3 -T -p 80", "--classic", "-q 10 -N 32 -T", "-N 1", "-z 0.005", "-F", "-t 2 -I",
		} {
			for target := range simulatedHops {
				trace := f.measure(t, fmt.Sprintf("volta a %s %s", target, options))
				requireSimulated(t, trace, target)
				require.Zero(t, trace.Counts.Unverified+trace.Counts.Foreign)
			}
		}
	})
}

// TestManySimulatedAtOnce runs 200 measurements over the same two agents.
func TestManySimulatedAtOnce(t *testing.T) {
	simulated(t, simulatedTwoSites(), nil, nil, func(t *testing.T, f *fleet) {
		options := []string{"", "-I", "-T -p 81", "--flows 3"}
		targets := []netip.Addr{target4, target6}
		traces := make([]*result.Trace, 200)
		errs := make([]error, len(traces))
		var wg sync.WaitGroup
		for i := range traces {
			m, err := volta.ParseCommand(fmt.Sprintf("volta a %s -n -m 8 %s", targets[i%2], options[i/2%len(options)]))
			require.NoError(t, err)
			wg.Go(func() { traces[i], errs[i] = f.Measure(f.ctx, m) })
		}
		wg.Wait()
		for i, trace := range traces {
			require.NoError(t, errs[i])
			requireSimulated(t, trace, targets[i%2])
		}
	})
}

// TestLongWaits measures for an hour of virtual time.
func TestLongWaits(t *testing.T) {
	s := simulatedTwoSites()
	s.Routers = []simnet.Router{{Name: "r2", Stack: simnet.Stack{Silent: true}}}
	s.Hosts[0].Silent = true
	simulated(t, s, nil, nil, func(t *testing.T, f *fleet) {
		began := time.Now()
		trace := f.measure(t, "volta a 203.0.113.10 -m 7 -q 1 -N 1 -w 900")
		require.Equal(t, 4*900*time.Second+12*time.Millisecond, time.Since(began).Truncate(time.Millisecond), trace.Text())
		require.Equal(t, "Traceroute to 203.0.113.10 (203.0.113.10) from a, 1 probes, 7 hops max\n"+
			"1  198.18.0.2 a  2.000 ms\n2  *\n3  198.18.2.2 b  4.000 ms\n4  198.18.3.2 b  6.000 ms\n5  *\n6  *\n7  *", trace.Text())
	})
}

func TestSimulatedSilence(t *testing.T) {
	for _, tt := range []struct {
		name    string
		silence func(s *simnet.Scenario)
		line    string
		stars   []int // hops
		took    time.Duration
	}{
		// The silent hop's probes are given up after ten times what a later
		// hop took and a grace.
		{"one hop", func(s *simnet.Scenario) {
			s.Routers = []simnet.Router{{Name: "r2", Stack: simnet.Stack{Silent: true}}}
		}, "", []int{2}, 100 * time.Millisecond},
		{"the target", func(s *simnet.Scenario) { s.Hosts[0].Silent = true }, "-m 7 -w 0.5", []int{5, 6, 7}, 500 * time.Millisecond},
		{"all", func(s *simnet.Scenario) {
			for _, r := range []string{"r1", "r2", "r3", "r4"} {
				s.Routers = append(s.Routers, simnet.Router{Name: r, Stack: simnet.Stack{Silent: true}})
			}
			s.Hosts[0].Silent = true
		}, "-m 3 -w 2", []int{1, 2, 3}, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := simulatedTwoSites()
			tt.silence(s)
			simulated(t, s, nil, nil, func(t *testing.T, f *fleet) {
				began := time.Now()
				trace := f.measure(t, "volta a 203.0.113.10 "+tt.line)
				require.Equal(t, tt.took, time.Since(began).Truncate(10*time.Millisecond), trace.Text())
				for _, h := range trace.Hops {
					for _, p := range h.Probes {
						require.Equal(t, !slices.Contains(tt.stars, h.TTL), p.Answered(), trace.Text())
					}
				}
			})
		})
	}
}

// TestSpoofers has forged answers arrive beside the true ones.
func TestSpoofers(t *testing.T) {
	for target, anycast := range map[netip.Addr]netip.Addr{target4: anycast4, target6: anycast6} {
		for kind, options := range map[simnet.Forgery]string{
			simnet.ForgeTimeExceeded: "", simnet.ForgeUnreachable: "", simnet.ForgeEchoReply: "-I", simnet.ForgeReset: "-T -p 81",
		} {
			t.Run(fmt.Sprintf("%v %v", target, kind), func(t *testing.T) {
				s := simulatedTwoSites()
				from := target
				s.Spoofers = []simnet.Spoofer{
					{At: "r2", To: anycast, From: from, Claims: target, Kind: kind, Rate: 20000},
					{At: "r2", To: anycast, From: from, Claims: target, Kind: kind, Sees: simnet.SeesID},
				}
				simulated(t, s, nil, nil, func(t *testing.T, f *fleet) {
					trace := f.measure(t, fmt.Sprintf("volta a %s %s", target, options))
					requireSimulated(t, trace, target)
					require.Positive(t, trace.Counts.Unverified, "what knew the identifier but not the tag")
				})
			})
		}
	}
}
