package simnet

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"net/netip"
	"slices"
)

// entry is an address or prefix and who owns it.
type entry struct {
	prefix netip.Prefix
	owners []int32

	epoch    uint64
	gateways []gateway // for epoch, sorted by router
	tree     *tree     // for epoch; nil: nobody is to be reached
}

// gateway is a router from which the owner of an entry is one link away, or
// that owns it itself.
type gateway struct {
	router int32
	iface  int32 // own: the router itself
	cost   int
}

// tree is the way from every router to the nearest of some gateways.
type tree struct {
	first []int32 // of the i-th router, hops[first[i]:first[i+1]]
	hops  []int32 // interfaces; direct: the entry's gateways at that router
}

func (t *tree) at(nd *node) []int32 { return t.hops[t.first[nd.rank]:t.first[nd.rank+1]] }

const direct = -1 // as in own

// table finds entries by the longest prefix.
type table struct {
	entries map[netip.Prefix]*entry
	lengths [2][]int // those in use, longest first, by family
}

func (t *table) add(p netip.Prefix, owner int32) *entry {
	e := t.entries[p]
	if e == nil {
		e = &entry{prefix: p}
		t.entries[p] = e
		l := &t.lengths[family(p.Addr())]
		if i, found := slices.BinarySearchFunc(*l, p.Bits(), func(a, b int) int { return cmp.Compare(b, a) }); !found {
			*l = slices.Insert(*l, i, p.Bits())
		}
	}
	if !slices.Contains(e.owners, owner) {
		e.owners = append(e.owners, owner)
	}
	return e
}

func (t *table) lookup(a netip.Addr) *entry {
	for _, bits := range t.lengths[family(a)] {
		if p, err := a.Prefix(bits); err == nil {
			if e := t.entries[p]; e != nil {
				return e
			}
		}
	}
	return nil
}

// find fills f.to.
func (n *Network) find(f *flight) {
	if f.epoch == n.epoch {
		return
	}
	f.epoch = n.epoch
	f.to = n.table.lookup(f.dst)
	if f.to != nil && f.to.epoch != n.epoch {
		n.refresh(f.to)
	}
}

// refresh works out an entry's routes after a change.
func (n *Network) refresh(e *entry) {
	e.epoch, e.tree = n.epoch, nil
	e.gateways = e.gateways[:0]
	for _, o := range e.owners {
		nd := n.nodes[o]
		if nd.withdrawn {
			continue
		}
		if nd.router != nil {
			e.gateways = append(e.gateways, gateway{o, own, 0})
			continue
		}
		for i := range nd.ifaces {
			peer := n.nodes[nd.ifaces[i].peer]
			back := &peer.ifaces[nd.ifaces[i].remote]
			if peer.router != nil && !back.out.down {
				e.gateways = append(e.gateways, gateway{peer.index, nd.ifaces[i].remote, back.out.Cost})
			}
		}
	}
	if len(e.gateways) == 0 {
		return
	}
	slices.SortFunc(e.gateways, func(a, b gateway) int {
		return cmp.Or(cmp.Compare(a.router, b.router), cmp.Compare(a.cost, b.cost), cmp.Compare(a.iface, b.iface))
	})
	// Of several links from one router the cheapest count.
	kept := e.gateways[:0]
	for _, g := range e.gateways {
		if k := len(kept); k == 0 || kept[k-1].router != g.router || kept[k-1].cost == g.cost {
			kept = append(kept, g)
		}
	}
	e.gateways = kept
	// Entries share a tree where the way to them branches alike.
	least := slices.MinFunc(e.gateways, func(a, b gateway) int { return cmp.Compare(a.cost, b.cost) }).cost
	key := n.scratch[:0]
	for i, g := range e.gateways {
		if i == 0 || g.router != e.gateways[i-1].router {
			key = binary.AppendUvarint(binary.AppendUvarint(key, uint64(g.router)), uint64(g.cost-least))
		}
	}
	n.scratch = key[:0]
	e.tree = n.trees[string(key)]
	if e.tree == nil {
		if len(n.trees) >= maxTrees {
			clear(n.trees)
		}
		e.tree = n.grow(e.gateways)
		n.trees[string(key)] = e.tree
	}
}

// maxTrees is how many trees are kept for prefixes that share them.
const maxTrees = 1 << 14

// grow finds the shortest paths from all routers to the nearest gateway
// (Dijkstra).
func (n *Network) grow(gateways []gateway) *tree {
	const far = int(^uint(0) >> 1)
	dist := make([]int, len(n.routers))
	start := make([]int, len(n.routers))
	for i := range dist {
		dist[i], start[i] = far, far
	}
	var q frontier
	for _, g := range gateways {
		rank := n.nodes[g.router].rank
		dist[rank], start[rank] = g.cost, g.cost
		heap.Push(&q, place{rank, g.cost})
	}
	for len(q) > 0 {
		p := heap.Pop(&q).(place)
		if p.dist > dist[p.rank] {
			continue
		}
		nd := n.routers[p.rank]
		for _, k := range nd.core {
			i := &nd.ifaces[k]
			peer := n.nodes[i.peer]
			back := peer.ifaces[i.remote].out
			if back.down {
				continue
			}
			if d := p.dist + back.Cost; d < dist[peer.rank] {
				dist[peer.rank] = d
				heap.Push(&q, place{peer.rank, d})
			}
		}
	}
	t := &tree{first: make([]int32, 1, len(n.routers)+1)}
	for rank, nd := range n.routers {
		d := dist[rank]
		if d == start[rank] && d < far {
			t.hops = append(t.hops, direct)
		}
		for _, k := range nd.core {
			out, peer := nd.ifaces[k].out, n.nodes[nd.ifaces[k].peer]
			if d < far && !out.down && dist[peer.rank] < far && dist[peer.rank]+out.Cost == d {
				t.hops = append(t.hops, k)
			}
		}
		t.first = append(t.first, int32(len(t.hops)))
	}
	t.hops = append([]int32(nil), t.hops...) // as long as needed
	return t
}

type place struct {
	rank int32
	dist int
}

// frontier is the queue of Dijkstra's algorithm.
type frontier []place

func (q frontier) Len() int           { return len(q) }
func (q frontier) Less(i, j int) bool { return q[i].dist < q[j].dist }
func (q frontier) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *frontier) Push(x any)        { *q = append(*q, x.(place)) }
func (q *frontier) Pop() any {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}

// local returns the gateways of an entry at a router.
func (e *entry) local(router int32) []gateway {
	i, found := slices.BinarySearchFunc(e.gateways, router, func(g gateway, r int32) int { return cmp.Compare(g.router, r) })
	if !found {
		return nil
	}
	j := i
	for j < len(e.gateways) && e.gateways[j].router == router {
		j++
	}
	return e.gateways[i:j]
}

// route chooses the interface over which a router sends f on; own means the
// router itself. Where there is no route, drop says how to refuse.
func (n *Network) route(nd *node, f *flight) (out int32, drop DropKind, ok bool) {
	for i := range nd.statics {
		s := &nd.statics[i]
		if !s.to.Contains(f.dst) {
			continue
		}
		if s.drop != NoDrop {
			return 0, s.drop, false
		}
		if out, ok := n.via(nd, s.via, f); ok {
			return out, NoDrop, true
		}
	}
	if f.to == nil || f.to.tree == nil {
		return 0, NoDrop, false
	}
	hops, here := f.to.tree.at(nd), []gateway(nil)
	total := len(hops)
	if total > 0 && hops[0] == direct {
		here = f.to.local(nd.index)
		hops = hops[1:]
		total += len(here) - 1
	}
	if total == 0 {
		return 0, NoDrop, false
	}
	for k := nd.choose(n.seed, f, total); ; k-- {
		// In the order drawn, whether neighbours own the address or know who
		// does.
		if len(hops) == 0 || len(here) > 0 && here[0].iface < hops[0] {
			out, here = here[0].iface, here[1:]
		} else {
			out, hops = hops[0], hops[1:]
		}
		if k == 0 {
			return out, NoDrop, true
		}
	}
}

// choose picks one of total routes of equal cost.
func (nd *node) choose(seed uint64, f *flight, total int) int {
	if total == 1 || len(nd.router.ECMP.Hash) == 0 {
		return 0
	}
	h := mix(seed ^ uint64(nd.index)<<32)
	for _, field := range nd.router.ECMP.Hash {
		h = mix(h ^ f.field(field))
	}
	return int(h >> 33 % uint64(total))
}

// field returns the value of a header field, or a digest of it.
func (f *flight) field(field Field) uint64 {
	switch field {
	case FieldAddresses:
		s, d := f.src.As16(), f.dst.As16()
		h := mix(binary.BigEndian.Uint64(s[:8]))
		h = mix(h ^ binary.BigEndian.Uint64(s[8:]))
		h = mix(h ^ binary.BigEndian.Uint64(d[:8]))
		return mix(h ^ binary.BigEndian.Uint64(d[8:]))
	case FieldPorts:
		if p := f.payload(); !f.piece && !f.more && len(p) >= 4 {
			return uint64(binary.BigEndian.Uint32(p))
		}
	case FieldProtocol:
		return uint64(f.protocol)
	case FieldFlowLabel:
		if f.v6 {
			return uint64(binary.BigEndian.Uint32(f.data) & 0xFFFFF)
		}
	case FieldDSCP:
		return uint64(f.tos() >> 2)
	case FieldECN:
		return uint64(f.tos() & 3)
	case FieldTTL:
		return uint64(f.ttl())
	case FieldPacket:
		return f.uid
	}
	return 0
}
