// Package transport is how controller and agents meet: a [Transport] makes
// connections, a [Conn] carries [Message] values both ways.
package transport

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrClosed says that the connection or transport was closed, by either side.
	ErrClosed = errors.New("transport closed")
	// ErrInsecure says that plain text to another host was asked for without
	// saying that this is meant.
	ErrInsecure = errors.New("refusing plain text beyond loopback")
)

// Transport connects agents with a controller. It is safe for concurrent use.
type Transport interface {
	// Dial connects to the controller: an agent's side.
	Dial(ctx context.Context) (Conn, error)
	// Accept waits for the next agent: the controller's side. After Close it
	// returns [ErrClosed].
	Accept(ctx context.Context) (Conn, error)
	// Close ends the transport and every connection made by it, and returns
	// once its goroutines are gone. It is idempotent.
	Close() error
}

// Conn is one connection. Messages arrive whole, in order, at most once.
type Conn interface {
	// Send queues m. While the peer is too slow and the queue is full it
	// waits, until ctx ends or the connection closes. The caller must not
	// change m afterwards. Several goroutines may call it.
	Send(ctx context.Context, m Message) error
	// Receive waits for the next message. One goroutine may call it at a
	// time. What the peer sent before it closed is delivered first; then the
	// error is [ErrClosed].
	Receive(ctx context.Context) (Message, error)
	// Close ends the connection for both sides. It is idempotent.
	Close() error
}

// TimeAsker is an agent's [Conn] that can exchange times with the controller
// beside its messages, nearer to the wire. The host's clock is what it reads.
// The controller's end of the connection is a [TimeTeller] then. What wraps a
// Conn without these methods does without such exchanges.
type TimeAsker interface {
	Conn
	// AskTime makes an exchange and returns what is known of it here; the Step
	// is the caller's to fill in, who passes it on with Send.
	// It takes a second at most, and may be called beside all other methods,
	// but not twice at a time. The error is ctx's, [ErrClosed] after Close, or
	// says that no reply came.
	AskTime(ctx context.Context) (*Timing, error)
}

// TimeTeller is the controller's side of a [TimeAsker].
type TimeTeller interface {
	Conn
	// ToldTime returns what the controller's side knows of an exchange. It
	// tells each one once, and only of the last dozen or so. Any goroutine may
	// call it.
	ToldTime(exchange uint64) (Told, bool)
}

// Told is the controller's side of an exchange of time.
type Told struct {
	// Received and Sent are when the request came in and when the reply left,
	// by the clock of this process and with its monotonic reading.
	Received, Sent time.Time
	// Slewed is that of [Status], of this host's clock, during the exchange.
	Slewed *time.Duration
}
