package controller_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/controller"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/internal/sitetest"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// script is an agent that does what its test says.
type script struct {
	t    *testing.T
	ctx  context.Context
	conn transport.Conn
}

func siteType() probe.Type { return probe.Describe(sitetest.Remote{Prober: sitetest.Prober()}) }

// enrol connects an agent that watches, with some types.
func enrol(ctx context.Context, t *testing.T, tr transport.Transport, id string, types ...probe.Type) *script {
	t.Helper()
	conn, err := tr.Dial(ctx)
	require.NoError(t, err)
	a := &script{t, ctx, conn}
	a.send(&transport.Hello{Agent: id, Instance: 1, Clock: id, Types: types, Watches: true, Sources: []netip.Addr{source4}})
	next[*transport.Welcome](a)
	synctest.Wait() // it is known a little later
	return a
}

func (a *script) send(m transport.Message) {
	a.t.Helper()
	require.NoError(a.t, a.conn.Send(a.ctx, m))
}

// next returns the next message, which must be a T; checks apart.
func next[T transport.Message](a *script) T {
	a.t.Helper()
	for {
		m, err := a.conn.Receive(a.ctx)
		require.NoError(a.t, err)
		if _, ok := m.(*transport.Check); ok {
			continue
		}
		require.IsType(a.t, *new(T), m)
		return m.(T)
	}
}

// quiet requires that nothing has been sent to the agent.
func (a *script) quiet() {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, time.Millisecond)
	defer cancel()
	for {
		m, err := a.conn.Receive(ctx)
		if err != nil {
			require.ErrorIs(a.t, err, context.DeadlineExceeded)
			return
		}
		require.IsType(a.t, &transport.Check{}, m)
	}
}

// report says that the probes of an ask left.
func (a *script) report(ask *transport.Ask) {
	a.t.Helper()
	m := &transport.Sent{Session: ask.Session, Source: source4}
	for _, k := range ask.Probes {
		m.Probes = append(m.Probes, transport.SentProbe{ID: k.ID, Time: time.Now(), Stamp: probe.KernelStamp})
	}
	a.send(m)
}

// outcome is what a measurement comes to.
type outcome struct {
	trace *result.Trace
	err   error
}

func measure(ctx context.Context, c *controller.Controller, s controller.Spec) <-chan outcome {
	ended := make(chan outcome, 1)
	go func() {
		trace, err := c.Measure(ctx, s, nil)
		ended <- outcome{trace, err}
	}()
	return ended
}

// siteSpec asks for one probe of the site type, and another if it stays
// unanswered.
func siteSpec() controller.Spec {
	s := spec()
	s.Prober, s.MaxTTL, s.Queries, s.Port, s.Wait = "site", 1, 1, 0, 5*time.Second
	return s
}

// reply is the direct answer to a probe of a job.
func reply(job *transport.Job, id uint16, name string) []byte {
	pr, err := sitetest.Prober().(probe.Optioner).With(job.Options)
	if err != nil {
		panic(err)
	}
	return sitetest.Reply(pr, &probe.Probe{ID: id, Key: job.Key, Src: source4, Dst: job.Dst, TTL: 1}, name)
}

// reading is what a prober of the job reads in a datagram.
func reading(job *transport.Job, ref transport.Reference) transport.Reading {
	pr, err := sitetest.Prober().(probe.Optioner).With(job.Options)
	if err != nil {
		panic(err)
	}
	var a probe.Answer
	if !pr.Match(ref.Data, &a) {
		return transport.Reading{Ref: ref.Ref}
	}
	return transport.Reading{Ref: ref.Ref, OK: true, ID: a.ID, Tag: a.Tag, TagBits: a.TagBits, Values: a.Values}
}

// under is a measurement of the site type under way, from a, with b watching.
type under struct {
	ctx   context.Context
	c     *controller.Controller
	tr    transport.Transport
	a, b  *script
	watch *transport.Watch
	job   *transport.Job
	id    uint16
	ended <-chan outcome
}

// began brings a measurement to where its only probe has left.
func began(t *testing.T, edit func(*controller.Spec)) *under {
	ctx, c, tr := start(t)
	u := &under{ctx: ctx, c: c, tr: tr}
	u.a, u.b = enrol(ctx, t, tr, "a", siteType()), enrol(ctx, t, tr, "b", probe.Type{Name: "udp"})
	s := siteSpec()
	if edit != nil {
		edit(&s)
	}
	u.ended = measure(ctx, c, s)
	u.begin(t)
	return u
}

func (u *under) begin(t *testing.T) {
	u.job = nil
	for range 2 { // the job and the watch, in any order
		m, err := u.a.conn.Receive(u.ctx)
		for ; err == nil; m, err = u.a.conn.Receive(u.ctx) {
			if _, ok := m.(*transport.Check); !ok {
				break
			}
		}
		require.NoError(t, err)
		switch m := m.(type) {
		case *transport.Job:
			u.job = m
		case *transport.Watch:
			u.watch = m
		default:
			require.Failf(t, "before the watch is confirmed", "%T", m)
		}
	}
	require.Equal(t, u.watch, next[*transport.Watch](u.b))
	u.a.quiet()
	u.a.send(&transport.Watching{Number: u.watch.Number})
	u.a.quiet()
	u.b.send(&transport.Watching{Number: u.watch.Number})
	ask := next[*transport.Ask](u.a)
	require.Len(t, ask.Probes, 1)
	u.id = ask.Probes[0].ID
	u.a.report(ask)
}

func TestAnswersAreReadElsewhereAndCreditedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, func(s *controller.Spec) { s.Options = map[string]string{"greeting": "hello"} })
		require.Equal(t, &transport.Watch{Number: u.watch.Number, Prober: "site", Options: map[string]string{"greeting": "hello"}, Dst: target4}, u.watch)
		require.Zero(t, u.job.DstPort, "options may choose it")
		require.Equal(t, u.watch.Options, u.job.Options)

		time.Sleep(10 * time.Millisecond)
		captured := time.Now().Add(-time.Millisecond)
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{{Data: reply(u.job, u.id, "fra\x1b1"), Time: captured, Stamp: probe.KernelStamp}}})
		read := next[*transport.Read](u.a)
		require.Equal(t, u.watch.Number, read.Number)
		require.Len(t, read.Datagrams, 1)
		u.a.send(&transport.Readings{Number: u.watch.Number, Readings: []transport.Reading{reading(u.job, read.Datagrams[0])}})
		got := <-u.ended
		require.NoError(t, got.err)
		require.True(t, got.trace.Reached)
		p := got.trace.Hops[0].Probes[0]
		require.Equal(t, []any{result.Matched, "b", target4, "udp-reply", uint8(60), "kernel"}, []any{p.Verdict, p.Receiver, p.Addr, p.Kind, p.ReplyTTL, p.RecvStamp})
		require.True(t, captured.Equal(p.Received))
		require.False(t, p.OneClock)
		require.Equal(t, []probe.Value{{Name: "site", Text: "fra?1"}}, p.Values)
		require.Equal(t, map[string]string{"greeting": "hello"}, got.trace.Options)
		require.Contains(t, got.trace.Text(), "b [site=fra?1]  ")

		require.Equal(t, u.watch.Number, next[*transport.Unwatch](u.b).Number)
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{{Data: reply(u.job, u.id, "late")}}})
		u.b.quiet()
	})
}

// No agent has a say in what was not given to it, nor twice, nor on whose
// behalf.
func TestReadingsAreCheckedStrictly(t *testing.T) {
	for _, tt := range []struct {
		name string
		// cheat returns who says what instead of a reading what it was given.
		cheat func(u *under, mallory *script, read *transport.Read) (*script, *transport.Readings)
	}{
		{"a guess", func(u *under, _ *script, read *transport.Read) (*script, *transport.Readings) {
			r := reading(u.job, read.Datagrams[0])
			r.Ref++
			return u.a, &transport.Readings{Number: read.Number, Readings: []transport.Reading{r, {Ref: 0, OK: true, ID: u.id}}}
		}},
		{"another watch", func(u *under, _ *script, read *transport.Read) (*script, *transport.Readings) {
			return u.a, &transport.Readings{Number: read.Number + 1, Readings: []transport.Reading{reading(u.job, read.Datagrams[0])}}
		}},
		{"who captured it", func(u *under, _ *script, read *transport.Read) (*script, *transport.Readings) {
			return u.b, &transport.Readings{Number: read.Number, Readings: []transport.Reading{reading(u.job, read.Datagrams[0])}}
		}},
		{"a bystander", func(u *under, mallory *script, read *transport.Read) (*script, *transport.Readings) {
			return mallory, &transport.Readings{Number: read.Number, Readings: []transport.Reading{reading(u.job, read.Datagrams[0])}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := began(t, nil)
				mallory := enrol(u.ctx, t, u.tr, "m", siteType())
				require.Equal(t, u.watch, next[*transport.Watch](mallory), "it came later")
				mallory.send(&transport.Watching{Number: u.watch.Number})
				u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{{Data: reply(u.job, u.id, "fra1")}}})
				read := next[*transport.Read](u.a)
				who, what := tt.cheat(u, mallory, read)
				who.send(what)
				time.Sleep(time.Second)
				select {
				case got := <-u.ended:
					require.Fail(t, "believed", got.trace.Text())
				default:
				}
				// The true reading still counts, once.
				r := reading(u.job, read.Datagrams[0])
				u.a.send(&transport.Readings{Number: read.Number, Readings: []transport.Reading{r, r}})
				got := <-u.ended
				require.NoError(t, got.err)
				require.Equal(t, result.Counts{Sent: 1, Matched: 1}, got.trace.Counts)
				require.Equal(t, "b", got.trace.Hops[0].Probes[0].Receiver)
			})
		})
	}
}

// Whoever reads for a measurement cannot answer for another one of the same
// destination, even if it knows that one's secret.
func TestReadingsAreForTheirMeasurementsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, nil)
		v := enrol(u.ctx, t, u.tr, "v", probe.Type{Name: "udp"})
		next[*transport.Watch](v)
		v.send(&transport.Watching{Number: u.watch.Number})
		s := spec()
		s.Source, s.MaxTTL, s.Queries = "v", 1, 1
		other := measure(u.ctx, u.c, s)
		job := next[*transport.Job](v)
		ask := next[*transport.Ask](v)
		v.report(ask)
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{{Data: reply(u.job, u.id, "fra1")}}})
		read := next[*transport.Read](u.a)
		id := ask.Probes[0].ID
		u.a.send(&transport.Readings{Number: read.Number, Readings: []transport.Reading{
			{Ref: read.Datagrams[0].Ref, OK: true, ID: id, Tag: job.Key.Tag(target4, id, probe.UDP), TagBits: 64},
		}})
		got := <-other
		require.NoError(t, got.err)
		require.False(t, got.trace.Reached)
		require.Equal(t, result.Counts{Sent: 1, Foreign: 1}, got.trace.Counts)
		require.False(t, (<-u.ended).trace.Reached)
	})
}

// What no agent was asked to pass on goes to nobody.
func TestUnreadIsCheckedStrictly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, nil)
		outsider, err := u.tr.Dial(u.ctx)
		require.NoError(t, err)
		o := &script{t, u.ctx, outsider}
		o.send(&transport.Hello{Agent: "o", Instance: 1}) // it cannot watch
		next[*transport.Welcome](o)
		good := reply(u.job, u.id, "fra1")
		o.send(&transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{{Data: good}}})
		u.b.send(&transport.Unread{Number: u.watch.Number + 1, Datagrams: []transport.Captured{{Data: good}}})
		elsewhere := *u.job
		elsewhere.Dst = netip.MustParseAddr("203.0.113.99")
		asked, err := udp.Prober{}.Build(nil, &probe.Probe{ID: 1, Src: target4, Dst: source4, DstPort: 53, TTL: 1})
		require.NoError(t, err)
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{
			{Data: reply(&elsewhere, u.id, "another's")}, {Data: asked}, {}, {Data: make([]byte, 100)}, {Data: append(good, make([]byte, 1500)...)},
		}})
		u.a.quiet()
		require.Equal(t, result.Counts{Sent: 1}, (<-u.ended).trace.Counts)
	})
}

func TestAgentsThatDoNotWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a, b := enrol(ctx, t, tr, "a", siteType()), enrol(ctx, t, tr, "b")
		began := time.Now()
		ended := measure(ctx, c, siteSpec())
		synctest.Wait()
		for range 2 {
			m, err := a.conn.Receive(ctx)
			for ; err == nil; m, err = a.conn.Receive(ctx) {
				if _, ok := m.(*transport.Check); !ok {
					break
				}
			}
			require.NoError(t, err)
			if w, ok := m.(*transport.Watch); ok {
				a.send(&transport.Watching{Number: w.Number})
			}
		}
		ask := next[*transport.Ask](a)
		require.Equal(t, time.Second, time.Since(began), "it is not waited for longer")
		a.report(ask)
		time.Sleep(time.Second)
		b.send(&transport.Watching{Number: next[*transport.Watch](b).Number})
		got := <-ended
		require.NoError(t, got.err)
		require.Equal(t, result.ReceiverAway, got.trace.Hops[0].Probes[0].Missing)
		require.Contains(t, got.trace.Text(), "# agent b was unresponsive from 0s to 2s")
	})
}

// Agents that know a type without being asked are left in peace.
func TestNobodyWatchesForWhatAllKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		local := probe.Describe(sitetest.Prober())
		a := enrol(ctx, t, tr, "a", probe.Type{Name: "udp", Remote: true}, local)
		b := enrol(ctx, t, tr, "b", local)
		for _, prober := range []string{"udp", "site"} {
			s := siteSpec()
			s.Prober = prober
			ended := measure(ctx, c, s)
			next[*transport.Job](a)
			a.report(next[*transport.Ask](a))
			require.NoError(t, (<-ended).err)
			next[*transport.Cancel](a)
			b.quiet()
		}
		s := siteSpec()
		s.Options = map[string]string{"greeting": "hello"}
		measure(ctx, c, s)
		next[*transport.Watch](b)
	})
}

// Who has a type in another process reads no more than it is asked to.
func TestRemoteTypesAreWatchedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		enrol(ctx, t, tr, "a", siteType())
		b := enrol(ctx, t, tr, "b", siteType())
		measure(ctx, c, siteSpec())
		next[*transport.Watch](b)
	})
}

// Measurements that are read alike share a watch.
func TestSharedWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, nil)
		second := measure(u.ctx, u.c, siteSpec())
		job := next[*transport.Job](u.a)
		ask := next[*transport.Ask](u.a)
		u.a.report(ask)
		u.b.quiet()
		id := ask.Probes[0].ID
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{{Data: reply(u.job, u.id, "fra1")}, {Data: reply(job, id, "ams1")}}})
		read := next[*transport.Read](u.a)
		require.Len(t, read.Datagrams, 2)
		u.a.send(&transport.Readings{Number: read.Number, Readings: []transport.Reading{reading(u.job, read.Datagrams[0])}})
		got := <-u.ended
		require.True(t, got.trace.Reached)
		require.EqualValues(t, sitetest.Port, u.job.DstPort, "the type's own")
		require.EqualValues(t, sitetest.Port, got.trace.Port)
		next[*transport.Cancel](u.a)
		u.b.quiet()
		u.a.send(&transport.Readings{Number: read.Number, Readings: []transport.Reading{reading(job, read.Datagrams[1])}})
		got = <-second
		require.Equal(t, "ams1", got.trace.Hops[0].Probes[0].Values[0].Text)
		require.Equal(t, u.watch.Number, next[*transport.Unwatch](u.b).Number)

		s := siteSpec()
		s.Options = map[string]string{"greeting": "hello"}
		measure(u.ctx, u.c, s)
		require.NotEqual(t, u.watch.Number, next[*transport.Watch](u.b).Number)
	})
}

// What was captured and not read is counted and named, whyever that is.
func TestWhatIsNotReadIsNamed(t *testing.T) {
	datagrams := func(u *under, n int) (ds []transport.Captured) {
		for range n {
			ds = append(ds, transport.Captured{Data: reply(u.job, u.id, "fra1")})
		}
		return ds
	}
	for _, tt := range []struct {
		name   string
		happen func(u *under)
		count  uint64
	}{
		{"dropped where it was captured", func(u *under) {
			u.b.send(&transport.Unread{Number: u.watch.Number, Dropped: 7})
		}, 7},
		{"too many at once", func(u *under) {
			u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: datagrams(u, 1030)})
			for n := 0; n < 1030; {
				n += len(next[*transport.Read](u.a).Datagrams)
			}
		}, 6},
		{"the reader cannot", func(u *under) {
			u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: datagrams(u, 3), Dropped: 1})
			next[*transport.Read](u.a)
			u.b.send(&transport.Watching{Number: u.watch.Number, Code: 500, Reason: "nobody asked it"})
		}, 1},
		{"waiting at the end", func(u *under) {
			behind := []transport.Backlog{{Number: u.watch.Number, Count: 9}, {Number: 77, Count: 1}}
			u.b.send(&transport.Status{Seq: 1, Behind: behind})
			go func() {
				for {
					m, err := u.b.conn.Receive(u.ctx)
					if err != nil {
						return
					}
					if m, ok := m.(*transport.Check); ok {
						_ = u.b.conn.Send(u.ctx, &transport.Status{Seq: m.Seq, Behind: behind})
					}
				}
			}()
		}, 9},
		{"waiting before, read at the end", func(u *under) {
			u.b.send(&transport.Status{Seq: 1, Behind: []transport.Backlog{{Number: u.watch.Number, Count: 9}}})
			go func() {
				for {
					m, err := u.b.conn.Receive(u.ctx)
					if err != nil {
						return
					}
					if m, ok := m.(*transport.Check); ok {
						_ = u.b.conn.Send(u.ctx, &transport.Status{Seq: m.Seq})
					}
				}
			}()
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := began(t, nil)
				tt.happen(u)
				got := <-u.ended
				require.NoError(t, got.err)
				p := got.trace.Hops[0].Probes[0]
				if tt.count == 0 {
					require.Equal(t, result.NoAnswer, p.Missing, got.trace.Text())
					return
				}
				require.Equal(t, result.Dropped, p.Missing, got.trace.Text())
				require.Equal(t, "b", p.MissingDetail)
				var n uint64
				for _, g := range got.trace.Account.Gaps {
					require.Equal(t, result.NotRead, g.Kind)
					require.Equal(t, "b", g.Agent)
					n += g.Count
				}
				require.Equal(t, tt.count, n)
				require.Contains(t, got.trace.Text(), "# agent b captured")
			})
		})
	}
}

// An agent that passes on too much cannot take the place of others' answers.
func TestFloodOfUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, nil)
		m := enrol(u.ctx, t, u.tr, "m")
		next[*transport.Watch](m)
		good := []transport.Captured{{Data: reply(u.job, u.id, "fra1")}}
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: good})
		first := next[*transport.Read](u.a).Datagrams[0]
		flood := &transport.Unread{Number: u.watch.Number, Datagrams: make([]transport.Captured, 1000)}
		for i := range flood.Datagrams {
			flood.Datagrams[i] = good[0]
		}
		read := 0
		for i := range 6 {
			m.send(flood)
			for read < min(1000*(i+1), 4096) {
				read += len(next[*transport.Read](u.a).Datagrams)
			}
		}
		require.Equal(t, 4096, read, "a burst")
		u.a.quiet()
		u.a.send(&transport.Readings{Number: u.watch.Number, Readings: []transport.Reading{reading(u.job, first)}})
		got := <-u.ended
		require.NoError(t, got.err)
		require.Equal(t, "b", got.trace.Hops[0].Probes[0].Receiver)
		require.Equal(t, result.Counts{Sent: 1, Matched: 1}, got.trace.Counts)
		gaps := got.trace.Account.Gaps
		require.Len(t, gaps, 1)
		require.Equal(t, []any{"m", result.NotRead, uint64(6000 - 1024)}, []any{gaps[0].Agent, gaps[0].Kind, gaps[0].Count})
	})
}

// The reader of a shared watch goes away: what it was reading is counted, and
// another source takes over.
func TestReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, nil)
		d := enrol(u.ctx, t, u.tr, "d", siteType())
		next[*transport.Watch](d)
		d.send(&transport.Watching{Number: u.watch.Number})
		s := siteSpec()
		s.Source = "d"
		second := measure(u.ctx, u.c, s)
		job := next[*transport.Job](d)
		ask := next[*transport.Ask](d)
		d.report(ask)
		answer := []transport.Captured{{Data: reply(job, ask.Probes[0].ID, "ams1")}}
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: answer})
		next[*transport.Read](u.a)
		require.NoError(t, u.a.conn.Close())
		require.ErrorIs(t, (<-u.ended).err, fault.ErrAgentLost)
		u.b.send(&transport.Unread{Number: u.watch.Number, Datagrams: answer})
		read := next[*transport.Read](d)
		d.send(&transport.Readings{Number: read.Number, Readings: []transport.Reading{reading(job, read.Datagrams[0])}})
		got := <-second
		require.NoError(t, got.err)
		require.Equal(t, "b", got.trace.Hops[0].Probes[0].Receiver)
		require.Contains(t, got.trace.Text(), "agent b captured 1 possible answers")
	})
}

// A prober that fails at the source ends what it measures there, with its name.
func TestReaderFails(t *testing.T) {
	for _, tt := range []struct {
		code, want int
		reason     string
	}{
		{500, 500, "prober site of agent a: exit status 2"},
		{7, 500, "prober site of agent a: exit status 2"},
		{400, 400, "exit status 2"},
	} {
		synctest.Test(t, func(t *testing.T) {
			u := began(t, nil)
			stranger := enrol(u.ctx, t, u.tr, "s")
			next[*transport.Watch](stranger)
			stranger.send(&transport.Watching{Number: u.watch.Number, Code: 500, Reason: "not mine"})
			u.b.send(&transport.Watching{Number: u.watch.Number, Code: 500, Reason: "not mine"})
			synctest.Wait()
			u.a.send(&transport.Watching{Number: u.watch.Number, Code: tt.code, Reason: "exit status 2"})
			got := <-u.ended
			var f *fault.Error
			require.ErrorAs(t, got.err, &f)
			require.ErrorIs(t, got.err, fault.ErrRefused)
			require.Equal(t, []any{tt.want, tt.reason}, []any{f.Code, f.Reason})
			require.Equal(t, tt.reason, got.trace.Partial)
		})
	}
}

// An agent that cannot read is not asked to until it says that it can again.
func TestReaderRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, nil)
		d := enrol(u.ctx, t, u.tr, "d", siteType())
		next[*transport.Watch](d)
		d.send(&transport.Watching{Number: u.watch.Number})
		s := siteSpec()
		s.Source = "d"
		other := measure(u.ctx, u.c, s) // keeps the watch
		next[*transport.Job](d)
		d.report(next[*transport.Ask](d))
		u.a.send(&transport.Watching{Number: u.watch.Number, Code: 500, Reason: "exit status 2"})
		require.ErrorIs(t, (<-u.ended).err, fault.ErrRefused)
		next[*transport.Cancel](u.a)

		again := measure(u.ctx, u.c, siteSpec())
		u.job = next[*transport.Job](u.a)
		ask := next[*transport.Ask](u.a)
		u.a.report(ask)
		require.NoError(t, d.conn.Close())
		require.ErrorIs(t, (<-other).err, fault.ErrAgentLost)
		unread := &transport.Unread{Number: u.watch.Number, Datagrams: []transport.Captured{{Data: reply(u.job, ask.Probes[0].ID, "fra1")}}}
		u.b.send(unread)
		u.a.quiet()
		u.a.send(&transport.Watching{Number: u.watch.Number})
		synctest.Wait()
		u.b.send(unread)
		read := next[*transport.Read](u.a)
		u.a.send(&transport.Readings{Number: read.Number, Readings: []transport.Reading{reading(u.job, read.Datagrams[0])}})
		got := <-again
		require.NoError(t, got.err)
		require.True(t, got.trace.Reached)
		require.EqualValues(t, 1, got.trace.Account.Gaps[len(got.trace.Account.Gaps)-1].Count)
	})
}

// An agent that leaves is not waited for.
func TestWatcherLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a, b := enrol(ctx, t, tr, "a", siteType()), enrol(ctx, t, tr, "b")
		began := time.Now()
		measure(ctx, c, siteSpec())
		w := next[*transport.Watch](b)
		a.send(&transport.Watching{Number: w.Number})
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, b.conn.Close())
		for {
			m, err := a.conn.Receive(ctx)
			require.NoError(t, err)
			if _, ok := m.(*transport.Ask); ok {
				break
			}
		}
		require.Equal(t, 100*time.Millisecond, time.Since(began))
	})
}

// An agent that takes no messages is let go of. However many come at once, one
// that takes them, if a little late, gets all.
func TestAgentThatTakesNoNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a := enrol(ctx, t, tr, "a", siteType())
		stuck, asleep := enrol(ctx, t, tr, "stuck"), enrol(ctx, t, tr, "asleep")
		drain := func(ag *script) {
			for {
				if _, err := ag.conn.Receive(ctx); err != nil {
					return
				}
			}
		}
		go drain(a)
		mctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for i := range 3000 {
			s := siteSpec()
			s.Target = fmt.Sprintf("198.18.%d.%d", i/250, 1+i%250)
			measure(mctx, c, s)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		for watches := 0; watches < 3000; {
			m, err := asleep.conn.Receive(ctx)
			require.NoError(t, err)
			if _, ok := m.(*transport.Watch); ok {
				watches++
			}
		}
		go drain(asleep)
		require.Equal(t, []string{"a", "asleep", "stuck"}, c.Agents())
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a", "asleep"}, c.Agents())
		_, err := stuck.conn.Receive(ctx)
		require.NoError(t, err, "what came before")
	})
}

func TestRefusesWhatTheAgentCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		a := enrol(ctx, t, tr, "a", probe.Type{Name: "udp"}, probe.Type{Name: "icmp"})
		enrol(ctx, t, tr, "none")
		for _, tt := range []struct {
			source, prober string
			options        map[string]string
			want           string
			as             error
		}{
			{"a", "site", nil, `agent "a" has no prober "site": it has udp, icmp; no connected agent has site`, fault.ErrUnknownProber},
			{"none", "udp", nil, `agent "none" has no prober "udp": it has none; agent a has udp`, fault.ErrUnknownProber},
			{"a", "udp", map[string]string{"x": "1"}, `prober udp: option "x": "1": there are no options`, probe.ErrOption},
		} {
			s := siteSpec()
			s.Source, s.Prober, s.Options, s.Target = tt.source, tt.prober, tt.options, "slow.example"
			began := time.Now()
			_, err := c.Measure(ctx, s, nil)
			require.EqualError(t, err, tt.want)
			require.ErrorIs(t, err, tt.as)
			require.ErrorIs(t, err, fault.ErrUsage)
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			require.Equal(t, 400, f.Code)
			require.Zero(t, time.Since(began), "before anything is looked up")
		}
		a.quiet()

		for i := range 20 {
			enrol(ctx, t, tr, fmt.Sprintf("b%02d", i), siteType())
		}
		s := siteSpec()
		_, err := c.Measure(ctx, s, nil)
		require.ErrorContains(t, err, "agents b00, b01, b02, b03, b04, b05, b06, b07, b08, b09, b10, b11, b12, b13, b14, b15 and 4 more have site")
		for options, want := range map[string]string{
			"greeting=servus": `prober site: option "greeting": "servus": must be one of none, hello, hi`,
			"shout=yes":       `prober site: option "shout": "yes": must be true or false`,
			"whisper=true":    `prober site: option "whisper": "true": must be one of greeting, shout`,
		} {
			name, value, _ := strings.Cut(options, "=")
			s.Source, s.Options = "b00", map[string]string{name: value}
			_, err := c.Measure(ctx, s, nil)
			require.EqualError(t, err, want)
		}
		require.Equal(t, []probe.Type{siteType()}, c.Types()["b07"])
		require.Len(t, c.Types(), 22)
		require.Empty(t, c.Types()["none"])
	})
}

func TestRefusesAgentsWithWrongTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		long := strings.Repeat("x", 255)
		fat := probe.Type{Name: "fat"}
		for i := range 64 {
			fat.Options = append(fat.Options, probe.Option{Name: fmt.Sprintf("o%d", i), Kind: probe.ChoiceOption, Choices: []string{long, long, long, long, long}})
		}
		for want, types := range map[string][]probe.Type{
			`name "UDP"`:                                      {{Name: "UDP"}},
			`help "\x1b[2J"`:                                  {{Name: "udp", Help: "\x1b[2J"}},
			"two measurement types are called udp":            {{Name: "udp"}, {Name: "udp"}},
			"65 measurement types: must be at most 64":        make([]probe.Type, 65),
			"described in 81785 bytes: must be at most 65536": {fat},
		} {
			conn, err := tr.Dial(ctx)
			require.NoError(t, err)
			// The controller may take it and hang up before Send returns.
			_ = conn.Send(ctx, &transport.Hello{Agent: "a", Instance: 1, Types: types})
			m, err := conn.Receive(ctx)
			require.NoError(t, err)
			require.IsType(t, &transport.Refused{}, m, want)
			require.Equal(t, 400, m.(*transport.Refused).Code)
			require.Contains(t, m.(*transport.Refused).Reason, want)
		}
		require.Empty(t, c.Agents())
	})
}

// Probes that a prober in another process builds have a little longer to leave.
func TestSlowBuilding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := began(t, func(s *controller.Spec) { s.Wait, s.MaxTTL, s.Window = time.Second, 2, 1 })
		start := time.Now()
		ask := next[*transport.Ask](u.a)
		require.Equal(t, time.Second, time.Since(start))
		time.Sleep(3 * time.Second)
		u.a.report(ask)
		got := <-u.ended
		require.NoError(t, got.err)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Equal(t, result.NoAnswer, got.trace.Hops[1].Probes[0].Missing)
	})
}
