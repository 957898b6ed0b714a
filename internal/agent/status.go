package agent

import (
	"context"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// drainRetry is how often a port is asked whether it has been drained.
const drainRetry = time.Millisecond

// check has a check answered.
func (s *sender) check(m *transport.Check) {
	st := &transport.Status{Seq: m.Seq}
	st.Received, st.Step = s.clock.now()
	for {
		select {
		case s.checks <- st:
			return
		case <-s.checks:
		}
	}
}

// answerChecks answers checks until ctx ends, each once all that was captured
// before it has been told. Where the capture gets no time of the processor, what
// it has not read must not look as if it had never come: then the agent does not
// answer.
func (s *sender) answerChecks(ctx context.Context) {
	marker, _ := s.cfg.Port.(probe.Marker)
	retry := time.NewTicker(drainRetry)
	retry.Stop()
	defer retry.Stop()
	for {
		var st *transport.Status
		select {
		case <-ctx.Done():
			return
		case st = <-s.checks:
		}
		if marker != nil {
			if done := marker.Mark(); !done() {
				retry.Reset(drainRetry)
				for !done() {
					select {
					case <-ctx.Done():
						return
					case <-retry.C:
					}
				}
				retry.Stop()
			}
		}
		st.Behind = s.watches.behind()
		if s.clock.port == nil {
			st.Discipline, st.MaxError, st.EstError = discipline()
		}
		s.out.report(st)
	}
}
