package agent_test

import (
	"context"
	"log/slog"
	"sync/atomic"
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

// queuingPort has datagrams that were captured and are not read for a while.
type queuingPort struct {
	*testPort
	queued atomic.Bool
}

func (p *queuingPort) Mark() func() bool { return func() bool { return !p.queued.Load() } }

// TestStatusAfterWhatIsQueued has a check come while something waits to be
// read: that is reported first.
func TestStatusAfterWhatIsQueued(t *testing.T) {
	for _, wait := range []time.Duration{0, 20 * time.Millisecond, 20 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				port := &queuingPort{testPort: newTestPort()}
				port.queued.Store(wait > 0)
				a := agent.New(agent.Config{ID: "a", Clock: "c", Instance: 7, Port: port, Probers: []probe.Prober{udp.Prober{}}, Logger: slog.New(slog.DiscardHandler)})
				tr := inproc.New()
				done := make(chan error)
				go func() { done <- a.Run(ctx, tr) }()
				conn := welcome(ctx, t, tr)

				began := time.Now()
				require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 1}))
				if wait > 0 {
					time.Sleep(wait) // virtual
					port.in <- answer(t, 150)
					synctest.Wait()
					port.queued.Store(false)
					require.Len(t, receive[*transport.Answers](ctx, t, conn).Answers, 1)
				}
				s := receive[*transport.Status](ctx, t, conn)
				require.EqualValues(t, 1, s.Seq)
				require.True(t, s.Received.Equal(began))
				took := time.Since(began)
				require.GreaterOrEqual(t, took, wait)
				require.LessOrEqual(t, took, wait+time.Millisecond)

				// The latest counts, and the connection may end while it waits.
				port.queued.Store(true)
				for seq := range uint64(100) {
					require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 2 + seq}))
				}
				synctest.Wait()
				port.queued.Store(false)
				for s.Seq != 101 {
					s = receive[*transport.Status](ctx, t, conn)
				}
				port.queued.Store(true)
				require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 102}))
				synctest.Wait()
				stop()
				require.NoError(t, <-done)
				require.NoError(t, tr.Close())
			})
		})
	}
}
