package simnet

import (
	"fmt"
	"net/netip"
	"slices"
)

// static is a static route.
type static struct {
	to   netip.Prefix
	via  []int32 // interfaces
	drop DropKind
}

// routes enters the static routes.
func (c *compiler) routes() error {
	for i := range c.s.Routes {
		if err := c.setRoute(&c.s.Routes[i], fmt.Sprintf("routes[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) setRoute(r *Route, where string) error {
	nd, s, err := c.static(r, where)
	if err != nil {
		return err
	}
	if len(nd.statics) >= maxStatics {
		return wrong(where, "%q has %d routes already, want no more", nd.name, maxStatics)
	}
	if slices.ContainsFunc(nd.statics, func(o static) bool { return o.to == s.to }) {
		return wrong(where+".to", "%q has a route to %v already, want one, with several neighbours if need be", nd.name, r.To)
	}
	nd.addStatic(s)
	return nil
}

// static compiles a route.
func (c *compiler) static(r *Route, where string) (*node, static, error) {
	at, err := c.router(r.At)
	if err != nil {
		return nil, static{}, wrong(where+".at", "%v", err)
	}
	if err := checkPrefix(r.To); err != nil {
		return nil, static{}, wrong(where+".to", "%v", err)
	}
	nd, s := c.n.nodes[at], static{to: r.To.Masked(), drop: r.Drop}
	switch {
	case r.Drop > Prohibited:
		return nil, static{}, wrong(where+".drop", "%d, want 0 to %d", r.Drop, Prohibited)
	case r.Drop != NoDrop && len(r.Via) > 0:
		return nil, static{}, wrong(where, "via and drop exclude each other")
	case r.Drop == NoDrop && len(r.Via) == 0:
		return nil, static{}, wrong(where+".via", "empty, want at least one neighbour of %q, or drop", r.At)
	}
	for j, name := range r.Via {
		via, err := c.neighbour(nd, name)
		if err != nil {
			return nil, static{}, wrong(fmt.Sprintf("%s.via[%d]", where, j), "%v", err)
		}
		s.via = append(s.via, via...)
	}
	return nd, s, nil
}

// addStatic sets a route in place of the one to the same prefix. The longest
// prefixes come first.
func (nd *node) addStatic(s static) {
	nd.forget(s.to)
	i, _ := slices.BinarySearchFunc(nd.statics, s.to.Bits(), func(o static, bits int) int {
		if o.to.Bits() >= bits {
			return -1
		}
		return 1
	})
	nd.statics = slices.Insert(nd.statics, i, s)
}

func (nd *node) forget(to netip.Prefix) {
	nd.statics = slices.DeleteFunc(nd.statics, func(o static) bool { return o.to == to })
}

// via chooses among the interfaces of a static route that are up.
func (n *Network) via(nd *node, all []int32, f *flight) (out int32, ok bool) {
	up := 0
	for _, v := range all {
		if !nd.ifaces[v].out.down {
			up++
		}
	}
	if up == 0 {
		return 0, false
	}
	k := nd.choose(n.seed, f, up)
	for _, v := range all {
		if nd.ifaces[v].out.down {
			continue
		}
		if k == 0 {
			return v, true
		}
		k--
	}
	return 0, false
}
