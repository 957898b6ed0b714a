package controller_test

import (
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/alloc"
	"bitbucket.org/uwpatio/voltadomar/internal/controller"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// TestCallsOffWhatIsBlocked: the agent is told to stop what it still holds.
// What it does not report is booked as blocked, unless it had left after all.
func TestCallsOffWhatIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list probe.Blocklist
		r, err := alloc.NewRange(10000, 20000, 100)
		require.NoError(t, err)
		c := controller.New(controller.Config{
			Start: 10000, End: 20000, Allocator: r, NewCorrelator: result.NewCorrelator,
			Resolver: resolver{}, Logger: slog.New(slog.DiscardHandler), Blocklist: &list,
		})
		ctx, tr, done := t.Context(), inproc.New(), make(chan error)
		go func() { done <- c.Run(ctx, tr) }()
		t.Cleanup(func() {
			require.NoError(t, <-done)
			require.NoError(t, tr.Close())
		})
		a := enrol(ctx, t, tr, "a", probe.Type{Name: "udp"})
		s := spec()
		s.MaxTTL, s.Window = 4, 3
		ended := measure(ctx, c, s)
		job := next[*transport.Job](a)
		ask := next[*transport.Ask](a)
		require.Len(t, ask.Probes, 3)
		list.Set([]netip.Prefix{netip.PrefixFrom(target4, 32)})
		report := func(k transport.Ticket) {
			a.report(&transport.Ask{Session: job.Session, Probes: []transport.Ticket{k}})
		}
		report(ask.Probes[0])
		require.Equal(t, job.Session, next[*transport.Cancel](a).Session)
		time.Sleep(2 * time.Second) // virtual
		report(ask.Probes[1])
		next[*transport.Cancel](a) // it has ended
		got := <-ended
		require.NoError(t, got.err)
		require.True(t, got.trace.Account.Adds())
		require.Equal(t, 12, got.trace.Account.Asked)
		require.Equal(t, 2, got.trace.Counts.Sent)
		require.Contains(t, got.trace.Account.Unanswered, result.Loss{
			Reason: result.Blocked, Detail: target4.String() + "/32 (controller)", Count: 10,
		})
	})
}
