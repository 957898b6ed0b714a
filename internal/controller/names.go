package controller

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
)

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

const (
	resolveWait  = 5 * time.Second // for a target
	nameWait     = 2 * time.Second // for a hop's name
	nameAge      = 10 * time.Minute
	failureAge   = 10 * time.Second
	nameCache    = 4096
	nameLookups  = 64 // at once
	longestNames = 255
)

// names looks up hop names, each address once at a time.
type names struct {
	resolver Resolver
	slots    chan struct{}
	ctx      context.Context // of all lookups, which outlive the session that began them
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu     sync.Mutex // guards all below
	closed bool
	cache  map[netip.Addr]*name
	order  []netip.Addr // oldest first
}

type name struct {
	done  chan struct{} // closed when text is set
	text  string
	until time.Time // when to look it up again, guarded by names.mu
}

func newNames(r Resolver) *names {
	ctx, stop := context.WithCancel(context.Background())
	return &names{resolver: r, slots: make(chan struct{}, nameLookups), ctx: ctx, stop: stop, cache: map[netip.Addr]*name{}}
}

// close ends the lookups under way and waits for them.
func (n *names) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.stop()
	n.wg.Wait()
}

// start looks addr up in the background unless that is done or under way.
func (n *names) start(addr netip.Addr) *name {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.cache[addr]; e != nil && time.Now().Before(e.until) {
		return e
	}
	e := &name{done: make(chan struct{}), until: time.Now().Add(nameAge)}
	if n.closed {
		close(e.done)
		return e
	}
	if n.cache[addr] == nil {
		n.order = append(n.order, addr)
	}
	n.cache[addr] = e
	if len(n.order) > nameCache {
		delete(n.cache, n.order[0])
		n.order = n.order[1:]
	}
	n.wg.Go(func() {
		defer close(e.done)
		failed := true
		defer func() {
			if failed {
				n.mu.Lock()
				defer n.mu.Unlock()
				e.until = time.Now().Add(failureAge)
			}
		}()
		ctx, cancel := context.WithTimeout(n.ctx, nameWait)
		defer cancel()
		select {
		case n.slots <- struct{}{}:
			defer func() { <-n.slots }()
		case <-ctx.Done():
			return
		}
		if found, err := n.resolver.LookupAddr(ctx, addr.String()); err == nil && len(found) > 0 {
			failed = false
			e.text = printable(strings.TrimSuffix(found[0], "."))
		}
	})
	return e
}

// printable refuses names that are no host names: a PTR record is somebody
// else's text on our user's terminal.
func printable(s string) string {
	if len(s) > longestNames {
		return ""
	}
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return ""
		}
	}
	return s
}

// resolve finds the address of a target that a can probe.
func (n *names) resolve(ctx context.Context, target string, family int, a *agent) (netip.Addr, error) {
	bad := func(format string, args ...any) (netip.Addr, error) {
		return netip.Addr{}, fault.New(fault.BadRequest, fault.ErrUsage, format, args...)
	}
	var found []netip.Addr
	if ip, err := netip.ParseAddr(target); err == nil {
		found = []netip.Addr{ip}
	} else {
		within, cancel := context.WithTimeout(ctx, resolveWait)
		defer cancel()
		if found, err = n.resolver.LookupNetIP(within, "ip", target); err != nil {
			if ctx.Err() != nil {
				return netip.Addr{}, cancelled(ctx)
			}
			return bad("cannot resolve %q: %v", target, err)
		}
	}
	var wrongFamily, unsent netip.Addr
	for _, v6 := range []bool{false, true} {
		for _, ip := range found {
			ip = ip.Unmap()
			switch {
			case ip.Is6() != v6:
			case family == 4 && v6 || family == 6 && !v6:
				wrongFamily = ip
			case ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
				return bad("destination %s: must be a unicast address without a zone", ip)
			case !a.has(v6):
				unsent = ip
			default:
				return ip, nil
			}
		}
	}
	switch {
	case unsent.IsValid():
		return bad("destination %s: agent %q has no %s address to probe it from", unsent, a.Agent, familyName(unsent))
	case wrongFamily.IsValid():
		return bad("destination %q has no IPv%d address, only %s", target, family, wrongFamily)
	}
	return bad("cannot resolve %q: no address", target)
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
