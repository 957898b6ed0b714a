package simnet

import (
	"fmt"
	"slices"
)

// tunnel is a label-switched path.
type tunnel struct {
	*Tunnel
	path []int32 // nodes
	out  []int32 // the interface of path[i] to path[i+1]
}

// tunnels sets up the label-switched paths.
func (c *compiler) tunnels() error {
	for i := range c.s.Tunnels {
		t, where := &c.s.Tunnels[i], fmt.Sprintf("tunnels[%d]", i)
		segments, err := parseDrawing(t.Draw)
		if err != nil {
			return wrong(where+".draw", "%v", err)
		}
		tn := &tunnel{Tunnel: t}
		for j, s := range segments {
			if j > 0 && segments[j-1].b != s.a {
				return wrong(where+".draw", "%q, want a single chain", t.Draw)
			}
			names := []string{s.b}
			if j == 0 {
				names = []string{s.a, s.b}
			}
			for _, name := range names {
				k, err := c.router(name)
				if err != nil {
					return wrong(where+".draw", "%v", err)
				}
				if slices.Contains(tn.path, k) {
					return wrong(where+".draw", "%q occurs twice, want a chain without a loop", name)
				}
				tn.path = append(tn.path, k)
			}
			nd := c.n.nodes[tn.path[j]]
			via, err := c.neighbour(nd, s.b)
			if err != nil {
				return wrong(where+".draw", "%v", err)
			}
			tn.out = append(tn.out, via[0])
		}
		if len(tn.path) < 3 {
			return wrong(where+".draw", "%q, want at least three routers", t.Draw)
		}
		if len(t.Labels) != len(tn.path)-2 {
			return wrong(where+".labels", "%d labels, want %d: one for each router between the ends", len(t.Labels), len(tn.path)-2)
		}
		for _, list := range []struct {
			name   string
			labels []uint32
		}{{"labels", t.Labels}, {"inner", t.Inner}} {
			for j, l := range list.labels {
				if l > 0xFFFFF {
					return wrong(fmt.Sprintf("%s.%s[%d]", where, list.name, j), "label %d, want 0 to 1048575", l)
				}
			}
		}
		if len(t.Inner) > 8 {
			return wrong(where+".inner", "%d labels, want at most 8", len(t.Inner))
		}
		first := c.n.nodes[tn.path[0]]
		if slices.ContainsFunc(first.tunnels, func(o *tunnel) bool { return o.path[1] == tn.path[1] }) {
			return wrong(where+".draw", "%q begins like another tunnel, want one for each neighbour", t.Draw)
		}
		first.tunnels = append(first.tunnels, tn)
	}
	return nil
}

// push puts a packet into the tunnel that begins with this hop, if all of it
// is up.
func (n *Network) push(nd *node, out int32, f *flight) {
	for _, t := range nd.tunnels {
		if t.path[1] != nd.ifaces[out].peer {
			continue
		}
		for i, k := range t.out[1:] {
			if n.nodes[t.path[i+1]].ifaces[k].out.down {
				return
			}
		}
		f.tunnel, f.hop = t, 1
		return
	}
}
