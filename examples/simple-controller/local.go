package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/transport/inproc"
)

// traceLocal runs controller and agent in this process and prints a trace.
func traceLocal(ctx context.Context, cfg *volta.ControllerConfig, words []string, stdout, stderr io.Writer) int {
	const id = "local"
	m, err := volta.ParseArgs(append([]string{id}, words...))
	if err != nil {
		fmt.Fprintf(stderr, "simple-controller: %v\nTry 'simple-controller --help'.\n", err)
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "simple-controller:", err)
		return 1
	}
	ctrl, err := volta.NewController(cfg)
	if err != nil {
		return fail(err)
	}
	port, err := volta.OpenPort(volta.PortConfig{})
	if err != nil {
		return fail(err)
	}
	agent, err := volta.NewAgent(volta.AgentConfig{ID: id, Port: port})
	if err != nil {
		return fail(errors.Join(err, port.Close()))
	}

	t := inproc.New()
	defer t.Close()
	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)
	wg.Go(func() { stop(ctrl.Run(ctx, t)) })
	wg.Go(func() { stop(agent.Run(ctx, t)) })
	if err := ctrl.WaitAgents(ctx, id); err != nil {
		return fail(context.Cause(ctx))
	}
	trace, err := ctrl.Measure(ctx, m)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if trace != nil {
		if _, failed := fmt.Fprintln(stdout, trace.Text()); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		return fail(err)
	}
	return 0
}
