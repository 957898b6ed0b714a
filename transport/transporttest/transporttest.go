// Package transporttest checks that an implementation of
// [transport.Transport] does all that the interface promises.
package transporttest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// patience is how long anything may take that has to happen. Only a broken
// transport makes a test wait for it.
const patience = 5 * time.Second

// Run checks a transport that serves both sides, as one in the same process
// does. newTransport is called once or more per test.
func Run(t *testing.T, newTransport func(t testing.TB) transport.Transport) {
	RunPair(t, func(t testing.TB) (agents, controller transport.Transport) {
		tr := newTransport(t)
		return tr, tr
	})
}

// RunPair checks a transport that has one value per side, as one between hosts
// does: agents is dialled, controller accepts. The suite closes both, agents
// first. Messages travel in the direction that they have in the protocol.
func RunPair(t *testing.T, newPair func(t testing.TB) (agents, controller transport.Transport)) {
	for _, test := range []struct {
		name string
		run  func(*fixture)
	}{
		{"Types", types},
		{"Order", order},
		{"BothWays", bothWays},
		{"LargeMessages", largeMessages},
		{"Concurrency", concurrency},
		{"ManyConnections", manyConnections},
		{"Backpressure", backpressure},
		{"SlowPeer", slowPeer},
		{"ReceiveContext", receiveContext},
		{"DialContext", dialContext},
		{"AcceptContext", acceptContext},
		{"Times", times},
		{"AgentCloses", agentCloses},
		{"ControllerCloses", controllerCloses},
		{"CloseWakes", closeWakes},
		{"CloseWithFullQueue", closeWithFullQueue},
		{"CloseTwice", closeTwice},
		{"TransportCloseEndsConnections", transportCloseEndsConnections},
		{"TransportCloseWakes", transportCloseWakes},
		{"TransportCloseTwice", transportCloseTwice},
		{"AfterTransportClose", afterTransportClose},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			// Registered first, so that it runs after what newPair registers.
			t.Cleanup(func() {
				if !t.Failed() {
					goleak.VerifyNone(t, leaks)
				}
			})
			f := &fixture{T: t}
			f.renew = func() (agents, controller transport.Transport) { return newPair(t) }
			f.agents, f.controller = f.renew()
			ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
			defer cancel()
			f.ctx = ctx
			defer func() {
				f.closes("the agents' transport", f.agents.Close)
				f.closes("the controller's transport", f.controller.Close)
			}()
			test.run(f)
		})
	}
}

// fixture is what one test works with.
type fixture struct {
	*testing.T
	ctx                context.Context // ends only when the test hangs
	agents, controller transport.Transport
	renew              func() (agents, controller transport.Transport)
}

// connect makes a connection.
func (f *fixture) connect() (agent, controller transport.Conn) {
	f.Helper()
	type accepted struct {
		conn transport.Conn
		err  error
	}
	c := make(chan accepted, 1)
	go func() {
		conn, err := f.controller.Accept(f.ctx)
		c <- accepted{conn, err}
	}()
	agent, err := f.agents.Dial(f.ctx)
	require.NoError(f, err, "Dial")
	a := <-c
	require.NoError(f, a.err, "Accept")
	return agent, a.conn
}

// closes calls a Close and checks that it returns.
func (f *fixture) closes(what string, do func() error) {
	f.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		require.NoError(f, err, "Close of %s", what)
	case <-time.After(patience):
		require.FailNow(f, "Close hangs", "Close of %s did not return within %v", what, patience)
	}
}

// returns waits for an error from a call that was made to wait.
func (f *fixture) returns(what string, errs <-chan error) error {
	f.Helper()
	select {
	case err := <-errs:
		return err
	case <-time.After(patience):
		require.FailNow(f, "call hangs", "%s did not return within %v", what, patience)
		return nil
	}
}

// send sends numbered messages [from, to) that travel towards the controller.
func (f *fixture) send(c transport.Conn, from, to int) {
	f.Helper()
	for i := from; i < to; i++ {
		require.NoError(f, c.Send(f.ctx, numbered(i)), "Send of message %d", i)
	}
}

// receives checks that the numbered messages [from, to) come next.
func (f *fixture) receives(c transport.Conn, from, to int) {
	f.Helper()
	for i := from; i < to; i++ {
		m, err := c.Receive(f.ctx)
		require.NoError(f, err, "Receive of message %d", i)
		require.Equal(f, numbered(i), m, "message %d", i)
	}
}

// ended checks that connections are closed, by whichever side, and stay so.
func (f *fixture) ended(agent, controller transport.Conn) {
	f.Helper()
	f.isEnded(agent, &transport.Failed{})
	f.isEnded(controller, &transport.Cancel{})
}

func (f *fixture) isEnded(c transport.Conn, m transport.Message) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	for range 2 {
		m, err := c.Receive(ctx)
		require.ErrorIs(f, err, transport.ErrClosed, "Receive returned %v", m)
	}
	require.ErrorIs(f, c.Send(ctx, m), transport.ErrClosed, "Send after Receive said so")
}

// numbered makes the message with a number, towards the controller.
func numbered(i int) transport.Message {
	return &transport.Failed{Session: uint64(i) + 1, Code: 400 + i%200, Reason: "number"}
}
