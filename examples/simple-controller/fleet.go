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
	for i := range n.Scenario().Sites {
		site := &n.Scenario().Sites[i]
		port, err := n.Port(site.Name)
		if err != nil {
			return nil, err
		}
		cfg := volta.AgentConfig{ID: site.Name, Port: port}
		if c := site.Clock; c.Ahead != 0 || c.Skew != 0 || len(c.Steps) > 0 {
			cfg.Clock = "simulated clock of " + site.Name // not what the others read
		}
		agent, err := volta.NewAgent(cfg)
		if err != nil {
			return nil, errors.Join(err, port.Close())
		}
		agents = append(agents, agent)
	}
	return agents, nil
}
