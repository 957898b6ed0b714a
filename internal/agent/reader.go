package agent

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// reader reads the datagrams of one watch with a prober of which a call may
// take its time. It holds up nobody else: what it cannot take is counted.
type reader struct {
	ws     *watches
	number uint64
	wake   chan struct{}
	broken atomic.Bool // it can read nothing, ever

	mu    sync.Mutex // guards all below
	gone  bool       // nobody reads any more
	queue []pending
	busy  []pending // that are being read
	since time.Time // when the oldest of all came
}

// pending is a datagram to be read: one that this agent captured, or one that
// another did and the controller gave a number.
type pending struct {
	data    []byte
	facts   probe.Answer // all but what is to be read
	ref     uint64
	foreign bool
	came    time.Time
}

// add queues a copy of a datagram.
func (r *reader) add(p pending) {
	r.mu.Lock()
	full := r.gone || len(r.queue) >= maxBacklog || r.ws.held.Load()+int64(len(p.data)) > maxHeld
	if !full {
		r.ws.held.Add(int64(len(p.data)))
		p.data, p.came = bytes.Clone(p.data), time.Now()
		if len(r.queue)+len(r.busy) == 0 {
			r.since = p.came
		}
		r.queue = append(r.queue, p)
	}
	r.mu.Unlock()
	if full {
		r.lose(p)
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// lose counts a datagram that will not be read.
func (r *reader) lose(p pending) {
	if p.foreign {
		r.ws.out.reading(r.number, transport.Reading{Ref: p.ref})
	}
	r.ws.out.unread(r.number, nil, 1)
}

// giveBack passes on what the prober failed to read: another may.
func (r *reader) giveBack(ps []pending) {
	for _, p := range ps {
		if p.foreign || len(p.data) > transport.MaxForwarded {
			r.lose(p)
			continue
		}
		r.ws.out.unread(r.number, &probe.Incoming{Data: p.data, Time: p.facts.Time, Stamp: p.facts.Stamp}, 0)
	}
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context, p probe.Prober, options map[string]string) {
	defer r.leave()
	p, f := configure(p, options)
	r.ws.out.watching(r.number, f)
	if f != nil {
		r.broken.Store(true)
		for ps := r.take(); len(ps) > 0; ps = r.take() {
			r.giveBack(ps)
		}
		return
	}
	var datagrams [][]byte
	out := make([]probe.Matched, readBatch)
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for ps := r.take(); len(ps) > 0; ps = r.take() {
			datagrams = datagrams[:0]
			for _, p := range ps {
				datagrams = append(datagrams, p.data)
			}
			clear(out)
			err := matchAll(ctx, p, datagrams, out[:len(ps)])
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				r.ws.out.watching(r.number, fault.New(fault.Internal, err, "%v", err))
				r.giveBack(ps)
				failing = true
				continue
			}
			if failing {
				r.ws.out.watching(r.number, nil)
				failing = false
			}
			r.report(ps, out)
		}
	}
}

// take takes the next datagrams to be read; those before have been.
func (r *reader) take() []pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release(r.busy)
	n := min(len(r.queue), readBatch)
	r.queue, r.busy = r.queue[n:], r.queue[:n:n]
	if n > 0 {
		r.since = r.busy[0].came
	}
	return r.busy
}

// leave lets go of what was not read.
func (r *reader) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release(r.queue)
	r.release(r.busy)
	r.gone, r.queue, r.busy = true, nil, nil
}

func (r *reader) release(ps []pending) {
	for _, p := range ps {
		r.ws.held.Add(-int64(len(p.data)))
	}
}

// report hands on what was read. Of an own datagram the prober says no more
// than of one that others captured: the rest is known.
func (r *reader) report(ps []pending, out []probe.Matched) {
	var found []probe.Answer
	for i, p := range ps {
		a := &out[i].Answer
		switch {
		case p.foreign:
			r.ws.out.reading(r.number, reading(p.ref, out[i].OK, a))
		case out[i].OK:
			p.facts.ID, p.facts.Tag, p.facts.TagBits = a.ID, a.Tag, a.TagBits
			p.facts.Values = probe.CleanValues(a.Values)
			found = append(found, p.facts)
		}
	}
	r.ws.out.add(found, 0)
}

// behind is how many datagrams wait, if the oldest has for long.
func (r *reader) behind(now time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.queue) + len(r.busy)
	if n == 0 || now.Sub(r.since) < behindAfter {
		return 0
	}
	return uint64(n)
}
