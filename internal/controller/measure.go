package controller

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/alloc"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// Spec is a checked measurement request; every field is set.
type Spec struct {
	Source, Target   string
	Prober           string
	Options          map[string]string // of the prober
	FirstTTL, MaxTTL int
	Queries          int
	Window           int // probes under way at once
	Wait             time.Duration
	Here, Near       float64 // factors of the adaptive wait, 0: off
	TOS              uint8
	Port             uint16
	Size             int
	Flows            int
	Mode             probe.FlowMode
	Interval         time.Duration
	Family           int // 4, 6, or 0 for either
	DontFragment     bool
	Numeric          bool
}

// spareTCP is how many more identifiers a TCP trace takes per query of a hop,
// for SYNs that are asked again; see session.retry.
const spareTCP = 3

// Measure runs one traceroute. The trace is not nil if the measurement began,
// whatever the error. Each is called with every probe whose fate is decided,
// from one goroutine.
func (c *Controller) Measure(ctx context.Context, spec Spec, each func(result.Event)) (*result.Trace, error) {
	c.mu.Lock()
	state, a := c.state, c.agents[spec.Source]
	c.mu.Unlock()
	if state == stopped {
		return nil, fault.New(fault.Unavailable, fault.ErrStopped, "controller stopped")
	}
	if a == nil {
		return nil, fault.New(fault.NotFound, fault.ErrUnknownAgent, "unknown agent %q: connected are %v", spec.Source, c.Agents())
	}
	t, err := c.choose(&spec, a)
	if err != nil {
		return nil, err
	}
	if spec.Port == 0 && len(spec.Options) == 0 {
		spec.Port = t.Port // else an option may have another one
	}
	dst, err := c.names.resolve(ctx, spec.Target, spec.Family, a)
	if err != nil {
		return nil, err
	}
	if rule, ok := c.cfg.Blocklist.Lookup(dst); ok {
		return nil, fault.New(fault.Forbidden, fault.ErrBlocked, "no probe may be sent to %s: blocked by rule %v of the controller", dst, rule)
	}
	block, err := c.acquire(ctx, spec, dst)
	if err != nil {
		return nil, err
	}
	defer c.cfg.Allocator.Release(block)

	s := c.newSession(spec, a, dst, block)
	s.remote = t.Remote
	if err := c.register(s); err != nil {
		return nil, err
	}
	defer c.unregister(s)
	defer func() {
		// The agent forgets the job even when the caller has gone.
		_ = a.order(context.WithoutCancel(ctx), &transport.Cancel{Session: s.number}, cancelWait)
	}()
	err = s.run(ctx, each, c.relays)
	if s.incomplete() {
		// What an agent still holds, or lost, decides what is said of the
		// missing; and the offsets of clocks are the better the fresher.
		c.settle(ctx)
		c.unresponsive(s)
		c.relays.backlog(s, time.Now())
	}
	return s.trace(c.index.foreignTo(block)), err
}

func (c *Controller) acquire(ctx context.Context, spec Spec, dst netip.Addr) (alloc.Block, error) {
	n := (spec.MaxTTL - spec.FirstTTL + 1) * spec.Queries
	if spec.Prober == "tcp" {
		n += spareTCP * spec.Queries
	}
	block, err := c.cfg.Allocator.Acquire(ctx, dst, n)
	switch {
	case err == nil && (block.N < n || block.First == 0 || int(block.First)+block.N > 1<<16):
		c.cfg.Allocator.Release(block)
		return block, fault.New(fault.Internal, nil, "the allocator gave identifiers %d to %d when asked for %d from 1 to 65535", block.First, int(block.First)+block.N-1, n)
	case err == nil:
		return block, nil
	case ctx.Err() != nil:
		return block, cancelled(ctx)
	case errors.Is(err, alloc.ErrExhausted):
		return block, fault.New(fault.TooManyRequests, err, "too many measurements of %s at once: %v", dst, err)
	case errors.Is(err, alloc.ErrTooMany):
		return block, fault.New(fault.BadRequest, err, "%v", err)
	}
	return block, fault.New(fault.Internal, err, "%v", err)
}

func (c *Controller) newSession(spec Spec, a *agent, dst netip.Addr, block alloc.Block) *session {
	s := &session{
		spec: spec, source: a, dst: dst, block: block, log: c.cfg.Logger, names: c.names,
		number:     c.last.Add(1),
		wake:       make(chan struct{}, 1),
		probes:     make([]tracked, block.N),
		slots:      make([]uint16, (spec.MaxTTL-spec.FirstTTL+1)*spec.Queries),
		began:      time.Now(),
		blocklist:  c.cfg.Blocklist,
		agents:     map[string]*agent{a.Agent: a},
		steps:      map[string]bool{},
		firstSteps: map[process]uint64{},
		diffs:      map[uint16]int{},
		final:      spec.MaxTTL,
		foreign:    c.index.foreignTo(block),
	}
	for i := range s.slots {
		s.slots[i] = uint16(i)
	}
	_, _ = rand.Read(s.key[:])
	s.correlator = c.cfg.NewCorrelator(result.Session{Key: s.key, Dst: dst})
	return s
}

func (c *Controller) register(s *session) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == stopped:
		return fault.New(fault.Unavailable, fault.ErrStopped, "controller stopped")
	case c.agents[s.source.Agent] != s.source:
		return fault.New(fault.Unavailable, fault.ErrAgentLost, "agent %q disconnected", s.source.Agent)
	}
	c.sessions[s] = struct{}{}
	for id := range c.away {
		s.gaps = append(s.gaps, result.Gap{Agent: id, Kind: result.Disconnected, From: s.began})
	}
	c.index.add(s)
	s.watched = c.relay(s)
	c.refresh(s.began)
	return nil
}

func (c *Controller) unregister(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
	c.index.remove(s)
	c.relays.leave(s)
}

// job is what the agent needs to know.
func (s *session) job() *transport.Job {
	return &transport.Job{
		Session: s.number, Prober: s.spec.Prober, Key: s.key, Dst: s.dst, DstPort: s.spec.Port,
		TOS: s.spec.TOS, DontFragment: s.spec.DontFragment, Size: s.spec.Size, Mode: s.spec.Mode,
		Interval: s.spec.Interval, Options: s.spec.Options,
	}
}

// trace is the result as far as it is known.
func (s *session) trace(foreign uint32) *result.Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &result.Trace{
		Target: s.spec.Target, Destination: s.dst, Source: s.source.Agent, SourceAddr: s.sourceAddr,
		Prober: s.spec.Prober, Port: s.spec.Port, Flow: s.spec.Mode.String(), Flows: s.spec.Flows,
		FirstTTL: s.spec.FirstTTL, MaxTTL: s.spec.MaxTTL, Queries: s.spec.Queries,
		TOS: s.spec.TOS, Size: s.spec.Size, Numeric: s.spec.Numeric, Options: s.spec.Options,
		Started: s.began.Round(0), Ended: time.Now().Round(0),
		Reached: s.reached, Counts: s.counts,
	}
	t.Clocks = map[string]result.Clock{}
	for _, a := range s.agents {
		t.Clocks[a.Agent] = s.clockOf(a)
	}
	for i := range s.probes {
		if p := &s.probes[i]; p.receiver != nil {
			s.correct(p)
		}
	}
	t.Account, t.Rewritten = s.account(), s.rewritten()
	if s.fault != nil {
		t.Partial = s.fault.Reason
	}
	t.Counts.Foreign += int(foreign - s.foreign)
	last := s.final
	if s.fault != nil {
		last = min(last, s.reachedTTL())
	}
	for ttl := s.spec.FirstTTL; ttl <= last; ttl++ {
		hop := result.Hop{TTL: ttl}
		for q := range s.spec.Queries {
			p := &s.probes[s.slots[(ttl-s.spec.FirstTTL)*s.spec.Queries+q]]
			if p.status != unasked {
				hop.Probes = append(hop.Probes, p.rec)
			}
		}
		t.Hops = append(t.Hops, hop)
	}
	t.Findings = t.Find()
	return t
}

// reachedTTL is the highest TTL that was asked.
func (s *session) reachedTTL() int {
	if s.next == 0 {
		return s.spec.FirstTTL - 1
	}
	return s.spec.FirstTTL + (s.next-1)/s.spec.Queries
}
