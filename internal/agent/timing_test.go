package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/agent"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// askable is a transport over which agents can ask for the time.
type askable struct {
	transport.Transport
	ask func(ctx context.Context) error // nil: it takes no time and does not fail

	mu    sync.Mutex // guards asked
	asked []time.Time
}

func (a *askable) Dial(ctx context.Context) (transport.Conn, error) {
	c, err := a.Transport.Dial(ctx)
	return &askableConn{c, a}, err
}

// times returns how long after a time each exchange began, and forgets them.
func (a *askable) times(since time.Time) (times []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.asked {
		times = append(times, at.Sub(since))
	}
	a.asked = nil
	return times
}

type askableConn struct {
	transport.Conn
	a *askable
}

func (c *askableConn) AskTime(ctx context.Context) (*transport.Timing, error) {
	now := time.Now()
	c.a.mu.Lock()
	c.a.asked = append(c.a.asked, now)
	n := len(c.a.asked)
	c.a.mu.Unlock()
	if c.a.ask != nil {
		if err := c.a.ask(ctx); err != nil {
			return nil, err
		}
	}
	return &transport.Timing{Exchange: uint64(n), Sent: now, Received: now.Add(time.Millisecond)}, nil
}

// runAskable starts an agent that can ask for the time.
func runAskable(t *testing.T, port probe.Port, ask func(context.Context) error) (context.Context, *askable, transport.Conn) {
	ctx, stop := context.WithCancel(t.Context())
	a := agent.New(agent.Config{ID: "a", Clock: "c", Instance: 7, Port: port, Probers: []probe.Prober{udp.Prober{}}, Logger: slog.New(slog.DiscardHandler)})
	tr := &askable{Transport: inproc.New(), ask: ask}
	done := make(chan error)
	go func() { done <- a.Run(ctx, tr) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
	return ctx, tr, welcome(ctx, t, tr)
}

// TestKeepsTime has a controller check an agent: the agent asks for the time,
// and goes on to until a busy controller checks again, but not for longer.
func TestKeepsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, tr, conn := runAskable(t, newTestPort(), nil)
		time.Sleep(time.Minute) // virtual
		require.Empty(t, tr.times(time.Now()), "nobody asked for it")
		ms := func(ns ...int) (ds []time.Duration) {
			for _, n := range ns {
				ds = append(ds, time.Duration(n)*time.Millisecond)
			}
			return ds
		}
		whole := ms(0, 0, 0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
		began := time.Now()
		require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 1}))
		var got []*transport.Timing
		for len(got) < len(whole) {
			m, err := conn.Receive(ctx)
			require.NoError(t, err)
			if m, ok := m.(*transport.Timing); ok { // else the status
				got = append(got, m)
			}
		}
		for i, m := range got {
			require.EqualValues(t, i+1, m.Exchange)
			require.Equal(t, began.Add(whole[i]), m.Sent)
			require.Equal(t, m.Sent.Add(time.Millisecond), m.Received)
		}
		time.Sleep(time.Minute)
		require.Equal(t, whole, tr.times(began))

		// One that is checked while it goes on begins anew.
		began = time.Now()
		require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 2}))
		time.Sleep(250 * time.Millisecond)
		require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 3}))
		time.Sleep(310 * time.Millisecond)
		require.Equal(t, ms(0, 0, 0, 100, 200, 250, 250, 250, 350, 450, 550), tr.times(began))
	})
}

// TestKeepsTimeWhereNoReplyComes asks once per check.
func TestKeepsTimeWhereNoReplyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, tr, conn := runAskable(t, newTestPort(), func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			return errors.New("no reply")
		})
		began := time.Now()
		for i := range 3 {
			require.NoError(t, conn.Send(ctx, &transport.Check{Seq: uint64(i)}))
			receive[*transport.Status](ctx, t, conn)
			time.Sleep(time.Minute) // virtual
		}
		require.Equal(t, []time.Duration{0, time.Minute, 2 * time.Minute}, tr.times(began))
	})
}

// TestKeepsNoTimeOfPorts: what the host's clock says is nothing to a port with
// a clock of its own.
func TestKeepsNoTimeOfPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, tr, conn := runAskable(t, &clockPort{testPort: newTestPort()}, nil)
		require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 1}))
		receive[*transport.Status](ctx, t, conn)
		time.Sleep(time.Minute) // virtual
		require.Empty(t, tr.times(time.Now()))
	})
}
