package volta_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// fleet is a controller with its agents.
type fleet struct {
	*volta.Controller
	ctx  context.Context
	dial func(t testing.TB) transport.Transport // an agent's side
	addr string                                 // of the gRPC server, if there is one
}

// newFleet runs a controller until the test ends.
func newFleet(t testing.TB, overGRPC bool, cfg *volta.ControllerConfig) *fleet {
	t.Helper()
	if overGRPC {
		return newRemoteFleet(t, cfg, grpctransport.ServerConfig{Addr: "localhost:0"})
	}
	return runFleet(t, cfg, nil)
}

// newRemoteFleet is newFleet over gRPC, with the server's settings.
func newRemoteFleet(t testing.TB, cfg *volta.ControllerConfig, server grpctransport.ServerConfig) *fleet {
	t.Helper()
	return runFleet(t, cfg, &server)
}

func runFleet(t testing.TB, cfg *volta.ControllerConfig, remote *grpctransport.ServerConfig) *fleet {
	t.Helper()
	ctrl, err := volta.NewController(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	f := &fleet{Controller: ctrl, ctx: ctx}
	var tr transport.Transport
	if remote != nil {
		remote.Users = ctrl
		server, err := grpctransport.Listen(*remote)
		require.NoError(t, err)
		f.addr = server.Addr().String()
		tr = server
		f.dial = func(t testing.TB) transport.Transport {
			d, err := grpctransport.NewDialer(grpctransport.ClientConfig{Addr: f.addr})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Close()) })
			return d
		}
	} else {
		tr = inproc.New()
		f.dial = func(testing.TB) transport.Transport { return tr }
	}
	done := make(chan error, 1)
	go func() { done <- ctrl.Run(ctx, tr) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, tr.Close())
	})
	return f
}

// join runs an agent until the test ends.
func (f *fleet) join(t testing.TB, cfg volta.AgentConfig) (leave func()) {
	t.Helper()
	agent, err := volta.NewAgent(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(f.ctx)
	done := make(chan error, 1)
	tr := f.dial(t)
	go func() { done <- agent.Run(ctx, tr) }()
	left := false
	leave = func() {
		if left {
			return
		}
		left = true
		stop()
		require.NoError(t, <-done)
	}
	t.Cleanup(leave)
	wait, cancel := context.WithTimeout(f.ctx, 10*time.Second)
	defer cancel()
	require.NoError(t, f.WaitAgents(wait, cfg.ID))
	return leave
}

// openPort opens a port in a host's namespace.
func openPort(t testing.TB, h *netlab.Host, sources ...netip.Addr) probe.Port {
	t.Helper()
	var port probe.Port
	require.NoError(t, h.Do(func() (err error) {
		port, err = volta.OpenPort(volta.PortConfig{Sources: sources})
		return err
	}))
	return port
}

// twoSites is the two-site network with an agent at each site.
func twoSites(t testing.TB, overGRPC bool) (*netlab.TwoSites, *fleet) {
	t.Helper()
	lab := netlab.NewTwoSites(t)
	f := newFleet(t, overGRPC, nil)
	for id, h := range map[string]*netlab.Host{"a": lab.A, "b": lab.B} {
		f.join(t, volta.AgentConfig{ID: id, Port: openPort(t, h, lab.Anycast4, lab.Anycast6)})
	}
	return lab, f
}

// measure runs a command line and requires that it works.
func (f *fleet) measure(t testing.TB, line string) *result.Trace {
	t.Helper()
	m, err := volta.ParseCommand(line)
	require.NoError(t, err)
	m.Numeric = true
	trace, err := f.Measure(f.ctx, m)
	require.NoError(t, err)
	return trace
}
