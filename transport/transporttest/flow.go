package transporttest

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// order: messages arrive in order, once each, however many are on their way.
func order(f *fixture) {
	agent, controller := f.connect()
	const n = 2000
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	wg.Go(func() {
		for i := range n {
			if agent.Send(ctx, numbered(i)) != nil {
				return
			}
		}
	})
	f.receives(controller, 0, n)
}

// bothWays: the two directions do not wait for each other.
func bothWays(f *fixture) {
	agent, controller := f.connect()
	for i := range 200 {
		f.send(agent, i, i+1)
		f.receives(controller, i, i+1)
		require.NoError(f, controller.Send(f.ctx, &transport.Cancel{Session: uint64(i)}))
		m, err := agent.Receive(f.ctx)
		require.NoError(f, err)
		require.Equal(f, &transport.Cancel{Session: uint64(i)}, m)
	}
}

// concurrency: several goroutines send; what each of them sent keeps its order.
func concurrency(f *fixture) {
	agent, controller := f.connect()
	const senders, each = 8, 250
	errs := make(chan error, senders)
	for s := range senders {
		go func() {
			var err error
			for i := 0; i < each && err == nil; i++ {
				err = agent.Send(f.ctx, &transport.Failed{Session: uint64(s), Code: i})
			}
			errs <- err
		}()
	}
	var next [senders]int
	for range senders * each {
		m, err := controller.Receive(f.ctx)
		require.NoError(f, err)
		got, ok := m.(*transport.Failed)
		require.True(f, ok, "a %T arrived", m)
		require.Less(f, got.Session, uint64(senders))
		require.Equal(f, next[got.Session], got.Code, "of sender %d", got.Session)
		next[got.Session]++
	}
	for range senders {
		require.NoError(f, <-errs)
	}
}

// manyConnections: connections made at once are told apart.
func manyConnections(f *fixture) {
	const n = 16
	var wg sync.WaitGroup
	errs := make(chan error, 2*n)
	for i := range n {
		wg.Go(func() {
			c, err := f.agents.Dial(f.ctx)
			if err == nil {
				err = c.Send(f.ctx, &transport.Hello{Agent: strings.Repeat("a", i+1), Instance: uint64(i)})
			}
			if err == nil {
				var m transport.Message
				if m, err = c.Receive(f.ctx); err == nil && m.(*transport.Welcome).Start != uint32(i) {
					err = context.DeadlineExceeded
				}
			}
			errs <- err
		})
		wg.Go(func() {
			c, err := f.controller.Accept(f.ctx)
			var m transport.Message
			if err == nil {
				m, err = c.Receive(f.ctx)
			}
			if err == nil {
				err = c.Send(f.ctx, &transport.Welcome{Start: uint32(m.(*transport.Hello).Instance)})
			}
			errs <- err
		})
	}
	wg.Wait()
	for range 2 * n {
		require.NoError(f, <-errs)
	}
}

// bulk is a numbered message of a good size, so that what lies between the
// two sides fills up soon.
func bulk(i int) *transport.Failed {
	return &transport.Failed{Session: uint64(i), Reason: filler}
}

var filler = strings.Repeat("x", 1<<14)

// clog sends bulk messages that nobody receives until one has to wait, and
// returns how many were taken.
func (f *fixture) clog(c transport.Conn) int {
	f.Helper()
	for i := range 1 << 14 {
		ctx, cancel := context.WithTimeout(f.ctx, 200*time.Millisecond)
		errs := make(chan error, 1)
		go func() { errs <- c.Send(ctx, bulk(i)) }()
		err := f.returns("Send whose context has ended", errs)
		cancel()
		if err != nil {
			require.ErrorIs(f, err, context.DeadlineExceeded, "Send to a peer that does not receive")
			return i
		}
	}
	require.FailNow(f, "no backpressure", "%d messages of %d bytes were taken that nobody receives", 1<<14, len(filler))
	return 0
}

// backpressure: Send waits while the peer is too slow, ends with its context,
// and goes on as soon as there is room, with nothing lost.
func backpressure(f *fixture) {
	agent, controller := f.connect()
	n := f.clog(agent)

	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	require.ErrorIs(f, agent.Send(ctx, bulk(-1)), context.Canceled)

	waiting := make(chan error, 1)
	go func() { waiting <- agent.Send(f.ctx, numbered(0)) }()
	seen := 0
	for {
		m, err := controller.Receive(f.ctx)
		require.NoError(f, err)
		if m, ok := m.(*transport.Failed); ok && m.Reason != filler {
			require.Equal(f, numbered(0), m)
			break
		}
		// The message whose context ended may have gone through, once.
		require.Equal(f, bulk(seen), m, "message %d of %d", seen, n)
		require.LessOrEqual(f, seen, n)
		seen++
	}
	require.GreaterOrEqual(f, seen, n, "messages that Send took were lost")
	require.NoError(f, f.returns("Send", waiting))
}

// slowPeer: a peer that does not receive holds up nobody else.
func slowPeer(f *fixture) {
	slowAgent, slowController := f.connect()
	f.clog(slowAgent)
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(f.ctx, 200*time.Millisecond)
		err := slowController.Send(ctx, &transport.Refused{Reason: filler})
		cancel()
		if err != nil {
			require.ErrorIs(f, err, context.DeadlineExceeded)
			break
		}
		require.Less(f, i, 1<<14, "no backpressure towards the agent")
	}
	agent, controller := f.connect()
	for i := range 100 {
		f.send(agent, i, i+1)
		f.receives(controller, i, i+1)
		require.NoError(f, controller.Send(f.ctx, &transport.Cancel{Session: uint64(i)}))
		m, err := agent.Receive(f.ctx)
		require.NoError(f, err)
		require.Equal(f, &transport.Cancel{Session: uint64(i)}, m)
	}
	f.closes("the connection that flows", agent.Close)
	f.ended(agent, controller)
}

// receiveContext: a Receive that waits ends with its context, and loses nothing.
func receiveContext(f *fixture) {
	agent, controller := f.connect()
	for i := range 20 {
		ctx, cancel := context.WithCancel(f.ctx)
		errs := make(chan error, 1)
		go func() {
			_, err := controller.Receive(ctx)
			errs <- err
		}()
		cancel()
		require.ErrorIs(f, f.returns("Receive", errs), context.Canceled)
		f.send(agent, i, i+1)
		f.receives(controller, i, i+1)
	}
}
