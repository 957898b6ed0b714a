// Package inproc connects agents with a controller in the same process. It
// starts no goroutines and waits on channels alone, so that it works inside
// testing/synctest bubbles.
package inproc

import (
	"context"
	"errors"
	"sync"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// queueSize is how many messages wait for a slow reader, per direction.
const queueSize = 64

var errNil = errors.New("nil message")

// Transport is a [transport.Transport] for both sides. Messages are handed
// over as they are, not copied: a receiver must not change them either if the
// sender keeps them.
type Transport struct {
	incoming chan *conn
	quit     chan struct{}

	mu     sync.Mutex // guards all below
	closed bool
	links  map[*link]struct{}
}

// New makes a transport. It needs no Close to be collected as garbage.
func New() *Transport {
	return &Transport{
		incoming: make(chan *conn),
		quit:     make(chan struct{}),
		links:    make(map[*link]struct{}),
	}
}

// Dial connects to the controller. It waits until [Transport.Accept] takes the
// connection, ctx ends or the transport closes; the error is then ctx's or
// [transport.ErrClosed].
func (t *Transport) Dial(ctx context.Context) (transport.Conn, error) {
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	l := &link{owner: t, quit: make(chan struct{})}
	up, down := make(chan transport.Message, queueSize), make(chan transport.Message, queueSize)
	agent := &conn{link: l, out: up, in: down, left: make(chan struct{})}
	controller := &conn{link: l, out: down, in: up, left: make(chan struct{})}
	if !t.add(l) {
		return nil, transport.ErrClosed
	}
	select {
	case t.incoming <- controller:
		return agent, nil
	case <-t.quit:
		return nil, transport.ErrClosed
	case <-ctx.Done():
		l.close()
		return nil, ctx.Err()
	}
}

// Accept waits for the next agent, until ctx ends or the transport closes; the
// error is then ctx's or [transport.ErrClosed].
func (t *Transport) Accept(ctx context.Context) (transport.Conn, error) {
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	select {
	case c := <-t.incoming:
		return c, nil
	case <-t.quit:
		return nil, transport.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the transport and every connection made by it.
func (t *Transport) Close() error {
	t.mu.Lock()
	links := t.links
	t.links = nil
	if !t.closed {
		t.closed = true
		close(t.quit)
	}
	t.mu.Unlock()
	for l := range links {
		l.close()
	}
	return nil
}

func (t *Transport) usable(ctx context.Context) error {
	select {
	case <-t.quit:
		return transport.ErrClosed
	default:
		return ctx.Err()
	}
}

func (t *Transport) add(l *link) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.links[l] = struct{}{}
	return true
}

// link is what the two ends of a connection share.
type link struct {
	owner *Transport
	once  sync.Once
	quit  chan struct{}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.quit)
		l.owner.mu.Lock()
		delete(l.owner.links, l)
		l.owner.mu.Unlock()
	})
}

// conn is one end of a link.
type conn struct {
	*link
	out  chan<- transport.Message
	in   <-chan transport.Message
	once sync.Once
	left chan struct{} // closed when this end closed, and not the other one
}

func (c *conn) Send(ctx context.Context, m transport.Message) error {
	if m == nil {
		return errNil
	}
	if c.ended() {
		return transport.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c.out <- m:
		// A close that came in between may have been seen by the reader
		// before m: only without one m is sure to arrive.
		if c.ended() {
			return transport.ErrClosed
		}
		return nil
	case <-c.quit:
		return transport.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) Receive(ctx context.Context) (transport.Message, error) {
	select {
	case <-c.left:
		return nil, transport.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case m := <-c.in:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.quit:
	}
	select {
	case <-c.left:
	case m := <-c.in:
		return m, nil
	default:
	}
	return nil, transport.ErrClosed
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.left) })
	c.close()
	return nil
}

func (c *conn) ended() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}
