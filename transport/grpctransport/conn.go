package grpctransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// wire is one side of a stream: messages of type O go out, I come in.
type wire[O, I proto.Message] struct {
	encode func(transport.Message) (O, error)
	write  func([]O) error
	read   func() ([]I, error)
	decode func(I) (transport.Message, error)
}

// conn is a [transport.Conn] over a stream. A goroutine each writes and reads
// the stream, with a bounded queue in between.
type conn[O, I proto.Message] struct {
	wire[O, I]
	out chan O
	in  chan transport.Message // closed when nothing more will come

	quitOnce sync.Once
	quit     chan struct{} // closed by Close

	downOnce sync.Once
	down     chan struct{} // closed when the stream ended by itself
	err      error         // set before down is closed: why

	writerGone chan struct{}
	readerGone chan struct{}
	done       chan struct{} // closed when the connection's goroutines are gone
}

func newConn[O, I proto.Message](w wire[O, I]) *conn[O, I] {
	return &conn[O, I]{
		wire:       w,
		out:        make(chan O, sendQueue),
		in:         make(chan transport.Message, receiveQueue),
		quit:       make(chan struct{}),
		down:       make(chan struct{}),
		writerGone: make(chan struct{}),
		readerGone: make(chan struct{}),
		done:       make(chan struct{}),
	}
}

// Send queues m; see [transport.Conn]. A message that this side does not send,
// or that is longer than 7.5 MiB, is an error that leaves the connection alone.
func (c *conn[O, I]) Send(ctx context.Context, m transport.Message) error {
	if err := c.ended(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o, err := c.encode(m)
	if err != nil {
		return err
	}
	if n := proto.Size(o); n > maxSingle {
		return fmt.Errorf("a %T of %d bytes: must be at most %d", m, n, maxSingle)
	}
	select {
	case c.out <- o:
		// A close that came in between may have been seen by the writer
		// before m: only without one m is sure to be sent.
		return c.ended()
	case <-c.quit:
		return transport.ErrClosed
	case <-c.down:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Receive waits for the next message; see [transport.Conn]. Where the stream
// ended for another reason than a close, the error says so and is still
// [transport.ErrClosed].
func (c *conn[O, I]) Receive(ctx context.Context) (transport.Message, error) {
	select {
	case <-c.quit:
		return nil, transport.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case m, ok := <-c.in:
		if !ok {
			return nil, c.err
		}
		return m, nil
	case <-c.quit:
		return nil, transport.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the connection. It waits up to a second for the peer to take what
// was sent.
func (c *conn[O, I]) Close() error {
	c.leave()
	<-c.done
	return nil
}

// leave begins to close.
func (c *conn[O, I]) leave() { c.quitOnce.Do(func() { close(c.quit) }) }

// ended returns why nothing can be sent any more, or nil.
func (c *conn[O, I]) ended() error {
	select {
	case <-c.quit:
		return transport.ErrClosed
	case <-c.down:
		return c.err
	default:
		return nil
	}
}

// reason returns why the stream ended, or nil if it did not end by itself.
func (c *conn[O, I]) reason() error {
	select {
	case <-c.down:
		return c.err
	default:
		return nil
	}
}

// fail says that the stream ended. The first reason stays.
func (c *conn[O, I]) fail(err error) {
	c.downOnce.Do(func() {
		c.err = err
		close(c.down)
	})
}

// writes runs until the stream ends, or until Close was called and the queue
// is empty.
func (c *conn[O, I]) writes() {
	defer close(c.writerGone)
	for {
		select {
		case o := <-c.out:
			if !c.flush(o) {
				return
			}
		case <-c.down:
			return
		case <-c.quit:
			for {
				select {
				case o := <-c.out:
					if !c.flush(o) {
						return
					}
				default:
					return
				}
			}
		}
	}
}

// flush writes o and what is queued behind it as one batch.
func (c *conn[O, I]) flush(o O) bool {
	batch, size := []O{o}, proto.Size(o)
	for more := true; more && len(batch) < maxBatched && size < maxBatch; {
		select {
		case o := <-c.out:
			batch, size = append(batch, o), size+proto.Size(o)
		default:
			more = false
		}
	}
	if err := c.write(batch); err != nil {
		c.fail(broken(err))
		return false
	}
	return true
}

// reads runs until the stream ends.
func (c *conn[O, I]) reads() {
	defer close(c.readerGone)
	defer close(c.in)
	for {
		batch, err := c.read()
		if err != nil {
			c.fail(broken(err))
			return
		}
		for _, i := range batch {
			m, err := c.decode(i)
			if err != nil {
				c.fail(&malformed{err})
				return
			}
			select {
			case c.in <- m:
			case <-c.quit:
				// Read on, to see the peer end the stream.
			}
		}
	}
}

// malformed says that the peer sent what no peer may send.
type malformed struct{ err error }

func (m *malformed) Error() string   { return "malformed message: " + m.err.Error() }
func (m *malformed) Unwrap() []error { return []error{transport.ErrClosed, m.err} }

// broken makes an error of the one that a stream ended with.
func broken(err error) error {
	if bad := (*malformed)(nil); errors.As(err, &bad) {
		return bad
	}
	if errors.Is(err, io.EOF) {
		return transport.ErrClosed
	}
	return fmt.Errorf("%w: %s", transport.ErrClosed, status.Convert(err).Message())
}

// drained waits until the peer has what was sent, for as long as Close may
// linger. Finish tells the peer that nothing more comes.
func (c *conn[O, I]) drained(finish func()) {
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-c.writerGone:
	case <-timer.C:
		return
	}
	finish()
	select {
	case <-c.readerGone:
	case <-timer.C:
	}
}
