package agent

import (
	"context"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	// drainWait is how long a check waits for what was captured before it. A
	// flood may never let the port run dry.
	drainWait  = 300 * time.Millisecond
	drainRetry = time.Millisecond
)

// status answers a check, once all that was captured before it has been sent.
func (s *sender) status(ctx context.Context, m *transport.Check) {
	st := &transport.Status{Seq: m.Seq}
	st.Received, st.Step = s.clock.now()
	q, ok := s.cfg.Port.(probe.Queuer)
	if !ok || !q.Queued() {
		s.reportStatus(st)
		return
	}
	// Where the capture got no time of the processor, what it has not read yet
	// must not look as if it had never come.
	s.side.Go(func() {
		retry := time.NewTicker(drainRetry)
		defer retry.Stop()
		for began := time.Now(); q.Queued() && time.Since(began) < drainWait; {
			select {
			case <-ctx.Done():
				return
			case <-retry.C:
			}
		}
		s.reportStatus(st)
	})
}

// reportStatus queues a status.
func (s *sender) reportStatus(m *transport.Status) {
	m.Behind = s.watches.behind()
	if s.clock.port == nil {
		m.Discipline, m.MaxError, m.EstError = discipline()
	}
	s.out.report(m)
}
