package examples_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/internal/tracetest"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// fault goes wrong at a time after a measurement was asked for, and is over a
// while later, or with the measurement.
type fault struct {
	name     string
	at, over time.Duration
	begin    func()
	end      func()
}

func (f *fault) String() string { return fmt.Sprintf("%s from %v to %v", f.name, f.at, f.over) }

// chaos draws faults for a fleet.
type chaos struct {
	*siteFleet
	path *proxy
	r    *rand.Rand
}

// some is a random time.
func (c *chaos) some(most time.Duration) time.Duration { return time.Duration(c.r.Int64N(int64(most))) }

// schedule draws one to three faults that do not get into each other's way.
func (c *chaos) schedule() (all []*fault) {
	kinds := []func() *fault{c.onPath, c.onStream, c.atReceiver, c.atSource, c.inQueue, c.flood, c.silence}
	for _, i := range c.r.Perm(len(kinds))[:1+c.r.IntN(3)] {
		f := kinds[i]()
		f.at = max(0, c.some(1200*time.Millisecond)-400*time.Millisecond) // often before the first probe
		f.over = f.at + 50*time.Millisecond + c.some(1500*time.Millisecond)
		all = append(all, f)
	}
	return all
}

// onPath takes a link of the path down, at either end.
func (c *chaos) onPath() *fault {
	ends := [][2]*netlab.Host{{c.A, c.R1}, {c.R1, c.A}, {c.R3, c.R4}, {c.R4, c.R3}, {c.B, c.R3}, {c.R3, c.B}}[c.r.IntN(6)]
	f := &fault{name: fmt.Sprintf("link %s -- %s is down", ends[0].Name, ends[1].Name)}
	f.begin = func() { f.end = ends[0].Cut(ends[1]) }
	return f
}

// onStream cuts b off from the controller, which may find out or not.
func (c *chaos) onStream() *fault {
	if c.r.IntN(2) == 0 {
		f := &fault{name: "control link of b is down"}
		f.begin = func() { f.end = c.control.Cut(c.B) }
		return f
	}
	return &fault{name: "stream to b is cut", begin: c.path.cut, end: func() { c.path.open(c.t) }}
}

// atReceiver stops b or kills it.
func (c *chaos) atReceiver() *fault { return c.at("b") }

// atSource stops a or kills it.
func (c *chaos) atSource() *fault { return c.at("a") }

func (c *chaos) at(site string) *fault {
	if c.r.IntN(3) > 0 {
		return &fault{name: site + " is stopped", begin: c.agents[site].freeze, end: c.agents[site].thaw}
	}
	return &fault{name: site + " is killed", end: func() {}, begin: func() {
		c.agents[site].signal(syscall.SIGKILL)
		c.agents[site].wait(patience)
	}}
}

// inQueue lets b's kernel keep no more than a packet.
func (c *chaos) inQueue() *fault {
	fds := captureSockets(c.t, c.agents["b"])
	return &fault{
		name: "queue of b is small", begin: func() { resize(c.t, fds, 1) }, end: func() { resize(c.t, fds, 8<<20) },
	}
}

// flood sends b answers to probes that nobody has sent, all at once.
func (c *chaos) flood() *fault {
	var all [][]byte
	for _, dst := range []netip.Addr{c.Target4, c.Hops4[4].Next()} {
		for range 5 {
			all = append(all, c.forged(50, uint16(10000+c.r.IntN(200)), dst)...)
		}
	}
	put := c.R3.Wire(c.B)
	// While the link is down it takes nothing.
	return &fault{name: "flood at b", begin: func() { _ = put(all...) }, end: func() {}}
}

// silence has a router answer nothing.
func (c *chaos) silence() *fault {
	router := []*netlab.Host{c.R1, c.R2, c.R3, c.R4}[c.r.IntN(4)]
	f := &fault{name: router.Name + " is silent"}
	f.begin = func() { f.end = router.Silence() }
	return f
}

// options draws a measurement.
func (c *chaos) options() string {
	one := func(of ...string) string { return of[c.r.IntN(len(of))] }
	return strings.Join(strings.Fields(strings.Join([]string{
		one(c.Target4.String(), c.Target6.String()), "-n -m 6",
		one("", "-I", "-T -p 80", "-T -p 81", "-U"),
		one("-z 0.05", "-z 0.05 --flows 3", "-z 0.02 -q 6", "-N 4 -q 6", "-N 1 -q 1", ""),
		one("-w 0.5", "-w 1", "-w 1.5,0,0"),
	}, " ")), " ")
}

// suffer lets the faults happen until the measurement has ended, and ends them.
func suffer(client *process, all []*fault) {
	type event struct {
		at    time.Duration
		fault *fault
		end   bool
	}
	var events []event
	for _, f := range all {
		events = append(events, event{f.at, f, false}, event{f.over, f, true})
	}
	slices.SortFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	began := time.Now()
	begun := map[*fault]bool{}
	for _, e := range events {
		timer := time.NewTimer(e.at - time.Since(began))
		select {
		case <-timer.C:
		case <-client.done:
			timer.Stop()
			if !e.end {
				continue
			}
		}
		switch {
		case !e.end:
			e.fault.begin()
			begun[e.fault] = true
		case begun[e.fault]:
			e.fault.end()
		}
	}
}

// heal has all agents connected again.
func (c *chaos) heal() {
	for _, site := range []string{"a", "b"} {
		if !c.agents[site].running() {
			c.await(site, false)
			c.join(site)
		}
		c.await(site, true)
	}
}

// arrivals are when the two kernels got what answers the target's probes, by
// identifier, but for what was forged.
func arrivals(target netip.Addr, captures ...*netlab.Capture) map[uint16][]time.Time {
	all := map[uint16][]time.Time{}
	for _, c := range captures {
		for _, p := range c.Stop() {
			for _, prober := range []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}} {
				var a probe.Answer
				if p.Outgoing || !prober.Match(p.Data, &a) || a.Dst != target || a.From == forger {
					continue
				}
				ids, n := a.Readings()
				for _, id := range ids[:n] {
					all[id] = append(all[id], p.Time)
				}
			}
		}
	}
	return all
}

// requireHonest checks that what is said to have had no answer had none that
// either kernel got, and that no agent was in trouble then.
func requireHonest(t *testing.T, trace *result.Trace, arrived map[uint16][]time.Time) {
	t.Helper()
	const onTheWay = 20 * time.Millisecond // at most: the network is quick
	for _, h := range trace.Hops {
		for _, p := range h.Probes {
			if p.Missing != result.NoAnswer {
				continue
			}
			require.False(t, slices.ContainsFunc(arrived[p.ID], func(at time.Time) bool {
				return !at.Before(p.Sent) && at.Before(p.Sent.Add(onTheWay)) && at.Before(trace.Ended)
			}), "an answer has arrived at %v: %+v", arrived[p.ID], p)
			require.False(t, slices.ContainsFunc(trace.Account.Gaps, func(g result.Gap) bool {
				return g.From.Before(p.Sent) && (g.To.IsZero() || g.To.After(p.Sent))
			}), "sent in a gap: %+v", p)
		}
	}
}

// TestRandomSchedules measures while random things go wrong, over real kernels
// and processes. Afterwards all is well again.
func TestRandomSchedules(t *testing.T) {
	f, path := proxiedFleet(t)
	f.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	for seed := range uint64(8) {
		c := &chaos{siteFleet: f, path: path, r: rand.New(rand.NewPCG(seed, 1))}
		options, faults := c.options(), c.schedule()
		what := fmt.Sprintf("seed %d: %s: %v", seed, options, faults)
		t.Log(what)
		atA, atB := f.A.Capture(), f.B.Capture()
		client := f.begin(options)
		suffer(client, faults)
		status := client.wait(patience)
		if client.stdout.String() == "" { // the source could not even begin
			require.Equal(t, 1, status, what)
			require.NotEmpty(t, client.stderr.String(), what)
		} else {
			var trace result.Trace
			require.NoError(t, json.Unmarshal([]byte(client.stdout.String()), &trace), what)
			t.Logf("%s\n%+v", trace.Text(), trace.Account)
			tracetest.RequireAccount(t, &trace)
			requireHonest(t, &trace, arrivals(trace.Destination, atA, atB))
		}
		c.heal()
		trace := f.measure(f.Target4.String() + " -n -m 5 -w 20,0,0")
		require.Equal(t, 15, trace.Account.Answered, "%s\nafterwards: %s", what, trace.Text())
	}
}
