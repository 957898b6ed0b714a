package simnet

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Attachment is a site's door for something outside, such as a device of the
// operating system. Its methods are safe for concurrent use.
type Attachment struct {
	n    *Network
	nd   *node
	take func(datagram []byte, at time.Time)
}

// Attach opens a site's door for something outside: deliver is called with
// every packet that arrives at the site's addresses, and the time of its
// arrival, shortly after that time: see [Network.KeepTime]. The site's own stack is out of work: the outside has one.
// deliver is called by one goroutine at a time and must not block, call the
// network or retain the datagram. Errors are those of [Network.Port].
func (n *Network) Attach(site string, deliver func(datagram []byte, at time.Time)) (*Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	nd, err := n.site(site)
	if err != nil {
		return nil, err
	}
	a := &Attachment{n: n, nd: nd, take: deliver}
	nd.door = a
	return a, nil
}

// KeepTime makes packets reach attachments as close to their time as the
// operating system can: on Linux mostly within 50 µs while a processor is free,
// otherwise, as without it, within a millisecond or two. The network then has
// a thread of its own, of the highest priority if this process may have that,
// which is awake from 50 µs before each packet on, or from up to 500 where the
// kernel is slow. KeepTime must not be called within testing/synctest, where
// time is exact without it.
func (n *Network) KeepTime() (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return net.ErrClosed
	}
	if n.bell == nil {
		n.bell, err = newBell()
		n.rouse()
	}
	return err
}

func (a *Attachment) deliver(f *flight) { a.take(f.data, a.n.date(a.n.current)) }

// Send puts a copy of a datagram on the network that left the outside at the
// given time, which the network takes for at most now and at least the time of
// the last thing that happened. The error is [net.ErrClosed], or that of a
// datagram that is not IP or for which there is no more room.
func (a *Attachment) Send(datagram []byte, at time.Time) error {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || a.nd.door != door(a) {
		return net.ErrClosed
	}
	when := min(max(int64(at.Sub(n.start)), n.current), n.now())
	if err := n.send(a.nd, datagram, when); err != nil {
		return err
	}
	n.nudge()
	return nil
}

// Addresses returns what the scenario gives the site: addresses, as prefixes of
// one, and blocks.
func (a *Attachment) Addresses() []netip.Prefix {
	var all []netip.Prefix
	for _, addr := range a.nd.host.Addresses {
		all = append(all, single(addr))
	}
	for _, p := range a.nd.host.Prefixes {
		all = append(all, p.Masked())
	}
	return all
}

// Links returns the addresses of the site's links.
func (a *Attachment) Links() []netip.Addr {
	var all []netip.Addr
	for i := range a.nd.ifaces {
		for _, addr := range a.nd.ifaces[i].addr {
			if addr.IsValid() {
				all = append(all, addr)
			}
		}
	}
	return all
}

// MTU returns the longest datagram in bytes that the site can send: the least
// MTU of its links.
func (a *Attachment) MTU() int {
	mtu := maxMTU
	for i := range a.nd.ifaces {
		mtu = min(mtu, a.nd.ifaces[i].out.MTU)
	}
	return mtu
}

// Prefixes returns what there is to be reached in the network: all addresses,
// and what routes of the scenario are about, without default routes. They are
// sorted and joined where that covers nothing else.
func (n *Network) Prefixes() []netip.Prefix {
	all := slices.Collect(maps.Keys(n.table.entries))
	for i := range n.scenario.Routes {
		all = append(all, n.scenario.Routes[i].To)
	}
	for i := range n.scenario.Changes {
		if r := n.scenario.Changes[i].Route; r != nil {
			all = append(all, r.To)
		}
	}
	return join(slices.DeleteFunc(all, func(p netip.Prefix) bool { return p.Bits() == 0 }))
}

// join returns the fewest prefixes that cover the same addresses, sorted.
func join(all []netip.Prefix) []netip.Prefix {
	for i, p := range all {
		all[i] = p.Masked()
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range all {
		if k := len(out); k > 0 && out[k-1].Overlaps(p) {
			continue // a wider one comes first
		}
		for len(out) > 0 && p.Bits() > 1 {
			last := out[len(out)-1]
			both := netip.PrefixFrom(last.Addr(), p.Bits()-1) // if last is the lower half
			if last.Bits() != p.Bits() || !both.Contains(p.Addr()) {
				break
			}
			out, p = out[:len(out)-1], both
		}
		out = append(out, p)
	}
	return out
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Close frees the site. When it returns, deliver is called no longer.
func (a *Attachment) Close() error {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	if a.nd.door == door(a) {
		a.nd.door = nil
	}
	return nil
}
