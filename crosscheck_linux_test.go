package volta_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/tun"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// onPaper is a fleet with an agent at each site of a scenario.
func onPaper(t *testing.T, s *simnet.Scenario) *fleet {
	t.Helper()
	n := startNetwork(t, s)
	f := newFleet(t, false, nil)
	for _, site := range n.Sites() {
		port, err := n.Port(site)
		require.NoError(t, err)
		f.join(t, volta.AgentConfig{ID: site, Port: port})
	}
	return f
}

// attached is a fleet with an agent in a namespace for each site of a scenario,
// whose kernel speaks to the network by a TUN device.
func attached(t *testing.T, s *simnet.Scenario) *fleet {
	t.Helper()
	lab := netlab.New(t)
	n := startNetwork(t, s)
	f := newFleet(t, false, nil)
	for _, site := range n.Sites() {
		h := lab.Host(site)
		require.NoError(t, h.Do(func() error {
			d, err := tun.Open(n, tun.Config{Site: site})
			if err == nil {
				t.Cleanup(func() { require.NoError(t, d.Close()) })
			}
			return err
		}))
		f.join(t, volta.AgentConfig{ID: site, Port: openPort(t, h, s.Sites[0].Addresses...)})
	}
	return f
}

func startNetwork(t *testing.T, s *simnet.Scenario) *simnet.Network {
	t.Helper()
	n, err := s.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// outcome is a trace without what differs from one run to the next: times,
// identifiers, and how many probes went on beyond the target before it
// answered.
func outcome(t *testing.T, trace *result.Trace) *result.Trace {
	t.Helper()
	c := trace.Counts
	require.Zero(t, c.Foreign+c.Unverified+c.Duplicate+c.Late, "%+v", c)
	o := *trace
	o.Started, o.Ended = time.Time{}, time.Time{}
	o.Counts, o.Account, o.Clocks, o.Hops = result.Counts{}, result.Account{}, nil, nil
	o.Findings = nil
	for _, f := range trace.Findings {
		if f.Kind != result.WrongClock {
			o.Findings = append(o.Findings, f)
		}
	}
	for _, h := range trace.Hops {
		hop := result.Hop{TTL: h.TTL}
		for _, p := range h.Probes {
			p.ID, p.Sent, p.Received = 0, time.Time{}, time.Time{}
			p.OneClock, p.RTT, p.Delay, p.Bound = false, nil, nil, nil
			hop.Probes = append(hop.Probes, p)
		}
		o.Hops = append(o.Hops, hop)
	}
	return &o
}

// ways are commands that show all that probes can be. Only one SYN goes to an
// open port: what another one meets there depends on when the reset arrives
// that the kernel of the catching site sends.
var ways = []string{
	"", "-I", "-T -p 80 -N 1 -q 1", "-T -p 81", "-U", "-p 7", "-p 40000", "--classic",
	"--flows 3", "--flows 3 -I", "--flows 3 -T -p 81", "-q 10 -N 32 -T -p 81", "-N 1", "-f 3", "-m 3",
	"-t 1", "-t 2", "-t 3", "-t 184", "-t 255", "-t 2 -I", "-t 255 -I", "-t 2 -T -p 80 -N 1 -q 1", "-t 255 -T -p 81",
	"-F", "-F -I", "-F -T -p 81", "60", "-I 100", "777", "1400", "-I 1400", "-F 1400", "-F -I 1400",
}

// sameEverywhere runs commands in two fleets and compares all that is known of
// every probe. Commands that wait for what never comes do so together.
func sameEverywhere(t *testing.T, want, got *fleet, targets []netip.Addr, ways ...string) {
	t.Helper()
	for _, options := range ways {
		for _, target := range targets {
			t.Run(fmt.Sprintf("%s %v", options, target), func(t *testing.T) {
				if strings.Contains(options, "-w") {
					t.Parallel()
				}
				line := fmt.Sprintf("volta a %v -w 10,0,0 %s", target, options)
				require.Equal(t, outcome(t, want.measure(t, line)), outcome(t, got.measure(t, line)))
			})
		}
	}
}

// service answers UDP port 7 of the target.
func service(s *simnet.Scenario) *simnet.Scenario {
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return b }}
	return s
}

// TestLikeKernels measures over namespaces with real kernels and over the same
// network on paper.
func TestLikeKernels(t *testing.T) {
	lab, real := twoSites(t, false)
	lab.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	lab.Target.EchoUDP(netip.AddrPortFrom(lab.Target4, 7))
	lab.Target.EchoUDP(netip.AddrPortFrom(lab.Target6, 7))
	targets := []netip.Addr{lab.Target4, lab.Target6}
	three := []string{"", "-I", "-T -p 81"}

	t.Run("plain", func(t *testing.T) {
		sim := onPaper(t, service(netlab.OnPaper()))
		sameEverywhere(t, real, sim, targets, ways...)
		sameEverywhere(t, real, sim, append(lab.Hops4[:4:4], lab.Hops6[:4]...), three...)
		// A host's kernel takes nothing that comes from itself, over IPv4.
		sameEverywhere(t, real, sim, []netip.Addr{lab.UnicastB4, lab.UnicastB6}, "-m 5 -w 0.2", "-m 5 -w 0.2 -I", "-m 5 -w 0.2 -T -p 81")
	})
	t.Run("silent router", func(t *testing.T) {
		t.Cleanup(lab.R2.Silence())
		s := netlab.OnPaper()
		s.Routers[1].Silent = true
		sameEverywhere(t, real, onPaper(t, s), targets, "-w 0.2", "-w 0.2 -I", "-w 0.2 -T -p 80 -N 1 -q 1")
	})
	t.Run("silent target", func(t *testing.T) {
		t.Cleanup(lab.Target.Silence())
		s := netlab.OnPaper()
		s.Hosts[0].Silent = true
		sameEverywhere(t, real, onPaper(t, s), targets, "-w 0.2 -m 7", "-w 0.2 -m 7 -I", "-w 0.2 -m 7 -T -p 80")
	})
	t.Run("unreachable", func(t *testing.T) {
		s := netlab.OnPaper()
		for i, a := range []netip.Addr{netip.MustParseAddr("203.0.113.11"), netip.MustParseAddr("2001:db8:fe::11")} {
			p := netip.PrefixFrom(a, a.BitLen())
			lab.R4.Unreachable(p)
			for j := range 3 {
				s.Routes = append(s.Routes, simnet.Route{At: s.Routers[j].Name, To: p, Via: []string{s.Routers[j+1].Name}})
			}
			s.Routes = append(s.Routes, simnet.Route{At: "r4", To: p, Drop: simnet.Unreachable})
			targets[i] = a
		}
		// A Linux router says so five times, then once a second.
		sameEverywhere(t, real, onPaper(t, s), targets, "-q 1 -N 1", "-q 1 -N 1 -I", "-q 1 -N 1 -T", "-q 1 -N 1 1400")
	})
	targets = []netip.Addr{lab.Target4, lab.Target6}
	t.Run("MTU", func(t *testing.T) {
		lab.R3.SetMTU("r4", 1280)
		lab.R4.SetMTU("r3", 1280)
		s := netlab.OnPaper()
		s.Links[3].MTU = 1280
		sameEverywhere(t, real, onPaper(t, s), targets, "-F 1280", "-F 1281", "1400", "-F -I 1400", "-F 1500", "-T -p 81")
	})
	t.Run("prohibited", func(t *testing.T) {
		s := netlab.OnPaper()
		for _, p := range []string{"192.0.2.1/32", "2001:db8:ff::1/128"} {
			lab.R2.ProhibitFrom(netip.MustParsePrefix(p))
		}
		for _, a := range targets {
			s.Routes = append(s.Routes, simnet.Route{At: "r2", To: netip.PrefixFrom(a, a.BitLen()), Drop: simnet.Prohibited})
		}
		sameEverywhere(t, real, onPaper(t, s), targets, "-q 1 -N 1", "-q 1 -N 1 -I", "-q 1 -N 1 -T")
	})
}

// TestLikeAttached measures over a scenario in this process and over the same
// behind TUN devices, with the port of a real host.
func TestLikeAttached(t *testing.T) {
	s := func() *simnet.Scenario {
		s := service(netlab.OnPaper())
		for i := range s.Links {
			s.Links[i].Delay = time.Millisecond
		}
		return s
	}
	tuns := attached(t, s())
	targets := s().Hosts[0].Addresses
	sameEverywhere(t, onPaper(t, s()), tuns, targets, ways...)

	for _, target := range targets {
		requireRoundTrips(t, tuns, target)
	}
}

// requireRoundTrips measures until the best round trips are those of the
// scenario, as far as a busy host lets them. None may be shorter.
func requireRoundTrips(t *testing.T, f *fleet, target netip.Addr) {
	t.Helper()
	const slack, runs = time.Millisecond, 50
	best := []time.Duration{time.Hour, time.Hour, time.Hour, time.Hour, time.Hour}
	for range runs {
		late := false
		for i, h := range f.measure(t, fmt.Sprintf("volta a %v", target)).Hops {
			for _, p := range h.Probes {
				require.Equal(t, []string{"kernel", "kernel"}, []string{p.SentStamp, p.RecvStamp})
				require.GreaterOrEqual(t, *p.RTT, roundTrips[i], "hop %d", i+1)
				best[i] = min(best[i], *p.RTT)
			}
			late = late || best[i] > roundTrips[i]+slack
		}
		if !late {
			return
		}
	}
	require.Failf(t, "late", "to %v: best of %d runs %v, want at most %v more than %v", target, runs, best, slack, roundTrips)
}

// roundTrips are those of a network with links of 1 ms: from the third hop on
// answers go to b.
var roundTrips = []time.Duration{2 * time.Millisecond, 4 * time.Millisecond, 4 * time.Millisecond, 6 * time.Millisecond, 8 * time.Millisecond}
