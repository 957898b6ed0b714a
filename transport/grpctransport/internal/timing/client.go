package timing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// answerWait is how long a reply is waited for.
const answerWait = time.Second

// Client asks a server.
type Client struct {
	sock  *socket
	offer Offer
	mu    sync.Mutex // held during an exchange
}

// Dial makes a client of the server at a host. It sends nothing yet.
func Dial(host netip.Addr, o Offer) (*Client, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, o.Port)))
	if err != nil {
		return nil, fmt.Errorf("timing: %w", err)
	}
	return &Client{sock: newSocket(c), offer: o}, nil
}

// Close ends the client and an exchange under way. It is idempotent.
func (c *Client) Close() { _ = c.sock.Close() }

// Exchange asks the server and returns when the request left and when the
// reply came, by the wall clock. It waits for a second at most. A wall clock
// that is set meanwhile spoils the times.
func (c *Client) Exchange(ctx context.Context) (Stamps, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Stamps{}, err
	}
	_ = c.sock.SetReadDeadline(time.Now().Add(answerWait))
	stop := context.AfterFunc(ctx, func() { _ = c.sock.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var out [datagramLen]byte
	s := Stamps{Exchange: random(), Kernel: true}
	encode(&out, request, c.offer.ID, s.Exchange, &c.offer.Key)
	left := time.Now()
	s.Sent = left.Round(0)
	stamp, err := c.sock.send(out[:], netip.AddrPort{}, nil)
	if err != nil {
		return Stamps{}, c.failed(ctx, err)
	}
	if plausible(stamp, left, time.Now()) {
		s.Sent = stamp
	} else {
		s.Kernel = false
	}
	var b [datagramLen + 1]byte
	for {
		n, a, err := c.sock.receive(b[:])
		if err != nil {
			return Stamps{}, c.failed(ctx, err)
		}
		id, exchange, ok := decode(b[:n], reply)
		if !ok || id != c.offer.ID || exchange != s.Exchange || !genuine(b[:n], &c.offer.Key) {
			continue
		}
		s.Received = a.at.Round(0)
		if plausible(a.stamp, left, a.at) {
			s.Received = a.stamp
		} else {
			s.Kernel = false
		}
		return s, nil
	}
}

// plausible tells whether the kernel stamped something between two times.
func plausible(stamp, from, to time.Time) bool {
	return !stamp.IsZero() && !stamp.Before(from.Round(0)) && !stamp.After(to.Round(0))
}

func (c *Client) failed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	}
	return fmt.Errorf("timing: %w", err)
}
