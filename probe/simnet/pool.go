package simnet

const (
	// maxBytes bounds what is on its way and what ports hold: a loop of
	// duplicating links has no other end. It is room for a million small
	// packets.
	maxBytes = 1 << 27
	minBytes = 128 // that a packet takes

	maxFree     = 1 << 14 // flights kept for reuse
	maxFreeSize = 2048    // of their data
)

// take returns a flight with room for size bytes, or nil if the network has no
// more.
func (n *Network) take(size int) *flight {
	var f *flight
	k := len(n.free) - 1
	if k >= 0 {
		f = n.free[k]
	} else {
		f = new(flight)
	}
	room := cap(f.data)
	if room < size {
		room = max(size, minBytes)
	}
	if n.bytes+room > maxBytes {
		return nil
	}
	if k >= 0 {
		n.free = n.free[:k]
	}
	data := f.data
	if cap(data) < room {
		data = make([]byte, 0, room)
	}
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

// give takes a flight back, for reuse.
func (n *Network) give(f *flight) {
	n.lose(f)
	if len(n.free) < maxFree && cap(f.data) <= maxFreeSize {
		n.free = append(n.free, f)
	}
}

// lose takes a flight back that must not be used again.
func (n *Network) lose(f *flight) {
	n.bytes -= cap(f.data)
}
