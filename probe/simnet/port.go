package simnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// maxQueue is how many packets wait for Receive before others are dropped.
const maxQueue = 1 << 14

// port is a site's door for an agent in this process.
type port struct {
	n     *Network
	nd    *node
	clock *Clock

	ready chan struct{}
	ended chan struct{}

	// Guarded by the network's mutex.
	queue []arrival // from first on
	first int
	lent  []*flight // what the last Receive returned
	// How many arrivals were queued, and returned, since the beginning.
	captured, returned uint64
	dropped            uint64
}

type arrival struct {
	f  *flight
	at int64
}

var (
	_ probe.Dropper = (*port)(nil)
	_ probe.Marker  = (*port)(nil)
)

// Port opens a site's door for an agent. All that arrives at the site's
// addresses is captured, besides being answered as a host does, and both times
// are exact to the nanosecond, but for what is wrong with the site's clock:
// [probe.KernelStamp]. The port is a [probe.Clock].
//
// A datagram must be whole, with a valid header, and no longer than the MTU of
// the site's link. The error of Port is [ErrUnknown], [ErrTaken] while another
// door is open, or [net.ErrClosed]. Closing the port frees the site.
func (n *Network) Port(site string) (probe.Port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	nd, err := n.site(site)
	if err != nil {
		return nil, err
	}
	p := &port{n: n, nd: nd, clock: n.clock(site), ready: make(chan struct{}, 1), ended: make(chan struct{})}
	nd.door = p
	return p, nil
}

// clock returns the clock of the site of that name.
func (n *Network) clock(site string) *Clock {
	i := slices.IndexFunc(n.scenario.Sites, func(s Site) bool { return s.Name == site })
	return &n.scenario.Sites[i].Clock
}

var errDown = errors.New("network is down")

func (p *port) Send(ds []probe.Outgoing) error {
	n := p.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range ds {
		if p.nd.door != door(p) || n.closed {
			return net.ErrClosed
		}
		d := &ds[i]
		d.Err = p.check(d.Data)
		now := n.now()
		if d.Err == nil {
			d.Err = n.send(p.nd, d.Data, now)
		}
		d.Time, d.Stamp = p.read(now), probe.KernelStamp
	}
	n.nudge()
	return nil
}

// check refuses what a kernel would.
func (p *port) check(datagram []byte) error {
	up := p.nd.uplink()
	if up == own {
		return errDown
	}
	if mtu := p.nd.ifaces[up].out.MTU; len(datagram) > mtu {
		return fmt.Errorf("message too long: %d bytes over a link with an MTU of %d", len(datagram), mtu)
	}
	return nil
}

func (p *port) Receive(ds []probe.Incoming) (int, error) {
	for {
		got, err := p.collect(ds)
		if got > 0 || err != nil || len(ds) == 0 {
			return got, err
		}
		select {
		case <-p.ready:
		case <-p.ended:
		}
	}
}

func (p *port) collect(ds []probe.Incoming) (int, error) {
	n := p.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range p.lent {
		n.give(f)
	}
	p.lent = p.lent[:0]
	if p.nd.door != door(p) || n.closed {
		return 0, net.ErrClosed
	}
	k := min(len(ds), len(p.queue)-p.first)
	for i, a := range p.queue[p.first : p.first+k] {
		ds[i] = probe.Incoming{Data: a.f.data, Time: p.read(a.at), Stamp: probe.KernelStamp}
		p.lent = append(p.lent, a.f)
	}
	p.first += k
	p.returned += uint64(k)
	if p.first == len(p.queue) || p.first >= maxQueue {
		p.queue = append(p.queue[:0], p.queue[p.first:]...)
		p.first = 0
	}
	return k, nil
}

// deliver takes an arrival. The mutex is held.
func (p *port) deliver(f *flight) {
	if len(p.queue)-p.first >= maxQueue {
		p.dropped++
		return
	}
	c := p.n.take(len(f.data))
	if c == nil {
		p.dropped++
		return
	}
	copy(c.data, f.data)
	p.queue = append(p.queue, arrival{c, p.n.current})
	p.captured++
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

func (p *port) Dropped() uint64 {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	return p.dropped
}

func (p *port) Mark() (done func() bool) {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	goal := p.captured
	return func() bool {
		p.n.mu.Lock()
		defer p.n.mu.Unlock()
		return p.nd.door != door(p) || p.returned-uint64(len(p.lent)) >= goal
	}
}

func (p *port) Source(dst netip.Addr) (netip.Addr, error) {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	if p.nd.door != door(p) || p.n.closed {
		return netip.Addr{}, net.ErrClosed
	}
	if a := p.nd.own[family(dst.Unmap())]; a.IsValid() && dst.IsValid() {
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("%w: site %q has none of the family of %v", probe.ErrNoSource, p.nd.name, dst)
}

func (p *port) Close() error {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	p.shut()
	return nil
}

// shut closes the port. The mutex is held.
func (p *port) shut() {
	if p.nd.door != door(p) {
		return
	}
	for _, a := range p.queue[p.first:] {
		p.n.give(a.f)
	}
	for _, f := range p.lent {
		p.n.lose(f) // the receiver may still be reading
	}
	p.queue, p.first, p.lent = nil, 0, nil
	p.nd.door = nil
	close(p.ended)
}
