package simnet

import (
	"net/netip"
	"slices"
	"time"
)

type kind uint8

const (
	routerKind kind = iota
	hostKind
	siteKind
)

// node is a router, host or site at work. The network's mutex guards it.
type node struct {
	name   string
	index  int32
	rank   int32 // among routers
	kind   kind
	ifaces []iface
	core   []int32       // those of a router that lead to routers
	own    [2]netip.Addr // the first of its own addresses, by family
	narrow bool          // has a link that a whole IPv4 error does not fit into

	stack     Stack
	router    *Router // nil: an end
	host      *Host   // nil: a router
	statics   []static
	nat       *nat
	silent    bool
	withdrawn bool
	watchers  []*spoofer

	id      uint16 // last IPv4 identification
	sent    uint64 // packets of its own
	bucket  bucket
	buckets map[netip.Addr]*bucket
	conns   map[flowKey]*conn
	pieces  map[pieceKey]*assembly
	tunnels []*tunnel // that begin here

	door door // of a site: where an agent, or a device, is attached
}

// door is what takes the packets that arrive at a site.
type door interface{ deliver(f *flight) }

// iface is a node's end of a link.
type iface struct {
	peer   int32 // node
	remote int32 // the interface's number there
	addr   [2]netip.Addr
	out    *direction
}

// direction is a link one way.
type direction struct {
	id uint64
	Properties
	down bool
	last int64 // when the latest packet in order arrives
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func familyOf(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// towards returns the interfaces to a neighbour, in the order drawn.
func (nd *node) towards(peer int32) []int32 {
	var all []int32
	for i := range nd.ifaces {
		if nd.ifaces[i].peer == peer {
			all = append(all, int32(i))
		}
	}
	return all
}

// owns tells whether an address is the node's.
func (nd *node) owns(to *entry) bool { return to != nil && slices.Contains(to.owners, nd.index) }

// uplink returns the interface over which a host sends.
func (nd *node) uplink() int32 {
	for i := range nd.ifaces {
		if !nd.ifaces[i].out.down {
			return int32(i)
		}
	}
	return own
}

// bucket is a token bucket. It counts in nanoseconds, of which a token takes
// some whole number for the usual rates: nothing gets lost in fractions.
type bucket struct {
	saved  float64
	last   int64
	primed bool
}

func (b *bucket) take(l RateLimit, now int64) bool {
	price := float64(time.Second) / l.Rate
	most := price * float64(max(l.Burst, 1))
	if !b.primed {
		b.saved, b.primed = most, true
	} else {
		b.saved = min(most, b.saved+float64(now-b.last))
	}
	b.last = now
	if b.saved < price {
		return false
	}
	b.saved -= price
	return true
}

const maxBuckets = 1 << 16

// mayError tells whether the rate limit lets the node send an error to dst.
func (nd *node) mayError(dst netip.Addr, now int64) bool {
	l := nd.stack.Errors
	if l.Rate == 0 {
		return true
	}
	if !l.PerDestination {
		return nd.bucket.take(l, now)
	}
	b := nd.buckets[dst]
	if b == nil {
		if nd.buckets == nil || len(nd.buckets) >= maxBuckets {
			nd.buckets = map[netip.Addr]*bucket{}
		}
		b = new(bucket)
		nd.buckets[dst] = b
	}
	return b.take(l, now)
}
