package volta_test

import (
	"cmp"
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// lagging is a transport over which messages take their time, another one each
// way.
type lagging struct {
	transport.Transport
	up, down time.Duration
}

func (l *lagging) Dial(ctx context.Context) (transport.Conn, error) {
	c, err := l.Transport.Dial(ctx)
	return &laggingConn{c, l}, err
}

type laggingConn struct {
	transport.Conn
	l *lagging
}

func (c *laggingConn) Send(ctx context.Context, m transport.Message) error {
	// The message is on its way: the sender has nothing to wait for.
	time.AfterFunc(c.l.up, func() { _ = c.Conn.Send(ctx, m) })
	return nil
}

func (c *laggingConn) Receive(ctx context.Context) (transport.Message, error) {
	m, err := c.Conn.Receive(ctx)
	time.Sleep(c.l.down) // virtual
	return m, err
}

// clockFleet has agents at the two sites whose clocks are wrong, and lopsided
// ways to the controller. With a name for them the clocks claim to be one.
func clockFleet(t *testing.T, a, b simnet.Clock, name string, test func(t *testing.T, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := simulatedTwoSites()
		s.Sites[0].Clock, s.Sites[1].Clock = a, b
		n, err := s.Start()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		f := newFleet(t, false, nil)
		dial := f.dial
		for site, l := range map[string]lagging{"a": {up: 2 * time.Millisecond, down: time.Millisecond / 2}, "b": {up: time.Millisecond / 4, down: 5 * time.Millisecond}} {
			port, err := n.Port(site)
			require.NoError(t, err)
			f.dial = func(t testing.TB) transport.Transport {
				l.Transport = dial(t)
				return &l
			}
			f.join(t, volta.AgentConfig{ID: site, Port: port, Clock: cmp.Or(name, "clock of "+site)})
		}
		test(t, f)
	})
}

// TestClockOffsets measures between clocks that are wrong in many ways: the
// true delay always lies within the bound.
func TestClockOffsets(t *testing.T) {
	for name, clocks := range map[string][2]simnet.Clock{
		"right":        {},
		"ahead":        {{}, {Ahead: 250 * time.Millisecond}},
		"behind":       {{Ahead: -3 * time.Second}, {}},
		"both skewed":  {{Skew: 50}, {Ahead: time.Hour, Skew: -50}},
		"step between": {{}, {Steps: []simnet.ClockStep{{At: 90 * time.Second, By: -3 * time.Second}}}},
	} {
		t.Run(name, func(t *testing.T) {
			clockFleet(t, clocks[0], clocks[1], "", func(t *testing.T, f *fleet) {
				for range 5 {
					time.Sleep(30 * time.Second) // virtual
					trace := f.measure(t, "volta a 203.0.113.10")
					require.Empty(t, trace.Findings, trace.Text())
					for i, h := range trace.Hops {
						for _, p := range h.Probes {
							require.NotNil(t, p.Delay, trace.Text())
							wrong := (*p.Delay - simulatedTimes[i]).Abs()
							require.LessOrEqual(t, wrong, *p.Bound+simulatedTimes[i]/10000, "hop %d: %v±%v", h.TTL, *p.Delay, *p.Bound)
							if p.Receiver == "a" {
								require.True(t, p.OneClock)
								require.Zero(t, *p.Bound)
								continue
							}
							require.False(t, p.OneClock)
							// Half the two round trips, and the drift of a second.
							require.Less(t, *p.Bound, 4500*time.Microsecond)
						}
					}
					require.Contains(t, trace.Text(), "±")
					require.NotContains(t, trace.Text(), "?")
				}
			})
		})
	}
}

// TestClockSetMeanwhile has a clock set while a measurement runs.
func TestClockSetMeanwhile(t *testing.T) {
	step := simnet.Clock{Steps: []simnet.ClockStep{{At: 10*time.Second + 700*time.Millisecond, By: -3 * time.Second}}}
	for name, clocks := range map[string][2]simnet.Clock{"the sender's": {step, {}}, "the receiver's": {{}, step}} {
		t.Run(name, func(t *testing.T) {
			clockFleet(t, clocks[0], clocks[1], "", func(t *testing.T, f *fleet) {
				time.Sleep(10 * time.Second) // virtual
				trace := f.measure(t, "volta a 203.0.113.10 -N 1 -z 0.1")
				require.True(t, trace.Reached)
				set := map[string]string{"the sender's": "a", "the receiver's": "b"}[name]
				require.True(t, trace.Clocks[set].Stepped, "%+v", trace.Clocks)
				var kinds []result.FindingKind
				for _, f := range trace.Findings {
					kinds = append(kinds, f.Kind)
				}
				require.Contains(t, kinds, result.WrongClock)
				for i, h := range trace.Hops {
					for _, p := range h.Probes {
						if p.Delay != nil {
							require.LessOrEqual(t, (*p.Delay - simulatedTimes[i]).Abs(), *p.Bound, "hop %d: %v±%v", h.TTL, *p.Delay, *p.Bound)
						}
					}
				}
			})
		})
	}
}

// hostsClock is a port that gives its times for those of the host's clock.
type hostsClock struct{ probe.Port }

// TestClockNames has agents whose clocks have names by default or were given
// one.
func TestClockNames(t *testing.T) {
	n, err := simulatedTwoSites().Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	const process = "^process-[0-9a-f]{16}$"
	host := process
	if runtime.GOOS == "linux" {
		host = "^host-[0-9a-f]{32}$"
	}
	for name, tt := range map[string]struct {
		own          bool      // the ports have a clock of their own
		given        [2]string // names
		nameA, nameB string    // patterns
		one          bool
	}{
		"the ports'":     {own: true, nameA: process, nameB: process, one: true},
		"the host's":     {nameA: host, nameB: host, one: true},
		"one given":      {given: [2]string{"one"}, nameA: "^one$", nameB: host},
		"two given":      {given: [2]string{"one", "two"}, nameA: "^one$", nameB: "^two$"},
		"the same given": {own: true, given: [2]string{"one", "one"}, nameA: "^one$", nameB: "^one$", one: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, false, nil)
			for i, site := range []string{"a", "b"} {
				port, err := n.Port(site)
				require.NoError(t, err)
				if !tt.own {
					port = hostsClock{port}
				}
				f.join(t, volta.AgentConfig{ID: site, Port: port, Clock: tt.given[i]})
			}
			trace := f.measure(t, "volta a 203.0.113.10")
			require.Regexp(t, tt.nameA, trace.Clocks["a"].Name)
			require.Regexp(t, tt.nameB, trace.Clocks["b"].Name)
			for _, h := range trace.Hops {
				for _, p := range h.Probes {
					require.Equal(t, tt.one || p.Receiver == "a", p.OneClock)
				}
			}
		})
	}
}

// TestSharedClockSetMeanwhile has two agents' one clock set at any moment of a
// measurement. A time that this has spoilt is not given for a round trip.
func TestSharedClockSetMeanwhile(t *testing.T) {
	for _, options := range []string{"-f 5 -q 1", "-f 3 -m 3 -q 1", "-N 1 -m 3"} {
		t.Run(options, func(t *testing.T) {
			spoilt := 0
			for at := -5 * time.Millisecond; at < 60*time.Millisecond; at += time.Millisecond / 2 {
				step := simnet.Clock{Steps: []simnet.ClockStep{{At: 10*time.Second + at, By: 3 * time.Second}}}
				clockFleet(t, step, step, "the same clock", func(t *testing.T, f *fleet) {
					time.Sleep(10 * time.Second) // virtual
					for _, h := range f.measure(t, "volta a 203.0.113.10 "+options).Hops {
						for _, p := range h.Probes {
							if (*p.RTT - simulatedTimes[h.TTL-1]).Abs() > time.Second {
								require.False(t, p.OneClock, "set after %v: hop %d at %s: %v", at, h.TTL, p.Receiver, *p.RTT)
								spoilt++
							}
						}
					}
				})
			}
			require.NotZero(t, spoilt)
		})
	}
}

// TestNegativeDelay has an agent claim a clock that it does not read.
func TestNegativeDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulatedTwoSites()
		s.Sites[1].Clock = simnet.Clock{Ahead: -time.Second}
		n, err := s.Start()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		f := newFleet(t, false, nil)
		for _, site := range n.Sites() {
			port, err := n.Port(site)
			require.NoError(t, err)
			f.join(t, volta.AgentConfig{ID: site, Port: port, Clock: "the same"})
		}
		trace := f.measure(t, "volta a 203.0.113.10")
		require.Contains(t, trace.Text(), "3  198.18.2.2 b  -996.000 ms")
		require.Contains(t, trace.Text(), "arrived 996ms before its probe was sent: the clock of a or b is not what it was taken to be")
	})
}
