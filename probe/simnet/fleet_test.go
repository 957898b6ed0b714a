package simnet_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

func addrs(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// twoSites is the network of the package's documentation.
func twoSites() *simnet.Scenario {
	return &simnet.Scenario{
		Sites: []simnet.Site{
			{Host: simnet.Host{Name: "a", Addresses: addrs("192.0.2.1", "2001:db8:ff::1")}},
			{Host: simnet.Host{Name: "b", Addresses: addrs("192.0.2.1", "2001:db8:ff::1")}},
		},
		Hosts: []simnet.Host{{Name: "target", Addresses: addrs("203.0.113.10", "2001:db8:fe::10"), TCP: simnet.Ports{Open: []simnet.PortRange{{First: 80, Last: 80}}}}},
		Links: []simnet.Link{
			{Draw: "a --1ms-- r1 --2ms-- r2 --3ms-- r3 --4ms-- r4 --5ms-- target"},
			{Draw: "r3 --1ms-- b"},
		},
	}
}

// measure runs commands over a scenario, with an agent at every site.
func measure(t *testing.T, s *simnet.Scenario, commands ...string) []string {
	t.Helper()
	n, err := s.Start()
	require.NoError(t, err)
	defer n.Close()
	ctrl, err := volta.NewController(&volta.ControllerConfig{Resolver: n})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	meet := inproc.New()
	done := make(chan error)
	go func() { done <- ctrl.Run(ctx, meet) }()
	for _, site := range n.Sites() {
		port, err := n.Port(site)
		require.NoError(t, err)
		agent, err := volta.NewAgent(volta.AgentConfig{ID: site, Port: port})
		require.NoError(t, err)
		go func() { done <- agent.Run(ctx, meet) }()
	}
	require.NoError(t, ctrl.WaitAgents(ctx, n.Sites()...))
	var out []string
	for _, c := range commands {
		began := time.Now()
		code, text := ctrl.Command(ctx, "volta "+c)
		require.Equal(t, 200, code, text)
		t.Log(time.Since(began), text)
		out = append(out, text)
	}
	stop()
	for range len(n.Sites()) + 1 {
		require.NoError(t, <-done)
	}
	require.NoError(t, meet.Close())
	return out
}

func TestTwoSites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		measure(t, twoSites(), "a 203.0.113.10", "a 2001:db8:fe::10", "a 203.0.113.10 -I", "a 203.0.113.10 -T -p 80", "a 203.0.113.10 -T -p 81", "a 203.0.113.10 777")
	})
}
