package main

import (
	"context"
	"errors"
	"sync"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// withFleet runs controller and agents in this process while do runs, which
// finds the agents connected. Others may connect over more transports.
func withFleet(ctx context.Context, ctrl *volta.Controller, ids []string, agents []*volta.Agent, more []transport.Transport, do func(context.Context) error) error {
	meet := inproc.New()
	defer meet.Close()
	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)
	wg.Go(func() { stop(ctrl.Run(ctx, append(more, meet)...)) })
	for _, a := range agents {
		wg.Go(func() { stop(a.Run(ctx, meet)) })
	}
	err := ctrl.WaitAgents(ctx, ids...)
	if err == nil {
		err = do(ctx)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause // of the failure of a part, or of being told to stop
	}
	return err
}

// siteAgents returns an agent for every site of a simulated network.
func siteAgents(n *simnet.Network) (agents []*volta.Agent, err error) {
	for _, site := range n.Sites() {
		port, err := n.Port(site)
		if err != nil {
			return nil, err
		}
		agent, err := volta.NewAgent(volta.AgentConfig{ID: site, Port: port})
		if err != nil {
			return nil, errors.Join(err, port.Close())
		}
		agents = append(agents, agent)
	}
	return agents, nil
}
