package simnet

// What is on its way is bounded, and with it memory: a loop of duplicating
// links has no other end.
const (
	maxFlights = 1 << 20
	maxBytes   = 1 << 27
)

// take returns a flight with room for size bytes, or nil if there is no room
// for it.
func (n *Network) take(size int) *flight {
	var f *flight
	k := len(n.free) - 1
	if k >= 0 {
		f = n.free[k]
	} else {
		f = new(flight)
	}
	data := f.data
	if cap(data) < size {
		data = make([]byte, 0, max(size, 128))
	}
	if n.flights >= maxFlights || n.bytes+cap(data) > maxBytes {
		return nil
	}
	n.free = n.free[:max(k, 0)]
	n.flights++
	n.bytes += cap(data)
	*f = flight{data: data[:size], in: own}
	return f
}

// spawn is take for a packet that the network makes itself. One for which
// there is no room counts as dropped.
func (n *Network) spawn(size int) *flight {
	f := n.take(size)
	if f == nil {
		n.stats.Sent++
		n.stats.Dropped[DropOverflow]++
	}
	return f
}

const (
	maxFree     = 1 << 14 // flights kept for reuse
	maxFreeSize = 2048    // of their data
)

// give takes a flight back, for reuse.
func (n *Network) give(f *flight) {
	n.lose(f)
	if len(n.free) < maxFree && cap(f.data) <= maxFreeSize {
		n.free = append(n.free, f)
	}
}

// lose takes a flight back that must not be used again.
func (n *Network) lose(f *flight) {
	n.flights--
	n.bytes -= cap(f.data)
}
