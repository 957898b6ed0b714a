package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	volta "bitbucket.org/uwpatio/voltadomar"
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
	err = withFleet(ctx, ctrl, []string{id}, []*volta.Agent{agent}, nil, func(ctx context.Context) error {
		trace, err := ctrl.Measure(ctx, m)
		if trace != nil {
			if _, failed := fmt.Fprintln(stdout, trace.Text()); failed != nil {
				err = errors.Join(err, failed)
			}
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	return 0
}
