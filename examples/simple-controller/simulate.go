package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	shellquote "github.com/kballard/go-shellquote"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/result"
)

const defaultScenario = "two-site"

// demonstrate runs a fleet over a simulated network in this process, traces
// over it and says what can be seen.
func demonstrate(ctx context.Context, cfg *volta.ControllerConfig, name string, words []string, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(stderr, "simple-controller:", err)
		return 1
	}
	s, err := scenario.Load(name)
	if err != nil {
		return fail(err)
	}
	runs, err := choose(s, words)
	if err != nil {
		fmt.Fprintf(stderr, "simple-controller: %v\nTry 'simple-controller --help'.\n", err)
		return 2
	}
	network, err := s.Start()
	if err != nil {
		return fail(err)
	}
	defer network.Close()
	began := time.Now()
	cfg.Resolver = network
	ctrl, err := volta.NewController(cfg)
	if err != nil {
		return fail(err)
	}
	agents, err := siteAgents(network)
	if err != nil {
		return fail(err)
	}
	fmt.Fprintf(stdout, "SIMULATED network %q: nothing here leaves this process.\n%s\n", name, strings.TrimSpace(s.About))
	err = withFleet(ctx, ctrl, network.Sites(), agents, nil, func(ctx context.Context) error {
		for _, r := range runs {
			select {
			case <-time.After(time.Until(began.Add(r.at))):
			case <-ctx.Done():
				return ctx.Err()
			}
			fmt.Fprintf(stdout, "\n$ volta %s\n", shellquote.Join(r.words...))
			trace, err := ctrl.Do(ctx, r.words, nil)
			if trace != nil && len(trace.Hops) > 0 {
				if _, failed := fmt.Fprintf(stdout, "%s\n%s\n", trace.Text(), explain(trace)); failed != nil {
					return errors.Join(err, failed)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return 0
}

// trial is a measurement of the demonstration.
type trial struct {
	words []string
	at    time.Duration // since the start of the network
}

// choose returns what to run over a scenario: what the user asked for, else
// what the scenario expects to be run, else a trace by each prober from the
// first site to the first host.
func choose(s *simnet.Scenario, words []string) ([]trial, error) {
	if len(words) > 0 {
		_, err := volta.ParseArgs(words)
		return []trial{{words: words}}, err
	}
	var runs []trial
	for _, e := range s.Expect {
		words, err := shellquote.Split(e.Command)
		if err != nil {
			return nil, fmt.Errorf("scenario command %q: %w", e.Command, err)
		}
		runs = append(runs, trial{words, e.At})
	}
	if len(runs) > 0 {
		return runs, nil
	}
	target, ok := firstTarget(s)
	if len(s.Sites) == 0 || !ok {
		return nil, fmt.Errorf("scenario %q needs a site to trace from and a host with an address to trace to", s.Name)
	}
	for _, options := range [][]string{nil, {"-I"}, {"-T"}} {
		runs = append(runs, trial{words: append([]string{s.Sites[0].Name, target.String()}, options...)})
	}
	return runs, nil
}

func firstTarget(s *simnet.Scenario) (netip.Addr, bool) {
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if len(h.Addresses) > 0 {
			return h.Addresses[0], true
		}
		if len(h.Prefixes) > 0 {
			return h.Prefixes[0].Addr(), true
		}
	}
	return netip.Addr{}, false
}

// explain says in words which sites caught the answers.
func explain(t *result.Trace) string {
	type stretch struct {
		first, last int
		caught      string
	}
	var path []stretch
	for i := range t.Hops {
		h := &t.Hops[i]
		caught := receivers(h)
		if caught == "" {
			continue
		}
		if k := len(path) - 1; k >= 0 && path[k].caught == caught {
			path[k].last = h.TTL
		} else {
			path = append(path, stretch{h.TTL, h.TTL, caught})
		}
	}
	if len(path) == 0 {
		return fmt.Sprintf("-> Sent by %s. No site caught an answer.", t.Source)
	}
	var parts []string
	for _, p := range path {
		hops := fmt.Sprintf("hop %d", p.first)
		if p.first < p.last {
			hops = fmt.Sprintf("hops %d to %d", p.first, p.last)
		}
		parts = append(parts, fmt.Sprintf("from %s at %s", hops, p.caught))
	}
	return fmt.Sprintf("-> Sent by %s. Answers landed: %s.", t.Source, strings.Join(parts, ", "))
}

// receivers lists the sites that caught the answers of a hop.
func receivers(h *result.Hop) string {
	var names []string
	seen := map[string]bool{}
	for _, p := range h.Probes {
		if p.Receiver != "" && !seen[p.Receiver] {
			seen[p.Receiver] = true
			names = append(names, p.Receiver)
		}
	}
	return strings.Join(names, " and ")
}
