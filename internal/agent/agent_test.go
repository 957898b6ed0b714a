package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/agent"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

var (
	src = netip.MustParseAddr("192.0.2.1")
	dst = netip.MustParseAddr("203.0.113.10")
)

// testPort records what is sent and captures what the test hands in.
type testPort struct {
	in     chan []byte
	closed chan struct{}
	once   sync.Once
	refuse error
	lost   atomic.Uint64 // what Dropped says

	mu   sync.Mutex
	sent []time.Time
	ids  []uint16
}

func newTestPort() *testPort {
	return &testPort{in: make(chan []byte), closed: make(chan struct{})}
}

func (p *testPort) Send(ds []probe.Outgoing) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range ds {
		ds[i].Time, ds[i].Err = time.Now(), p.refuse
		ip, _, err := packet.ParseIPv4(ds[i].Data)
		if err != nil {
			return err
		}
		p.sent, p.ids = append(p.sent, time.Now()), append(p.ids, ip.ID)
	}
	return nil
}

func (p *testPort) Receive(ds []probe.Incoming) (int, error) {
	select {
	case b := <-p.in:
		ds[0] = probe.Incoming{Data: b, Time: time.Now(), Stamp: probe.KernelStamp}
		return 1, nil
	case <-p.closed:
		return 0, net.ErrClosed
	}
}

func (p *testPort) Dropped() uint64 { return p.lost.Load() }

func (p *testPort) Source(to netip.Addr) (netip.Addr, error) {
	if to.Is6() {
		return netip.Addr{}, probe.ErrNoSource
	}
	return src, nil
}

func (p *testPort) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// run starts an agent and returns the controller's end of its connection.
func run(t *testing.T) (ctx context.Context, port *testPort, tr transport.Transport, conn transport.Conn) {
	ctx, stop := context.WithCancel(t.Context())
	port = newTestPort()
	a := agent.New(agent.Config{
		ID: "a", Clock: "c", Instance: 7, Port: port, Probers: []probe.Prober{udp.Prober{}}, Logger: slog.New(slog.DiscardHandler),
	})
	tr = inproc.New()
	done := make(chan error)
	go func() { done <- a.Run(ctx, tr) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
		<-port.closed
	})
	return ctx, port, tr, welcome(ctx, t, tr)
}

func welcome(ctx context.Context, t *testing.T, tr transport.Transport) transport.Conn {
	conn, err := tr.Accept(ctx)
	require.NoError(t, err)
	m, err := conn.Receive(ctx)
	require.NoError(t, err)
	require.Equal(t, &transport.Hello{Agent: "a", Instance: 7, Clock: "c", Types: []probe.Type{{Name: "udp"}}, Sources: []netip.Addr{src}, Watches: true}, m)
	require.NoError(t, conn.Send(ctx, &transport.Welcome{Start: 100, End: 200}))
	return conn
}

func receive[T transport.Message](ctx context.Context, t *testing.T, conn transport.Conn) T {
	m, err := conn.Receive(ctx)
	require.NoError(t, err)
	require.IsType(t, *new(T), m)
	return m.(T)
}

func TestSendsWhatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, _, conn := run(t)
		require.NoError(t, conn.Send(ctx, &transport.Job{Session: 1, Prober: "udp", Dst: dst, DstPort: 33434}))
		require.NoError(t, conn.Send(ctx, &transport.Ask{Session: 1, Probes: []transport.Ticket{{ID: 101, TTL: 1}, {ID: 102, TTL: 2}, {ID: 103, TTL: 0}}}))
		require.NoError(t, conn.Send(ctx, &transport.Ask{Session: 2, Probes: []transport.Ticket{{ID: 104, TTL: 1}}}))
		var got []transport.SentProbe
		for len(got) < 3 {
			r := receive[*transport.Sent](ctx, t, conn)
			require.EqualValues(t, 1, r.Session)
			require.Equal(t, src, r.Source)
			got = append(got, r.Probes...)
		}
		require.Equal(t, []uint16{101, 102}, port.ids)
		require.Empty(t, got[0].Err)
		require.NotZero(t, got[1].Time)
		require.Contains(t, got[2].Err, "TTL 0")
	})
}

func TestRefusesJobsItCannotDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, _, _, conn := run(t)
		require.NoError(t, conn.Send(ctx, &transport.Job{Session: 1, Prober: "sctp", Dst: dst}))
		f := receive[*transport.Failed](ctx, t, conn)
		require.Equal(t, 400, f.Code)
		require.Contains(t, f.Reason, "sctp")
		require.NoError(t, conn.Send(ctx, &transport.Job{Session: 2, Prober: "udp", Dst: netip.MustParseAddr("2001:db8::1")}))
		f = receive[*transport.Failed](ctx, t, conn)
		require.EqualValues(t, 2, f.Session)
		require.Contains(t, f.Reason, "no source address")
	})
}

func TestPacesAndCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, _, conn := run(t)
		require.NoError(t, conn.Send(ctx, &transport.Job{Session: 1, Prober: "udp", Dst: dst, DstPort: 33434, Interval: time.Second}))
		var ask transport.Ask
		ask.Session = 1
		for i := range 10 {
			ask.Probes = append(ask.Probes, transport.Ticket{ID: uint16(101 + i), TTL: 1})
		}
		began := time.Now()
		require.NoError(t, conn.Send(ctx, &ask))
		for i := range 3 {
			require.EqualValues(t, 101+i, receive[*transport.Sent](ctx, t, conn).Probes[0].ID)
			require.Equal(t, time.Duration(i)*time.Second, time.Since(began))
		}
		require.NoError(t, conn.Send(ctx, &transport.Cancel{Session: 1}))
		time.Sleep(time.Minute) // virtual: nothing more leaves
		require.Len(t, port.sent, 3)
	})
}

// answer is a time-exceeded message that quotes a probe.
func answer(t *testing.T, id uint16) []byte {
	quote, err := udp.Prober{}.Build(nil, &probe.Probe{ID: id, Src: src, Dst: dst, DstPort: 33434, TTL: 1})
	require.NoError(t, err)
	b := make([]byte, 28, 28+len(quote))
	b[0], b[8], b[9], b[20] = 0x45, 64, 1, 11
	copy(b[12:], []byte{198, 18, 0, 1})
	copy(b[16:], src.AsSlice())
	b = append(b, quote...)
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	sum := uint32(0)
	for i := 20; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xFFFF + sum>>16
	}
	b[22], b[23] = byte(^sum>>8), byte(^sum)
	return b
}

func TestReportsOnlyItsControllersAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, _, conn := run(t)
		for _, b := range [][]byte{{}, {0x45}, answer(t, 99), answer(t, 200), answer(t, 150)[:40], answer(t, 150)} {
			port.in <- b
		}
		var got []probe.Answer
		for len(got) == 0 || got[len(got)-1].TagBits == 0 {
			got = append(got, receive[*transport.Answers](ctx, t, conn).Answers...)
		}
		last := got[len(got)-1]
		require.EqualValues(t, 150, last.ID)
		require.Equal(t, dst, last.Dst)
		require.Equal(t, "198.18.0.1", last.From.String())
		require.Equal(t, probe.KernelStamp, last.Stamp)
		for _, a := range got {
			require.EqualValues(t, 150, a.ID)
		}
	})
}

func TestReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, _, tr, conn := run(t)
		require.NoError(t, conn.Close())
		began := time.Now()
		again := welcome(ctx, t, tr)
		require.Less(t, time.Since(began), time.Second)
		require.NoError(t, again.Send(ctx, &transport.Job{Session: 1, Prober: "udp", Dst: dst, DstPort: 33434}))
		require.NoError(t, again.Send(ctx, &transport.Ask{Session: 1, Probes: []transport.Ticket{{ID: 101, TTL: 1}}}))
		receive[*transport.Sent](ctx, t, again)
	})
}

func TestCountsWhatASlowControllerMisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, _, conn := run(t)
		b := answer(t, 150)
		const n = 200_000
		for range n {
			port.in <- b // nobody receives: the queues fill up
		}
		synctest.Wait()
		got, dropped := 0, 0
		for got+dropped < n {
			m := receive[*transport.Answers](ctx, t, conn)
			got += len(m.Answers)
			dropped += int(m.Dropped)
		}
		require.Positive(t, dropped)
		require.Greater(t, got, 1<<16)
	})
}

// TestTellsOfDropsAtOnce has a small queue run over, which never fills a batch.
// The answers that come next tell of it: the controller takes them as a sign
// that nothing was lost before.
func TestTellsOfDropsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, port, tr, conn := run(t)
		port.in <- answer(t, 150)
		require.Zero(t, receive[*transport.Answers](ctx, t, conn).KernelDropped)
		port.lost.Store(3)
		port.in <- answer(t, 151)
		require.EqualValues(t, 3, receive[*transport.Answers](ctx, t, conn).KernelDropped)
		port.lost.Store(5)
		require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 1}))
		require.EqualValues(t, 2, receive[*transport.Answers](ctx, t, conn).KernelDropped)
		require.EqualValues(t, 1, receive[*transport.Status](ctx, t, conn).Seq)

		require.NoError(t, conn.Close())
		port.lost.Store(8) // while nobody wants to know
		again := welcome(ctx, t, tr)
		port.in <- answer(t, 152)
		require.Zero(t, receive[*transport.Answers](ctx, t, again).KernelDropped)
	})
}

func TestEndsWhenRefusedOrItsPortFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := inproc.New()
		defer tr.Close()
		cfg := agent.Config{ID: "a", Port: newTestPort(), Probers: []probe.Prober{udp.Prober{}}, Logger: slog.New(slog.DiscardHandler)}
		done := make(chan error)
		go func() { done <- agent.New(cfg).Run(t.Context(), tr) }()
		conn, err := tr.Accept(t.Context())
		require.NoError(t, err)
		receive[*transport.Hello](t.Context(), t, conn)
		// The agent may take it and hang up before Send returns.
		_ = conn.Send(t.Context(), &transport.Refused{Code: 409, Reason: "taken"})
		err = <-done
		require.ErrorIs(t, err, fault.ErrDuplicateAgent)
		require.ErrorContains(t, err, "taken")

		port := newTestPort()
		cfg.Port = port
		go func() { done <- agent.New(cfg).Run(t.Context(), tr) }()
		conn, err = tr.Accept(t.Context())
		require.NoError(t, err)
		receive[*transport.Hello](t.Context(), t, conn)
		require.NoError(t, conn.Send(t.Context(), &transport.Welcome{Start: 1, End: 2}))
		port.Close()
		require.True(t, errors.Is(<-done, net.ErrClosed))
	})
}

// slowPort takes a second to send.
type slowPort struct{ *testPort }

func (p slowPort) Send(ds []probe.Outgoing) error {
	time.Sleep(time.Second) // virtual
	for i := range ds {
		ds[i].Time = time.Now()
	}
	return nil
}

func TestCancelDropsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		a := agent.New(agent.Config{ID: "a", Clock: "c", Instance: 7, Port: slowPort{newTestPort()}, Probers: []probe.Prober{udp.Prober{}}, Logger: slog.New(slog.DiscardHandler)})
		tr := inproc.New()
		done := make(chan error)
		go func() { done <- a.Run(ctx, tr) }()
		conn := welcome(ctx, t, tr)
		require.NoError(t, conn.Send(ctx, &transport.Job{Session: 1, Prober: "udp", Dst: dst, DstPort: 33434}))
		ask := &transport.Ask{Session: 1}
		for i := range 1000 {
			ask.Probes = append(ask.Probes, transport.Ticket{ID: uint16(i + 1), TTL: 1})
		}
		require.NoError(t, conn.Send(ctx, ask))
		require.NoError(t, conn.Send(ctx, &transport.Cancel{Session: 1}))
		sent := 0
		wait, enough := context.WithTimeout(ctx, time.Minute)
		defer enough()
		for {
			m, err := conn.Receive(wait)
			if err != nil {
				break
			}
			sent += len(m.(*transport.Sent).Probes)
		}
		require.LessOrEqual(t, sent, 64, "no more than the batch under way")
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
}

func TestComesBackAfterLosingAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		a := agent.New(agent.Config{ID: "a", Clock: "c", Instance: 7, Port: slowPort{newTestPort()}, Probers: []probe.Prober{udp.Prober{}}, Logger: slog.New(slog.DiscardHandler)})
		tr := inproc.New()
		done := make(chan error)
		go func() { done <- a.Run(ctx, tr) }()
		conn := welcome(ctx, t, tr)
		require.NoError(t, conn.Send(ctx, &transport.Job{Session: 1, Prober: "udp", Dst: dst, DstPort: 33434}))
		ask := &transport.Ask{Session: 1}
		for i := range 2000 {
			ask.Probes = append(ask.Probes, transport.Ticket{ID: uint16(i + 1), TTL: 1})
		}
		require.NoError(t, conn.Send(ctx, ask))
		synctest.Wait()
		require.NoError(t, conn.Close())
		welcome(ctx, t, tr)
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
}

// clockPort reads a clock of its own.
type clockPort struct {
	*testPort
	ahead atomic.Int64
}

func (p *clockPort) Now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		port := &clockPort{testPort: newTestPort()}
		port.ahead.Store(int64(time.Hour))
		a := agent.New(agent.Config{ID: "a", Clock: "c", Instance: 7, Port: port, Probers: []probe.Prober{udp.Prober{}}, Logger: slog.New(slog.DiscardHandler)})
		tr := inproc.New()
		done := make(chan error)
		go func() { done <- a.Run(ctx, tr) }()
		conn := welcome(ctx, t, tr)

		check := func(seq uint64) *transport.Status {
			require.NoError(t, conn.Send(ctx, &transport.Check{Seq: seq}))
			return receive[*transport.Status](ctx, t, conn)
		}
		s := check(5)
		require.Equal(t, &transport.Status{Seq: 5, Received: port.Now().Round(0), Replied: port.Now().Round(0), Slewed: s.Slewed}, s)

		time.Sleep(time.Minute) // virtual
		port.ahead.Add(int64(50 * time.Millisecond))
		s = check(6)
		require.EqualValues(t, 1, s.Step)
		require.EqualValues(t, 1, check(7).Step)
		time.Sleep(time.Minute)
		port.ahead.Add(int64(30 * time.Millisecond)) // slewed: 500 millionths
		require.EqualValues(t, 1, check(8).Step)
		port.ahead.Add(-int64(time.Hour))
		require.EqualValues(t, 2, check(9).Step)

		// What was captured before a status is reported before it.
		port.in <- answer(t, 150)
		synctest.Wait()
		require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 10}))
		require.EqualValues(t, 2, receive[*transport.Answers](ctx, t, conn).Step)
		require.EqualValues(t, 10, receive[*transport.Status](ctx, t, conn).Seq)

		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
}
