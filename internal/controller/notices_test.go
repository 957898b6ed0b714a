package controller

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

type closing struct {
	transport.Conn
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

// An agent that lags behind ever more is let go of.
func TestTooManyNotices(t *testing.T) {
	conn := &closing{}
	a := &agent{conn: conn, notices: notices{wake: make(chan struct{}, 1)}}
	for range maxNotices {
		a.notify(&transport.Unwatch{})
	}
	require.False(t, a.notices.overrun)
	require.False(t, a.offer(&transport.Read{}, maxReads))
	a.notify(&transport.Unwatch{})
	a.tell(t.Context())
	require.True(t, conn.closed)
}
