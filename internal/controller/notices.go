package controller

import (
	"context"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	// maxNotices is how many messages wait for an agent besides its orders,
	// and maxReads how many may when one more with datagrams comes.
	maxNotices = 1024
	maxReads   = 128
)

// notify queues a message that the agent must not miss. One that takes none of
// them for so long is let go of.
func (a *agent) notify(m transport.Message) {
	if !a.offer(m, maxNotices) {
		a.overrun.Store(true)
	}
}

// offer queues a message, unless there are so many already.
func (a *agent) offer(m transport.Message, most int) bool {
	if len(a.notices) >= most {
		return false
	}
	select {
	case a.notices <- m:
		return true
	default:
		return false
	}
}

// tell sends the agent what is queued for it until ctx ends.
func (a *agent) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-a.notices:
			if a.order(ctx, m, orderWait) != nil {
				return
			}
			if a.overrun.Load() {
				a.conn.Close()
				return
			}
		}
	}
}
