// Package agent is the engine behind volta.Agent: it sends the probes that a
// controller asks for and reports what the port captures.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// Config is what an agent is made of. All fields but Blocklist are set.
type Config struct {
	ID       string
	Clock    string
	Instance uint64
	Port     probe.Port
	Probers  []probe.Prober
	Logger   *slog.Logger

	Blocklist *probe.Blocklist // nil: none
}

const (
	batch       = 64      // datagrams handed to, and taken from, the port at once
	maxPending  = 1 << 16 // candidates waiting for a slow controller
	helloWait   = 10 * time.Second
	firstRetry  = 100 * time.Millisecond
	longestWait = 10 * time.Second
)

// Agent runs until its context ends.
type Agent struct {
	cfg     Config
	out     outbox
	clock   clock
	probers probers
	watches *watches

	mu      sync.Mutex // guards dropped
	dropped uint64     // by the port, as far as reported
}

// New makes an agent.
func New(cfg Config) *Agent {
	a := &Agent{cfg: cfg, probers: newProbers(cfg.Probers)}
	a.out.wake, a.out.lost = make(chan struct{}, 1), a.lost
	a.watches = newWatches(a.probers.byName, &a.out)
	a.clock.port, _ = cfg.Port.(probe.Clock)
	a.clock.now()
	return a
}

// Run serves the controllers that t leads to, reconnecting with growing waits,
// until ctx ends, the port fails or a controller turns the agent away. It
// closes the port and returns when all its goroutines are gone.
func (a *Agent) Run(ctx context.Context, t transport.Transport) error {
	parent := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.capture(); ctx.Err() == nil {
			stop(fmt.Errorf("port: %w", err))
		}
	})
	err := a.serve(ctx, t)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	a.cfg.Port.Close()
	wg.Wait()
	if parent.Err() != nil {
		return nil
	}
	return err
}

// serve keeps a connection up.
func (a *Agent) serve(ctx context.Context, t transport.Transport) error {
	wait := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := a.connect(ctx, t)
		var refused *fault.Error
		if errors.As(err, &refused) || errors.Is(err, transport.ErrInsecure) {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > longestWait {
			wait = firstRetry
		}
		a.cfg.Logger.Warn("controller not reached, trying again", "agent", a.cfg.ID, "error", err, "wait", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, longestWait)
	}
	return ctx.Err()
}

// connect serves one connection until it ends.
func (a *Agent) connect(ctx context.Context, t transport.Transport) error {
	conn, err := t.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The controller counts on this agent from its welcome on, which takes a
	// while to get here: nothing captured meanwhile may be lost. What was lost
	// before is no business of this connection.
	a.lost()
	a.out.open(0, 1<<16)
	defer a.out.shut()
	welcome, err := a.greet(ctx, conn)
	if err != nil {
		return err
	}
	a.cfg.Logger.Info("connected", "agent", a.cfg.ID)
	a.out.open(welcome.Start, welcome.End)

	ctx, cancel := context.WithCancel(ctx)
	s := newSender(a, conn)
	var wg sync.WaitGroup
	wg.Go(func() {
		// Orders that nobody takes any longer must not hold up receive.
		defer cancel()
		s.run(ctx)
	})
	wg.Go(func() { a.out.run(ctx, conn, &a.clock) })
	wg.Go(func() { s.answerChecks(ctx) })
	if asker, ok := conn.(transport.TimeAsker); ok && a.clock.port == nil {
		s.asks = make(chan struct{}, 1)
		wg.Go(func() { s.keepTime(ctx, asker) })
	}
	err = s.receive(ctx)
	cancel()
	conn.Close()
	wg.Wait()
	a.watches.close()
	return err
}

// greet introduces the agent.
func (a *Agent) greet(ctx context.Context, conn transport.Conn) (*transport.Welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, helloWait)
	defer cancel()
	hello := &transport.Hello{Agent: a.cfg.ID, Instance: a.cfg.Instance, Clock: a.cfg.Clock, Watches: true}
	for _, p := range a.cfg.Probers {
		hello.Types = append(hello.Types, probe.Describe(p))
	}
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if src, err := a.cfg.Port.Source(any); err == nil {
			hello.Sources = append(hello.Sources, src)
		}
	}
	if err := conn.Send(ctx, hello); err != nil {
		return nil, err
	}
	m, err := conn.Receive(ctx)
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *transport.Welcome:
		return m, nil
	case *transport.Refused:
		cause := fault.ErrRefused
		if m.Code == fault.Conflict {
			cause = fault.ErrDuplicateAgent
		}
		return nil, fault.New(m.Code, cause, "controller refused agent %q: %s", a.cfg.ID, m.Reason)
	}
	return nil, fmt.Errorf("controller began with a %T", m)
}

// capture matches what the port catches until the port closes.
func (a *Agent) capture() error {
	in := make([]probe.Incoming, batch)
	found := make([]probe.Answer, 0, batch)
	for {
		n, err := a.cfg.Port.Receive(in)
		if err != nil {
			return err
		}
		found = found[:0]
		for i := range in[:n] {
			found = append(found, probe.Answer{})
			if last := &found[len(found)-1]; a.match(&in[i], last) {
				last.Time, last.Stamp = in[i].Time, in[i].Stamp
			} else {
				found = found[:len(found)-1]
			}
		}
		var lost uint64
		if n == len(in) {
			// Where batches are full a queue may have run over.
			lost = a.lost()
		}
		a.out.add(found, lost)
	}
}

// lost is how many packets the port dropped since it was last asked.
func (a *Agent) lost() uint64 {
	d, ok := a.cfg.Port.(probe.Dropper)
	if !ok {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.dropped
	a.dropped = d.Dropped()
	return a.dropped - was
}

// match finds out what a datagram answers, as far as can be told at once.
func (a *Agent) match(in *probe.Incoming, ans *probe.Answer) bool {
	return match(a.probers.first, in.Data, ans) || a.watches.offer(in, ans) || match(a.probers.own, in.Data, ans)
}
