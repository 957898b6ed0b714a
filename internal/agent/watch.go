package agent

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/direct"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	maxWatches = 1 << 16
	readBatch  = 256
	readWait   = 2 * time.Second
	maxBacklog = 1024    // datagrams of a watch that wait for its prober
	maxHeld    = 8 << 20 // bytes of those of all watches
	// behindAfter is how long a datagram waits before that is worth a word.
	behindAfter = 20 * time.Millisecond
	// passRate is how many datagrams a second a watch passes on, after a burst.
	passRate  = 1000
	passBurst = 4096
)

// watches are what the controller wants to be read or passed on besides the
// answers that the agent's own probers know.
type watches struct {
	probers map[string]probe.Prober
	out     *outbox
	active  atomic.Int32 // how many there are
	held    atomic.Int64 // bytes that wait

	readers sync.WaitGroup

	mu       sync.RWMutex // guards the maps
	byNumber map[uint64]*watch
	byDst    map[netip.Addr][]*watch // the slices are never changed
}

// watch is one of them. A datagram is read by a prober of this process, or by
// a reader, or passed on.
type watch struct {
	number uint64
	dst    netip.Addr
	own    probe.Prober
	reader *reader
	stop   context.CancelFunc
	bucket bucket // of what is passed on, touched by capture only
}

func newWatches(probers map[string]probe.Prober, out *outbox) *watches {
	return &watches{probers: probers, out: out, byNumber: map[uint64]*watch{}, byDst: map[netip.Addr][]*watch{}}
}

// start begins a watch that lasts until it is ended, or ctx is.
func (ws *watches) start(ctx context.Context, m *transport.Watch) {
	ws.end(m.Number)
	w := &watch{number: m.Number, dst: m.Dst, bucket: bucket{tokens: passBurst, at: time.Now()}}
	ctx, w.stop = context.WithCancel(ctx)
	p := ws.probers[m.Prober]
	var f *fault.Error
	switch {
	case p == nil:
	case remote(p):
		w.reader = &reader{ws: ws, number: m.Number, wake: make(chan struct{}, 1)}
	default:
		w.own, f = configure(p, m.Options)
	}
	if !ws.add(w) {
		ws.out.watching(m.Number, fault.New(fault.TooManyRequests, nil, "the agent keeps %d watches already", maxWatches))
		return
	}
	if w.reader != nil {
		ws.readers.Go(func() { w.reader.run(ctx, p, m.Options) })
		return
	}
	ws.out.watching(m.Number, f)
}

func (ws *watches) add(w *watch) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.byNumber) >= maxWatches {
		return false
	}
	ws.byNumber[w.number] = w
	ws.byDst[w.dst] = append(slices.Clip(ws.byDst[w.dst]), w)
	ws.active.Add(1)
	return true
}

// end ends a watch, if there is one.
func (ws *watches) end(number uint64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.byNumber[number]
	if w == nil {
		return
	}
	w.stop()
	ws.active.Add(-1)
	delete(ws.byNumber, number)
	rest := slices.DeleteFunc(slices.Clone(ws.byDst[w.dst]), func(other *watch) bool { return other == w })
	if len(rest) == 0 {
		delete(ws.byDst, w.dst)
		return
	}
	ws.byDst[w.dst] = rest
}

// close ends all watches and waits for what they started.
func (ws *watches) close() {
	ws.mu.Lock()
	for _, w := range ws.byNumber {
		w.stop()
	}
	clear(ws.byNumber)
	clear(ws.byDst)
	ws.active.Store(0)
	ws.mu.Unlock()
	ws.readers.Wait()
}

// offer shows a datagram that nobody knows to the watches that it may concern.
// It reports true if a prober of this process knew it after all, and never
// waits for another one.
func (ws *watches) offer(in *probe.Incoming, a *probe.Answer) bool {
	if ws.active.Load() == 0 {
		return false
	}
	facts, ok := direct.Read(in.Data)
	if !ok {
		return false
	}
	ws.mu.RLock()
	list := ws.byDst[facts.From]
	ws.mu.RUnlock()
	facts.Time, facts.Stamp = in.Time, in.Stamp
	known := false
	for _, w := range list {
		switch {
		case w.own != nil:
			known = known || w.knows(in.Data, a)
		case w.reader != nil && !w.reader.broken.Load():
			w.reader.add(pending{data: in.Data, facts: facts})
		default:
			ws.pass(w, in)
		}
	}
	return known
}

func (w *watch) knows(datagram []byte, a *probe.Answer) bool {
	if !w.own.Match(datagram, a) {
		return false
	}
	a.Values = probe.CleanValues(a.Values)
	return true
}

// pass queues a datagram to be read elsewhere.
func (ws *watches) pass(w *watch, in *probe.Incoming) {
	if len(in.Data) > transport.MaxForwarded || !w.bucket.take(time.Now()) {
		ws.out.unread(w.number, nil, 1)
		return
	}
	ws.out.unread(w.number, in, 0)
}

// read reads what others captured.
func (ws *watches) read(m *transport.Read) {
	ws.mu.RLock()
	w := ws.byNumber[m.Number]
	ws.mu.RUnlock()
	for _, d := range m.Datagrams {
		facts, ok := direct.Read(d.Data)
		switch {
		case !ok || w == nil || w.own == nil && w.reader == nil || facts.From != w.dst:
			ws.out.reading(m.Number, transport.Reading{Ref: d.Ref})
		case w.own != nil:
			var a probe.Answer
			ok := w.knows(d.Data, &a)
			ws.out.reading(m.Number, reading(d.Ref, ok, &a))
		default:
			w.reader.add(pending{data: d.Data, facts: facts, ref: d.Ref, foreign: true})
		}
	}
}

func reading(ref uint64, ok bool, a *probe.Answer) transport.Reading {
	if !ok {
		return transport.Reading{Ref: ref}
	}
	return transport.Reading{Ref: ref, OK: true, ID: a.ID, Tag: a.Tag, TagBits: a.TagBits, Values: probe.CleanValues(a.Values)}
}

// behind lists the watches whose readers keep datagrams waiting.
func (ws *watches) behind() (list []transport.Backlog) {
	if ws.active.Load() == 0 {
		return nil
	}
	now := time.Now()
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	for _, w := range ws.byNumber {
		if w.reader == nil {
			continue
		}
		if n := w.reader.behind(now); n > 0 {
			list = append(list, transport.Backlog{Number: w.number, Count: n})
		}
	}
	return list
}

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(passBurst, b.tokens+passRate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
