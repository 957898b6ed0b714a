package agent

import (
	"context"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// asked is how many exchanges of time are made in a row: the first one wakes
// up all that is asleep on the way.
const asked = 3

// askTime has the controller asked for the time, if it can be.
func (s *sender) askTime() {
	select {
	case s.asks <- struct{}{}:
	default:
	}
}

// keepTime asks the controller for the time until ctx ends. It waits for
// answers that may never come, so nobody waits for it.
func (s *sender) keepTime(ctx context.Context, conn transport.TimeAsker) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asks:
		}
		for range asked {
			_, before := s.clock.now()
			m, err := conn.AskTime(ctx)
			if err != nil {
				break
			}
			var after uint64
			if _, after = s.clock.now(); after != before {
				continue
			}
			m.Step = after
			if conn.Send(ctx, m) != nil {
				return
			}
		}
	}
}
