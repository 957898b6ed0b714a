package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/internal/offset"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

const (
	maxGaps  = 16 // of an agent and kind that are told apart in a session
	maxDiffs = 64 // differences of tags that are counted
)

// lost tells that an agent disconnected.
func (s *session) lost(a *agent) {
	if a == s.source {
		s.end(fault.New(fault.Unavailable, fault.ErrAgentLost, "agent %q disconnected", a.Agent))
		return
	}
	// What it captured since it answered a check may be lost as well.
	s.gap(a, result.Disconnected, a.pulse.until(time.Now()), time.Time{}, 0)
}

// back tells that an agent is connected again.
func (s *session) back(a *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.gaps {
		if g := &s.gaps[i]; g.Agent == a.Agent && g.Kind == result.Disconnected && g.To.IsZero() {
			g.To = time.Now()
		}
	}
}

// responds tells that an agent that kept a measurement waiting does so no
// longer.
func (s *session) responds(a *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.gaps {
		if g := &s.gaps[i]; g.Agent == a.Agent && g.Kind == result.Unresponsive && g.To.IsZero() {
			g.To = time.Now()
		}
	}
}

// gap books a time in which an agent could not capture. One that overlaps
// another of its kind extends it, and too many become one.
func (s *session) gap(a *agent, kind result.GapKind, from, to time.Time, count uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gapped(a, kind, from, to, count)
}

// gapped is gap with s.mu held.
func (s *session) gapped(a *agent, kind result.GapKind, from, to time.Time, count uint64) {
	if !to.IsZero() && to.Before(s.began) {
		return
	}
	all := result.Gap{Agent: a.Agent, Kind: kind, From: later(from, s.began), To: to, Count: count}
	same := 0
	for _, g := range s.gaps {
		if g.Agent == a.Agent && g.Kind == kind {
			same++
		}
	}
	s.gaps = slices.DeleteFunc(s.gaps, func(g result.Gap) bool {
		apart := !g.To.IsZero() && all.From.After(g.To) || !all.To.IsZero() && g.From.After(all.To)
		if g.Agent != a.Agent || g.Kind != kind || apart && same < maxGaps {
			return false
		}
		if g.From.Before(all.From) {
			all.From = g.From
		}
		if !all.To.IsZero() && (g.To.IsZero() || g.To.After(all.To)) {
			all.To = g.To
		}
		all.Count += g.Count
		return true
	})
	s.gaps = append(s.gaps, all)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// stepped tells that an agent's clock was set, it did not notice when.
func (s *session) stepped(a *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps[a.Agent] = true
}

// observe takes note of how often an agent's clock has been set by now.
func (s *session) observe(a *agent, step uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observed(a, step)
}

// observed is observe with s.mu held.
func (s *session) observed(a *agent, step uint64) {
	first, known := s.firstSteps[process{a.Agent, a.Instance}]
	if !known {
		s.firstSteps[process{a.Agent, a.Instance}] = step
		before, ok := a.pulse.stepAt(s.began)
		s.unsure = s.unsure || !ok || before != step
	} else if first != step {
		s.steps[a.Agent] = true
	}
}

// process is an agent from its start to its end: each counts for itself.
type process struct {
	agent    string
	instance uint64
}

// unresponsive books the agents that do not respond just now.
func (c *Controller) unresponsive(s *session) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.agents {
		if since := a.pulse.silent(now); !since.IsZero() {
			s.gap(a, result.Unresponsive, since, time.Time{}, 0)
		}
	}
}

// incomplete tells whether a probe lacks its answer for no reason known yet, or
// whether what an agent says next may change what its time is worth.
func (s *session) incomplete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return false
	}
	for i := range s.probes {
		p := &s.probes[i]
		if p.status == gaveUp && p.rec.TTL <= s.final {
			return true
		}
		// If two agents share a clock and it was set while the probe was under
		// way, the receiver may have noticed before it was first heard of, and
		// the sender when it had nothing more to say. Then that one is asked.
		if p.status == answered && (!p.rec.OneClock || p.receiver != s.source && s.unsure) {
			return true
		}
	}
	return false
}

// missing says why a probe has no answer that counts. s.mu is held.
func (s *session) missing(p *tracked) (why result.Missing, detail string) {
	over := s.fault != nil
	switch {
	case p.status == answered:
		return "", ""
	case p.status == refused && p.blocked != "":
		return result.Blocked, p.blocked
	case p.status == refused:
		return result.NotSent, p.rec.Error
	case over && errors.Is(s.fault, fault.ErrBlocked) && p.status == underway && p.reported.IsZero():
		return result.Blocked, s.blocking.why // the agent took no job
	case over && s.sourceLost && (p.reported.IsZero() || p.status == underway):
		return result.SourceLost, fmt.Sprintf("%s after %v", s.source.Agent, s.lostAfter.Round(time.Millisecond))
	case p.rec.Verdict == result.Late:
		return result.AnsweredLate, ""
	case p.status == replaced:
		return result.AskedAgain, ""
	case p.rec.TTL > s.final:
		return result.Beyond, ""
	case p.status == underway:
		return result.Cancelled, ""
	case p.reported.IsZero():
		return result.Unreported, s.source.Agent
	}
	for _, reason := range []struct {
		missing result.Missing
		kinds   []result.GapKind
	}{
		{result.ReceiverAway, []result.GapKind{result.Disconnected, result.Unresponsive}},
		{result.Dropped, []result.GapKind{result.KernelDrops, result.QueueOverflow, result.NotRead}},
	} {
		var agents []string
		for _, g := range s.gaps {
			if slices.Contains(reason.kinds, g.Kind) && g.From.Before(p.decided) && (g.To.IsZero() || !g.To.Before(p.asked)) && !slices.Contains(agents, g.Agent) {
				agents = append(agents, g.Agent)
			}
		}
		if len(agents) > 0 {
			slices.Sort(agents)
			return reason.missing, strings.Join(agents, ", ")
		}
	}
	return result.NoAnswer, ""
}

// account books every probe that was asked for. s.mu is held.
func (s *session) account() (a result.Account) {
	for i := range s.probes {
		p := &s.probes[i]
		if p.status == unasked {
			continue
		}
		p.rec.Missing, p.rec.MissingDetail = s.missing(p)
		a.Add(p.rec.Missing, p.rec.MissingDetail)
	}
	a.Gaps = slices.Clone(s.gaps)
	for i := range a.Gaps {
		g := &a.Gaps[i]
		g.From, g.To = g.From.Round(0), g.To.Round(0)
	}
	return a
}

// sharesClock tells whether both say that they read one clock. Agents that say
// nothing do not.
func (a *agent) sharesClock(b *agent) bool {
	return a == b || a.Clock == b.Clock && a.Clock != ""
}

// correct takes the offset of the two clocks out of a probe's time, as far as
// it is known by now. s.mu is held.
func (s *session) correct(p *tracked) {
	r := &p.rec
	r.Delay, r.Bound = nil, nil
	if r.RTT == nil {
		return
	}
	receiver := p.receiver
	if receiver.sharesClock(s.source) {
		// A round trip, unless the clock was set between its two readings.
		r.OneClock = p.sentStep == p.recvStep || receiver != s.source
		if s.steps[s.source.Agent] || s.steps[receiver.Agent] {
			r.OneClock = r.OneClock && receiver == s.source
		}
		if r.OneClock {
			r.Delay, r.Bound = r.RTT, new(time.Duration)
			return
		}
	}
	left, ok1 := s.source.pulse.of(r.Sent, p.sentStep, p.asked, p.reported)
	arrived, ok2 := receiver.pulse.of(r.Received, p.recvStep, p.asked, p.heard)
	if !ok1 || !ok2 {
		return
	}
	r.Delay = new(*r.RTT - (arrived.Offset - left.Offset))
	r.Bound = new(arrived.Bound + left.Bound)
}

// of estimates the offset of the agent's clock when it read theirs.
func (p *pulse) of(theirs time.Time, step uint64, from, to time.Time) (offset.Estimate, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, e, ok := p.offset.Of(theirs, step, from, to)
	return e, ok
}

// clockOf says what is known of an agent's clock. s.mu is held.
func (s *session) clockOf(a *agent) result.Clock {
	c := result.Clock{Name: a.Clock, Stepped: s.steps[a.Agent]}
	p := a.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.offset.At(time.Now()); ok {
		c.Offset, c.Bound, c.Skew = &e.Offset, &e.Bound, e.Skew*1e6
	}
	c.Discipline, c.MaxError, c.EstError = p.status.Discipline, p.status.MaxError, p.status.EstError
	return c
}

// offBy counts by how much the 16-bit tag of an unverified answer is off: a
// rewritten address or port shifts the checksums of all probes alike. s.mu is
// held.
func (s *session) offBy(ans *probe.Answer, id uint16) {
	if ans.TagBits != 16 {
		return
	}
	want := probe.Tag16(s.key.Tag(ans.Dst, id, ans.Protocol))
	// One's complement, as the checksum is: the two zeros are one.
	diff := uint32(uint16(ans.Tag)) + uint32(^want)
	diff = diff>>16 + diff&0xFFFF
	d := uint16(diff)
	if _, known := s.diffs[d]; known || len(s.diffs) < maxDiffs {
		s.diffs[d]++
	}
}

// rewritten is how many unverified answers are off by the same, if at least
// two are. s.mu is held.
func (s *session) rewritten() int {
	most := 0
	for _, n := range s.diffs {
		most = max(most, n)
	}
	if most < 2 {
		return 0
	}
	return most
}
