package agent

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	maxForwarded = 4096 // datagrams to be passed on
	unreadBatch  = 64
)

// outbox holds captured candidates for the connection that is up. A slow
// controller makes it fill and then drop, counted; it never holds up capture.
type outbox struct {
	wake chan struct{}
	lost func() uint64 // how many more packets the kernel dropped by now

	mu         sync.Mutex // guards all below
	up         bool
	start, end uint32
	pending    []probe.Answer
	dropped    uint64
	kernel     uint64 // dropped by the kernel
	status     *transport.Status

	// By number of the watch.
	watchings map[uint64]*transport.Watching
	unreads   map[uint64]*transport.Unread
	readings  map[uint64]*transport.Readings
	forwarded int // datagrams in unreads
	read      int // entries in readings
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
	o.watchings, o.unreads, o.readings, o.forwarded, o.read = nil, nil, nil, 0, 0
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
func (o *outbox) report(m *transport.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.up {
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

// watching queues what there is to say of a watch: that it began, or what is
// wrong with it. The latest counts.
func (o *outbox) watching(number uint64, f *fault.Error) {
	m := &transport.Watching{Number: number}
	if f != nil {
		m.Code, m.Reason = f.Code, f.Reason
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.up || len(o.watchings) > maxWatches {
		return
	}
	if o.watchings == nil {
		o.watchings = map[uint64]*transport.Watching{}
	}
	o.watchings[number] = m
	o.poke()
}

// unread queues a copy of a datagram to be passed on, if there is one, and
// counts others that cannot be.
func (o *outbox) unread(number uint64, in *probe.Incoming, dropped uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.up {
		return
	}
	m := o.unreads[number]
	if m == nil {
		m = &transport.Unread{Number: number}
		if o.unreads == nil {
			o.unreads = map[uint64]*transport.Unread{}
		}
		o.unreads[number] = m
	}
	m.Dropped += dropped
	switch {
	case in == nil:
	case o.forwarded >= maxForwarded:
		m.Dropped++
	default:
		o.forwarded++
		m.Datagrams = append(m.Datagrams, transport.Captured{Data: bytes.Clone(in.Data), Time: in.Time, Stamp: in.Stamp})
	}
	o.poke()
}

// reading queues what was read in a datagram of others. There are no more of
// them than the controller asked for; one that floods gets none.
func (o *outbox) reading(number uint64, r transport.Reading) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.up || o.read >= maxPending {
		return
	}
	m := o.readings[number]
	if m == nil {
		m = &transport.Readings{Number: number}
		if o.readings == nil {
			o.readings = map[uint64]*transport.Readings{}
		}
		o.readings[number] = m
	}
	o.read++
	m.Readings = append(m.Readings, r)
	o.poke()
}

// watched takes what is queued of watches.
func (o *outbox) watched(step uint64) (ms []transport.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.watchings {
		ms = append(ms, m)
	}
	for _, m := range o.unreads {
		m.Step = step
		for len(m.Datagrams) > unreadBatch {
			ms = append(ms, &transport.Unread{Number: m.Number, Datagrams: m.Datagrams[:unreadBatch:unreadBatch], Step: step})
			m.Datagrams = m.Datagrams[unreadBatch:]
		}
		ms = append(ms, m)
	}
	for _, m := range o.readings {
		for part := range slices.Chunk(m.Readings, readBatch) {
			ms = append(ms, &transport.Readings{Number: m.Number, Readings: part})
		}
	}
	o.watchings, o.unreads, o.readings, o.forwarded, o.read = nil, nil, nil, 0, 0
	return ms
}

func (o *outbox) flush(ctx context.Context, conn transport.Conn, clock *clock) error {
	o.mu.Lock()
	m := &transport.Answers{Answers: o.pending, Dropped: o.dropped, KernelDropped: o.kernel}
	status := o.status
	o.pending, o.dropped, o.kernel, o.status = nil, 0, 0, nil
	o.mu.Unlock()
	// The controller takes it that what is not told of with this was lost later.
	m.KernelDropped += o.lost()
	_, m.Step = clock.now()
	for len(m.Answers) > 0 || m.Dropped > 0 || m.KernelDropped > 0 {
		part := *m
		part.Answers = m.Answers[:min(len(m.Answers), 256)]
		m.Answers, m.Dropped, m.KernelDropped = m.Answers[len(part.Answers):], 0, 0
		if err := conn.Send(ctx, &part); err != nil {
			return err
		}
	}
	for _, m := range o.watched(m.Step) {
		if err := conn.Send(ctx, m); err != nil {
			return err
		}
	}
	if status == nil {
		return nil
	}
	was := status.Step
	status.Slewed = clock.slewed()
	status.Replied, status.Step = clock.now()
	if status.Step != was {
		status.Received, status.Replied = time.Time{}, time.Time{}
	}
	return conn.Send(ctx, status)
}
