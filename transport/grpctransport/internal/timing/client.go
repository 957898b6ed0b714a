package timing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/slewing"
)

// answerWait is how long a reply is waited for.
const answerWait = time.Second

// Client asks a server.
type Client struct {
	sock  *socket
	offer Offer
	mu    sync.Mutex // held during an exchange
	last  uint64     // exchange; guarded by mu
}

// Dial makes a client of the server at a host, the only one with the offer. It
// sends nothing yet.
func Dial(host netip.Addr, o Offer) (*Client, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, o.Port)))
	if err != nil {
		return nil, fmt.Errorf("timing: %w", err)
	}
	// Half the numbers are enough to count up from any of them.
	return &Client{sock: newSocket(c), offer: o, last: random() / 2}, nil
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
	c.last++
	s := Stamps{Exchange: c.last, Kernel: true}
	encode(&out, request, c.offer.ID, s.Exchange, &c.offer.Key)
	before := slewing.Read()
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
		s.slewed(before, s.Received.Sub(s.Sent))
		return s, nil
	}
}

// slewed fills in by how much the clock has been slewed. What it was before and
// after what took so long is known; it may have been slewed outside of that,
// so the times allow for it.
func (s *Stamps) slewed(before slewing.Reading, whole time.Duration) {
	after := slewing.Read()
	if !before.Known || !after.Known {
		return
	}
	s.Slewed = &after.Sum
	if outside := after.At - before.At - whole; outside > 0 && after.Sum != before.Sum {
		most := time.Duration(float64(outside)*slewing.Max) + 1
		s.Sent, s.Received = s.Sent.Add(-most), s.Received.Add(most)
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
