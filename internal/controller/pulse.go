package controller

import (
	"context"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/offset"
	"bitbucket.org/uwpatio/voltadomar/internal/slewing"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	idlePulse = 10 * time.Second // between checks of an agent
	busyPulse = time.Second      // while measurements run
	// firstChecks follow each other at once, since the first exchanges over a
	// fresh connection are slow.
	firstChecks = 4
	// fresh is how old an exchange may be when a measurement begins.
	fresh = 200 * time.Millisecond
	// patience is how long an agent may take to answer a check, or three times
	// as long as it ever took if that is more.
	patience = 500 * time.Millisecond
	// maxPatience is the most of that, so that no agent holds up the
	// measurements of others by being ever slower.
	maxPatience = 3 * time.Second
)

// pulse keeps asking an agent for its status: whether it lives, what it lost,
// and what its clock reads.
type pulse struct {
	mu      sync.Mutex // guards all below
	seq     uint64
	asked   time.Time // when the check under way was sent, or zero
	offset  offset.Estimator
	step    uint64 // of the last exchange
	steps   steps
	status  transport.Status
	replied uint64 // the last check that was answered
	// answered is when that was sent, at when the answer came. All that the
	// agent captured before answered is here.
	answered, at time.Time
	// heard is when the agent last told of what it lost, or answered. While it
	// keeps a check waiting for too long it stays: what comes then comes after
	// the silence.
	heard time.Time
	// revived is when something came all the same, or zero.
	revived time.Time
	longest time.Duration // that it took to answer
	changed chan struct{} // closed and renewed with every answer
}

func newPulse(now time.Time) *pulse { return &pulse{heard: now, changed: make(chan struct{})} }

// begin notes a check that is about to be sent, unless one is under way. A
// check is never repeated: the connection delivers it, or is gone.
func (p *pulse) begin(now time.Time) (*transport.Check, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked.IsZero() {
		return nil, false
	}
	p.seq++
	p.asked = now
	return &transport.Check{Seq: p.seq}, true
}

// take books an agent's answer. It returns whether the agent's clock was set
// since the one before without it noticing, and since when it had not been heard
// of if it took long enough to matter.
func (p *pulse) take(m *transport.Status, now time.Time) (stepped bool, silent time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Seq != p.seq || p.asked.IsZero() {
		return false, silent // not what was asked
	}
	took := now.Sub(p.asked)
	if p.replied > 0 && took > p.patience() {
		silent = p.answered
	} else {
		p.longest = min(max(p.longest, took), maxPatience)
	}
	if !m.Received.IsZero() && !m.Replied.IsZero() {
		x := offset.Exchange{T1: p.asked, T2: m.Received, T3: m.Replied, T4: now, Step: m.Step}
		if here := slewing.Read(); here.Known && m.Slewed != nil {
			x.Slewed, x.Steered = *m.Slewed-here.Sum, true
		}
		var ok bool
		if ok, stepped = p.offset.Add(x); ok {
			stepped = stepped && m.Step == p.step
			p.step = m.Step
		}
	}
	p.replied, p.answered, p.at, p.heard, p.status = m.Seq, p.asked, now, now, *m
	p.asked, p.revived = time.Time{}, time.Time{}
	close(p.changed)
	p.changed = make(chan struct{})
	return stepped, silent
}

// served books an exchange that the agent began. It returns whether the agent's
// clock was set since the one before without it noticing.
func (p *pulse) served(m *transport.Timing, told transport.Told) (stepped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := offset.Exchange{T1: m.Sent, T2: told.Received, T3: told.Sent, T4: m.Received, Step: m.Step}
	if m.Slewed != nil && told.Slewed != nil {
		x.Slewed, x.Steered = *m.Slewed-*told.Slewed, true
	}
	ok, stepped := p.offset.AddServed(x)
	if !ok || !stepped {
		return false
	}
	stepped = m.Step == p.step
	p.step = m.Step
	return stepped
}

// steps is how often an agent's clock had been set, as it last said, and before
// that last changed.
type steps struct {
	since   time.Time // when it first said so, zero if it has not
	now     uint64
	changed time.Time
	before  uint64
}

// saw takes note of how often the agent says that its clock has been set.
func (p *pulse) saw(step uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.steps.since.IsZero():
		p.steps = steps{since: now, now: step}
	case step > p.steps.now: // reports overtake each other
		p.steps.before, p.steps.changed, p.steps.now = p.steps.now, now, step
	}
}

// stepAt returns how often the clock had been set at a time, or more if it was
// set several times since, but less than by now. It reports false if the agent
// had not said.
func (p *pulse) stepAt(t time.Time) (step uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.steps.since.IsZero() || p.steps.since.After(t) {
		return 0, false
	}
	if p.steps.changed.After(t) {
		return p.steps.before, true
	}
	return p.steps.now, true
}

// patience is how long the agent may take. p.mu is held.
func (p *pulse) patience() time.Duration {
	return min(max(patience, 3*p.longest), maxPatience)
}

// silent is since when what the agent captured may not be here if it does not
// respond, or zero. It may have stopped long before the check that it keeps
// waiting; what it told of since the one before may have been older captures.
func (p *pulse) silent(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.responds(now) {
		return time.Time{}
	}
	return p.answered
}

// responds tells whether the agent answers as it should. One that never did is
// not expected to. p.mu is held.
func (p *pulse) responds(now time.Time) bool {
	return p.replied == 0 || p.asked.IsZero() || now.Sub(p.asked) < p.patience()
}

// hear notes that the agent tells of what it captured and lost, and returns
// since when it may have been lost.
func (p *pulse) hear(now time.Time) (since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since = p.told()
	switch {
	case p.responds(now):
		p.heard = now
	case p.revived.IsZero():
		p.revived = now
	}
	return since
}

// told is up to when all that the agent lost has been told of: what was heard
// last had been on its way for a while. p.mu is held.
func (p *pulse) told() time.Time { return p.heard.Add(-p.longest) }

// until is up to when the captures of an agent that is gone now are known to be
// here. One that answers no checks is taken to have told all.
func (p *pulse) until(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.replied == 0 {
		return now
	}
	return p.answered
}

// lastTold is told with p.mu not held.
func (p *pulse) lastTold() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told()
}

// wait returns when a check that was sent at since or later has been answered,
// or the agent's time for that is up, or it is gone. One that comes back to life
// has its time once more: what it held comes before its answer. None takes more
// than twice maxPatience.
func (a *agent) wait(ctx context.Context, since time.Time) {
	p := a.pulse
	ctx, cancel := context.WithTimeout(ctx, 2*maxPatience)
	defer cancel()
	var hurried time.Time // when a check was asked for
	for {
		p.mu.Lock()
		done := p.replied == 0 || !p.answered.Before(since)
		asked, from, changed, patience := p.asked, later(p.asked, p.revived), p.changed, p.patience()
		p.mu.Unlock()
		if done || ctx.Err() != nil {
			return
		}
		switch {
		case !asked.IsZero():
			hurried = time.Time{}
		case hurried.IsZero():
			// Who waits does not send it: an agent that takes no messages
			// would hold it up, and its own haste must not spoil the check.
			a.check()
			hurried = time.Now()
		}
		rest := patience - time.Since(later(from, hurried))
		if rest <= 0 {
			return
		}
		timer := time.NewTimer(rest)
		select {
		case <-changed:
			timer.Stop()
		case <-timer.C:
			// The check may have been sent a while after it was asked for.
		case <-a.gone:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// check has the agent asked for its status at once.
func (a *agent) check() {
	select {
	case a.hurry <- struct{}{}:
	default:
	}
}

// ask asks the agent for its status unless that is under way.
func (a *agent) ask(ctx context.Context) {
	if m, ok := a.pulse.begin(time.Now()); ok {
		_ = a.order(ctx, m, orderWait)
	}
}

// beat checks the agent until ctx ends: often at first and while the
// controller is busy.
func (c *Controller) beat(ctx context.Context, a *agent) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-a.hurry:
		}
		a.ask(ctx)
		every := idlePulse
		switch {
		case n < firstChecks:
			every = 20 * time.Millisecond
		case c.busy():
			every = busyPulse
		}
		timer.Reset(every)
	}
}

func (c *Controller) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) > 0
}

// refresh has all agents checked soon whose last exchange is not fresh, and all
// when the first measurement begins: the next check may be far off. c.mu is
// held.
func (c *Controller) refresh(now time.Time) {
	for _, a := range c.agents {
		a.pulse.mu.Lock()
		old := now.Sub(a.pulse.at) > fresh
		a.pulse.mu.Unlock()
		if old || len(c.sessions) == 1 {
			a.check()
		}
	}
}

// status books what an agent says of itself.
func (c *Controller) status(a *agent, m *transport.Status, now time.Time) {
	m.Discipline = clean(m.Discipline)
	c.relays.behind(a, m.Behind)
	stepped, silent := a.pulse.take(m, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		s.observe(a, m.Step)
		if stepped {
			s.stepped(a)
		}
		if !silent.IsZero() {
			s.gap(a, result.Unresponsive, silent, now, 0)
		}
	}
}

// timing books an exchange of time that an agent made beside its connection.
func (c *Controller) timing(a *agent, m *transport.Timing) {
	conn, ok := a.conn.(transport.TimeTeller)
	if !ok {
		return
	}
	told, ok := conn.ToldTime(m.Exchange)
	stepped := ok && a.pulse.served(m, told)
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		s.observe(a, m.Step)
		if stepped {
			s.stepped(a)
		}
	}
}

// settle waits until every agent has reported what it captured by now, or has
// shown that it does not respond.
func (c *Controller) settle(ctx context.Context) {
	c.mu.Lock()
	agents := make([]*agent, 0, len(c.agents))
	for _, a := range c.agents {
		agents = append(agents, a)
	}
	c.mu.Unlock()
	now := time.Now()
	var wg sync.WaitGroup
	for _, a := range agents {
		wg.Go(func() { a.wait(ctx, now) })
	}
	wg.Wait()
}
