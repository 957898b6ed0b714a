// Package controller is the engine behind volta.Controller: it keeps the
// agents, runs the sessions and brings every answer to the session it belongs
// to.
package controller

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"bitbucket.org/uwpatio/voltadomar/alloc"
	"bitbucket.org/uwpatio/voltadomar/internal/command"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// Config is what a controller is made of. All fields but Blocklist are set.
type Config struct {
	Start, End    uint32 // the range of probe IDs, [Start, End)
	Allocator     alloc.Allocator
	NewCorrelator func(result.Session) result.Correlator
	Resolver      Resolver
	Logger        *slog.Logger
	Blocklist     *probe.Blocklist // nil: none
}

const (
	helloWait = 10 * time.Second
	maxAway   = 1024 // agents remembered to be missing
)

// Controller is safe for concurrent use.
type Controller struct {
	cfg    Config
	names  *names
	index  index
	relays *relays
	last   atomic.Uint64 // session number

	mu       sync.Mutex // guards all below
	agents   map[string]*agent
	changed  chan struct{} // closed and renewed when agents changes
	sessions map[*session]struct{}
	away     map[string]struct{} // agents that went away and have not come back
	state    state
}

type state int

const (
	idle state = iota
	running
	stopped
)

// agent is a connected agent.
type agent struct {
	transport.Hello
	conn  transport.Conn
	gone  chan struct{} // closed when the connection ended
	pulse *pulse
	hurry chan struct{} // to be checked at once

	notices notices
	behind  map[uint64]uint64 // by watch, see relays; guarded by their lock
}

// New makes a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg, names: newNames(cfg.Resolver), relays: newRelays(), agents: map[string]*agent{}, away: map[string]struct{}{}, sessions: map[*session]struct{}{}, changed: make(chan struct{})}
	c.index.init()
	return c
}

// Run accepts agents from every transport until ctx ends or a transport
// fails, ends what is running, and returns when its goroutines are gone. It
// can be called once.
func (c *Controller) Run(ctx context.Context, ts ...transport.Transport) error {
	parent := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c.mu.Lock()
	was := c.state
	c.state = max(c.state, running)
	c.mu.Unlock()
	if was != idle {
		return fault.New(fault.Unavailable, fault.ErrStopped, "this controller has been run before")
	}
	var wg sync.WaitGroup
	for _, t := range ts {
		wg.Go(func() {
			for {
				conn, err := t.Accept(ctx)
				if err != nil {
					if ctx.Err() == nil {
						stop(err)
					}
					return
				}
				wg.Go(func() { c.serve(ctx, conn) })
			}
		})
	}
	<-ctx.Done()
	c.mu.Lock()
	c.state = stopped
	for s := range c.sessions {
		s.end(fault.New(fault.Unavailable, fault.ErrStopped, "controller stopped"))
	}
	c.mu.Unlock()
	wg.Wait()
	c.names.close()
	if parent.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// serve runs one agent's connection.
func (c *Controller) serve(ctx context.Context, conn transport.Conn) {
	defer conn.Close()
	a, err := c.admit(ctx, conn)
	if err != nil {
		c.cfg.Logger.Warn("agent refused", "error", err)
		return
	}
	c.cfg.Logger.Info("agent connected", "agent", a.Agent)
	beating, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.beat(beating, a) })
	wg.Go(func() { a.tell(beating) })
	for err == nil {
		var m transport.Message
		if m, err = conn.Receive(ctx); err == nil {
			c.dispatch(a, m)
		}
	}
	conn.Close()
	stop()
	wg.Wait()
	c.dismiss(ctx, a)
	c.cfg.Logger.Info("agent disconnected", "agent", a.Agent, "error", err)
}

// admit takes an agent's hello and welcomes or refuses it.
func (c *Controller) admit(ctx context.Context, conn transport.Conn) (*agent, error) {
	ctx, cancel := context.WithTimeout(ctx, helloWait)
	defer cancel()
	m, err := conn.Receive(ctx)
	if err != nil {
		return nil, err
	}
	hello, ok := m.(*transport.Hello)
	refuse := func(code int, cause error, format string, args ...any) (*agent, error) {
		f := fault.New(code, cause, format, args...)
		return nil, errors.Join(f, conn.Send(ctx, &transport.Refused{Code: f.Code, Reason: f.Reason}))
	}
	if !ok {
		return refuse(fault.BadRequest, fault.ErrUsage, "the first message was a %T, not a hello", m)
	}
	if err := command.CheckAgent(hello.Agent); err != nil {
		return refuse(fault.BadRequest, fault.ErrUsage, "%v", err)
	}
	hello.Clock = clean(hello.Clock)
	if err := checkTypes(hello.Types); err != nil {
		return refuse(fault.BadRequest, errors.Join(fault.ErrUsage, err), "%v", err)
	}
	a := &agent{
		Hello: *hello, conn: conn, gone: make(chan struct{}), hurry: make(chan struct{}, 1),
		pulse: newPulse(time.Now()), notices: notices{wake: make(chan struct{}, 1)},
	}
	c.mu.Lock()
	old := c.agents[a.Agent]
	if old != nil && old.Instance != a.Instance {
		c.mu.Unlock()
		return refuse(fault.Conflict, fault.ErrDuplicateAgent, "an agent with id %q is connected already", a.Agent)
	}
	c.mu.Unlock()
	if old != nil {
		old.conn.Close()
		<-old.gone
	}
	// The welcome goes first: a job must not overtake it.
	if err := conn.Send(ctx, &transport.Welcome{Start: c.cfg.Start, End: c.cfg.End}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agents[a.Agent] != nil {
		return nil, fault.New(fault.Conflict, fault.ErrDuplicateAgent, "an agent with id %q connected at the same time", a.Agent)
	}
	c.agents[a.Agent] = a
	delete(c.away, a.Agent)
	c.relays.came(a)
	for s := range c.sessions {
		s.back(a)
		c.relay(s)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return a, nil
}

// dismiss forgets an agent and tells the sessions, unless ctx ended: then the
// controller let go of the agent, and Run tells them.
func (c *Controller) dismiss(ctx context.Context, a *agent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agents[a.Agent] == a {
		delete(c.agents, a.Agent)
	}
	c.relays.left(a, time.Now())
	close(a.gone)
	close(c.changed)
	c.changed = make(chan struct{})
	if ctx.Err() != nil {
		return
	}
	if len(c.away) < maxAway {
		c.away[a.Agent] = struct{}{}
	}
	for s := range c.sessions {
		s.lost(a)
	}
}

// dispatch brings a message of an agent to the session it is about. It never
// waits for a session.
func (c *Controller) dispatch(a *agent, m transport.Message) {
	switch m := m.(type) {
	case *transport.Answers:
		now := time.Now()
		a.pulse.saw(m.Step, now)
		// Before a measurement can end by the answers.
		since := a.pulse.hear(now)
		for i := range m.Answers {
			c.answered(a, &m.Answers[i], m.Step, now)
		}
		c.overflowed(a, m, since, now)
	case *transport.Sent:
		now := time.Now()
		a.pulse.saw(m.Step, now)
		if s := c.index.session(m.Session); s != nil && s.source == a {
			s.sent(m, now)
		}
	case *transport.Status:
		now := time.Now()
		a.pulse.saw(m.Step, now)
		c.status(a, m, now)
	case *transport.Timing:
		a.pulse.saw(m.Step, time.Now())
		c.timing(a, m)
	case *transport.Failed:
		if s := c.index.session(m.Session); s != nil && s.source == a {
			s.failed(m)
		}
	case *transport.Watching:
		c.relays.watching(a, m)
	case *transport.Unread:
		now := time.Now()
		a.pulse.saw(m.Step, now)
		c.relays.unread(a, m, now)
	case *transport.Readings:
		c.readings(a, m, time.Now())
	}
}

// errorCode is an agent's code if it is one of an error.
func errorCode(code int) int {
	if code < 400 || code > 599 {
		return fault.Internal
	}
	return code
}

// overflowed tells the sessions of packets that an agent lost.
func (c *Controller) overflowed(a *agent, m *transport.Answers, since, now time.Time) {
	if m.Dropped == 0 && m.KernelDropped == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		if m.KernelDropped > 0 {
			s.gap(a, result.KernelDrops, since, now, m.KernelDropped)
		}
		if m.Dropped > 0 {
			s.gap(a, result.QueueOverflow, since, now, m.Dropped)
		}
	}
}

// answered finds the session of a candidate, under the reading of its
// identifier that the tag confirms if there is one.
func (c *Controller) answered(a *agent, ans *probe.Answer, step uint64, now time.Time) {
	ids, n := ans.Readings()
	var first *session
	var id uint16
	for _, r := range ids[:n] {
		s := c.index.find(ans.Dst, r)
		if s == nil {
			continue
		}
		if ans.Verified(&s.key, r) {
			s.answered(a, ans, r, step, now)
			return
		}
		if first == nil {
			first, id = s, r
		}
	}
	if first != nil {
		first.answered(a, ans, id, step, now)
		return
	}
	c.index.foreign[ans.ID].Add(1)
}

// clean makes an agent's words fit for a user's terminal.
func clean(s string) string {
	const most = 200
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// Agents returns the ids of the connected agents, sorted.
func (c *Controller) Agents() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]string, 0, len(c.agents))
	for id := range c.agents {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// WaitAgents returns when all the agents are connected, or ctx ends.
func (c *Controller) WaitAgents(ctx context.Context, ids ...string) error {
	for {
		c.mu.Lock()
		changed := c.changed
		missing := ""
		for _, id := range ids {
			if c.agents[id] == nil {
				missing = id
			}
		}
		c.mu.Unlock()
		if missing == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fault.New(fault.NotFound, errors.Join(fault.ErrUnknownAgent, ctx.Err()), "agent %q did not connect: %v", missing, ctx.Err())
		}
	}
}

// has tells whether the agent can send from an address of a family.
func (a *agent) has(v6 bool) bool {
	return slices.ContainsFunc(a.Sources, func(s netip.Addr) bool { return s.Is6() == v6 })
}
