package controller_test

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/alloc"
	"bitbucket.org/uwpatio/voltadomar/internal/controller"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// dial connects an agent "a" that does nothing by itself.
func dial(ctx context.Context, t *testing.T, tr transport.Transport) transport.Conn {
	conn, err := tr.Dial(ctx)
	require.NoError(t, err)
	require.NoError(t, conn.Send(ctx, &transport.Hello{Agent: "a", Instance: 1, Clock: "a", Types: []probe.Type{{Name: "udp"}, {Name: "tcp"}}, Sources: []netip.Addr{source4}}))
	_, err = conn.Receive(ctx)
	require.NoError(t, err)
	synctest.Wait() // it is known a little later
	return conn
}

// tcpSite answers the n-th SYN of each TTL as script says; silent if kind is 0.
func tcpSite(ctx context.Context, conn transport.Conn, script func(ttl uint8, n int) (time.Duration, probe.Kind)) {
	var job *transport.Job
	asked := map[uint8]int{}
	for {
		m, err := conn.Receive(ctx)
		if err != nil {
			return
		}
		ask, ok := m.(*transport.Ask)
		if j, is := m.(*transport.Job); is {
			job = j
		}
		if !ok {
			continue
		}
		for _, k := range ask.Probes {
			_ = conn.Send(ctx, &transport.Sent{Session: ask.Session, Source: source4, Probes: []transport.SentProbe{{ID: k.ID, Time: time.Now()}}})
			after, kind := script(k.TTL, asked[k.TTL])
			asked[k.TTL]++
			if kind == 0 {
				continue
			}
			a := probe.Answer{
				ID: k.ID, Tag: job.Key.Tag(job.Dst, k.ID, probe.TCP), TagBits: 64, Protocol: probe.TCP,
				Kind: kind, Dst: job.Dst, Src: source4, From: job.Dst, Time: time.Now().Add(after),
			}
			if kind == probe.TimeExceeded {
				a.From = hopAddr(int(k.TTL))
			}
			time.AfterFunc(after, func() { _ = conn.Send(ctx, &transport.Answers{Answers: []probe.Answer{a}}) })
		}
	}
}

// TestOpenPort is about destinations that accept one SYN of a flow and ignore
// the others until it is reset.
func TestOpenPort(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name   string
		wait   time.Duration
		here   float64
		maxTTL int
		script func(ttl uint8, n int) (time.Duration, probe.Kind)
		stars  int
	}{
		{"ignores until reset", 5 * time.Second, 3, 1, func(_ uint8, n int) (time.Duration, probe.Kind) {
			if n == 1 || n == 2 {
				return 0, 0
			}
			return 10 * ms, probe.SYNACK
		}, 0},
		{"never answers the others", 5 * time.Second, 3, 1, func(_ uint8, n int) (time.Duration, probe.Kind) {
			if n > 0 {
				return 0, 0
			}
			return 10 * ms, probe.SYNACK
		}, 2},
		{"answers all within a fixed wait", 50 * ms, 0, 1, func(_ uint8, n int) (time.Duration, probe.Kind) {
			if n > 2 {
				return 0, 0
			}
			return time.Duration(20+5*n) * ms, probe.SYNACK
		}, 0},
		{"answers one that was asked again already", 5 * time.Second, 3, 1, func(_ uint8, n int) (time.Duration, probe.Kind) {
			switch n {
			case 0, 2:
				return 10 * ms, probe.SYNACK
			case 1:
				return 50 * ms, probe.SYNACK
			}
			return 0, 0
		}, 0},
		{"turns out nearer while one is asked again", 5 * time.Second, 3, 3, func(ttl uint8, n int) (time.Duration, probe.Kind) {
			switch {
			case ttl < 2:
				return 5 * ms, probe.TimeExceeded
			case ttl == 3 && n == 0:
				return 10 * ms, probe.SYNACK
			case ttl == 2 && n == 0:
				return 60 * ms, probe.SYNACK
			}
			return 0, 0
		}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, c, tr := start(t)
				conn := dial(ctx, t, tr)
				go tcpSite(ctx, conn, tt.script)
				synctest.Wait()
				s := spec()
				s.Prober, s.MaxTTL, s.Here, s.Wait = "tcp", tt.maxTTL, tt.here, tt.wait
				began := time.Now()
				trace, err := c.Measure(ctx, s, nil)
				require.NoError(t, err)
				require.Less(t, time.Since(began), 10*time.Second)
				stars := 0
				last := trace.Hops[len(trace.Hops)-1]
				require.Len(t, last.Probes, 3)
				for _, p := range last.Probes {
					if !p.Answered() {
						stars++
					}
				}
				require.Equal(t, tt.stars, stars, trace.Text())
			})
		})
	}
}

func TestLateAnswerWhileNamesAreLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[2].delay = 900 * time.Millisecond // given up long before; hop 2's name takes 2 s
		join(ctx, t, tr, "a", path)
		synctest.Wait()
		s := spec()
		s.Numeric = false
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Equal(t, 3, trace.Counts.Late)
	})
}

func TestStuckAgentHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		dial(ctx, t, tr) // it never reads again
		synctest.Wait()
		errs := make(chan error, 200)
		began := time.Now()
		for range 100 {
			go func() {
				_, err := c.Measure(ctx, spec(), nil)
				errs <- err
			}()
		}
		s := spec()
		s.Target = "203.0.113.99"
		for range 100 {
			go func() {
				_, err := c.Measure(ctx, s, nil)
				errs <- err
			}()
		}
		lost := 0
		for range cap(errs) {
			if err := <-errs; err != nil {
				require.ErrorIs(t, err, fault.ErrAgentLost)
				lost++
			}
		}
		require.Positive(t, lost)
		require.Less(t, time.Since(began), 20*time.Second)
	})
}

func TestOnlyTheSourceReportsAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[1].silent = true
		join(ctx, t, tr, "a", path)
		b := join(ctx, t, tr, "b", nil)
		synctest.Wait()
		time.AfterFunc(time.Millisecond, func() {
			_ = b.conn.Send(ctx, &transport.Failed{Session: 1, Code: 400, Reason: "made up"})
		})
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.True(t, trace.Reached)
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		conn := dial(ctx, t, tr)
		go func() {
			for {
				m, err := conn.Receive(ctx)
				if err != nil {
					return
				}
				ask, ok := m.(*transport.Ask)
				if !ok {
					continue
				}
				for _, k := range ask.Probes {
					for range 2 {
						_ = conn.Send(ctx, &transport.Sent{Session: ask.Session, Source: source4, Probes: []transport.SentProbe{{ID: k.ID, Time: time.Now()}, {ID: 9}}})
					}
				}
			}
		}()
		s := spec()
		s.MaxTTL = 2
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Equal(t, 6, trace.Counts.Sent)
	})
}

func TestUnreportedProbesAreNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		conn := dial(ctx, t, tr)
		go func() {
			for {
				if _, err := conn.Receive(ctx); err != nil {
					return
				}
			}
		}()
		b := join(ctx, t, tr, "b", nil)
		time.AfterFunc(time.Millisecond, func() {
			for id := range uint16(6) {
				_ = b.conn.Send(ctx, &transport.Sent{Session: 1, Probes: []transport.SentProbe{{ID: 10000 + id, Err: "made up"}}})
			}
		})
		s := spec()
		s.MaxTTL = 2
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Equal(t, []result.Loss{{Reason: result.Unreported, Detail: "a", Count: 6}}, trace.Account.Unanswered)
		require.Contains(t, trace.Text(), "6 sending not reported (a)")
	})
}

func TestWordsOfAnAgentAreNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		conn := dial(ctx, t, tr)
		go func() {
			for {
				m, err := conn.Receive(ctx)
				if err != nil {
					return
				}
				if j, ok := m.(*transport.Job); ok {
					_ = conn.Send(ctx, &transport.Failed{Session: j.Session, Code: 200, Reason: "\x1b[2J fine"})
				}
			}
		}()
		_, err := c.Measure(ctx, spec(), nil)
		var f *fault.Error
		require.ErrorAs(t, err, &f)
		require.Equal(t, 500, f.Code)
		require.Equal(t, "?[2J fine", f.Reason)
	})
}

func TestDroppedPacketsAreNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[1].silent = true
		join(ctx, t, tr, "a", path)
		b := join(ctx, t, tr, "b", nil)
		synctest.Wait()
		time.AfterFunc(50*time.Millisecond, func() {
			_ = b.conn.Send(ctx, &transport.Answers{Dropped: 17})
		})
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Equal(t, []result.Gap{{
			Agent: "b", Kind: result.QueueOverflow, From: trace.Started, To: trace.Started.Add(50 * time.Millisecond), Count: 17,
		}}, trace.Account.Gaps)
		require.Equal(t, []result.Loss{{Reason: result.Dropped, Detail: "b", Count: 3}}, trace.Account.Unanswered)
	})
}

// stingy gives fewer identifiers than asked for.
type stingy struct{}

func (stingy) Acquire(context.Context, netip.Addr, int) (alloc.Block, error) {
	return alloc.Block{First: 10000, N: 10}, nil
}

func (stingy) Release(alloc.Block) {}

func TestRunAndAllocatorOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		c := controller.New(controller.Config{
			Start: 10000, End: 20000, Allocator: stingy{}, NewCorrelator: result.NewCorrelator,
			Resolver: resolver{}, Logger: slog.New(slog.DiscardHandler),
		})
		tr := inproc.New()
		done := make(chan error)
		go func() { done <- c.Run(ctx, tr) }()
		join(ctx, t, tr, "a", clearPath())
		_, err := c.Measure(ctx, spec(), nil)
		require.ErrorContains(t, err, "10000 to 10009 when asked for 90")
		require.NoError(t, <-done, "a context that ends is no failure")
		require.ErrorIs(t, c.Run(t.Context(), tr), fault.ErrStopped)
		_, err = c.Measure(t.Context(), spec(), nil)
		require.ErrorIs(t, err, fault.ErrStopped)
		require.NoError(t, tr.Close())
	})
}
