package volta_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

var blocked4 = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}

// counting is a port that counts what it is given to send.
type counting struct {
	probe.Port
	sent *atomic.Int64
}

func (c counting) Send(ds []probe.Outgoing) error {
	c.sent.Add(int64(len(ds)))
	return c.Port.Send(ds)
}

// blocking runs a fleet over the simulated two sites, with a list of its
// controller's and one of agent a's.
func blocking(t *testing.T, do func(t *testing.T, f *fleet, controller, agent *probe.Blocklist, sent *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		n, err := simulatedTwoSites().Start()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		var controller, agent probe.Blocklist
		var sent atomic.Int64
		f := newFleet(t, false, &volta.ControllerConfig{Blocklist: &controller})
		for _, site := range []string{"a", "b"} {
			port, err := n.Port(site)
			require.NoError(t, err)
			cfg := volta.AgentConfig{ID: site, Port: port}
			if site == "a" {
				cfg.Port, cfg.Blocklist = counting{port, &sent}, &agent
			}
			f.join(t, cfg)
		}
		do(t, f, &controller, &agent, &sent)
	})
}

func parse(t *testing.T, line string) volta.Measurement {
	m, err := volta.ParseCommand(line)
	require.NoError(t, err)
	return m
}

// requireBlocked checks an error of a measurement that a rule forbids.
func requireBlocked(t *testing.T, err error, says string) {
	t.Helper()
	var e *volta.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 403, e.Code)
	require.ErrorIs(t, err, volta.ErrBlocked)
	require.ErrorContains(t, err, says)
}

func TestBlockedFromTheBeginning(t *testing.T) {
	t.Run("by the controller", func(t *testing.T) {
		blocking(t, func(t *testing.T, f *fleet, controller, _ *probe.Blocklist, sent *atomic.Int64) {
			controller.Set(blocked4)
			trace, err := f.Measure(f.ctx, parse(t, "volta a 203.0.113.10 -n"))
			requireBlocked(t, err, "no probe may be sent to 203.0.113.10: blocked by rule 203.0.113.0/24 of the controller")
			require.Nil(t, trace)
			require.Zero(t, sent.Load())
			controller.Set(nil)
			requireReached(t, f)
		})
	})
	t.Run("by the agent", func(t *testing.T) {
		blocking(t, func(t *testing.T, f *fleet, _, agent *probe.Blocklist, sent *atomic.Int64) {
			agent.Set(blocked4)
			began := time.Now()
			trace, err := f.Measure(f.ctx, parse(t, "volta a 203.0.113.10 -n"))
			requireBlocked(t, err, `agent "a" must not send to 203.0.113.10: blocked by rule 203.0.113.0/24`)
			require.Less(t, time.Since(began), time.Second)
			require.Zero(t, sent.Load())
			requireAccount(t, trace)
			for _, l := range trace.Account.Unanswered {
				require.Equal(t, result.Loss{Reason: result.Blocked, Detail: "203.0.113.0/24 (a)", Count: trace.Account.Asked}, l)
			}
			agent.Set(nil)
			requireReached(t, f)
		})
	})
}

func requireReached(t *testing.T, f *fleet) {
	t.Helper()
	trace, err := f.Measure(f.ctx, parse(t, "volta a 203.0.113.10 -n"))
	require.NoError(t, err)
	require.True(t, trace.Reached)
}

// TestBlockedUnderWay sets a list while a measurement runs.
func TestBlockedUnderWay(t *testing.T) {
	for _, who := range []string{"a", "controller"} {
		for _, options := range []string{"", "-N 1", "-z 0.1", "-I -z 0.1", "-T -p 80 -N 2"} {
			t.Run(strings.TrimSpace(who+" "+options), func(t *testing.T) {
				blocking(t, func(t *testing.T, f *fleet, controller, agent *probe.Blocklist, sent *atomic.Int64) {
					list := map[string]*probe.Blocklist{"a": agent, "controller": controller}[who]
					var trace *result.Trace
					var before int64
					var at time.Time
					for e, err := range f.Stream(f.ctx, parse(t, "volta a 203.0.113.10 -n -w 2 -m 8 "+options)) {
						require.NoError(t, err)
						if e.Trace != nil {
							trace = e.Trace
						} else if at.IsZero() {
							list.Set(blocked4)
							before, at = sent.Load(), time.Now()
						}
					}
					require.Less(t, time.Since(at), 4*time.Second)
					require.Equal(t, before, sent.Load(), "nothing leaves once it is blocked")
					require.EqualValues(t, before, trace.Counts.Sent)
					requireAccount(t, trace)
					detail := fmt.Sprintf("203.0.113.0/24 (%s)", who)
					n := 0
					for _, l := range trace.Account.Unanswered {
						if l.Reason == result.Blocked {
							require.Equal(t, detail, l.Detail)
							n = l.Count
						}
					}
					if trace.Reached {
						return // it was all asked before
					}
					require.NotZero(t, n, "%+v", trace.Account)
					require.EqualValues(t, 8*3, before+int64(n))
					require.Contains(t, trace.Text(), "not sent: blocked by a rule, "+detail)
				})
			})
		}
	}
}
