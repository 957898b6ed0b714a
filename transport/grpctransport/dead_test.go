package grpctransport

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// pipes is a network of one host in memory, on which virtual time passes. Once
// cut is closed it carries nothing any more and tells nobody.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
	cut    chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	near, nearEnd := net.Pipe()
	far, farEnd := net.Pipe()
	select {
	case p.conns <- far:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	go p.carry(farEnd, nearEnd)
	go p.carry(nearEnd, farEnd)
	return near, nil
}

func (p *pipes) carry(to, from net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		select {
		case <-p.cut:
			if err != nil {
				return
			}
			continue
		default:
		}
		if err != nil {
			to.Close()
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestDeadPeer cuts the wire between two sides that have nothing to say: both
// find out in time, and a peer that is only quiet is kept.
func TestDeadPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), cut: make(chan struct{})}
		s, err := Listen(ServerConfig{Listener: wire, NoTiming: true})
		require.NoError(t, err)
		defer s.Close()
		d, err := NewDialer(ClientConfig{Addr: "127.0.0.1:1", dialer: wire.dial})
		require.NoError(t, err)
		defer d.Close()
		accepted := make(chan transport.Conn, 1)
		go func() {
			c, _ := s.Accept(t.Context())
			accepted <- c
		}()
		agent, err := d.Dial(t.Context())
		require.NoError(t, err)
		controller := <-accepted

		time.Sleep(time.Hour)
		require.NoError(t, agent.Send(t.Context(), &transport.Hello{Agent: "quiet"}))
		m, err := controller.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, &transport.Hello{Agent: "quiet"}, m)

		close(wire.cut)
		cut := time.Now()
		found := make(chan error, 2)
		for _, c := range []transport.Conn{agent, controller} {
			go func() {
				_, err := c.Receive(t.Context())
				found <- err
			}()
		}
		for range 2 {
			require.ErrorIs(t, <-found, transport.ErrClosed)
		}
		require.LessOrEqual(t, time.Since(cut), 15*time.Second)
		require.ErrorIs(t, agent.Send(t.Context(), nil), transport.ErrClosed)
		require.ErrorIs(t, controller.Send(t.Context(), nil), transport.ErrClosed)
	})
}
