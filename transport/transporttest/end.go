package transporttest

import (
	"context"
	"sync"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// pending is how many messages a peer leaves behind when it closes.
const pending = 20

// dialContext: Dial ends with its context when nobody accepts, or succeeds if
// the transport keeps connections until somebody does.
func dialContext(f *fixture) {
	ctx, cancel := context.WithCancel(f.ctx)
	errs := make(chan error, 1)
	go func() {
		_, err := f.agents.Dial(ctx)
		errs <- err
	}()
	cancel()
	if err := f.returns("Dial", errs); err != nil {
		require.ErrorIs(f, err, context.Canceled)
	}
	_, err := f.agents.Dial(ctx)
	require.ErrorIs(f, err, context.Canceled, "Dial with a context that has ended")
}

// acceptContext: Accept ends with its context, and the next one works.
func acceptContext(f *fixture) {
	ctx, cancel := context.WithCancel(f.ctx)
	errs := make(chan error, 1)
	go func() {
		_, err := f.controller.Accept(ctx)
		errs <- err
	}()
	cancel()
	require.ErrorIs(f, f.returns("Accept", errs), context.Canceled)
	agent, controller := f.connect()
	f.send(agent, 0, 1)
	f.receives(controller, 0, 1)
}

// agentCloses: what the agent sent before it closed is delivered, then the end.
func agentCloses(f *fixture) {
	agent, controller := f.connect()
	f.send(agent, 0, pending)
	f.closes("the agent's connection", agent.Close)
	f.receives(controller, 0, pending)
	f.ended(agent, controller)
	f.closes("the controller's connection", controller.Close)
}

// controllerCloses is the same from the other side: an agent that is turned
// away learns why.
func controllerCloses(f *fixture) {
	agent, controller := f.connect()
	for i := range pending {
		require.NoError(f, controller.Send(f.ctx, &transport.Refused{Code: i, Reason: "full"}))
	}
	f.closes("the controller's connection", controller.Close)
	for i := range pending {
		m, err := agent.Receive(f.ctx)
		require.NoError(f, err, "Receive of message %d", i)
		require.Equal(f, &transport.Refused{Code: i, Reason: "full"}, m)
	}
	f.ended(agent, controller)
	f.closes("the agent's connection", agent.Close)
}

// closeWakes: a Receive that waits ends when either side closes.
func closeWakes(f *fixture) {
	for _, closer := range []int{0, 1} {
		agent, controller := f.connect()
		errs := make(chan error, 2)
		for _, c := range []transport.Conn{agent, controller} {
			go func() {
				_, err := c.Receive(f.ctx)
				errs <- err
			}()
		}
		f.closes("a connection", []transport.Conn{agent, controller}[closer].Close)
		for range 2 {
			require.ErrorIs(f, f.returns("Receive", errs), transport.ErrClosed)
		}
	}
}

// closeWithFullQueue: Close is bounded although the peer takes nothing, and
// ends a Send that waits.
func closeWithFullQueue(f *fixture) {
	agent, _ := f.connect()
	f.clog(agent)
	errs := make(chan error, 1)
	go func() { errs <- agent.Send(f.ctx, numbered(0)) }()
	f.closes("a clogged connection", agent.Close)
	require.ErrorIs(f, f.returns("Send", errs), transport.ErrClosed)
}

// closeTwice: Close is idempotent, from several goroutines too.
func closeTwice(f *fixture) {
	agent, controller := f.connect()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { agent.Close() })
		wg.Go(func() { controller.Close() })
	}
	f.closes("both connections", func() error { wg.Wait(); return nil })
	f.closes("the agent's connection again", agent.Close)
	f.closes("the controller's connection again", controller.Close)
	f.ended(agent, controller)
}

// transportCloseEndsConnections: the connections end with their transport.
func transportCloseEndsConnections(f *fixture) {
	for _, side := range []func(*fixture) transport.Transport{
		func(f *fixture) transport.Transport { return f.agents },
		func(f *fixture) transport.Transport { return f.controller },
	} {
		agent, controller := f.connect()
		f.closes("a transport", side(f).Close)
		f.ended(agent, controller)
		f.closes("the agents' transport", f.agents.Close)
		f.closes("the controller's transport", f.controller.Close)
		f.agents, f.controller = f.renew()
	}
}

// transportCloseWakes: an Accept that waits ends when the transport closes.
func transportCloseWakes(f *fixture) {
	errs := make(chan error, 1)
	go func() {
		_, err := f.controller.Accept(f.ctx)
		errs <- err
	}()
	f.closes("the controller's transport", f.controller.Close)
	require.ErrorIs(f, f.returns("Accept", errs), transport.ErrClosed)
}

// transportCloseTwice: Close is idempotent, from several goroutines too.
func transportCloseTwice(f *fixture) {
	f.connect()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { f.agents.Close() })
		wg.Go(func() { f.controller.Close() })
	}
	f.closes("both transports", func() error { wg.Wait(); return nil })
}

// afterTransportClose: a closed transport makes no connections.
func afterTransportClose(f *fixture) {
	f.closes("the agents' transport", f.agents.Close)
	f.closes("the controller's transport", f.controller.Close)
	_, err := f.agents.Dial(f.ctx)
	require.ErrorIs(f, err, transport.ErrClosed, "Dial")
	_, err = f.controller.Accept(f.ctx)
	require.ErrorIs(f, err, transport.ErrClosed, "Accept")
}
