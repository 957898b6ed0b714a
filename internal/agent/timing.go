package agent

import (
	"context"
	"time"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	// atOnce exchanges of time are made in a row: the first one wakes up all
	// that is asleep on the way.
	atOnce = 3
	// followed by so many more, so far apart: until a controller that is busy
	// asks again, what is known is not to age.
	following = 10
	apart     = 100 * time.Millisecond
)

// askTime has the controller asked for the time, if it can be.
func (s *sender) askTime() {
	select {
	case s.asks <- struct{}{}:
	default:
	}
}

// keepTime asks the controller for the time until ctx ends, whenever askTime
// says so and for a while after that. It waits for replies that may never come,
// so nobody waits for it.
func (s *sender) keepTime(ctx context.Context, conn transport.TimeAsker) {
	next := time.NewTimer(0)
	<-next.C
	defer next.Stop()
	for left := 0; ; {
		n := 1
		select {
		case <-ctx.Done():
			return
		case <-s.asks:
			n, left = atOnce, following
		case <-next.C:
			left--
		}
		for range n {
			if s.exchange(ctx, conn) != nil {
				left = 0
				break
			}
		}
		if left > 0 {
			next.Reset(apart)
		}
	}
}

// exchange makes an exchange of time and reports it, unless the clock was set
// meanwhile.
func (s *sender) exchange(ctx context.Context, conn transport.TimeAsker) error {
	s.clock.slewed()
	_, before := s.clock.now()
	m, err := conn.AskTime(ctx)
	if err != nil {
		return err
	}
	s.clock.slewed()
	if _, m.Step = s.clock.now(); m.Step != before {
		return nil
	}
	return conn.Send(ctx, m)
}
