package controller

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/direct"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

const (
	// watchWait is how long a measurement waits for agents to begin to watch.
	watchWait = time.Second
	// maxReading is how many datagrams that one agent passed on to a relay are
	// being read at once, and readBatch how many of them one message holds.
	maxReading = 1024
	readBatch  = 64
	// passRate is how many datagrams a second an agent passes on to a relay,
	// after a burst. It keeps to that itself.
	passRate  = 1000
	passBurst = 4096
)

// relays bring direct answers that land at agents which cannot read them to
// agents that can. Its lock comes after the controller's, before a session's.
type relays struct {
	mu        sync.Mutex // guards all below
	last      uint64
	byNumber  map[uint64]*relay
	byKey     map[relayKey]*relay
	bySession map[*session]*relay
}

// relayKey is what measurements have in common that share a relay: an answer to
// one is read like an answer to another.
type relayKey struct {
	dst     netip.Addr
	prober  string
	options string
}

// relay is one watch, for all measurements of its key.
type relay struct {
	key      relayKey
	watch    *transport.Watch
	sessions map[*session]struct{}
	told     map[*agent]*watcher
	// ready is closed when the agents that were told first watch.
	ready chan struct{}
	early map[*agent]struct{} // those that do not yet

	// reading are the datagrams that are being read, by ref. Refs count up
	// from 1.
	last    uint64
	reading map[uint64]relayed
}

// watcher is an agent that was told to watch. None can use up what the others
// need.
type watcher struct {
	failing bool     // to read
	refs    []uint64 // of what it passed on, oldest first, read or not
	tokens  float64
	at      time.Time // when tokens was right
}

func newWatcher() *watcher { return &watcher{tokens: passBurst, at: time.Now()} }

// take tells whether one more datagram is within the rate.
func (w *watcher) take(now time.Time) bool {
	w.tokens = min(passBurst, w.tokens+passRate*now.Sub(w.at).Seconds())
	w.at = now
	if w.tokens < 1 {
		return false
	}
	w.tokens--
	return true
}

// relayed is a datagram that is being read, but for its bytes: all that the
// reader has no say in.
type relayed struct {
	at       time.Time // when it came
	reader   *agent
	receiver *agent
	facts    probe.Answer
	step     uint64
}

func newRelays() *relays {
	return &relays{byNumber: map[uint64]*relay{}, byKey: map[relayKey]*relay{}, bySession: map[*session]*relay{}}
}

func keyOf(s *session) relayKey {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.spec.Options)) {
		b.WriteString(name + "=" + s.spec.Options[name] + "\x00")
	}
	return relayKey{s.dst, s.spec.Prober, b.String()}
}

// knows tells whether an agent reads direct answers to a measurement without
// being asked to. All know the built-in types.
func (a *agent) knows(spec *Spec) bool {
	switch spec.Prober {
	case "udp", "icmp", "tcp":
		return true
	}
	t, ok := a.typeOf(spec.Prober)
	return ok && !t.Remote && len(spec.Options) == 0
}

// relay has a measurement's direct answers watched for if there are agents that
// would not know them. What it returns is closed when they are, and nil if they
// need not be. c.mu is held.
func (c *Controller) relay(s *session) <-chan struct{} {
	for _, a := range c.agents {
		if a.Watches && !a.knows(&s.spec) {
			return c.relays.join(s, c.agents)
		}
	}
	return nil
}

// join adds a measurement to the relay of its key and returns what is closed
// when that is ready.
func (rs *relays) join(s *session, agents map[string]*agent) <-chan struct{} {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.bySession[s]; r != nil {
		return r.ready
	}
	key := keyOf(s)
	r := rs.byKey[key]
	if r == nil {
		rs.last++
		r = &relay{
			key:      key,
			watch:    &transport.Watch{Number: rs.last, Prober: s.spec.Prober, Options: s.spec.Options, Dst: s.dst},
			sessions: map[*session]struct{}{}, told: map[*agent]*watcher{},
			ready: make(chan struct{}), early: map[*agent]struct{}{}, reading: map[uint64]relayed{},
		}
		rs.byNumber[rs.last], rs.byKey[key] = r, r
		for _, a := range agents {
			if r.tell(a) {
				r.early[a] = struct{}{}
			}
		}
	}
	r.sessions[s] = struct{}{}
	rs.bySession[s] = r
	return r.ready
}

// tell tells an agent to watch.
func (r *relay) tell(a *agent) bool {
	if !a.Watches {
		return false
	}
	a.notify(r.watch)
	r.told[a] = newWatcher()
	return true
}

// settled notes that an agent is not waited for any more.
func (r *relay) settled(a *agent) {
	if _, ok := r.early[a]; !ok {
		return
	}
	if delete(r.early, a); len(r.early) == 0 {
		close(r.ready)
	}
}

// leave takes a measurement out of its relay, which ends with its last.
func (rs *relays) leave(s *session) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.bySession[s]
	if r == nil {
		return
	}
	delete(rs.bySession, s)
	if delete(r.sessions, s); len(r.sessions) > 0 {
		return
	}
	delete(rs.byNumber, r.watch.Number)
	delete(rs.byKey, r.key)
	for a := range r.told {
		a.notify(&transport.Unwatch{Number: r.watch.Number})
	}
}

// came tells of a new agent. c.mu is held.
func (rs *relays) came(a *agent) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.byNumber {
		r.tell(a)
	}
}

// left tells of an agent that went away. What it was reading is lost.
func (rs *relays) left(a *agent, now time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.byNumber {
		delete(r.told, a)
		r.settled(a)
		lost := map[*agent]uint64{}
		for ref, p := range r.reading {
			if p.reader == a {
				lost[p.receiver]++
				delete(r.reading, ref)
			}
		}
		for receiver, n := range lost {
			r.lose(receiver, now, now, n)
		}
	}
}

// lose books what landed at an agent and was not read.
func (r *relay) lose(a *agent, from, to time.Time, n uint64) {
	for s := range r.sessions {
		s.gap(a, result.NotRead, from, to, n)
	}
}

// watching takes an agent's word that it watches or cannot read.
func (rs *relays) watching(a *agent, m *transport.Watching) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byNumber[m.Number]
	if r == nil {
		return
	}
	w := r.told[a]
	if w == nil {
		return
	}
	r.settled(a)
	w.failing = m.Code != 0
	for s := range r.sessions {
		if m.Code == 0 {
			s.responds(a)
		} else if s.source == a {
			s.end(proberFault(s, m))
		}
	}
}

// proberFault is what a measurement ends with whose source cannot read.
func proberFault(s *session, m *transport.Watching) *fault.Error {
	code, reason := errorCode(m.Code), clean(m.Reason)
	if code >= fault.Internal {
		reason = "prober " + s.spec.Prober + " of agent " + s.source.Agent + ": " + reason
	}
	return fault.New(code, fault.ErrRefused, "%s", reason)
}

// unread takes what an agent could not read and hands it to one that can.
func (rs *relays) unread(a *agent, m *transport.Unread, now time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byNumber[m.Number]
	if r == nil {
		return
	}
	if r.told[a] == nil {
		return
	}
	lost := m.Dropped
	for part := range slices.Chunk(m.Datagrams, readBatch) {
		lost += r.handOn(a, part, m.Step, now)
	}
	if lost > 0 {
		r.lose(a, a.pulse.lastTold(), now, lost)
	}
}

// handOn hands datagrams to who can read them, and returns how many nobody can.
func (r *relay) handOn(a *agent, datagrams []transport.Captured, step uint64, now time.Time) (lost uint64) {
	reader, w := r.reader(), r.told[a]
	m := &transport.Read{Number: r.watch.Number}
	for _, d := range datagrams {
		facts, ok := direct.Read(d.Data)
		if !ok || facts.From != r.key.dst || len(d.Data) > transport.MaxForwarded {
			continue // not what was asked for
		}
		if reader == nil || !w.take(now) {
			lost++
			continue
		}
		facts.Time, facts.Stamp = d.Time, d.Stamp
		r.last++
		if len(w.refs) >= maxReading {
			if p, unread := r.reading[w.refs[0]]; unread {
				delete(r.reading, w.refs[0])
				r.lose(a, p.at, now, 1)
			}
			w.refs = w.refs[1:]
		}
		w.refs = append(w.refs, r.last)
		r.reading[r.last] = relayed{at: now, reader: reader, receiver: a, facts: facts, step: step}
		m.Datagrams = append(m.Datagrams, transport.Reference{Ref: r.last, Data: d.Data})
	}
	if len(m.Datagrams) > 0 && !reader.offer(m, maxReads) {
		lost += uint64(len(m.Datagrams))
		for _, d := range m.Datagrams {
			delete(r.reading, d.Ref)
		}
	}
	return lost
}

// reader chooses who reads: the source of the oldest measurement that can.
func (r *relay) reader() *agent {
	var best *session
	for s := range r.sessions {
		w := r.told[s.source]
		if w != nil && !w.failing && (best == nil || s.number < best.number) {
			best = s
		}
	}
	if best == nil {
		return nil
	}
	return best.source
}

// readings takes what an agent read in what others captured. It has its say
// once on each datagram that it was given, for the measurements that it was
// given it for, and on nothing but the probe that is answered and the values.
func (c *Controller) readings(a *agent, m *transport.Readings, now time.Time) {
	c.relays.mu.Lock()
	defer c.relays.mu.Unlock()
	r := c.relays.byNumber[m.Number]
	if r == nil {
		return
	}
	for i := range m.Readings {
		read := &m.Readings[i]
		p, ok := r.reading[read.Ref]
		if !ok || p.reader != a {
			continue
		}
		delete(r.reading, read.Ref)
		if !read.OK {
			continue
		}
		ans := p.facts
		ans.ID, ans.Tag, ans.TagBits, ans.Values = read.ID, read.Tag, read.TagBits, read.Values
		s := c.index.find(ans.Dst, ans.ID)
		if _, ours := r.sessions[s]; !ours {
			c.index.foreign[ans.ID].Add(1)
			continue
		}
		s.answered(p.receiver, &ans, ans.ID, p.step, now)
	}
}

// behind notes what an agent says of watches that it reads too slowly.
func (rs *relays) behind(a *agent, list []transport.Backlog) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	a.behind = nil
	for _, b := range list {
		if rs.byNumber[b.Number] == nil {
			continue
		}
		if a.behind == nil {
			a.behind = map[uint64]uint64{}
		}
		a.behind[b.Number] = b.Count
	}
}

// backlog books what agents have captured for a measurement and not read by
// now.
func (rs *relays) backlog(s *session, now time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.bySession[s]
	if r == nil {
		return
	}
	waiting := map[*agent]uint64{}
	for a := range r.told {
		if n := a.behind[r.watch.Number]; n > 0 {
			waiting[a] = n
		}
	}
	for a, n := range waiting {
		s.gap(a, result.NotRead, s.began, now, n)
	}
}

// laggards are the agents that a measurement has waited for in vain.
func (rs *relays) laggards(s *session) (list []*agent) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.bySession[s]; r != nil {
		for a := range r.early {
			list = append(list, a)
		}
	}
	return list
}
