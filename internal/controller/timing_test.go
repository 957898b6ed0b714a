package controller_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// telling is a transport whose controller can tell the times of some exchanges.
type telling struct {
	transport.Transport
	told map[uint64]transport.Told
}

func (tr *telling) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := tr.Transport.Accept(ctx)
	return &tellingConn{c, tr}, err
}

type tellingConn struct {
	transport.Conn
	tr *telling
}

func (c *tellingConn) ToldTime(exchange uint64) (transport.Told, bool) {
	told, ok := c.tr.told[exchange]
	return told, ok
}

// TestTiming has an agent, whose clock is ahead, report exchanges of time that
// it made.
func TestTiming(t *testing.T) {
	const ahead = 250 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		base := time.Now()
		at := func(us int) time.Time { return base.Add(time.Duration(us) * time.Microsecond) }
		tr := &telling{inproc.New(), map[uint64]transport.Told{
			1: {Received: at(100), Sent: at(110)},
			2: {Received: at(5020), Sent: at(5030)},
			3: {Received: at(120e3), Sent: at(120e3)},
		}}
		ctx, c := startOn(t, tr)
		s := join(ctx, t, tr, "a", clearPath())
		synctest.Wait()
		report := func(exchange uint64, sent, received int, ahead time.Duration) {
			require.NoError(t, s.conn.Send(ctx, &transport.Timing{Exchange: exchange, Sent: at(sent).Add(ahead), Received: at(received).Add(ahead)}))
		}
		clock := func() result.Clock {
			trace, err := c.Measure(ctx, spec(), nil)
			require.NoError(t, err)
			return trace.Clocks["a"]
		}
		require.Nil(t, clock().Offset)

		report(99, 0, 200, ahead) // of which the controller knows nothing
		require.Nil(t, clock().Offset)

		report(1, 0, 200, ahead)
		known := clock()
		require.LessOrEqual(t, (*known.Offset - ahead).Abs(), *known.Bound)
		require.LessOrEqual(t, *known.Bound, 300*time.Microsecond, "half the exchange, and the drift of two measurements")
		wide := *known.Bound

		report(2, 5000, 5040, ahead)
		known = clock()
		require.LessOrEqual(t, (*known.Offset - ahead).Abs(), *known.Bound)
		require.Less(t, *known.Bound, wide)
		require.False(t, known.Stepped)

		// One that contradicts the others is of a clock that was set.
		time.AfterFunc(5*time.Millisecond, func() { report(3, 120e3, 120e3, -time.Hour) })
		known = clock()
		require.True(t, known.Stepped)
		require.LessOrEqual(t, (*known.Offset + time.Hour).Abs(), *known.Bound)
	})
}

// TestTimingOfNoUse comes over a connection that can tell nothing of it.
func TestTimingOfNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, c, tr := start(t)
		s := join(ctx, t, tr, "a", clearPath())
		synctest.Wait()
		require.NoError(t, s.conn.Send(ctx, &transport.Timing{Exchange: 1, Sent: time.Now(), Received: time.Now()}))
		trace, err := c.Measure(ctx, spec(), nil)
		require.NoError(t, err)
		require.Nil(t, trace.Clocks["a"].Offset)
	})
}
