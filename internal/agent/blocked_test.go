package agent_test

import (
	"context"
	"log/slog"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/agent"
	"bitbucket.org/uwpatio/voltadomar/internal/sitetest"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// runBlocked starts an agent with a list.
func runBlocked(t *testing.T, list *probe.Blocklist) (context.Context, *testPort, transport.Conn) {
	ctx, stop := context.WithCancel(t.Context())
	port, tr := newTestPort(), inproc.New()
	a := agent.New(agent.Config{
		ID: "a", Port: port, Probers: []probe.Prober{udp.Prober{}, sitetest.Remote{Prober: sitetest.Prober()}},
		Logger: slog.New(slog.DiscardHandler), Blocklist: list,
	})
	done := make(chan error)
	go func() { done <- a.Run(ctx, tr) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
	conn, err := tr.Accept(ctx)
	require.NoError(t, err)
	receive[*transport.Hello](ctx, t, conn)
	require.NoError(t, conn.Send(ctx, &transport.Welcome{Start: 100, End: 200}))
	return ctx, port, conn
}

// TestBlockedWhileQueued: what waits to be sent is kept back from the moment
// on that a rule forbids it, of a type in this process or in another.
func TestBlockedWhileQueued(t *testing.T) {
	for _, prober := range []string{"udp", "site"} {
		t.Run(prober, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var list probe.Blocklist
				ctx, port, conn := runBlocked(t, &list)
				port.refuse = syscall.EPERM
				require.NoError(t, conn.Send(ctx, &transport.Job{Session: 1, Prober: prober, Dst: dst, DstPort: 33434, Interval: time.Second}))
				require.NoError(t, conn.Send(ctx, &transport.Ask{Session: 1, Probes: []transport.Ticket{{ID: 101, TTL: 1}, {ID: 102, TTL: 2}, {ID: 103, TTL: 3}}}))
				first := receive[*transport.Sent](ctx, t, conn).Probes
				rule := netip.MustParsePrefix("203.0.113.0/24")
				list.Set([]netip.Prefix{rule})
				second := receive[*transport.Sent](ctx, t, conn).Probes
				list.Set([]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")})
				third := receive[*transport.Sent](ctx, t, conn).Probes

				require.Len(t, port.sent, 2)
				require.Equal(t, []transport.SentProbe{{ID: 102, Err: "blocked by rule 203.0.113.0/24", Blocked: rule}}, second)
				for _, p := range append(first, third...) {
					require.False(t, p.Blocked.IsValid())
					require.Equal(t, "operation not permitted", p.Err, "a firewall's refusal is no rule of ours")
				}
			})
		})
	}
}

func TestBlockedJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list probe.Blocklist
		rule := netip.PrefixFrom(dst, 32)
		list.Set([]netip.Prefix{rule})
		ctx, _, conn := runBlocked(t, &list)
		require.NoError(t, conn.Send(ctx, &transport.Job{Session: 1, Prober: "udp", Dst: dst}))
		require.Equal(t, &transport.Failed{
			Session: 1, Code: 403, Reason: `agent "a" must not send to 203.0.113.10: blocked by rule 203.0.113.10/32`, Blocked: rule,
		}, receive[*transport.Failed](ctx, t, conn))
	})
}
