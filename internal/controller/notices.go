package controller

import (
	"context"
	"sync"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	// maxNotices is how many messages wait for an agent besides its orders: that
	// watches begin and end, of as many measurements as there are identifiers.
	// maxReads is how many may wait when one more with datagrams comes.
	maxNotices = 1 << 17
	maxReads   = 128
)

// notices are the messages that wait for an agent. Many may come at once, when
// it connects or when many measurements end.
type notices struct {
	wake chan struct{}

	mu      sync.Mutex // guards all below
	queue   []transport.Message
	overrun bool // there were too many
}

// notify queues a message that the agent must not miss. One that takes them too
// slowly is let go of.
func (a *agent) notify(m transport.Message) {
	if !a.offer(m, maxNotices) {
		a.notices.mu.Lock()
		a.notices.overrun = true
		a.notices.mu.Unlock()
	}
}

// offer queues a message, unless there are so many already.
func (a *agent) offer(m transport.Message, most int) bool {
	n := &a.notices
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) >= most {
		return false
	}
	n.queue = append(n.queue, m)
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

// next takes the oldest message, nil if there is none.
func (n *notices) next() (m transport.Message, overrun bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == 0 {
		n.queue = nil
		return nil, n.overrun
	}
	m, n.queue[0] = n.queue[0], nil
	n.queue = n.queue[1:]
	return m, n.overrun
}

// tell sends the agent what is queued for it until ctx ends.
func (a *agent) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.notices.wake:
		}
		for {
			m, overrun := a.notices.next()
			if overrun {
				a.conn.Close()
				return
			}
			if m == nil {
				break
			}
			if a.order(ctx, m, orderWait) != nil {
				return
			}
		}
	}
}
