package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/alloc"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	orderWait  = 5 * time.Second // for an agent to take a message
	cancelWait = time.Second
)

// session is one running traceroute. Connections feed it through sent,
// answered, lost and end, which only change its state; run acts on it.
type session struct {
	spec       Spec
	source     *agent
	dst        netip.Addr
	block      alloc.Block
	key        probe.Key
	number     uint64
	correlator result.Correlator
	names      *names
	log        *slog.Logger
	wake       chan struct{}
	began      time.Time
	foreign    uint32 // the index's count when it began
	remote     bool   // its prober takes its time
	blocklist  *probe.Blocklist
	// watched is closed when the agents watch for its direct answers; nil if
	// they need not. run waits for it, others do not look at it.
	watched <-chan struct{}

	mu         sync.Mutex // guards all below
	probes     []tracked  // by ID-block.First
	slots      []uint16   // (ttl, attempt) -> index of its present probe
	next       int        // the first slot not asked yet
	spare      int        // the first probe that belongs to no slot
	waiting    int        // probes under way
	final      int        // the last TTL that is of interest
	reached    bool
	open       bool // the destination accepted a SYN
	lastAsk    time.Time
	slack      time.Duration // longest time that a report of sending took
	refused    int
	blocking   blocking
	left       int // probes that left the source
	sourceAddr netip.Addr
	complete   bool // all is decided: what happens now spoils nothing
	fault      *fault.Error
	sourceLost bool
	lostAfter  time.Duration // when that was noticed, since it began
	counts     result.Counts
	agents     map[string]*agent // that took a time
	gaps       []result.Gap
	steps      map[string]bool // agents whose clock was set
	firstSteps map[process]uint64
	unsure     bool           // whether a clock had been set before it was first heard of
	diffs      map[uint16]int // see offBy
	decided    []result.Probe // for the caller, not yet told
}

type status uint8

const (
	unasked  status = iota
	underway        // asked, no fate yet
	answered
	gaveUp
	refused
	replaced // another probe took its slot
)

// tracked is one probe of the session.
type tracked struct {
	status   status
	tries    uint8 // how often its slot was asked again
	asked    time.Time
	reported time.Time // when the agent's report of sending came, or zero
	took     time.Duration
	blocked  string    // the rule that forbids it and whose it is
	decided  time.Time // when its fate was
	heard    time.Time // when its answer came here
	receiver *agent
	// How often the clocks had been set that took the two times.
	sentStep, recvStep uint64
	rec                result.Probe
}

// run drives the session to its end.
func (s *session) run(ctx context.Context, each func(result.Event), rs *relays) error {
	if err := s.source.order(ctx, s.job(), orderWait); err != nil {
		return s.fail(ctx, err)
	}
	s.awaitWatch(ctx, rs)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.mu.Lock()
		tickets, until, done := s.step(time.Now())
		s.complete = done && s.fault == nil
		decided, ended := s.decided, s.fault
		s.decided = nil
		halt := s.blocking.halt()
		s.mu.Unlock()

		if each != nil {
			for i := range decided {
				each(result.Event{Probe: &decided[i]})
			}
		}
		if ended != nil {
			return ended
		}
		if done {
			return s.nameHops(ctx)
		}
		if halt {
			if err := s.source.order(ctx, &transport.Cancel{Session: s.number}, orderWait); err != nil {
				return s.fail(ctx, err)
			}
		}
		if len(tickets) > 0 && s.forbidden() {
			continue // the caller may just have set the list
		}
		if len(tickets) > 0 {
			if err := s.source.order(ctx, &transport.Ask{Session: s.number, Probes: tickets}, orderWait); err != nil {
				return s.fail(ctx, err)
			}
		}
		timer.Reset(time.Until(until))
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
			return s.fail(ctx, ctx.Err())
		}
	}
}

// awaitWatch waits until the agents watch for the measurement's direct answers,
// or have had their time, or the measurement is over.
func (s *session) awaitWatch(ctx context.Context, rs *relays) {
	if s.watched == nil {
		return
	}
	timer := time.NewTimer(watchWait)
	defer timer.Stop()
	for {
		select {
		case <-s.watched:
			return
		case <-ctx.Done():
			return
		case <-timer.C:
			for _, a := range rs.laggards(s) {
				s.gap(a, result.Unresponsive, s.began, time.Time{}, 0)
			}
			return
		case <-s.wake:
			s.mu.Lock()
			over := s.fault != nil
			s.mu.Unlock()
			if over {
				return
			}
		}
	}
}

// order sends a message to the agent. One that does not take it in time is
// stuck: its connection is closed, and it may come back.
func (a *agent) order(ctx context.Context, m transport.Message, wait time.Duration) error {
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := a.conn.Send(within, m)
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		a.conn.Close()
		return fmt.Errorf("it took no order within %v: %w", wait, err)
	}
	return err
}

// fail ends the session because sending to the agent failed or the caller left.
func (s *session) fail(ctx context.Context, err error) error {
	f := fault.New(fault.Unavailable, errors.Join(fault.ErrAgentLost, err), "agent %q lost: %v", s.source.Agent, err)
	if ctx.Err() != nil {
		f = cancelled(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop(f)
	return s.fault
}

// cancelled is the fault of a caller that left.
func cancelled(ctx context.Context) *fault.Error {
	return fault.New(fault.Unavailable, ctx.Err(), "measurement cancelled: %v", context.Cause(ctx))
}

// end stops the session unless it is complete.
func (s *session) end(f *fault.Error) {
	s.mu.Lock()
	if !s.complete {
		s.stop(f)
	}
	s.mu.Unlock()
	s.poke()
}

// stop notes why the session ends; the first reason stays. s.mu is held.
func (s *session) stop(f *fault.Error) {
	if s.fault != nil {
		return
	}
	s.fault = f
	if s.sourceLost = errors.Is(f, fault.ErrAgentLost); s.sourceLost {
		now := time.Now()
		s.lostAfter = now.Sub(s.began)
		s.gapped(s.source, result.Disconnected, s.source.pulse.until(now), time.Time{}, 0)
	}
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sent takes the agent's report of what left.
func (s *session) sent(m *transport.Sent, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sourceAddr = m.Source
	s.observed(s.source, m.Step)
	for i := range m.Probes {
		p, p2 := s.probe(m.Probes[i].ID), &m.Probes[i]
		if p == nil || p.status == unasked || !p.reported.IsZero() {
			continue
		}
		p.reported, p.sentStep = now, m.Step
		s.slack = max(s.slack, now.Sub(p.asked))
		if (p2.Err != "" || p2.Blocked.IsValid()) && p.status != answered { // what was answered has left
			if p2.Blocked.IsValid() {
				p.blocked = s.blocking.begin(p2.Blocked, s.source.Agent, now)
			} else {
				p.rec.Error = clean(p2.Err)
			}
			s.refused++
			s.decide(p, refused)
			continue
		}
		if p.status == refused { // it left before it was called off
			p.blocked = ""
			s.refused--
			s.decide(p, gaveUp)
		}
		s.left++
		s.counts.Sent++
		p.rec.Sent, p.rec.SentStamp = p2.Time, p2.Stamp.String()
		s.roundTrip(p)
		if p.status == answered {
			s.decided = append(s.decided, p.rec)
		}
		s.correlator.Sent(result.Sent{ID: p2.ID, TTL: uint8(p.rec.TTL), Flow: uint8(p.rec.Flow), Time: p2.Time})
	}
	s.poke()
}

// answered takes a candidate that claims to answer the session's probe id.
func (s *session) answered(a *agent, ans *probe.Answer, id uint16, step uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.correlator.Answered(result.Answer{Answer: *ans, ID: id, Receiver: a.Agent})
	p := s.probe(id)
	switch v {
	case result.Matched, result.Late:
		switch {
		case p == nil || p.status == unasked:
			v = result.Foreign
		case p.status == answered || p.rec.Verdict == result.Late:
			v = result.Duplicate
		}
	}
	switch v {
	case result.Matched, result.Late:
	case result.Duplicate:
		s.counts.Duplicate++
		return
	case result.Foreign:
		s.counts.Foreign++
		return
	default:
		s.counts.Unverified++
		s.offBy(ans, id)
		return
	}
	s.agents[a.Agent] = a
	p.heard, p.receiver, p.recvStep = now, a, step
	s.observed(a, step)
	p.fill(ans, a, s.source, v)
	s.roundTrip(p)
	if v == result.Late && !p.inTime() {
		s.counts.Late++
		p.rec.Missing, p.rec.MissingDetail = s.missing(p)
		s.decided = append(s.decided, p.rec)
		s.poke()
		return
	}
	s.counts.Matched++
	if p.status == replaced {
		s.restore(p)
	}
	p.rec.Verdict = result.Matched
	p.rec.Error, p.blocked = "", "" // it has left after all
	p.took = now.Sub(p.asked)
	s.decide(p, answered)
	s.judge(ans, p.rec.TTL)
	s.poke()
}

// fill records an answer.
func (p *tracked) fill(ans *probe.Answer, a, source *agent, v result.Verdict) {
	r := &p.rec
	r.Verdict, r.Receiver, r.Addr = v, a.Agent, ans.From
	r.Received, r.RecvStamp = ans.Time, ans.Stamp.String()
	r.OneClock = a.sharesClock(source)
	r.Kind, r.ICMPType, r.ICMPCode = ans.Kind.String(), ans.ICMPType, ans.ICMPCode
	r.ReplyTTL, r.QuotedTTL, r.QuotedTOS = ans.TTL, ans.QuotedTTL, ans.QuotedTOS
	r.MTU, r.MPLS, r.Values = ans.MTU, ans.MPLS, nil
	if ans.Kind.Direct() {
		r.Values = probe.CleanValues(ans.Values)
	} else {
		r.QuotedSource = ans.Src
	}
}

// inTime tells whether the answer to a probe that was given up had come by
// then for certain, by the clocks of the agents, and was only told later: a
// receiver that got no time of its processor makes no router silent. It was
// sent before that was reported.
func (p *tracked) inTime() bool {
	return p.status == gaveUp && !p.reported.IsZero() && p.rec.Delay != nil &&
		*p.rec.Delay+*p.rec.Bound <= p.decided.Sub(p.reported)
}

// roundTrip joins the two times once both are there: reports and answers come
// over different connections, in any order.
func (s *session) roundTrip(p *tracked) {
	if !p.rec.Sent.IsZero() && !p.rec.Received.IsZero() {
		d := p.rec.Received.Sub(p.rec.Sent)
		p.rec.RTT = &d
		s.correct(p)
	}
}

// judge ends the path at ttl if the answer says that it leads no further.
func (s *session) judge(ans *probe.Answer, ttl int) {
	fromDst := ans.From == s.dst
	switch {
	case ans.Kind.Direct():
		s.reached = true
		s.open = s.open || ans.Kind == probe.SYNACK
	case ans.Kind == probe.TimeExceeded:
		return
	case fromDst || portUnreachable(ans):
		s.reached = true
	}
	s.final = min(s.final, ttl)
}

// portUnreachable is sent by the destination alone, from whichever of its
// addresses it likes.
func portUnreachable(ans *probe.Answer) bool {
	if ans.Kind != probe.Unreachable {
		return false
	}
	if ans.Dst.Is4() {
		return ans.ICMPType == 3 && ans.ICMPCode == 3
	}
	return ans.ICMPType == 1 && ans.ICMPCode == 4
}

// probe returns the session's probe with an identifier, or nil.
func (s *session) probe(id uint16) *tracked {
	if !s.block.Contains(id) {
		return nil
	}
	return &s.probes[id-s.block.First]
}

// decide settles a probe's fate. The caller hears of an answered probe once
// the report of its sending is there too.
func (s *session) decide(p *tracked, to status) {
	if p.status == underway {
		s.waiting--
	}
	p.status, p.decided = to, time.Now()
	p.rec.Missing, p.rec.MissingDetail = s.missing(p)
	if to != answered || !p.reported.IsZero() {
		s.decided = append(s.decided, p.rec)
	}
}
