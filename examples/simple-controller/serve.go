package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// serveFleet serves until ctx ends. With a scenario, its sites have agents in
// this process.
func serveFleet(ctx context.Context, cfg *volta.ControllerConfig, simulated string, at grpctransport.ServerConfig, wrong func(error) int, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(stderr, "simple-controller:", err)
		return 1
	}
	var sites []string
	var agents []*volta.Agent
	if simulated != "" {
		s, err := scenario.Load(simulated)
		if err != nil {
			return fail(err)
		}
		network, err := s.Start()
		if err != nil {
			return fail(err)
		}
		defer network.Close()
		if agents, err = siteAgents(network); err != nil {
			return fail(err)
		}
		cfg.Resolver, sites = network, network.Sites()
	}
	ctrl, err := volta.NewController(cfg)
	if err != nil {
		return wrong(err)
	}
	at.Users = ctrl
	server, err := grpctransport.Listen(at)
	_, malformed := errors.AsType[*net.AddrError](err)
	switch {
	case malformed, errors.Is(err, transport.ErrInsecure):
		return wrong(err)
	case err != nil:
		return fail(err)
	}
	defer server.Close()
	err = withFleet(ctx, ctrl, sites, agents, []transport.Transport{server}, func(ctx context.Context) error {
		fmt.Fprintf(stdout, "serving on %s\n", server.Addr())
		if simulated != "" {
			fmt.Fprintf(stdout, "SIMULATED network %q with agents at its sites: %v\n", simulated, sites)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fail(err)
	}
	return 0
}
