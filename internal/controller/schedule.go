package controller

import (
	"context"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	// waitFloor is added to a measured time before it is multiplied, as
	// traceroute(8) does.
	waitFloor = time.Millisecond
	// reportWait is how much longer than its answer the report of a probe's
	// sending may take.
	reportWait = time.Second
	// grace is what an adaptive wait allows beyond that for hiccups on the way
	// from the network through a receiving agent to the controller.
	grace    = 50 * time.Millisecond
	maxRetry = 3
	// builtWait is how long the report of a probe is waited for that a prober
	// in another process builds: agents let it take 3 s.
	builtWait = 4 * time.Second
)

// step gives up what has waited long enough and picks the probes to ask for
// now. It returns when to call it again unless something happens before.
// s.mu is held.
func (s *session) step(now time.Time) (tickets []transport.Ticket, until time.Time, done bool) {
	if s.fault != nil {
		return nil, now, true
	}
	s.checkRules(now)
	if s.blocking.why == "" && s.left == 0 && s.refused >= min(s.spec.Window, len(s.slots)) {
		s.fault = fault.New(fault.Unavailable, fault.ErrRefused, "agent %q could not send: %s", s.source.Agent, s.probes[0].rec.Error)
		return nil, now, true
	}
	until = now.Add(s.spec.Wait)
	undecided := false
	retrying := s.retrying()
	for slot, i := range s.slots[:s.next] {
		p := &s.probes[i]
		if s.ttl(slot) > s.final {
			break
		}
		if p.status == answered && p.reported.IsZero() {
			if deadline := p.asked.Add(p.took + reportWait); now.Before(deadline) {
				undecided = true
				until = earlier(until, deadline)
			}
		}
		if p.status != underway {
			continue
		}
		if s.uncalled(p, now) {
			continue
		}
		retry := s.retryable(slot) && s.blocking.why == ""
		deadline := s.blocking.earlier(p, s.deadline(slot, retry))
		if now.Before(deadline) {
			undecided = true
			until = earlier(until, deadline)
			continue
		}
		if retry {
			undecided = true
			if flow := p.rec.Flow; !retrying[flow] || p.tries > 0 {
				retrying[flow] = true
				tickets = append(tickets, s.retry(slot, now))
			}
			continue
		}
		if g, ok := s.correlator.(result.GaveUper); ok {
			g.GaveUp(p.rec.ID)
		}
		s.decide(p, gaveUp)
	}
	if s.blocking.why != "" {
		if !undecided {
			s.forgo(now)
		}
		return nil, until, !undecided
	}
	for s.next < len(s.slots) && s.ttl(s.next) <= s.final {
		undecided = true
		if s.waiting >= s.spec.Window {
			break
		}
		if gate := s.lastAsk.Add(s.spec.Interval); s.spec.Interval > 0 && now.Before(gate) {
			until = earlier(until, gate)
			break
		}
		tickets = append(tickets, s.ask(s.next, now))
		s.next++
	}
	return tickets, until, !undecided
}

// retrying returns the flows on which a SYN that was asked again is under way.
func (s *session) retrying() map[int]bool {
	if !s.open {
		return nil
	}
	flows := map[int]bool{}
	for slot, i := range s.slots[:s.next] {
		if s.ttl(slot) > s.final {
			break
		}
		if p := &s.probes[i]; p.status == underway && p.tries > 0 {
			flows[p.rec.Flow] = true
		}
	}
	return flows
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (s *session) ttl(slot int) int { return s.spec.FirstTTL + slot/s.spec.Queries }

// ask puts a fresh probe into a slot.
func (s *session) ask(slot int, now time.Time) transport.Ticket {
	i := slot
	if slot < s.next {
		i = len(s.slots) + s.spare
		s.spare++
	}
	s.slots[slot] = uint16(i)
	p := &s.probes[i]
	attempt := slot % s.spec.Queries
	p.status, p.asked = underway, now
	p.rec = result.Probe{
		ID: s.block.First + uint16(i), TTL: s.ttl(slot), Attempt: attempt,
		Flow: attempt % s.spec.Flows, Destination: s.dst,
	}
	s.waiting++
	s.lastAsk = now
	s.correlator.Sent(result.Sent{ID: p.rec.ID, TTL: uint8(p.rec.TTL), Flow: uint8(p.rec.Flow)})
	return transport.Ticket{ID: p.rec.ID, TTL: uint8(p.rec.TTL), Flow: uint8(p.rec.Flow)}
}

// retryable tells whether an unanswered SYN deserves to be asked again: a
// destination that has just accepted one SYN of a flow ignores the others of
// that flow until the half-open connection is reset (RFC 9293, 3.10.7.4).
func (s *session) retryable(slot int) bool {
	p := &s.probes[s.slots[slot]]
	return s.open && s.ttl(slot) == s.final && p.tries < maxRetry && len(s.slots)+s.spare < len(s.probes)
}

// retry asks for a slot again, with an identifier of its own so that the two
// answers cannot be confused. If the old one is answered after all, restore
// gives it its slot back.
func (s *session) retry(slot int, now time.Time) transport.Ticket {
	old := &s.probes[s.slots[slot]]
	old.status = replaced
	s.waiting--
	t := s.ask(slot, now)
	s.probes[s.slots[slot]].tries = old.tries + 1
	return t
}

// restore puts a replaced probe back into its slot unless the one that
// replaced it was answered first.
func (s *session) restore(p *tracked) {
	slot := (p.rec.TTL-s.spec.FirstTTL)*s.spec.Queries + p.rec.Attempt
	now := &s.probes[s.slots[slot]]
	if now.status == answered {
		return
	}
	if now.status == underway {
		s.waiting--
	}
	now.status = replaced
	s.slots[slot] = p.rec.ID - s.block.First
}

// deadline is when the probe of a slot has waited long enough, by the rule of
// traceroute(8): at most Wait; Here times what an answer at the same hop took;
// else Near times what the nearest later one took. All is measured on the
// controller's clock from asking to hearing, so the way between controller and
// agents is in it; the longest delay of an agent's report and some grace come on
// top. A SYN that can be asked again needs no grace.
func (s *session) deadline(slot int, retry bool) time.Time {
	p := &s.probes[s.slots[slot]]
	if p.reported.IsZero() {
		if s.remote {
			return p.asked.Add(max(s.spec.Wait, builtWait))
		}
		return p.asked.Add(s.spec.Wait)
	}
	wait := s.spec.Wait
	if took := s.likeThis(slot); took > 0 {
		took += s.slack
		if !retry {
			took += grace
		}
		wait = min(wait, took)
	}
	return p.reported.Add(wait)
}

// likeThis is how long an answer to the slot may take, judged by others; 0 if
// there are none.
func (s *session) likeThis(slot int) time.Duration {
	scale := func(p *tracked, factor float64) time.Duration {
		return time.Duration(factor * float64(p.took+waitFloor))
	}
	if s.spec.Here > 0 {
		first := slot - slot%s.spec.Queries
		for _, i := range s.slots[first : first+s.spec.Queries] {
			if p := &s.probes[i]; p.status == answered {
				return scale(p, s.spec.Here)
			}
		}
	}
	if s.spec.Near > 0 {
		for _, i := range s.slots[slot+1 : s.next] {
			if p := &s.probes[i]; p.status == answered {
				return scale(p, s.spec.Near)
			}
		}
	}
	return 0
}

// nameHops fills in the host names of who answered.
func (s *session) nameHops(ctx context.Context) error {
	if s.spec.Numeric {
		return nil
	}
	s.mu.Lock()
	found := map[netip.Addr]*name{}
	for i := range s.probes {
		if addr := s.probes[i].rec.Addr; addr.IsValid() && found[addr] == nil {
			found[addr] = s.names.start(addr)
		}
	}
	s.mu.Unlock()
	for _, n := range found {
		select {
		case <-n.done:
		case <-ctx.Done():
			return s.fail(ctx, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.probes {
		if r := &s.probes[i].rec; r.Addr.IsValid() {
			// Late answers may have come since.
			if n := found[r.Addr]; n != nil {
				r.Name = n.text
			}
		}
	}
	return nil
}
