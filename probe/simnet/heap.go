package simnet

// event is something that happens at a time: a packet arrives at a node, or
// do is called.
type event struct {
	at int64 // nanoseconds since the start
	// uid orders events of the same time, by what they are and not by when
	// they were thought of: goroutines that send at the same moment must not
	// change the outcome. seq orders those of the same uid.
	uid, seq uint64
	packet   *flight
	do       func()
}

func (e *event) before(f *event) bool {
	if e.at != f.at {
		return e.at < f.at
	}
	if e.uid != f.uid {
		return e.uid < f.uid
	}
	return e.seq < f.seq
}

// agenda is a binary heap of events: container/heap would box each of them.
type agenda struct {
	events []event
	seq    uint64
}

func (g *agenda) push(e event) {
	g.seq++
	e.seq = g.seq
	g.events = append(g.events, e)
	h := g.events
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

func (g *agenda) pop() event {
	h := g.events
	first := h[0]
	n := len(h) - 1
	last := h[n]
	h[n] = event{}
	g.events = h[:n]
	if n == 0 {
		return first
	}
	h = h[:n]
	i := 0
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&last) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = last
	return first
}
