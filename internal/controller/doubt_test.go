package controller_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// greet connects an agent whose messages go to each.
func greet(ctx context.Context, t *testing.T, tr transport.Transport, id string, each func(conn transport.Conn, m transport.Message)) transport.Conn {
	conn, err := tr.Dial(ctx)
	require.NoError(t, err)
	require.NoError(t, conn.Send(ctx, &transport.Hello{Agent: id, Instance: 1, Clock: id, Types: []probe.Type{{Name: "udp"}}, Sources: []netip.Addr{source4}}))
	_, err = conn.Receive(ctx)
	require.NoError(t, err)
	go func() {
		for {
			m, err := conn.Receive(ctx)
			if err != nil {
				return
			}
			each(conn, m)
		}
	}()
	return conn
}

// TestEverSlowerAgent has an agent answer each check within what its last
// answer earned it. It holds up no measurement for long.
func TestEverSlowerAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[1].silent = true
		join(ctx, t, tr, "a", path)
		takes := 450 * time.Millisecond
		greet(ctx, t, tr, "b", func(conn transport.Conn, m transport.Message) {
			if check, ok := m.(*transport.Check); ok {
				time.AfterFunc(takes, func() { _ = conn.Send(ctx, &transport.Status{Seq: check.Seq}) })
				takes = takes * 29 / 10
			}
		})
		time.Sleep(30 * time.Minute)
		began := time.Now()
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Less(t, time.Since(began), 5*time.Second)
		require.Equal(t, []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 3}}, firstLosses(trace, 1))
	})
}

func firstLosses(trace *result.Trace, n int) (some []result.Loss) {
	for _, l := range trace.Account.Unanswered {
		if l.Reason != result.Beyond && len(some) < n {
			some = append(some, l)
		}
	}
	return some
}

// narrow is a transport over which checks do not get through while it is shut.
type narrow struct {
	transport.Transport
	shut atomic.Bool
	open chan struct{}
}

func (n *narrow) Accept(ctx context.Context) (transport.Conn, error) {
	conn, err := n.Transport.Accept(ctx)
	return &narrowConn{conn, n}, err
}

type narrowConn struct {
	transport.Conn
	n *narrow
}

func (c *narrowConn) Send(ctx context.Context, m transport.Message) error {
	if _, ok := m.(*transport.Check); ok && c.n.shut.Load() {
		select {
		case <-c.n.open:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.Conn.Send(ctx, m)
}

// TestHastyCaller has a caller leave while it waits for a check that does not
// get through. The agent is checked all the same, and after that responds.
func TestHastyCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &narrow{Transport: inproc.New(), open: make(chan struct{})}
		ctx, c := startOn(t, tr)
		path := clearPath()
		path[1].silent = true
		greet(ctx, t, tr, "b", func(conn transport.Conn, m transport.Message) {
			if check, ok := m.(*transport.Check); ok {
				_ = conn.Send(ctx, &transport.Status{Seq: check.Seq})
			}
		})
		join(ctx, t, tr, "a", path)
		time.Sleep(time.Second + 100*time.Millisecond)
		// The pulse checks next at 10 s and a bit: only who waits checks now.
		hasty, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		time.AfterFunc(350*time.Millisecond, func() { tr.shut.Store(true) })
		time.AfterFunc(time.Second, func() { tr.shut.Store(false); close(tr.open) })
		began := time.Now()
		_, err := c.Measure(hasty, spec(), nil)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(began), 500*time.Millisecond)
		time.Sleep(time.Minute)
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Empty(t, trace.Account.Gaps)
	})
}

func TestLateEventSaysThatItIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		for i := range path {
			path[i].delay = 60 * time.Millisecond
		}
		path[0].delay = time.Second
		s := spec()
		s.Interval = 100 * time.Millisecond
		join(ctx, t, tr, "a", path)
		synctest.Wait()
		late := 0
		_, err := c.Measure(ctx, s, func(e result.Event) {
			if e.Probe.Verdict == result.Late {
				late++
				require.Equal(t, result.AnsweredLate, e.Probe.Missing)
			}
		})
		require.NoError(t, err)
		require.Equal(t, 2, late)
	})
}

// TestAnsweredAndRefused has an agent claim not to have sent what was answered,
// before and after the answer.
func TestAnsweredAndRefused(t *testing.T) {
	for name, after := range map[string]time.Duration{"answered first": time.Millisecond, "refused first": -time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, c, tr := start(t)
				var job *transport.Job
				greet(ctx, t, tr, "a", func(conn transport.Conn, m transport.Message) {
					if j, ok := m.(*transport.Job); ok {
						job = j
					}
					ask, ok := m.(*transport.Ask)
					if !ok {
						return
					}
					for _, k := range ask.Probes {
						sent := &transport.Sent{Session: ask.Session, Source: source4, Probes: []transport.SentProbe{{ID: k.ID, Time: time.Now()}}}
						if k.TTL == 1 {
							sent.Probes[0] = transport.SentProbe{ID: k.ID, Err: "no buffer space"}
						}
						a := probe.Answer{
							ID: k.ID, Tag: job.Key.Tag(job.Dst, k.ID, probe.UDP), TagBits: 64, Protocol: probe.UDP,
							Kind: probe.TimeExceeded, ICMPType: 11, Dst: job.Dst, Src: source4, From: hopAddr(1), QuotedTTL: 1, Time: time.Now(),
						}
						time.AfterFunc(5*time.Millisecond, func() { _ = conn.Send(ctx, &transport.Answers{Answers: []probe.Answer{a}}) })
						time.AfterFunc(5*time.Millisecond+after, func() { _ = conn.Send(ctx, sent) })
					}
				})
				synctest.Wait()
				s := spec()
				s.MaxTTL = 2
				trace, err := c.Measure(ctx, s, nil)
				require.NoError(t, err)
				require.True(t, trace.Account.Adds())
				require.Equal(t, trace.Counts.Matched, trace.Account.Answered)
				// What was refused is not waited for: its answers may come too late.
				require.GreaterOrEqual(t, trace.Account.Answered, 3)
				for _, h := range trace.Hops {
					for _, p := range h.Probes {
						require.Equal(t, p.Answered(), p.Missing == "")
						require.Equal(t, p.Answered(), p.Error == "")
					}
				}
			})
		})
	}
}

// TestSourceLeavesWhenAllIsDone has the source go away while names are looked
// up: nothing is missing from the measurement.
func TestSourceLeavesWhenAllIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a := join(ctx, t, tr, "a", clearPath())
		synctest.Wait()
		s := spec()
		s.Numeric = false
		time.AfterFunc(time.Second, func() { _ = a.conn.Close() })
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Empty(t, trace.Partial)
		require.True(t, trace.Reached)
		require.Empty(t, firstLosses(trace, 1))
	})
}

// TestOwnedUpStep has a clock that was set before the measurement, during a
// check: the next check, the first with times since, does not tell of it anew.
func TestOwnedUpStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		n := 0
		var job *transport.Job
		greet(ctx, t, tr, "a", func(conn transport.Conn, m transport.Message) {
			switch m := m.(type) {
			case *transport.Check:
				s := &transport.Status{Seq: m.Seq, Received: time.Now(), Replied: time.Now()}
				if n++; n == 3 {
					s.Received, s.Replied = time.Time{}, time.Time{}
				}
				if n >= 3 {
					s.Step = 1
				}
				_ = conn.Send(ctx, s)
			case *transport.Job:
				job = m
			case *transport.Ask:
				for _, k := range m.Probes {
					now := time.Now()
					_ = conn.Send(ctx, &transport.Sent{Session: m.Session, Source: source4, Step: 1, Probes: []transport.SentProbe{{ID: k.ID, Time: now}}})
					ans := probe.Answer{
						ID: k.ID, Tag: job.Key.Tag(job.Dst, k.ID, probe.UDP), TagBits: 64, Protocol: probe.UDP,
						Kind: probe.Unreachable, ICMPType: 3, ICMPCode: 3, Dst: job.Dst, Src: source4, From: job.Dst, Time: now.Add(30 * time.Millisecond),
					}
					time.AfterFunc(30*time.Millisecond, func() { _ = conn.Send(ctx, &transport.Answers{Answers: []probe.Answer{ans}, Step: 1}) })
				}
			}
		})
		time.Sleep(50 * time.Millisecond) // three checks
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Greater(t, n, 3)
		require.False(t, trace.Clocks["a"].Stepped)
		require.Empty(t, trace.Findings)
	})
}

// TestSilentThenGone has an agent fall silent just after a check, lose its
// connection a while later and come back. What may have been captured in all
// that time is not there.
func TestSilentThenGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[3].silent = true
		join(ctx, t, tr, "a", path)
		var silent atomic.Bool
		each := func(conn transport.Conn, m transport.Message) {
			if check, ok := m.(*transport.Check); ok && !silent.Load() {
				_ = conn.Send(ctx, &transport.Status{Seq: check.Seq})
			}
		}
		b := greet(ctx, t, tr, "b", each)
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		time.AfterFunc(10*time.Millisecond, func() { silent.Store(true) })
		time.AfterFunc(6*time.Second, func() {
			_ = b.Close()
			synctest.Wait()
			silent.Store(false)
			greet(ctx, t, tr, "b", each)
		})
		s := spec()
		s.MaxTTL, s.Window, s.Here, s.Near, s.Wait = 5, 1, 0, 0, 2*time.Second
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Len(t, trace.Account.Gaps, 1)
		g := trace.Account.Gaps[0]
		require.Equal(t, result.Disconnected, g.Kind)
		require.Less(t, g.From.Sub(began), 1100*time.Millisecond)
		require.Equal(t, 6*time.Second, g.To.Sub(began))
		p := trace.Hops[3].Probes[1] // sent at about 2 s
		require.Equal(t, result.ReceiverAway, p.Missing)
	})
}

// TestBackAmongMany has an agent come back of more than are remembered to be
// away.
func TestBackAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		join(ctx, t, tr, "a", clearPath())
		idle := func(transport.Conn, transport.Message) {}
		for i := range 1024 {
			_ = greet(ctx, t, tr, fmt.Sprintf("gone%d", i), idle).Close()
		}
		b := greet(ctx, t, tr, "b", idle)
		synctest.Wait()
		began := time.Now()
		time.AfterFunc(10*time.Millisecond, func() { _ = b.Close() })
		time.AfterFunc(20*time.Millisecond, func() { greet(ctx, t, tr, "b", idle) })
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		i := slices.IndexFunc(trace.Account.Gaps, func(g result.Gap) bool { return g.Agent == "b" })
		require.NotEqual(t, -1, i)
		require.Equal(t, 20*time.Millisecond, trace.Account.Gaps[i].To.Sub(began))
	})
}

// TestSilentUntilTheEnd has an agent fall silent just after a check, and the
// measurement end before the next one: what it may have captured since its last
// word is missing.
func TestSilentUntilTheEnd(t *testing.T) {
	for name, tt := range map[string]struct{ tells, leaves bool }{
		"stays":                               {},
		"leaves before the next check":        {leaves: true},
		"tells of something older and leaves": {tells: true, leaves: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, c, tr := start(t)
				path := clearPath()
				path[3].silent = true
				join(ctx, t, tr, "a", path)
				var silent atomic.Bool
				b := greet(ctx, t, tr, "b", func(conn transport.Conn, m transport.Message) {
					if check, ok := m.(*transport.Check); ok && !silent.Load() {
						_ = conn.Send(ctx, &transport.Status{Seq: check.Seq})
					}
				})
				time.Sleep(100 * time.Millisecond)
				began := time.Now()
				time.AfterFunc(10*time.Millisecond, func() { silent.Store(true) })
				if tt.tells {
					time.AfterFunc(500*time.Millisecond, func() {
						_ = b.Send(ctx, &transport.Answers{Answers: []probe.Answer{{ID: 10000, Dst: source6}}})
					})
				}
				if tt.leaves {
					time.AfterFunc(700*time.Millisecond, func() { _ = b.Close() })
				}
				s := spec()
				s.Window, s.Here, s.Near, s.Wait = 1, 0, 0, 100*time.Millisecond
				trace, err := c.Measure(ctx, s, nil)
				require.NoError(t, err)
				for _, p := range trace.Hops[3].Probes {
					require.Less(t, p.Sent.Sub(began), 600*time.Millisecond)
					require.Equal(t, result.ReceiverAway, p.Missing)
					require.Equal(t, "b", p.MissingDetail)
				}
			})
		})
	}
}

// TestAnswerOfAProbeThatLeftLate has a stuck agent send a probe after it was
// given up: its answer comes in time after the sending, but not after the asking.
func TestAnswerOfAProbeThatLeftLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		jobs := map[uint64]*transport.Job{}
		greet(ctx, t, tr, "a", func(conn transport.Conn, m transport.Message) {
			switch m := m.(type) {
			case *transport.Job:
				jobs[m.Session] = m
			case *transport.Ask:
				j, id, stuck := jobs[m.Session], m.Probes[0].ID, time.Duration(0)
				if id == 10000 {
					stuck = 2 * time.Second
				}
				time.AfterFunc(stuck, func() {
					report := transport.SentProbe{ID: id, Time: time.Now(), Stamp: probe.KernelStamp}
					_ = conn.Send(ctx, &transport.Sent{Session: m.Session, Source: source4, Probes: []transport.SentProbe{report}})
				})
				if id != 10000 {
					return
				}
				time.AfterFunc(stuck+1400*time.Millisecond, func() {
					_ = conn.Send(ctx, &transport.Answers{Answers: []probe.Answer{{
						ID: id, Tag: j.Key.Tag(j.Dst, id, probe.UDP), TagBits: 64, Protocol: probe.UDP, Kind: probe.TimeExceeded, ICMPType: 11,
						Dst: j.Dst, Src: source4, From: hopAddr(1), QuotedTTL: 1, Time: time.Now(), Stamp: probe.KernelStamp,
					}}})
				})
			}
		})
		synctest.Wait()
		s := spec()
		s.Window, s.MaxTTL, s.Here, s.Near, s.Wait = 1, 1, 0, 0, 1500*time.Millisecond
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		p := trace.Hops[0].Probes[0]
		require.Equal(t, 1400*time.Millisecond, *p.RTT)
		require.Equal(t, result.Late, p.Verdict)
		require.Equal(t, 1, trace.Counts.Late)
	})
}
