package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// outbox holds captured candidates for the connection that is up. A slow
// controller makes it fill and then drop, counted; it never holds up capture.
type outbox struct {
	wake chan struct{}

	mu         sync.Mutex // guards all below
	up         bool
	start, end uint32
	pending    []probe.Answer
	dropped    uint64
	kernel     uint64 // dropped by the kernel
	status     *transport.Status
}

// open keeps candidates whose ID lies in [start, end), from now on or from an
// earlier open.
func (o *outbox) open(start, end uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up, o.start, o.end = true, start, end
	o.pending = slices.DeleteFunc(o.pending, func(a probe.Answer) bool { return !o.ours(&a) })
}

func (o *outbox) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up, o.pending, o.dropped, o.kernel, o.status = false, nil, 0, 0, nil
}

// add queues the candidates that the controller at the other end may own, and
// counts packets that were lost before.
func (o *outbox) add(found []probe.Answer, lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.up {
		return
	}
	o.kernel += lost
	for i := range found {
		switch {
		case !o.ours(&found[i]):
		case len(o.pending) < maxPending:
			o.pending = append(o.pending, found[i])
		default:
			o.dropped++
		}
	}
	if len(o.pending) > 0 || o.dropped > 0 || o.kernel > 0 {
		o.poke()
	}
}

func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// report queues a status, to be sent after all that is pending. A controller
// that asks again before it got one gets the latest.
func (o *outbox) report(m *transport.Status, lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.up {
		o.kernel += lost
		o.status = m
		o.poke()
	}
}

func (o *outbox) ours(a *probe.Answer) bool {
	ids, n := a.Readings()
	for _, id := range ids[:n] {
		if uint32(id) >= o.start && uint32(id) < o.end {
			return true
		}
	}
	return false
}

// run sends what is pending until ctx ends or the connection does.
func (o *outbox) run(ctx context.Context, conn transport.Conn, clock *clock) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		}
		if o.flush(ctx, conn, clock) != nil {
			conn.Close()
			return
		}
	}
}

func (o *outbox) flush(ctx context.Context, conn transport.Conn, clock *clock) error {
	o.mu.Lock()
	m := &transport.Answers{Answers: o.pending, Dropped: o.dropped, KernelDropped: o.kernel}
	status := o.status
	o.pending, o.dropped, o.kernel, o.status = nil, 0, 0, nil
	o.mu.Unlock()
	_, m.Step = clock.now()
	for len(m.Answers) > 0 || m.Dropped > 0 || m.KernelDropped > 0 {
		part := *m
		part.Answers = m.Answers[:min(len(m.Answers), 256)]
		m.Answers, m.Dropped, m.KernelDropped = m.Answers[len(part.Answers):], 0, 0
		if err := conn.Send(ctx, &part); err != nil {
			return err
		}
	}
	if status == nil {
		return nil
	}
	was := status.Step
	status.Replied, status.Step = clock.now()
	if status.Step != was {
		status.Received, status.Replied = time.Time{}, time.Time{}
	}
	return conn.Send(ctx, status)
}
