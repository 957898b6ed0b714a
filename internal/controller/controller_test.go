package controller_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
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

var (
	target4 = netip.MustParseAddr("203.0.113.10")
	source4 = netip.MustParseAddr("192.0.2.1")
	source6 = netip.MustParseAddr("2001:db8:ff::1")
)

// hop is where a scripted path answers.
type hop struct {
	delay  time.Duration
	silent bool
	kind   probe.Kind // default: time exceeded
	code   uint8
}

// site is an agent whose network is a script: hop i of the path answers as
// path[i] says, and probes beyond it reach the last one.
type site struct {
	t      *testing.T
	id     string
	conn   transport.Conn
	path   []hop
	twist  func(a *probe.Answer) []probe.Answer // what is reported instead
	refuse string                               // every probe is refused with this

	mu        sync.Mutex
	asked     []transport.Ticket
	cancelled []uint64
}

func hopAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(i), 1})
}

// join connects a scripted site.
func join(ctx context.Context, t *testing.T, tr transport.Transport, id string, path []hop) *site {
	conn, err := tr.Dial(ctx)
	require.NoError(t, err)
	s := &site{t: t, id: id, conn: conn, path: path}
	require.NoError(t, conn.Send(ctx, &transport.Hello{Agent: id, Instance: 1, Clock: id, Types: []probe.Type{{Name: "udp"}, {Name: "tcp"}}, Sources: []netip.Addr{source4}}))
	m, err := conn.Receive(ctx)
	require.NoError(t, err)
	require.Equal(t, &transport.Welcome{Start: 10000, End: 20000}, m)
	go s.serve(ctx)
	return s
}

func (s *site) serve(ctx context.Context) {
	jobs := map[uint64]*transport.Job{}
	for {
		m, err := s.conn.Receive(ctx)
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *transport.Job:
			jobs[m.Session] = m
		case *transport.Cancel:
			s.mu.Lock()
			s.cancelled = append(s.cancelled, m.Session)
			s.mu.Unlock()
		case *transport.Ask:
			for _, ticket := range m.Probes {
				s.probe(ctx, jobs[m.Session], ticket)
			}
		}
	}
}

// probe sends one probe over the scripted path.
func (s *site) probe(ctx context.Context, j *transport.Job, ticket transport.Ticket) {
	s.mu.Lock()
	s.asked = append(s.asked, ticket)
	s.mu.Unlock()
	now := time.Now()
	report := transport.SentProbe{ID: ticket.ID, Time: now, Stamp: probe.KernelStamp, Err: s.refuse}
	_ = s.conn.Send(ctx, &transport.Sent{Session: j.Session, Source: source4, Probes: []transport.SentProbe{report}})
	i := min(int(ticket.TTL), len(s.path)) - 1
	h := s.path[i]
	if h.silent || s.refuse != "" {
		return
	}
	a := probe.Answer{
		ID: ticket.ID, Tag: j.Key.Tag(j.Dst, ticket.ID, probe.UDP), TagBits: 64, Protocol: probe.UDP,
		Kind: probe.TimeExceeded, ICMPType: 11, Dst: j.Dst, Src: source4, From: hopAddr(i + 1),
		TTL: 64, QuotedTTL: 1, Time: now.Add(h.delay), Stamp: probe.KernelStamp,
	}
	if h.kind != 0 {
		a.Kind, a.ICMPType, a.ICMPCode = h.kind, 3, h.code
		if h.kind == probe.Unreachable && h.code == 3 {
			a.From = j.Dst
		}
	}
	answers := []probe.Answer{a}
	if s.twist != nil {
		answers = s.twist(&a)
	}
	time.AfterFunc(h.delay, func() {
		_ = s.conn.Send(ctx, &transport.Answers{Answers: answers})
	})
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// resolver knows one name and is slow about another.
type resolver struct{}

func (resolver) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	switch host {
	case "target.example":
		return []netip.Addr{target4}, nil
	case "six.example":
		return []netip.Addr{source6}, nil
	case "slow.example":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, errors.New("no such host")
}

func (resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	switch addr {
	case hopAddr(1).String():
		return []string{"hop1.example."}, nil
	case hopAddr(2).String():
		<-ctx.Done()
		return nil, ctx.Err()
	case hopAddr(3).String():
		return []string{"evil\x1b[31m"}, nil
	}
	return nil, errors.New("no such name")
}

// start runs a controller until the test's bubble ends.
func start(t *testing.T) (context.Context, *controller.Controller, transport.Transport) {
	tr := inproc.New()
	ctx, c := startOn(t, tr)
	return ctx, c, tr
}

// startOn is start over a transport of the caller's choice.
func startOn(t *testing.T, tr transport.Transport) (context.Context, *controller.Controller) {
	ctx, stop := context.WithCancel(t.Context())
	r, err := alloc.NewRange(10000, 20000, 100)
	require.NoError(t, err)
	c := controller.New(controller.Config{
		Start: 10000, End: 20000, Allocator: r, NewCorrelator: result.NewCorrelator,
		Resolver: resolver{}, Logger: slog.New(slog.DiscardHandler),
	})
	done := make(chan error)
	go func() { done <- c.Run(ctx, tr) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
	return ctx, c
}

func spec() controller.Spec {
	return controller.Spec{
		Source: "a", Target: target4.String(), Prober: "udp", FirstTTL: 1, MaxTTL: 30, Queries: 3,
		Window: 16, Wait: 5 * time.Second, Here: 3, Near: 10, Port: 33434, Flows: 1, Numeric: true,
	}
}

func clearPath() []hop {
	return []hop{{delay: 10 * time.Millisecond}, {delay: 20 * time.Millisecond}, {delay: 30 * time.Millisecond}, {delay: 40 * time.Millisecond, kind: probe.Unreachable, code: 3}}
}

func TestStopsAtTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a := join(ctx, t, tr, "a", clearPath())
		synctest.Wait()
		began := time.Now()
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Equal(t, 40*time.Millisecond, time.Since(began))
		require.True(t, trace.Reached)
		require.Len(t, trace.Hops, 4)
		for i, h := range trace.Hops {
			require.Len(t, h.Probes, 3)
			for _, p := range h.Probes {
				require.Equal(t, result.Matched, p.Verdict)
				require.Equal(t, time.Duration(i+1)*10*time.Millisecond, *p.RTT)
				require.True(t, p.OneClock)
			}
		}
		require.Less(t, a.count(), 40, "probes beyond the destination")
		synctest.Wait()
		require.Equal(t, []uint64{1}, a.cancelled)
	})
}

func TestWaitsAdaptively(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(path []hop, s *controller.Spec)
		took   time.Duration
		stars  int // hops without any answer
	}{
		{"a later hop answered", func(p []hop, _ *controller.Spec) { p[1].silent = true }, 360 * time.Millisecond, 1},
		{"near off", func(p []hop, s *controller.Spec) { p[1].silent = true; s.Near = 0 }, 5 * time.Second, 1},
		{"never longer than the most", func(p []hop, s *controller.Spec) { p[1].silent = true; s.Wait = 100 * time.Millisecond }, 100 * time.Millisecond, 1},
		{"silent target", func(p []hop, s *controller.Spec) { p[3].silent = true; s.MaxTTL = 5 }, 5 * time.Second, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, c, tr := start(t)
				path, s := clearPath(), spec()
				tt.change(path, &s)
				join(ctx, t, tr, "a", path)
				synctest.Wait()
				began := time.Now()
				trace, err := c.Measure(ctx, s, nil)
				require.NoError(t, err)
				require.Equal(t, tt.took, time.Since(began))
				stars := 0
				for _, h := range trace.Hops {
					if !h.Probes[0].Answered() {
						stars++
					}
				}
				require.Equal(t, tt.stars, stars)
			})
		})
	}
}

func TestUnreachableFromARouterIsNotTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()[:3]
		path[2].kind, path[2].code = probe.Unreachable, 1
		join(ctx, t, tr, "a", path)
		synctest.Wait()
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Len(t, trace.Hops, 3, "but it leads no further")
		require.False(t, trace.Reached)
		require.Contains(t, trace.Text(), "!H")
	})
}

func TestWaitsByTheSameHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()[1:2]
		path[0].kind, path[0].code = probe.Unreachable, 3
		n := 0
		join(ctx, t, tr, "a", path).twist = func(a *probe.Answer) []probe.Answer {
			if n++; n == 2 {
				return nil // the second of three is lost
			}
			return []probe.Answer{*a}
		}
		synctest.Wait()
		s := spec()
		s.Near = 0
		began := time.Now()
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Equal(t, (3*21+50)*time.Millisecond, time.Since(began), "3 x 21 ms and the grace")
		require.False(t, trace.Hops[0].Probes[1].Answered())
	})
}

func TestKeepsToItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a := join(ctx, t, tr, "a", clearPath())
		synctest.Wait()
		s := spec()
		s.Window = 4
		go func() { _, _ = c.Measure(ctx, s, nil) }()
		synctest.Wait()
		require.Equal(t, 4, a.count())
		time.Sleep(10 * time.Millisecond) // virtual: hop 1 answers all its three
		synctest.Wait()
		require.Equal(t, 7, a.count())
	})
}

func TestVerdicts(t *testing.T) {
	tell := func(change func(a *probe.Answer)) func(*probe.Answer) []probe.Answer {
		return func(a *probe.Answer) []probe.Answer {
			b := *a
			change(&b)
			return []probe.Answer{b, *a}
		}
	}
	for _, tt := range []struct {
		name  string
		twist func(*probe.Answer) []probe.Answer
		want  result.Counts
	}{
		{"plain", nil, result.Counts{Matched: 12}},
		{"duplicate", tell(func(*probe.Answer) {}), result.Counts{Matched: 12, Duplicate: 12}},
		{"forged tag", tell(func(a *probe.Answer) { a.Tag ^= 1; a.From = source4 }), result.Counts{Matched: 12, Unverified: 12}},
		{"no tag", tell(func(a *probe.Answer) { a.TagBits = 0 }), result.Counts{Matched: 12, Unverified: 12}},
		{"other destination", tell(func(a *probe.Answer) { a.Dst = source4 }), result.Counts{Matched: 12, Foreign: 12}},
		{"never asked", tell(func(a *probe.Answer) { a.ID = 10095 }), result.Counts{Matched: 12, Foreign: 12}},
		{"swapped identification", func(a *probe.Answer) []probe.Answer {
			a.ID, a.Swappable, a.TagBits = a.ID<<8|a.ID>>8, true, 16
			a.Tag = uint64(probe.Tag16(a.Tag))
			return []probe.Answer{*a}
		}, result.Counts{Matched: 12}},
		{"identification one too high", func(a *probe.Answer) []probe.Answer {
			a.ID, a.Swappable, a.TagBits = a.ID+1, true, 16
			a.Tag = uint64(probe.Tag16(a.Tag))
			return []probe.Answer{*a}
		}, result.Counts{Matched: 12}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, c, tr := start(t)
				s := spec()
				s.MaxTTL = 4
				join(ctx, t, tr, "a", clearPath()).twist = tt.twist
				synctest.Wait()
				trace, err := c.Measure(ctx, s, nil)
				require.NoError(t, err)
				tt.want.Sent = 12
				got := trace.Counts
				// The last hop ends the measurement: what comes behind its
				// answers is not waited for.
				require.Equal(t, tt.want.Matched, got.Matched)
				require.Equal(t, tt.want.Sent, got.Sent)
				for _, p := range []struct{ got, want int }{
					{got.Duplicate, tt.want.Duplicate}, {got.Unverified, tt.want.Unverified}, {got.Foreign, tt.want.Foreign}, {got.Late, 0},
				} {
					require.InDelta(t, p.want, p.got, 1)
				}
			})
		})
	}
}

func TestLateAnswerStaysAStar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		// Hop 1 is given up after 10 x 61 + 50 ms and answers after 1 s, while
		// probes are still being sent, one every 100 ms.
		path := clearPath()
		for i := range path {
			path[i].delay = 60 * time.Millisecond
		}
		path[0].delay = time.Second
		s := spec()
		s.Interval = 100 * time.Millisecond
		join(ctx, t, tr, "a", path)
		synctest.Wait()
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Equal(t, 9, trace.Counts.Matched)
		require.Equal(t, 2, trace.Counts.Late, "the third comes after the end")
		p := trace.Hops[0].Probes[0]
		require.Equal(t, result.Late, p.Verdict)
		require.Equal(t, time.Second, *p.RTT)
		require.Contains(t, trace.Text(), "1  *  *  *")
	})
}

func TestAgentsThatAreNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		began := time.Now()
		_, err := c.Measure(ctx, spec(), nil)
		require.ErrorIs(t, err, fault.ErrUnknownAgent)
		require.Zero(t, time.Since(began))

		a := join(ctx, t, tr, "a", clearPath())
		conn, err := tr.Dial(ctx)
		require.NoError(t, err)
		require.NoError(t, conn.Send(ctx, &transport.Hello{Agent: "a", Instance: 2}))
		m, err := conn.Receive(ctx)
		require.NoError(t, err)
		require.Equal(t, 409, m.(*transport.Refused).Code)
		require.Contains(t, m.(*transport.Refused).Reason, `"a"`)
		_, err = conn.Receive(ctx)
		require.ErrorIs(t, err, transport.ErrClosed)
		_, err = c.Measure(ctx, spec(), nil)
		require.NoError(t, err, "the first one keeps working")

		// The same agent, back before its old connection was found dead.
		b := join(ctx, t, tr, "a", clearPath())
		_, err = c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Positive(t, b.count())
		_, err = a.conn.Receive(ctx)
		require.ErrorIs(t, err, transport.ErrClosed)
	})
}

func TestAgentLostInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[3].silent = true
		a := join(ctx, t, tr, "a", path)
		synctest.Wait()
		time.AfterFunc(time.Second, func() { a.conn.Close() })
		began := time.Now()
		trace, err := c.Measure(ctx, spec(), nil)
		require.ErrorIs(t, err, fault.ErrAgentLost)
		require.Equal(t, time.Second, time.Since(began))
		require.Contains(t, trace.Partial, `"a" disconnected`)
		require.True(t, trace.Hops[0].Probes[0].Answered())

		// Every identifier came back: the whole range can be had again.
		join(ctx, t, tr, "a", clearPath())
		s := spec()
		s.MaxTTL, s.Queries = 255, 10
		for range 8 {
			_, err = c.Measure(ctx, s, nil)
			require.NoError(t, err)
		}
	})
}

func TestReceiverLostIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[1].silent = true
		join(ctx, t, tr, "a", path)
		b := join(ctx, t, tr, "b", nil)
		synctest.Wait()
		time.AfterFunc(50*time.Millisecond, func() { b.conn.Close() })
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Len(t, trace.Account.Gaps, 1)
		g := trace.Account.Gaps[0]
		require.Equal(t, result.Gap{Agent: "b", Kind: result.Disconnected, From: trace.Started.Add(50 * time.Millisecond)}, g)
		require.Equal(t, []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 3}}, trace.Account.Unanswered)
		require.Contains(t, trace.Text(), "3 receiver away (b)\n# agent b was disconnected from 50ms on")
	})
}

func TestHostThatRefusesToSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		join(ctx, t, tr, "a", clearPath()).refuse = "message too long"
		synctest.Wait()
		began := time.Now()
		trace, err := c.Measure(ctx, spec(), nil)
		require.ErrorIs(t, err, fault.ErrRefused)
		require.ErrorContains(t, err, "message too long")
		require.Zero(t, time.Since(began))
		require.Equal(t, "message too long", trace.Hops[0].Probes[0].Error)
	})
}

func TestNamesAndTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		join(ctx, t, tr, "a", clearPath())
		synctest.Wait()
		s := spec()
		s.Numeric, s.Target = false, "target.example"
		began := time.Now()
		trace, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Equal(t, 2*time.Second+40*time.Millisecond, time.Since(began), "a slow name server is not waited for longer")
		require.Equal(t, "hop1.example", trace.Hops[0].Probes[0].Name)
		require.Empty(t, trace.Hops[1].Probes[0].Name)
		require.Empty(t, trace.Hops[2].Probes[0].Name, "control characters")

		for _, tt := range []struct {
			target, want string
			family       int
		}{
			{"nowhere.example", `cannot resolve "nowhere.example"`, 0},
			{"slow.example", `cannot resolve "slow.example"`, 0},
			{"six.example", `agent "a" has no IPv6 address`, 0},
			{"2001:db8::1", `agent "a" has no IPv6 address`, 0},
			{"target.example", "has no IPv6 address, only 203.0.113.10", 6},
			{"fe80::1%lo", "must be a unicast address", 0},
			{"224.0.0.1", "must be a unicast address", 0},
			{"0.0.0.0", "must be a unicast address", 0},
		} {
			s.Target, s.Family = tt.target, tt.family
			began := time.Now()
			_, err := c.Measure(ctx, s, nil)
			require.ErrorIs(t, err, fault.ErrUsage)
			require.ErrorContains(t, err, tt.want)
			require.LessOrEqual(t, time.Since(began), 5*time.Second)
		}
	})
}

func TestExhaustionAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		path := clearPath()
		path[3].silent = true
		join(ctx, t, tr, "a", path)
		synctest.Wait()
		mctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				trace, err := c.Measure(mctx, spec(), nil)
				require.ErrorIs(t, err, context.Canceled)
				require.NotEmpty(t, trace.Partial)
			})
		}
		synctest.Wait()
		_, err := c.Measure(ctx, spec(), nil)
		require.ErrorIs(t, err, alloc.ErrExhausted)
		var f *fault.Error
		require.ErrorAs(t, err, &f)
		require.Equal(t, 429, f.Code)

		s := spec()
		s.Target = "203.0.113.11"
		wg.Go(func() {
			_, err := c.Measure(mctx, s, nil)
			require.ErrorIs(t, err, context.Canceled, "another target has identifiers of its own")
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a := join(ctx, t, tr, "a", clearPath())
		synctest.Wait()
		s := spec()
		s.Interval = 100 * time.Millisecond
		began := time.Now()
		_, err := c.Measure(ctx, s, nil)
		require.NoError(t, err)
		require.Equal(t, 1140*time.Millisecond, time.Since(began), "12 probes and the last answer")
		require.Equal(t, 12, a.count())
	})
}
