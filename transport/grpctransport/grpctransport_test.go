package grpctransport_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
	"bitbucket.org/uwpatio/voltadomar/transport/transporttest"
)

// patience is how long anything may take that has to happen.
const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t testing.TB, cfg grpctransport.ServerConfig) *grpctransport.Server {
	t.Helper()
	if cfg.Addr == "" && cfg.Listener == nil {
		cfg.Addr = "127.0.0.1:0"
	}
	s, err := grpctransport.Listen(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func newDialer(t testing.TB, cfg grpctransport.ClientConfig) *grpctransport.Dialer {
	t.Helper()
	d, err := grpctransport.NewDialer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func newClient(t testing.TB, cfg grpctransport.ClientConfig) *grpctransport.Client {
	t.Helper()
	c, err := grpctransport.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// connect joins an agent with a controller.
func connect(t testing.TB, s *grpctransport.Server, d *grpctransport.Dialer) (agent, controller transport.Conn) {
	t.Helper()
	ctx := within(t)
	accepted := make(chan transport.Conn, 1)
	go func() {
		c, _ := s.Accept(ctx)
		accepted <- c
	}()
	agent, err := d.Dial(ctx)
	require.NoError(t, err)
	controller = <-accepted
	require.NotNil(t, controller)
	return agent, controller
}

func TestConformance(t *testing.T) {
	transporttest.RunPair(t, func(t testing.TB) (agents, controller transport.Transport) {
		s := listen(t, grpctransport.ServerConfig{})
		return newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()}), s
	})
}

func TestConformanceTLS(t *testing.T) {
	pki := newPKI(t)
	transporttest.RunPair(t, func(t testing.TB) (agents, controller transport.Transport) {
		s := listen(t, grpctransport.ServerConfig{TLS: pki.server(true)})
		return newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String(), TLS: pki.client(true)}), s
	})
}

func TestUnsupportedSides(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	_, err := s.Dial(t.Context())
	require.ErrorContains(t, err, "a Dialer dials")
	d := newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()})
	_, err = d.Accept(t.Context())
	require.ErrorContains(t, err, "a Server accepts")
}

func TestMessagesOfTheWrongSide(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	agent, controller := connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()}))
	require.ErrorContains(t, agent.Send(t.Context(), &transport.Welcome{}), "*transport.Welcome")
	require.ErrorContains(t, controller.Send(t.Context(), &transport.Hello{}), "*transport.Hello")
	require.Error(t, agent.Send(t.Context(), nil))
	require.NoError(t, agent.Send(t.Context(), &transport.Hello{Agent: "a"}), "the connection is still good")
	m, err := controller.Receive(within(t))
	require.NoError(t, err)
	require.Equal(t, &transport.Hello{Agent: "a"}, m)
}

func TestOversizedMessage(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	agent, controller := connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()}))
	err := agent.Send(t.Context(), &transport.Failed{Reason: string(make([]byte, 9<<20))})
	require.ErrorContains(t, err, "must be at most")
	large := &transport.Failed{Reason: string(make([]byte, 7<<20))}
	for range 3 {
		require.NoError(t, agent.Send(within(t), large))
	}
	for range 3 {
		m, err := controller.Receive(within(t))
		require.NoError(t, err)
		require.Len(t, m.(*transport.Failed).Reason, 7<<20)
	}
}

func TestInvalidTextIsRepaired(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	agent, controller := connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()}))
	require.NoError(t, agent.Send(t.Context(), &transport.Failed{Reason: "bad \xff byte"}))
	m, err := controller.Receive(within(t))
	require.NoError(t, err)
	require.Equal(t, &transport.Failed{Reason: "bad \uFFFD byte"}, m)
}

func TestDialNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())

	_, err = newDialer(t, grpctransport.ClientConfig{Addr: addr}).Dial(within(t))
	require.ErrorContains(t, err, addr)
	require.ErrorContains(t, err, "connection refused")
	require.NotErrorIs(t, err, context.DeadlineExceeded)

	_, err = newClient(t, grpctransport.ClientConfig{Addr: addr}).Agents(within(t))
	var failed *grpctransport.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 503, failed.Code)
	require.ErrorContains(t, err, "connection refused")
}

// silence accepts connections and says nothing.
func silence(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestDialSilence(t *testing.T) {
	d := newDialer(t, grpctransport.ClientConfig{Addr: silence(t)})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.Dial(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	failed := make(chan error, 1)
	go func() {
		_, err := d.Dial(t.Context())
		failed <- err
	}()
	require.NoError(t, d.Close())
	select {
	case err := <-failed:
		require.ErrorIs(t, err, transport.ErrClosed)
	case <-time.After(patience):
		t.Fatal("Close did not end a dial")
	}
}

func TestListenerFailureEndsAccept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := listen(t, grpctransport.ServerConfig{Listener: l})
	require.NoError(t, l.Close())
	_, err = s.Accept(within(t))
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, s.Close())
	_, err = s.Accept(within(t))
	require.ErrorIs(t, err, transport.ErrClosed)
}
