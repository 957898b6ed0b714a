package grpctransport

import (
	"net"
	"sync"
)

// cutter is a listener that can cut what it accepted. gRPC itself waits for
// peers that connected and have not spoken yet, even when it is told to stop.
type cutter struct {
	net.Listener

	mu    sync.Mutex // guards all below
	cut   bool
	conns map[*cutConn]struct{}
}

func newCutter(l net.Listener) *cutter {
	return &cutter{Listener: l, conns: make(map[*cutConn]struct{})}
}

func (l *cutter) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &cutConn{Conn: conn, from: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// cutAll closes every connection, and those still to come.
func (l *cutter) cutAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		c.Conn.Close()
	}
}

type cutConn struct {
	net.Conn
	from *cutter
}

func (c *cutConn) Close() error {
	c.from.mu.Lock()
	delete(c.from.conns, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}
