package controller

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"bitbucket.org/uwpatio/voltadomar/alloc"
)

// index finds the session of a probe.
type index struct {
	mu       sync.RWMutex // guards the maps
	probes   map[probeKey]*session
	sessions map[uint64]*session

	// foreign counts, per ID, the candidates that no session asked for.
	foreign [1 << 16]atomic.Uint32
}

type probeKey struct {
	dst netip.Addr
	id  uint16
}

func (x *index) init() {
	x.probes = map[probeKey]*session{}
	x.sessions = map[uint64]*session{}
}

func (x *index) add(s *session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sessions[s.number] = s
	for i := range s.probes {
		x.probes[probeKey{s.dst, s.block.First + uint16(i)}] = s
	}
}

func (x *index) remove(s *session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.sessions, s.number)
	for i := range s.probes {
		delete(x.probes, probeKey{s.dst, s.block.First + uint16(i)})
	}
}

func (x *index) find(dst netip.Addr, id uint16) *session {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.probes[probeKey{dst, id}]
}

func (x *index) session(number uint64) *session {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.sessions[number]
}

// foreignTo sums the foreign candidates that claimed an ID of the block.
func (x *index) foreignTo(b alloc.Block) (n uint32) {
	for i := range b.N {
		n += x.foreign[b.First+uint16(i)].Load()
	}
	return n
}
