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

func (p *queuingPort) Queued() bool { return p.queued.Load() }

// TestStatusAfterWhatIsQueued has a check come while something waits to be
// read: that is reported first, unless it takes too long.
func TestStatusAfterWhatIsQueued(t *testing.T) {
	for _, wait := range []time.Duration{0, 20 * time.Millisecond, time.Hour} {
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
				if wait == 20*time.Millisecond {
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
				require.GreaterOrEqual(t, took, min(wait, 100*time.Millisecond))
				require.LessOrEqual(t, took, min(wait+time.Millisecond, 400*time.Millisecond))

				// The connection may end while it waits.
				require.NoError(t, conn.Send(ctx, &transport.Check{Seq: 2}))
				synctest.Wait()
				stop()
				require.NoError(t, <-done)
				require.NoError(t, tr.Close())
			})
		})
	}
}
