package transporttest

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// times: where a transport exchanges times beside its messages, both sides
// take part, each exchange is told once, and its times are in order: here both
// sides read one clock.
func times(f *fixture) {
	agent, controller := f.connect()
	asker, asks := agent.(transport.TimeAsker)
	teller, tells := controller.(transport.TimeTeller)
	require.Equal(f, asks, tells, "one side can exchange times, the other cannot")
	if !asks {
		f.Skip("this transport exchanges no times")
	}
	for range 100 {
		before := time.Now()
		m, err := asker.AskTime(f.ctx)
		require.NoError(f, err, "AskTime")
		after := time.Now()
		told, ok := teller.ToldTime(m.Exchange)
		require.True(f, ok, "ToldTime of exchange %d", m.Exchange)
		names := []string{"AskTime was called", "the request left", "it came in", "the reply left", "it came", "AskTime returned"}
		order := []time.Time{before, m.Sent, told.Received, told.Sent, m.Received, after}
		for i := range order[1:] {
			require.False(f, order[i+1].Round(0).Before(order[i].Round(0)), "%s at %v, before %s at %v", names[i+1], order[i+1], names[i], order[i])
		}
		_, ok = teller.ToldTime(m.Exchange)
		require.False(f, ok, "ToldTime of exchange %d, once more", m.Exchange)
	}
	f.send(agent, 0, 1)
	f.receives(controller, 0, 1)

	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	_, err := asker.AskTime(ctx)
	require.ErrorIs(f, err, context.Canceled, "AskTime with a context that has ended")

	f.closes("the agent's connection", agent.Close)
	_, err = asker.AskTime(f.ctx)
	require.ErrorIs(f, err, transport.ErrClosed, "AskTime after Close")
}
