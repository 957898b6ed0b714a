package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
)

// instance is one process of a plugin and the session with it.
type instance struct {
	*launch
	name    string // of the measurement type
	timeout time.Duration
	stream  pluginv1.Plugin_SessionClient
	hangUp  context.CancelFunc // ends stream

	send  chan *pluginv1.ToPlugin
	slots chan struct{} // one of each unanswered request
	done  chan struct{} // closed when it is of no more use
	wg    sync.WaitGroup

	mu         sync.Mutex // guards what follows
	last       uint64     // request
	unanswered map[uint64]*call
	ending     bool  // the stream has ended: nobody waits for answers
	failure    error // why done is closed
}

// call is a request that was sent, or is about to be.
type call struct {
	in     *instance
	answer chan *pluginv1.ToHost // has room for it
	timer  *time.Timer
}

// converse begins the session's work on a stream of which the description was
// received.
func (in *instance) converse() {
	in.send = make(chan *pluginv1.ToPlugin, contract.MaxUnanswered)
	in.slots = make(chan struct{}, contract.MaxUnanswered)
	in.done = make(chan struct{})
	in.unanswered = map[uint64]*call{}
	in.wg.Go(in.sendAll)
	in.wg.Go(in.receiveAll)
}

// ask sends a request. It waits while too many are unanswered.
func (in *instance) ask(ctx context.Context, m *pluginv1.ToPlugin) (*call, error) {
	select {
	case in.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, contextError(ctx, in.name)
	case <-in.done:
		return nil, in.err()
	}
	c := &call{in: in, answer: make(chan *pluginv1.ToHost, 1)}
	in.mu.Lock()
	in.last++
	m.Request = in.last
	in.unanswered[m.Request] = c
	c.timer = time.AfterFunc(in.timeout, func() {
		in.fail(fmt.Errorf("%w: %s: no answer to a request in %v", ErrTimeout, in.name, in.timeout))
	})
	if in.ending {
		c.timer.Stop() // nobody else will
	}
	in.mu.Unlock()
	in.send <- m // has room for as many as there are slots
	return c, nil
}

// wait returns the answer. Where ctx ends first, the plugin still has to give
// it.
func (c *call) wait(ctx context.Context) (*pluginv1.ToHost, error) {
	select {
	case m := <-c.answer:
		return c.in.succeeded(m)
	case <-ctx.Done():
		return nil, contextError(ctx, c.in.name)
	case <-c.in.done:
		select {
		case m := <-c.answer: // it came before the end
			return c.in.succeeded(m)
		default:
			return nil, c.in.err()
		}
	}
}

func (in *instance) succeeded(m *pluginv1.ToHost) (*pluginv1.ToHost, error) {
	if failure, ok := m.GetMessage().(*pluginv1.ToHost_Failure); ok {
		return nil, fmt.Errorf("%w: %s: %s", ErrFailed, in.name, contract.Line(failure.Failure, 255))
	}
	return m, nil
}

func (in *instance) sendAll() {
	for {
		select {
		case m := <-in.send:
			if in.stream.Send(m) != nil {
				return // receiveAll learns why
			}
		case <-in.done:
			return
		}
	}
}

func (in *instance) receiveAll() {
	for {
		m, err := in.stream.Recv()
		if err != nil {
			in.fail(in.lost(err))
			return
		}
		if err := in.answered(m); err != nil {
			in.fail(err)
			return
		}
	}
}

// answered hands an answer to whom it is for.
func (in *instance) answered(m *pluginv1.ToHost) error {
	in.mu.Lock()
	c := in.unanswered[m.Request]
	delete(in.unanswered, m.Request)
	in.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%w: %s: an answer to request %d, which is not open", ErrProtocol, in.name, m.Request)
	}
	c.timer.Stop()
	c.answer <- m
	<-in.slots
	return nil
}

// lost says why the stream ended.
func (in *instance) lost(err error) error {
	in.mu.Lock()
	in.forget()
	in.mu.Unlock()
	switch status.Code(err) {
	case codes.ResourceExhausted, codes.Internal, codes.Unimplemented:
		return fmt.Errorf("%w: %s: %s", ErrProtocol, in.name, contract.Line(status.Convert(err).Message(), 255))
	}
	// What ended first is hard to see: the process takes a moment to die.
	select {
	case <-in.proc.Done():
		return in.crashed()
	case <-in.done: // for a reason that is known
		return in.err()
	case <-time.After(dying):
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s: it ended the session and did not exit", ErrProtocol, in.name)
	}
	return fmt.Errorf("%w: %s: the session ended: %s", ErrCrashed, in.name, contract.Line(status.Convert(err).Message(), 255))
}

// fail ends the session for a reason, of which the first counts, and kills the
// process.
func (in *instance) fail(err error) {
	if in.stop(err) {
		in.kill()
	}
}

// stop ends the session. It reports whether it did.
func (in *instance) stop(err error) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.failure != nil {
		return false
	}
	in.failure = err
	in.forget()
	close(in.done)
	in.hangUp()
	return true
}

// forget gives up waiting for answers. It is called with mu held.
func (in *instance) forget() {
	in.ending = true
	for _, c := range in.unanswered {
		c.timer.Stop()
	}
}

func (in *instance) err() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.failure
}

// end waits until nothing of a process is left, and returns why it ended. In
// peace, it first may end by itself.
func (in *instance) end(peace bool) error {
	if peace {
		in.stop(fmt.Errorf("%w: %s", ErrClosed, in.name))
		select {
		case <-in.proc.Done():
		case <-time.After(time.Second):
		}
	}
	in.kill()
	in.release()
	in.wg.Wait()
	return in.err()
}
