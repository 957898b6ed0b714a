package controller

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// blocking is that a rule forbids to go on with a session. It stays even if the
// rule does not.
type blocking struct {
	why    string    // the rule and whose it is; empty: nothing is forbidden
	since  time.Time // when the controller's own list began to forbid it, or zero
	halted bool      // the agent has been told
}

// begin notes a rule that holds, of an agent or, with no name, of the
// controller, and returns how it is called in accounts.
func (b *blocking) begin(rule netip.Prefix, agent string, now time.Time) string {
	if agent == "" && b.since.IsZero() {
		b.since = now
	}
	if agent == "" {
		agent = "controller"
	}
	why := fmt.Sprintf("%v (%s)", rule, agent)
	if b.why == "" {
		b.why = why
	}
	return why
}

// checkRules looks the destination up in the controller's list. s.mu is held.
func (s *session) checkRules(now time.Time) {
	if rule, ok := s.blocklist.Lookup(s.dst); ok {
		s.blocking.begin(rule, "", now)
	}
}

// forbidden tells whether the controller's list forbids to ask for more.
func (s *session) forbidden() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkRules(time.Now())
	return !s.blocking.since.IsZero()
}

// halt tells, once, that the agent is to be told to send nothing more.
func (b *blocking) halt() bool {
	if b.since.IsZero() || b.halted {
		return false
	}
	b.halted = true
	return true
}

// earlier shortens the wait for a report that need not come: what the agent
// still held when it was told to stop it sends and reports no longer.
func (b *blocking) earlier(p *tracked, deadline time.Time) time.Time {
	if b.since.IsZero() || !p.reported.IsZero() {
		return deadline
	}
	return earlier(deadline, b.since.Add(reportWait))
}

// uncalled books a probe that was called off before it left. s.mu is held.
func (s *session) uncalled(p *tracked, now time.Time) bool {
	if s.blocking.since.IsZero() || !p.reported.IsZero() || now.Before(s.blocking.since.Add(reportWait)) {
		return false
	}
	p.blocked = s.blocking.why
	s.refused++
	s.decide(p, refused)
	return true
}

// forgo ends a session that must not go on: the probes it would still have
// asked for are booked as blocked. If none has left, it has failed. s.mu is
// held.
func (s *session) forgo(now time.Time) {
	if s.left == 0 && s.counts.Matched == 0 {
		s.fault = fault.New(fault.Forbidden, errors.Join(fault.ErrRefused, fault.ErrBlocked),
			"no probe may be sent to %s: blocked by rule %s", s.dst, s.blocking.why)
		return
	}
	for ; s.next < len(s.slots) && s.ttl(s.next) <= s.final; s.next++ {
		i := s.slots[s.next]
		s.ask(s.next, now)
		s.probes[i].blocked = s.blocking.why
		s.refused++
		s.decide(&s.probes[i], refused)
	}
}

// failed takes the agent's word that it cannot do the job.
func (s *session) failed(m *transport.Failed) {
	cause := fault.ErrRefused
	if m.Blocked.IsValid() {
		cause = errors.Join(fault.ErrRefused, fault.ErrBlocked)
		s.mu.Lock()
		s.blocking.begin(m.Blocked, s.source.Agent, time.Now())
		s.mu.Unlock()
	}
	s.end(fault.New(errorCode(m.Code), cause, "%s", clean(m.Reason)))
}
