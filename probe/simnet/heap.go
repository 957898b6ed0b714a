package simnet

// event is something that happens at a time: a packet arrives at a node, or
// do is called.
type event struct {
	at int64 // nanoseconds since the start
	// key orders events of the same time: first packets from outside, by
	// sender and number, then what the engine planned, in that order. When
	// goroutines were scheduled has no part in it.
	key    uint64
	packet *flight
	do     func()
}

// planned is the bit of keys that the engine gives.
const planned = 1 << 63

func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.key < f.key
}

// agenda is a binary heap of events: container/heap would box each of them.
type agenda struct {
	events []event
	count  uint64 // of those that the engine planned
}

// plan adds what the engine thought of. Events of the same time happen in the
// order in which they were planned.
func (g *agenda) plan(at int64, packet *flight, do func()) {
	g.count++
	g.push(event{at, planned | g.count, packet, do})
}

func (g *agenda) push(e event) {
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
