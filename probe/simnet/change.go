package simnet

import (
	"cmp"
	"fmt"
	"time"
)

// plan puts the changes on the agenda.
func (c *compiler) plan() error {
	for i := range c.s.Changes {
		ch, where := &c.s.Changes[i], fmt.Sprintf("changes[%d]", i)
		do, err := c.change(ch, where)
		if err != nil {
			return err
		}
		switch {
		case ch.At < 0:
			return wrong(where+".at", "%v, want 0 or more", ch.At)
		case ch.Every != 0 && ch.Every < time.Microsecond:
			return wrong(where+".every", "%v, want at least 1µs, or 0 for once", ch.Every)
		}
		c.n.repeat(int64(ch.At), int64(ch.Every), func() {
			do()
			c.n.epoch++
		})
	}
	return nil
}

// repeat plans do for a time, and again every so often.
func (n *Network) repeat(at, every int64, do func()) {
	n.agenda.plan(at, nil, func() {
		do()
		if every > 0 {
			n.repeat(at+every, every, do)
		}
	})
}

func (c *compiler) change(ch *Change, where string) (func(), error) {
	var all []func()
	named := func(key, name string, ends bool, do func(*node)) error {
		if name == "" {
			return nil
		}
		i, known := c.n.byName[name]
		if !known || ends && c.n.nodes[i].router != nil {
			return wrong(where+"."+key, "%q, want the name of a %s", name, map[bool]string{true: "site or host", false: "node"}[ends])
		}
		all = append(all, func() { do(c.n.nodes[i]) })
		return nil
	}
	between := func(key, drawing string, down bool) error {
		if drawing == "" {
			return nil
		}
		do, err := c.fail(drawing, down)
		if err != nil {
			return wrong(where+"."+key, "%v", err)
		}
		all = append(all, do)
		return nil
	}
	if err := cmp.Or(
		named("withdraw", ch.Withdraw, true, func(nd *node) { nd.withdrawn = true }),
		named("announce", ch.Announce, true, func(nd *node) { nd.withdrawn = false }),
		named("silence", ch.Silence, false, func(nd *node) { nd.silent = true }),
		named("speak", ch.Speak, false, func(nd *node) { nd.silent = false }),
		between("down", ch.Down, true),
		between("up", ch.Up, false),
	); err != nil {
		return nil, err
	}
	if ch.Route != nil {
		nd, s, err := c.static(ch.Route, where+".route")
		if err != nil {
			return nil, err
		}
		all = append(all, func() { nd.addStatic(s) })
	}
	if ch.Forget != nil {
		at, err := c.router(ch.Forget.At)
		if err != nil {
			return nil, wrong(where+".forget.at", "%v", err)
		}
		if err := checkPrefix(ch.Forget.To); err != nil {
			return nil, wrong(where+".forget.to", "%v", err)
		}
		all = append(all, func() { c.n.nodes[at].forget(ch.Forget.To.Masked()) })
	}
	if len(all) != 1 {
		return nil, wrong(where, "%d things happen, want exactly one of withdraw, announce, silence, speak, down, up, route, forget", len(all))
	}
	return all[0], nil
}

// fail returns what takes the links of a drawing down, or up.
func (c *compiler) fail(drawing string, down bool) (func(), error) {
	segments, err := parseDrawing(drawing)
	if err != nil {
		return nil, err
	}
	var out []*direction
	for _, s := range segments {
		a, known := c.n.byName[s.a]
		if !known {
			return nil, fmt.Errorf("%q, want the name of a node", s.a)
		}
		nd := c.n.nodes[a]
		via, err := c.neighbour(nd, s.b)
		if err != nil {
			return nil, err
		}
		if c.toggles += len(via); c.toggles > maxToggles {
			return nil, fmt.Errorf("%q, want at most %d links taken down or up by all changes", drawing, maxToggles)
		}
		for _, v := range via {
			i := &nd.ifaces[v]
			out = append(out, i.out, c.n.nodes[i.peer].ifaces[i.remote].out)
		}
	}
	return func() {
		for _, d := range out {
			d.down = down
		}
		clear(c.n.trees)
	}, nil
}
