package inproc_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
	"bitbucket.org/uwpatio/voltadomar/transport/transporttest"
)

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(testing.TB) transport.Transport { return inproc.New() })
}

func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := inproc.New()
		defer tr.Close()
		accepted := make(chan transport.Conn, 1)
		go func() {
			time.Sleep(time.Hour)
			c, _ := tr.Accept(t.Context())
			accepted <- c
		}()
		agent, err := tr.Dial(t.Context())
		require.NoError(t, err)
		controller := <-accepted

		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		for err = error(nil); err == nil; {
			err = agent.Send(ctx, &transport.Failed{})
		}
		require.ErrorIs(t, err, context.DeadlineExceeded, "a full queue is waited for in virtual time")

		go func() {
			time.Sleep(time.Minute)
			agent.Close()
		}()
		for err = error(nil); err == nil; {
			_, err = controller.Receive(t.Context())
		}
		require.ErrorIs(t, err, transport.ErrClosed)
	})
}

func TestNilMessage(t *testing.T) {
	tr := inproc.New()
	defer tr.Close()
	go tr.Accept(t.Context())
	c, err := tr.Dial(t.Context())
	require.NoError(t, err)
	require.Error(t, c.Send(t.Context(), nil))
}

func BenchmarkSendReceive(b *testing.B) {
	tr := inproc.New()
	defer tr.Close()
	go func() {
		c, err := tr.Accept(b.Context())
		for err == nil {
			_, err = c.Receive(b.Context())
		}
	}()
	c, err := tr.Dial(b.Context())
	require.NoError(b, err)
	m := &transport.Cancel{Session: 1}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}
