package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// open builds this program and opens it as an agent does.
func open(t *testing.T) *plugins.Plugin {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dns")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	p, err := plugins.Open(t.Context(), plugins.Config{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// fleet runs a controller and an agent at each site of a network, until the
// test ends. The agent of the first site has the type.
func fleet(t *testing.T, n *simnet.Network, typ probe.Prober) *volta.Controller {
	t.Helper()
	ctrl, err := volta.NewController(&volta.ControllerConfig{Resolver: n})
	require.NoError(t, err)
	meet := inproc.New()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	running := 1
	go func() { done <- ctrl.Run(ctx, meet) }()
	t.Cleanup(func() {
		stop()
		var err error
		for range running {
			err = errors.Join(err, <-done)
		}
		require.NoError(t, errors.Join(err, meet.Close()))
	})
	for i, site := range n.Sites() {
		port, err := n.Port(site)
		require.NoError(t, err)
		types := volta.DefaultProbers()
		if i == 0 {
			types = append(types, typ)
		}
		agent, err := volta.NewAgent(volta.AgentConfig{ID: site, Port: port, Probers: types})
		require.NoError(t, err)
		running++
		go func() { done <- agent.Run(ctx, meet) }()
	}
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	require.NoError(t, ctrl.WaitAgents(wait, n.Sites()...))
	return ctrl
}

// TestTwoSites asks a server with the plugin at a alone. What the server
// answers lands at b.
func TestTwoSites(t *testing.T) {
	if err := plugins.Supported(); err != nil {
		t.Skip(err)
	}
	s, err := scenario.Load("two-site")
	require.NoError(t, err)
	plain, all := server{site: "fra1"}, server{site: "fra2", cookies: true, nsid: hex.EncodeToString([]byte("ns2.fra"))}
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{53: plain.respond, 5353: all.respond}
	n, err := s.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	ctrl := fleet(t, n, open(t))

	for _, target := range []netip.Addr{s.Hosts[0].Addresses[0], s.Hosts[0].Addresses[1]} {
		for options, values := range map[string][]probe.Value{
			"":                         {{Name: "site", Text: "fra1"}},
			"-o name=hostname.bind":    {{Name: "site", Text: "fra1"}},
			"-p 5353":                  {{Name: "site", Text: "fra2"}},
			"-p 5353 -o nsid=true 300": {{Name: "site", Text: "fra2"}, {Name: "nsid", Text: "ns2.fra"}},
		} {
			m, err := volta.ParseCommand(fmt.Sprintf("volta a %s -n -P dns %s", target, options))
			require.NoError(t, err)
			trace, err := ctrl.Measure(t.Context(), m)
			require.NoError(t, err)
			require.True(t, trace.Reached, trace.Text())
			require.Len(t, trace.Hops, 5)
			require.Zero(t, trace.Counts.Unverified)
			for i, h := range trace.Hops {
				for _, p := range h.Probes {
					require.Equal(t, result.Matched, p.Verdict, trace.Text())
					require.Equal(t, map[bool]string{true: "a", false: "b"}[i < 2], p.Receiver)
					if i == 4 {
						require.Equal(t, []any{target, "udp-reply", values}, []any{p.Addr, p.Kind, p.Values})
					} else {
						require.Empty(t, p.Values)
					}
				}
			}
		}
		// As a ping: with enough hops for any way.
		m, err := volta.ParseCommand(fmt.Sprintf("volta a %s -n -P dns -f 64 -m 64 -q 5", target))
		require.NoError(t, err)
		trace, err := ctrl.Measure(t.Context(), m)
		require.NoError(t, err)
		require.Len(t, trace.Hops, 1)
		require.Len(t, trace.Hops[0].Probes, 5)
		for _, p := range trace.Hops[0].Probes {
			require.Equal(t, []any{"b", plain.site}, []any{p.Receiver, p.Values[0].Text})
		}
		require.Contains(t, trace.Text(), fmt.Sprintf("\n64  %s b [site=fra1]  ", target))
	}
}
