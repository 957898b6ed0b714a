package volta_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/sitetest"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// remoteSite is the site type as if it ran in another process.
func remoteSite() sitetest.Remote { return sitetest.Remote{Prober: sitetest.Prober()} }

// joinSites runs the agents of the two sites, with types besides the built-in
// ones.
func joinSites(t testing.TB, f *fleet, n *simnet.Network, types map[string][]probe.Prober) {
	for _, site := range n.Sites() {
		port, err := n.Port(site)
		require.NoError(t, err)
		f.join(t, volta.AgentConfig{ID: site, Port: port, Probers: append(volta.DefaultProbers(), types[site]...)})
	}
}

func answering() *simnet.Scenario {
	s := simulatedTwoSites()
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{sitetest.Port: sitetest.Server("fra1"), 53: sitetest.Server("alt1")}
	return s
}

// requireSites checks a trace whose destination answers for itself: every hop
// is credited to where its answers landed, as with the built-in types.
func requireSites(t testing.TB, trace *result.Trace, name string) {
	t.Helper()
	require.True(t, trace.Reached, trace.Text())
	hops := simulatedHops[trace.Destination]
	require.Len(t, trace.Hops, len(hops), trace.Text())
	for i, h := range trace.Hops {
		receiver := "a"
		if i > 1 {
			receiver = "b"
		}
		for _, p := range h.Probes {
			require.Equal(t, []any{result.Matched, receiver, hops[i]}, []any{p.Verdict, p.Receiver, p.Addr}, trace.Text())
			if i < len(hops)-1 {
				require.Nil(t, p.Values)
				require.Equal(t, "time-exceeded", p.Kind)
				continue
			}
			require.Equal(t, "udp-reply", p.Kind)
			require.Equal(t, []probe.Value{{Name: "site", Text: name}}, p.Values)
		}
	}
	require.Zero(t, trace.Counts.Foreign+trace.Counts.Unverified, trace.Text())
	require.Empty(t, trace.Account.Gaps)
}

// TestTypesOfOthers measures with a type that an agent, or both, have besides
// the built-in ones. Direct answers land at b.
func TestTypesOfOthers(t *testing.T) {
	local := []probe.Prober{sitetest.Prober()}
	remote := []probe.Prober{remoteSite()}
	for name, types := range map[string]map[string][]probe.Prober{
		"a, in process":                   {"a": local},
		"a, remote":                       {"a": remote},
		"both, in process":                {"a": local, "b": local},
		"both, remote":                    {"a": remote, "b": remote},
		"a in process, b remote":          {"a": local, "b": remote},
		"a, with a fault of b's own type": {"a": remote, "b": {sitetest.Remote{Prober: sitetest.Prober(), Matching: func(context.Context, int) error { return probe.ErrProber }}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, err := answering().Start()
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, n.Close()) })
				f := newFleet(t, false, &volta.ControllerConfig{Resolver: n})
				joinSites(t, f, n, types)
				for target := range simulatedHops {
					for options, site := range map[string]string{
						"": "fra1", "-p 53": "alt1", "-o greeting=hello": "fra1", "-q 10 -N 50": "fra1", "-N 1": "fra1", "--flows 3": "fra1", "200": "fra1",
					} {
						trace := f.measure(t, fmt.Sprintf("volta a %s -P site %s", target, options))
						requireSites(t, trace, site)
						for i, h := range trace.Hops {
							for _, p := range h.Probes {
								require.Equal(t, simulatedTimes[i], *p.RTT)
							}
						}
					}
					// Once there is all there is: a ping.
					trace := f.measure(t, fmt.Sprintf("volta a %s -P site -f 20 -m 20 -q 1", target))
					require.Equal(t, "b", trace.Hops[0].Probes[0].Receiver)
					require.Equal(t, "fra1", trace.Hops[0].Probes[0].Values[0].Text)
				}
			})
		})
	}
}

// TestTypesSideBySide runs many measurements of several types towards the same
// destination at once: none takes an answer of another.
func TestTypesSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := answering().Start()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		f := newFleet(t, false, &volta.ControllerConfig{Resolver: n})
		joinSites(t, f, n, map[string][]probe.Prober{"a": {remoteSite(), icmp.Carry(pinging{})}})
		options := []string{"-P site", "-P site -o greeting=hello", "", "-I", "-P pinging", "-P site -p 53"}
		traces := make([]*result.Trace, 60)
		errs := make([]error, len(traces))
		var wg sync.WaitGroup
		for i := range traces {
			m, err := volta.ParseCommand(fmt.Sprintf("volta a %s -n -m 8 %s", target4, options[i%len(options)]))
			require.NoError(t, err)
			wg.Go(func() { traces[i], errs[i] = f.Measure(f.ctx, m) })
		}
		wg.Wait()
		for i, trace := range traces {
			require.NoError(t, errs[i])
			require.Zero(t, trace.Counts.Unverified, trace.Text())
			switch options[i%len(options)] {
			case "-P site", "-P site -o greeting=hello":
				requireSites(t, trace, "fra1")
			case "-P site -p 53":
				requireSites(t, trace, "alt1")
			case "-P pinging":
				p := trace.Hops[4].Probes[0]
				require.Equal(t, []any{"b", "echo-reply", []probe.Value{{Name: "echoed", Text: "5"}}}, []any{p.Receiver, p.Kind, p.Values})
			default:
				requireSimulated(t, trace, target4)
			}
		}
	})
}

// pinging is a type over ICMP echo that says how much came back.
type pinging struct{}

func (pinging) Name() string { return "pinging" }

func (pinging) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) {
	return append(b, "hello"...), nil
}

func (pinging) ReadAnswer(data []byte, a *probe.Answer) bool {
	a.Values = []probe.Value{{Name: "echoed", Text: fmt.Sprint(len(data))}}
	return string(data) == "hello"
}

// A prober that fails ends its own measurements with a word that names it;
// others go on, and so does the agent.
func TestProberThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := answering().Start()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		f := newFleet(t, false, &volta.ControllerConfig{Resolver: n})
		var mu sync.Mutex
		var fault error
		failing := remoteSite()
		failing.Building = func(context.Context, int) error {
			mu.Lock()
			defer mu.Unlock()
			return fault
		}
		joinSites(t, f, n, map[string][]probe.Prober{"a": {failing}})
		set := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fault = err
		}
		m := volta.Measurement{Source: "a", Target: target4.String(), Prober: "site", Numeric: true, Interval: 10 * time.Millisecond}
		time.AfterFunc(55*time.Millisecond, func() { set(fmt.Errorf("%w: exit status 2", probe.ErrProber)) })
		var wg sync.WaitGroup
		wg.Go(func() {
			trace := f.measure(t, "volta a "+target4.String()+" -z 0.01")
			requireSimulated(t, trace, target4)
		})
		trace, err := f.Measure(f.ctx, m)
		require.ErrorIs(t, err, volta.ErrRefused)
		require.Equal(t, "prober site of agent a: prober failed: exit status 2", trace.Partial)
		require.Contains(t, trace.Text(), "# partial: prober site of agent a: prober failed: exit status 2")
		wg.Wait()
		set(nil)
		trace, err = f.Measure(f.ctx, m)
		require.NoError(t, err)
		requireSites(t, trace, "fra1")
	})
}

// TestTypesOverGRPC is the way of types, options and values through the users'
// door and the agents' one.
func TestTypesOverGRPC(t *testing.T) {
	n, err := answering().Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	f := newFleet(t, true, &volta.ControllerConfig{Resolver: n})
	joinSites(t, f, n, map[string][]probe.Prober{"a": {remoteSite()}})
	client, err := grpctransport.NewClient(grpctransport.ClientConfig{Addr: f.addr})
	require.NoError(t, err)
	defer client.Close()

	types, err := client.Types(f.ctx)
	require.NoError(t, err)
	require.Equal(t, f.Types(), types)
	require.Equal(t, probe.Describe(remoteSite()), types["a"][3])
	require.Len(t, types["b"], 3)

	for target := range simulatedHops {
		trace, err := client.Measure(f.ctx, strings.Fields(fmt.Sprintf("a %s -n -P site -o greeting=hello", target)), nil)
		require.NoError(t, err)
		requireSites(t, trace, "fra1")
		require.Equal(t, map[string]string{"greeting": "hello"}, trace.Options)
		require.Contains(t, trace.Text(), fmt.Sprintf("5  %s b [site=fra1]  ", target))
	}
	for line, want := range map[string]string{
		"volta b 203.0.113.10 -P site":                  `agent "b" has no prober "site": it has udp, icmp, tcp; agent a has site`,
		"volta a 203.0.113.10 -P dns":                   `agent "a" has no prober "dns": it has udp, icmp, tcp, site; no connected agent has dns`,
		"volta a 203.0.113.10 -P site -o greeting=x":    `prober site: option "greeting": "x": must be one of none, hello, hi`,
		"volta a 203.0.113.10 -P site -o greeting=hi":   `option "greeting": "hi": must be politer`,
		"volta a 203.0.113.10 -I -o x=y":                `prober icmp: option "x": "y": there are no options`,
		"volta a 203.0.113.10 -P site 40":               "size 40, want 55 to 65000 bytes",
		"volta a 203.0.113.10 -P site --classic -q 300": "-q 300: queries must be 1 to 10",
	} {
		code, output, err := client.UserRequest(f.ctx, line)
		require.NoError(t, err)
		require.Equal(t, 400, code, output)
		require.Contains(t, output, want)
	}
}

func TestWrongProbers(t *testing.T) {
	for want, probers := range map[string][]probe.Prober{
		`two are called "site"`: {sitetest.Prober(), remoteSite()},
		`name "A B"`:            {icmp.Carry(named("A B"))},
	} {
		_, err := volta.NewAgent(volta.AgentConfig{ID: "a", Port: newDeafPort(), Probers: probers})
		require.ErrorContains(t, err, want)
	}
}

// named is a payload of that name.
type named string

func (n named) Name() string                                         { return string(n) }
func (named) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) { return b, nil }
func (named) ReadAnswer([]byte, *probe.Answer) bool                  { return false }
