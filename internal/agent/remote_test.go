package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/agent"
	"bitbucket.org/uwpatio/voltadomar/internal/sitetest"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// runWith starts an agent with probers and returns the controller's end of its
// connection.
func runWith(t *testing.T, all ...probe.Prober) (context.Context, *testPort, transport.Conn) {
	ctx, stop := context.WithCancel(t.Context())
	port := newTestPort()
	a := agent.New(agent.Config{ID: "a", Clock: "c", Instance: 7, Port: port, Probers: all, Logger: slog.New(slog.DiscardHandler)})
	tr := inproc.New()
	done := make(chan error)
	go func() { done <- a.Run(ctx, tr) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
	conn, err := tr.Accept(ctx)
	require.NoError(t, err)
	hello := receive[*transport.Hello](ctx, t, conn)
	require.True(t, hello.Watches)
	require.Len(t, hello.Types, len(all))
	require.NoError(t, conn.Send(ctx, &transport.Welcome{Start: 100, End: 200}))
	return ctx, port, conn
}

func send(ctx context.Context, t *testing.T, conn transport.Conn, ms ...transport.Message) {
	t.Helper()
	for _, m := range ms {
		require.NoError(t, conn.Send(ctx, m))
	}
}

func asked(session uint64, ids ...uint16) *transport.Ask {
	ask := &transport.Ask{Session: session}
	for _, id := range ids {
		ask.Probes = append(ask.Probes, transport.Ticket{ID: id, TTL: 1})
	}
	return ask
}

// sentIDs waits for the reports of n probes.
func sentIDs(ctx context.Context, t *testing.T, conn transport.Conn, n int) (ids []uint16) {
	t.Helper()
	for len(ids) < n {
		for _, p := range receive[*transport.Sent](ctx, t, conn).Probes {
			require.Empty(t, p.Err)
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func site(edit ...func(*sitetest.Remote)) sitetest.Remote {
	r := sitetest.Remote{Prober: sitetest.Prober()}
	for _, f := range edit {
		f(&r)
	}
	return r
}

func TestBuildsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches []int
		pr := site(func(r *sitetest.Remote) {
			r.Building = func(_ context.Context, n int) error {
				batches = append(batches, n)
				time.Sleep(time.Second) // virtual
				return nil
			}
		})
		ctx, port, conn := runWith(t, udp.Prober{}, pr)
		send(ctx, t, conn, &transport.Job{Session: 1, Prober: "site", Dst: dst}, asked(1, 101), &transport.Job{Session: 2, Prober: "udp", Dst: dst, DstPort: 33434})
		synctest.Wait()
		began := time.Now()
		send(ctx, t, conn, asked(1, 102, 103, 104), asked(2, 110, 111))
		require.Equal(t, []uint16{110, 111}, sentIDs(ctx, t, conn, 2))
		require.Zero(t, time.Since(began), "the other job does not wait")
		require.Equal(t, []uint16{101, 102, 103, 104}, sentIDs(ctx, t, conn, 4))
		require.Equal(t, 2*time.Second, time.Since(began))
		require.Equal(t, []int{1, 3}, batches)
		require.Equal(t, []uint16{110, 111, 101, 102, 103, 104}, port.ids)
	})
}

func TestBuildsAsideAtItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, conn := runWith(t, site())
		send(ctx, t, conn, &transport.Job{Session: 1, Prober: "site", Dst: dst, Interval: time.Second}, asked(1, 101, 102, 103))
		began := time.Now()
		require.Equal(t, []uint16{101, 102, 103}, sentIDs(ctx, t, conn, 3))
		require.Equal(t, 2*time.Second, time.Since(began))
		send(ctx, t, conn, asked(1, 104, 105, 106))
		synctest.Wait()
		send(ctx, t, conn, &transport.Cancel{Session: 1})
		time.Sleep(time.Minute) // virtual: nothing more leaves
		require.LessOrEqual(t, len(port.ids), 4)
	})
}

// Whatever a prober does wrong ends the jobs that use it, with a reason that
// names it, and no other.
func TestProberThatFails(t *testing.T) {
	failing := func(err error) func(context.Context, int) error {
		return func(context.Context, int) error { return err }
	}
	for _, tt := range []struct {
		name    string
		prober  probe.Prober
		options map[string]string
		dst     string
		size    int
		code    int
		reason  string
		after   time.Duration
	}{
		{name: "crashes", prober: site(func(r *sitetest.Remote) {
			r.Building = failing(errors.Join(probe.ErrProber, errors.New("exit status 2")))
		}),
			code: 500, reason: "prober site of agent a: prober failed\nexit status 2"},
		{name: "hangs", prober: site(func(r *sitetest.Remote) {
			r.Building = func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }
		}), code: 500, reason: "prober site of agent a: prober failed: it did not build probes within 3s", after: 3 * time.Second},
		{name: "spoofs its source", prober: site(func(r *sitetest.Remote) { r.Built = func(b *probe.Built) { b.Data[15]++ } }),
			code: 500, reason: "prober site of agent a: prober failed: it built a datagram that is not from 192.0.2.1 to 203.0.113.10"},
		{name: "aims elsewhere", prober: site(func(r *sitetest.Remote) { r.Built = func(b *probe.Built) { b.Data[19]++ } }),
			code: 500, reason: "not from 192.0.2.1 to 203.0.113.10"},
		{name: "builds the other family", prober: site(func(r *sitetest.Remote) {
			r.Built = func(b *probe.Built) { b.Data = append(make([]byte, 20), b.Data...); b.Data[0] = 0x60 }
		}),
			code: 500, reason: "not from 192.0.2.1 to 203.0.113.10"},
		{name: "builds nothing", prober: site(func(r *sitetest.Remote) { r.Built = func(b *probe.Built) { b.Data = nil } }),
			code: 500, reason: "not from 192.0.2.1 to 203.0.113.10"},
		{name: "builds half a header", prober: site(func(r *sitetest.Remote) { r.Built = func(b *probe.Built) { b.Data = b.Data[:19] } }),
			code: 500, reason: "not from 192.0.2.1 to 203.0.113.10"},
		{name: "refuses", prober: site(), size: 29, code: 400, reason: "probe cannot be built: size 29, want 55 to 65000 bytes"},
		{name: "refuses, in process", prober: sitetest.Prober(), size: 29, code: 400, reason: "probe cannot be built: size 29, want 55 to 65000 bytes"},
		{name: "does not like an option", prober: site(), options: map[string]string{"greeting": "hi"}, code: 400, reason: `option "greeting": "hi": must be politer`},
		{name: "does not like an option, in process", prober: sitetest.Prober(), options: map[string]string{"greeting": "hi"}, code: 400, reason: `option "greeting": "hi": must be politer`},
		{name: "has no such option", prober: sitetest.Prober(), options: map[string]string{"x": "y"}, code: 400, reason: `option "x": "y": must be one of greeting, shout`},
		{name: "has no options", prober: bare{}, options: map[string]string{"x": "y"}, code: 400, reason: `option "x": "y": there are no options`},
		{name: "fails in process", prober: bare{err: probe.ErrProber}, code: 500, reason: "prober failed"},
		{name: "fails in process, later", prober: bare{err: probe.ErrProber, after: 1}, code: 500, reason: "prober bare of agent a: prober failed"},
		{name: "misdirects in process", prober: bare{aim: 1}, code: 500, reason: "prober bare of agent a: prober failed: it built a datagram that is not from"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, port, conn := runWith(t, udp.Prober{}, tt.prober)
				began := time.Now()
				send(ctx, t, conn,
					&transport.Job{Session: 1, Prober: tt.prober.Name(), Dst: dst, Options: tt.options, Size: tt.size},
					&transport.Job{Session: 2, Prober: "udp", Dst: dst, DstPort: 33434}, asked(1, 101, 102))
				var failed *transport.Failed
				for failed == nil {
					m, err := conn.Receive(ctx)
					require.NoError(t, err)
					failed, _ = m.(*transport.Failed)
				}
				require.EqualValues(t, 1, failed.Session)
				require.Equal(t, tt.code, failed.Code)
				require.Contains(t, failed.Reason, tt.reason)
				require.Equal(t, tt.after, time.Since(began))
				require.Empty(t, port.ids)

				send(ctx, t, conn, asked(1, 103), asked(2, 110))
				for {
					m, err := conn.Receive(ctx)
					require.NoError(t, err)
					_, again := m.(*transport.Failed)
					require.False(t, again)
					if sent, ok := m.(*transport.Sent); ok && sent.Session == 2 {
						break
					}
				}
				require.Equal(t, []uint16{110}, port.ids)
			})
		})
	}
}

// bare is a prober of this process that fails after a number of probes, or aims
// wrong after the first.
type bare struct {
	err   error
	after uint16
	aim   byte
}

func (bare) Name() string { return "bare" }

func (b bare) Build(buf []byte, p *probe.Probe) ([]byte, error) {
	first := p.ID == 1 && p.TTL == 1 // the agent's sample
	if b.err != nil && (b.after == 0 || !first) {
		return buf, b.err
	}
	buf, err := udp.Prober{}.Build(buf, p)
	if err == nil && b.aim > 0 && !first {
		buf[19] += b.aim
	}
	return buf, err
}

func (bare) Match([]byte, *probe.Answer) bool { return false }

func TestProberThatIsTooSlowForItsJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, _, conn := runWith(t, udp.Prober{}, site(func(r *sitetest.Remote) {
			r.Building = func(context.Context, int) error { time.Sleep(time.Second); return nil }
		}))
		send(ctx, t, conn, &transport.Job{Session: 1, Prober: "site", Dst: dst})
		for range 50 {
			ask := &transport.Ask{Session: 1}
			for i := range 100 {
				ask.Probes = append(ask.Probes, transport.Ticket{ID: uint16(i + 1), TTL: 1})
			}
			send(ctx, t, conn, ask)
		}
		failed := receive[*transport.Failed](ctx, t, conn)
		require.Equal(t, 503, failed.Code)
		require.Contains(t, failed.Reason, "prober site of agent a: prober failed: 4096 probes wait to be built")
	})
}

// reply is a direct answer to a probe of the site type.
func reply(id uint16, from netip.Addr, name string) []byte {
	return sitetest.Reply(sitetest.Prober(), &probe.Probe{ID: id, Src: src, Dst: from, TTL: 1}, name)
}

func watch(number uint64, to netip.Addr) *transport.Watch {
	return &transport.Watch{Number: number, Prober: "site", Dst: to}
}

func TestReadsForItsWatches(t *testing.T) {
	for name, pr := range map[string]probe.Prober{"in process": sitetest.Prober(), "remote": site()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, port, conn := runWith(t, pr)
				greeted := watch(9, dst)
				greeted.Options = map[string]string{"greeting": "hello"}
				send(ctx, t, conn, greeted)
				require.Equal(t, &transport.Watching{Number: 9}, receive[*transport.Watching](ctx, t, conn))
				asks, err := pr.(probe.Optioner).With(greeted.Options)
				require.NoError(t, err)
				d := sitetest.Reply(asks, &probe.Probe{ID: 150, Src: src, Dst: dst, TTL: 1}, "fra\x1b1")
				port.in <- sitetest.Reply(asks, &probe.Probe{ID: 99, Src: src, Dst: dst, TTL: 1}, "not this controller's")
				port.in <- d
				got := receive[*transport.Answers](ctx, t, conn).Answers
				require.Len(t, got, 1)
				a := got[0]
				require.Equal(t, []probe.Value{{Name: "site", Text: "fra?1"}}, a.Values)
				require.Equal(t, []any{uint16(150), uint8(64), probe.UDPReply, dst, src, dst, uint8(60), probe.UDP, probe.KernelStamp},
					[]any{a.ID, a.TagBits, a.Kind, a.Dst, a.Src, a.From, a.TTL, a.Protocol, a.Stamp})
				require.True(t, a.Verified(&probe.Key{}, 150))

				// What others captured.
				send(ctx, t, conn, &transport.Read{Number: 9, Datagrams: []transport.Reference{
					{Ref: 1, Data: d}, {Ref: 2, Data: reply(150, dst, "without greeting")}, {Ref: 3}, {Ref: 4, Data: answer(t, 150)},
					{Ref: 5, Data: sitetest.Reply(asks, &probe.Probe{ID: 151, Src: src, Dst: netip.MustParseAddr("203.0.113.11"), TTL: 1}, "another's")},
				}}, &transport.Read{Number: 8, Datagrams: []transport.Reference{{Ref: 6, Data: d}}})
				read := map[uint64]transport.Reading{}
				for len(read) < 6 {
					for _, r := range receive[*transport.Readings](ctx, t, conn).Readings {
						read[r.Ref] = r
					}
				}
				require.Equal(t, transport.Reading{Ref: 1, OK: true, ID: 150, Tag: a.Tag, TagBits: 64, Values: a.Values}, read[1])
				for ref := uint64(2); ref <= 6; ref++ {
					require.Equal(t, transport.Reading{Ref: ref}, read[ref])
				}
			})
		})
	}
}

// A prober has no say in who answered whom, and when.
func TestReaderThatLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elsewhere := netip.MustParseAddr("198.51.100.1")
		ctx, port, conn := runWith(t, site(func(r *sitetest.Remote) {
			r.Matched = func(m *probe.Matched) {
				m.Answer = probe.Answer{
					ID: m.Answer.ID, Dst: elsewhere, From: elsewhere, Src: elsewhere, TTL: 1, Kind: probe.TimeExceeded, Protocol: 1, Swappable: true,
					Time: time.Now().Add(time.Hour), MPLS: make([]probe.Label, 1000), Values: make([]probe.Value, 1000),
				}
			}
		}))
		send(ctx, t, conn, watch(1, dst))
		receive[*transport.Watching](ctx, t, conn)
		now := time.Now()
		port.in <- reply(150, dst, "fra1")
		require.Equal(t, []probe.Answer{{
			ID: 150, Protocol: probe.UDP, Kind: probe.UDPReply, Dst: dst, Src: src, From: dst, TTL: 60, Time: now, Stamp: probe.KernelStamp,
		}}, receive[*transport.Answers](ctx, t, conn).Answers)
	})
}

func TestPassesOnWhatItCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, conn := runWith(t, udp.Prober{})
		other := netip.MustParseAddr("203.0.113.11")
		port.in <- reply(150, dst, "too early")
		synctest.Wait()
		send(ctx, t, conn, watch(1, dst), watch(2, dst), watch(3, other))
		for range 3 {
			require.Zero(t, receive[*transport.Watching](ctx, t, conn).Code)
		}
		echoed, err := udp.Prober{}.Build(nil, &probe.Probe{ID: 150, Src: src, Dst: dst, DstPort: sitetest.Port, TTL: 1})
		require.NoError(t, err)
		want := reply(150, dst, "fra1")
		for _, d := range [][]byte{
			answer(t, 99), // an error, of another controller
			reply(150, netip.MustParseAddr("203.0.113.12"), "not watched"),
			sitetest.UDP(dst, src, 53, []byte("not to our ports")),
			sitetest.UDP(dst, src, 61440, echoed[28:]), // known to the built-in types
			{}, {0x45}, {0x60},
			want,
		} {
			port.in <- d
		}
		got := map[uint64][]transport.Captured{}
		var answers int
		for len(got) < 2 || answers == 0 {
			m, err := conn.Receive(ctx)
			require.NoError(t, err)
			switch m := m.(type) {
			case *transport.Unread:
				got[m.Number] = append(got[m.Number], m.Datagrams...)
				require.Zero(t, m.Dropped)
			case *transport.Answers:
				answers += len(m.Answers)
			}
		}
		require.Equal(t, 1, answers, "the echo")
		for _, number := range []uint64{1, 2} {
			require.Len(t, got[number], 1)
			require.Equal(t, want, got[number][0].Data)
			require.Equal(t, probe.KernelStamp, got[number][0].Stamp)
			require.Equal(t, time.Now(), got[number][0].Time)
		}

		send(ctx, t, conn, &transport.Unwatch{Number: 1}, &transport.Unwatch{Number: 77}, watch(2, other))
		receive[*transport.Watching](ctx, t, conn)
		port.in <- want
		port.in <- reply(151, other, "ams1")
		seen := map[uint64]int{}
		for len(seen) < 2 {
			m := receive[*transport.Unread](ctx, t, conn)
			seen[m.Number] += len(m.Datagrams)
		}
		require.Equal(t, map[uint64]int{2: 1, 3: 1}, seen)
	})
}

func TestPassesOnWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, conn := runWith(t, udp.Prober{})
		send(ctx, t, conn, watch(1, dst))
		receive[*transport.Watching](ctx, t, conn)
		port.in <- reply(150, dst, strings.Repeat("x", 1500))
		require.EqualValues(t, 1, receive[*transport.Unread](ctx, t, conn).Dropped)

		d := reply(150, dst, "fra1")
		const n = 10_000
		count := func() (passed, dropped int) {
			for passed+dropped < n {
				m := receive[*transport.Unread](ctx, t, conn)
				require.LessOrEqual(t, len(m.Datagrams), 64)
				passed += len(m.Datagrams)
				dropped += int(m.Dropped)
			}
			return passed, dropped
		}
		flood := make(chan struct{})
		go func() {
			defer close(flood)
			for range n {
				port.in <- d
			}
		}()
		passed, _ := count()
		require.Equal(t, 4096, passed, "a burst at once")
		<-flood
		time.Sleep(2 * time.Second) // virtual
		for range n {
			port.in <- d
		}
		passed, _ = count()
		require.Equal(t, 2000, passed, "a thousand a second")
		send(ctx, t, conn, watch(2, dst), watch(3, dst))
		for range 2 {
			receive[*transport.Watching](ctx, t, conn)
		}
		time.Sleep(time.Hour) // virtual
		for range 100 {
			port.in <- d // nobody receives, until no message more is taken
			synctest.Wait()
		}
		const each = 3000
		for range each - 100 {
			port.in <- d
		}
		synctest.Wait()
		passed, dropped := 0, 0
		for passed+dropped < 3*each {
			m := receive[*transport.Unread](ctx, t, conn)
			passed += len(m.Datagrams)
			dropped += int(m.Dropped)
		}
		require.Positive(t, dropped, "all watches together have their bound")
		require.GreaterOrEqual(t, passed, 4096)
	})
}

// A prober that hangs while it reads holds up nobody, and what it does not get
// to is counted and named.
func TestReaderThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		ctx, port, conn := runWith(t, udp.Prober{}, site(func(r *sitetest.Remote) {
			r.Matching = func(ctx context.Context, _ int) error {
				if hang.Load() {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		}))
		send(ctx, t, conn, watch(1, dst))
		receive[*transport.Watching](ctx, t, conn)
		send(ctx, t, conn, &transport.Check{Seq: 1})
		require.Empty(t, receive[*transport.Status](ctx, t, conn).Behind)
		hang.Store(true)
		began := time.Now()
		d := reply(150, dst, "fra1")
		for range 5 {
			port.in <- d
		}
		port.in <- answer(t, 151)
		require.EqualValues(t, 151, receive[*transport.Answers](ctx, t, conn).Answers[0].ID)
		require.Zero(t, time.Since(began))
		send(ctx, t, conn, &transport.Check{Seq: 9})
		require.Empty(t, receive[*transport.Status](ctx, t, conn).Behind, "not for long")
		time.Sleep(100 * time.Millisecond)
		send(ctx, t, conn, &transport.Check{Seq: 2})
		require.Equal(t, []transport.Backlog{{Number: 1, Count: 5}}, receive[*transport.Status](ctx, t, conn).Behind)

		var failed *transport.Watching
		passed := 0
		for failed == nil || passed < 5 {
			m, err := conn.Receive(ctx)
			require.NoError(t, err)
			switch m := m.(type) {
			case *transport.Watching:
				failed = m
			case *transport.Unread:
				passed += len(m.Datagrams)
				require.Zero(t, m.Dropped)
			}
		}
		require.Equal(t, 500, failed.Code)
		require.Contains(t, failed.Reason, "it did not read answers within 2s")
		require.Less(t, time.Since(began), 5*time.Second)

		for range 3000 { // 256 are being read, 1024 wait
			port.in <- d
		}
		synctest.Wait()
		hang.Store(false)
		dropped, read := 0, 0
		// What was read may come before the word that it was.
		for dropped+read+passed < 3000+5 || failed.Code != 0 {
			m, err := conn.Receive(ctx)
			require.NoError(t, err)
			switch m := m.(type) {
			case *transport.Unread:
				dropped += int(m.Dropped)
				passed += len(m.Datagrams)
			case *transport.Answers:
				read += len(m.Answers)
			case *transport.Watching:
				failed = m
			}
		}
		require.Zero(t, failed.Code, "it reads again")
		require.Greater(t, dropped, 1000)
		require.GreaterOrEqual(t, read+passed-5, 1024)
		require.GreaterOrEqual(t, read, 1024-256)
		synctest.Wait() // the reader lets go of what it has told
		send(ctx, t, conn, &transport.Check{Seq: 3})
		require.Empty(t, receive[*transport.Status](ctx, t, conn).Behind)
	})
}

// What others captured and the prober cannot read is answered, not passed on.
func TestReaderThatFailsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, _, conn := runWith(t, site(func(r *sitetest.Remote) {
			r.Matching = func(context.Context, int) error { return probe.ErrProber }
		}))
		send(ctx, t, conn, watch(1, dst))
		receive[*transport.Watching](ctx, t, conn)
		send(ctx, t, conn, &transport.Read{Number: 1, Datagrams: []transport.Reference{{Ref: 5, Data: reply(150, dst, "fra1")}}})
		require.Equal(t, 500, receive[*transport.Watching](ctx, t, conn).Code)
		for {
			m, err := conn.Receive(ctx)
			require.NoError(t, err)
			if r, ok := m.(*transport.Readings); ok {
				require.Equal(t, []transport.Reading{{Ref: 5}}, r.Readings)
				return
			}
			require.Empty(t, m.(*transport.Unread).Datagrams)
		}
	})
}

// A watch with options that the prober refuses says so, and what comes is
// passed on.
func TestWatchThatCannotBeSet(t *testing.T) {
	for name, pr := range map[string]probe.Prober{"in process": sitetest.Prober(), "remote": site()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, port, conn := runWith(t, pr)
				m := watch(1, dst)
				m.Options = map[string]string{"greeting": "hi"}
				send(ctx, t, conn, m)
				w := receive[*transport.Watching](ctx, t, conn)
				require.Equal(t, 400, w.Code)
				require.Contains(t, w.Reason, "must be politer")
				port.in <- reply(150, dst, "fra1")
				for {
					got, err := conn.Receive(ctx)
					require.NoError(t, err)
					if m, ok := got.(*transport.Unread); ok {
						require.Len(t, m.Datagrams, 1)
						return
					}
					require.IsType(t, &transport.Answers{}, got, "known unasked")
				}
			})
		})
	}
}

// remoteUDP is the built-in type as a plugin. It must not be asked about what
// the agent knows.
type remoteUDP struct{ udp.Prober }

func (remoteUDP) Match([]byte, *probe.Answer) bool { panic("asked") }

func (p remoteUDP) BuildAll(_ context.Context, ps []probe.Probe, out []probe.Built) error {
	for i := range ps {
		out[i].Data, out[i].Err = p.Build(nil, &ps[i])
	}
	return nil
}

func (remoteUDP) MatchAll(context.Context, [][]byte, []probe.Matched) error { panic("asked") }

func TestBuiltInTypeAsAPlugin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, conn := runWith(t, remoteUDP{})
		send(ctx, t, conn, &transport.Job{Session: 1, Prober: "udp", Dst: dst, DstPort: 33434}, asked(1, 101))
		require.Equal(t, []uint16{101}, sentIDs(ctx, t, conn, 1))
		port.in <- answer(t, 150)
		require.EqualValues(t, 150, receive[*transport.Answers](ctx, t, conn).Answers[0].ID)
	})
}

// The agent knows the answers to built-in probes of others whatever it can
// send itself, and those of its own types without being asked.
func TestKnowsAnswersUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, conn := runWith(t, sitetest.Prober())
		port.in <- answer(t, 150)
		require.EqualValues(t, 150, receive[*transport.Answers](ctx, t, conn).Answers[0].ID)
		port.in <- reply(151, dst, "fra\x1b1")
		a := receive[*transport.Answers](ctx, t, conn).Answers[0]
		require.EqualValues(t, 151, a.ID)
		require.Equal(t, "fra?1", a.Values[0].Text)
		syn := packet.TCP{SrcPort: 80, DstPort: probe.SourcePort, Ack: 152<<16 + 5, Flags: packet.SYN | packet.ACK}
		segment, err := syn.Append(nil)
		require.NoError(t, err)
		h := packet.IPv4{TTL: 60, Protocol: probe.TCP, Src: dst, Dst: src}
		b, err := h.Append(nil, len(segment))
		require.NoError(t, err)
		port.in <- append(b, segment...)
		require.EqualValues(t, 152, receive[*transport.Answers](ctx, t, conn).Answers[0].ID)
	})
}
