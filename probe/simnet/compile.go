package simnet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	maxDelay = time.Hour
	maxNodes = 1 << 20
	// ample is the number of links up to which each gets a wide prefix.
	ample = 512
)

// compiler turns a scenario into a network, or says what is wrong with it.
type compiler struct {
	s *Scenario
	n *Network
	// where each node was declared; empty: only drawn
	where []string
	links []link
}

type link struct {
	segment
	where    string
	there    Properties
	back     Properties
	prefixes []netip.Prefix
	at, bt   int32 // the interfaces
}

func compile(s *Scenario) (*Network, error) {
	c := &compiler{s: s, n: &Network{
		scenario: s, seed: mix(s.Seed),
		byName: map[string]int32{}, table: table{entries: map[netip.Prefix]*entry{}},
		trees: map[string]*tree{}, epoch: 1,
	}}
	for _, step := range []func() error{c.name, c.declare, c.draw, c.join, c.own, c.translate, c.tunnels, c.routes, c.plan, c.spoof} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.n, nil
}

func (c *compiler) name() error {
	if c.s.Name != "" {
		if err := checkName(c.s.Name); err != nil {
			return wrong("name", "%v", err)
		}
	}
	for i, e := range c.s.Expect {
		if e.At < 0 {
			return wrong(fmt.Sprintf("expect[%d].at", i), "%v, want 0 or more", e.At)
		}
	}
	return nil
}

// declare makes the nodes that are listed.
func (c *compiler) declare() error {
	for i := range c.s.Sites {
		site, where := &c.s.Sites[i], fmt.Sprintf("sites[%d]", i)
		if err := cmp.Or(c.end(&site.Host, siteKind, where), site.Clock.check(where+".clock")); err != nil {
			return err
		}
	}
	for i := range c.s.Hosts {
		if err := c.end(&c.s.Hosts[i], hostKind, fmt.Sprintf("hosts[%d]", i)); err != nil {
			return err
		}
	}
	for i := range c.s.Routers {
		r, where := &c.s.Routers[i], fmt.Sprintf("routers[%d]", i)
		if err := c.checkRouter(r, where); err != nil {
			return err
		}
		nd, err := c.add(r.Name, routerKind, where)
		if err != nil {
			return err
		}
		nd.stack = r.Stack
		c.makeRouter(nd, r)
	}
	return nil
}

func (c *compiler) end(h *Host, k kind, where string) error {
	if err := checkStack(&h.Stack, where); err != nil {
		return err
	}
	if err := checkRules(h.Firewall, where+".firewall"); err != nil {
		return err
	}
	for i, a := range h.Addresses {
		if err := checkAddr(a); err != nil {
			return wrong(fmt.Sprintf("%s.addresses[%d]", where, i), "%v", err)
		}
	}
	for i, p := range h.Prefixes {
		if err := checkPrefix(p); err != nil {
			return wrong(fmt.Sprintf("%s.prefixes[%d]", where, i), "%v", err)
		}
	}
	if err := checkPorts(&h.UDP, where+".udp"); err != nil {
		return err
	}
	if err := checkPorts(&h.TCP, where+".tcp"); err != nil {
		return err
	}
	if err := checkDNS(h.DNS, where); err != nil {
		return err
	}
	for port := range h.Services {
		if port == 0 {
			return wrong(where+".services", "port 0, want 1 to 65535")
		}
	}
	nd, err := c.add(h.Name, k, where)
	if err != nil {
		return err
	}
	nd.host, nd.stack = h, h.Stack
	nd.finish()
	return nil
}

func (c *compiler) add(name string, k kind, where string) (*node, error) {
	if err := checkName(name); err != nil {
		return nil, wrong(where+".name", "%v", err)
	}
	if other, taken := c.n.byName[name]; taken {
		return nil, wrong(where+".name", "%q is the name of %s already, want another", name, c.where[other])
	}
	if len(c.n.nodes) >= maxNodes {
		return nil, wrong(where, "more than %d nodes", maxNodes)
	}
	nd := &node{name: name, index: int32(len(c.n.nodes)), kind: k}
	c.n.nodes = append(c.n.nodes, nd)
	c.n.byName[name] = nd.index
	c.where = append(c.where, where)
	return nd, nil
}

// makeRouter makes a node a router.
func (c *compiler) makeRouter(nd *node, r *Router) {
	nd.router, nd.rank = r, int32(len(c.n.routers))
	c.n.routers = append(c.n.routers, nd)
	nd.finish()
}

// finish fills in the defaults of a node's stack.
func (nd *node) finish() {
	nd.silent = nd.stack.Silent
	if nd.stack.TTL == 0 {
		nd.stack.TTL = 64
		if nd.router != nil {
			nd.stack.TTL = 255
		}
	}
}

// draw reads the drawings, and makes routers of the names that nobody listed.
func (c *compiler) draw() error {
	for i := range c.s.Links {
		l, where := &c.s.Links[i], fmt.Sprintf("links[%d]", i)
		segments, err := parseDrawing(l.Draw)
		if err != nil {
			return wrong(where+".draw", "%v", err)
		}
		if len(l.Prefixes) > 0 && len(segments) > 1 {
			return wrong(where+".prefixes", "given for %d links, want a drawing of one", len(segments))
		}
		there, err := checkProperties(l.Properties, where)
		if err != nil {
			return err
		}
		back := there
		if l.Back != nil {
			if back, err = checkProperties(*l.Back, where+".back"); err != nil {
				return err
			}
		}
		for j, p := range l.Prefixes {
			if err := checkLinkPrefix(p, l.Prefixes[:j]); err != nil {
				return wrong(fmt.Sprintf("%s.prefixes[%d]", where, j), "%v", err)
			}
		}
		for _, s := range segments {
			for _, name := range []string{s.a, s.b} {
				if _, known := c.n.byName[name]; known {
					continue
				}
				nd, err := c.add(name, routerKind, where+".draw")
				if err != nil {
					return err
				}
				c.makeRouter(nd, &Router{Name: name})
			}
			there, back := there, back
			if s.delay > 0 {
				there.Delay = s.delay
				if l.Back == nil || l.Back.Delay == 0 {
					back.Delay = s.delay
				}
			}
			c.links = append(c.links, link{segment: s, where: where, there: there, back: back, prefixes: l.Prefixes})
		}
	}
	for i, nd := range c.n.nodes {
		if nd.kind == siteKind && !slices.ContainsFunc(c.links, func(l link) bool { return l.a == nd.name || l.b == nd.name }) {
			return wrong(c.where[i], "site %q has no link, want one drawn", nd.name)
		}
	}
	return nil
}

// join makes the interfaces.
func (c *compiler) join() error {
	for i := range c.links {
		l := &c.links[i]
		a, b := c.n.nodes[c.n.byName[l.a]], c.n.nodes[c.n.byName[l.b]]
		if len(l.prefixes) == 0 && !a.unnumbered() && !b.unnumbered() {
			var err error
			if l.prefixes, err = c.number(i); err != nil {
				return wrong(l.where, "%v", err)
			}
		}
		l.there.normalize()
		l.back.normalize()
		l.at, l.bt = int32(len(a.ifaces)), int32(len(b.ifaces))
		if a.router != nil && b.router != nil {
			a.core, b.core = append(a.core, l.at), append(b.core, l.bt)
		}
		a.ifaces = append(a.ifaces, iface{peer: b.index, remote: l.bt, out: &direction{id: uint64(2 * i), Properties: l.there}})
		b.ifaces = append(b.ifaces, iface{peer: a.index, remote: l.at, out: &direction{id: uint64(2*i + 1), Properties: l.back}})
		a.narrow = a.narrow || l.there.MTU < maxError4
		b.narrow = b.narrow || l.back.MTU < maxError4
		for _, p := range l.prefixes {
			f := family(p.Addr())
			a.ifaces[l.at].addr[f], b.ifaces[l.bt].addr[f] = pair(p)
		}
	}
	return nil
}

// number returns the prefixes of the i-th link.
func (c *compiler) number(i int) ([]netip.Prefix, error) {
	if len(c.links) <= ample {
		return []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>8), byte(i), 0}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i >> 8), byte(i)}), 64),
		}, nil
	}
	if i >= 1<<16 {
		return nil, fmt.Errorf("no address left for link %d, want at most 65536 links with addresses: give routers some of their own", i)
	}
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>15), byte(i >> 7), byte(i << 1)}), 31),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i >> 8), byte(i)}), 127),
	}, nil
}

// pair returns the first two addresses of a prefix: those of a link's ends.
func pair(p netip.Prefix) (first, second netip.Addr) {
	first = p.Masked().Addr()
	if p.Bits() < p.Addr().BitLen()-1 {
		first = first.Next()
	}
	return first, first.Next()
}

func (nd *node) unnumbered() bool { return nd.router != nil && len(nd.router.Addresses) > 0 }

// own enters every address with its owner.
func (c *compiler) own() error {
	claim := func(nd *node, p netip.Prefix, where string) error {
		e := c.n.table.add(p.Masked(), nd.index)
		if len(e.owners) == 1 {
			return nil
		}
		if first := c.n.nodes[e.owners[0]]; nd.router != nil || first.router != nil {
			return wrong(where, "%v belongs to %q already, want another: only sites and hosts may share", p, first.name)
		}
		return nil
	}
	for i, nd := range c.n.nodes {
		var addresses []netip.Addr
		where := c.where[i]
		if nd.router != nil {
			addresses = nd.router.Addresses
		} else {
			addresses = nd.host.Addresses
		}
		for j, a := range addresses {
			if err := claim(nd, single(a), fmt.Sprintf("%s.addresses[%d]", where, j)); err != nil {
				return err
			}
			nd.setOwn(a)
		}
		if nd.router != nil {
			continue
		}
		for j, p := range nd.host.Prefixes {
			if err := claim(nd, p, fmt.Sprintf("%s.prefixes[%d]", where, j)); err != nil {
				return err
			}
			first, _ := pair(p)
			nd.setOwn(first)
		}
	}
	for i := range c.links {
		l := &c.links[i]
		for _, end := range []struct {
			name  string
			iface int32
		}{{l.a, l.at}, {l.b, l.bt}} {
			nd := c.n.nodes[c.n.byName[end.name]]
			for _, a := range nd.ifaces[end.iface].addr {
				if !a.IsValid() {
					continue
				}
				if err := claim(nd, single(a), l.where); err != nil {
					return err
				}
				nd.setOwn(a)
			}
		}
	}
	return nil
}

// setOwn notes an address to send from, if there is none of its family yet.
func (nd *node) setOwn(a netip.Addr) {
	if f := family(a); !nd.own[f].IsValid() {
		nd.own[f] = a
	}
}

// translate sets up the NATs.
func (c *compiler) translate() error {
	for i, nd := range c.n.nodes {
		if nd.router == nil || nd.router.NAT == nil {
			continue
		}
		cfg, where := nd.router.NAT, c.where[i]+".nat"
		if err := checkAddr(cfg.Address); err != nil {
			return wrong(where+".address", "%v", err)
		}
		if len(cfg.Outside) == 0 {
			return wrong(where+".outside", "empty, want at least one neighbour of %q", nd.name)
		}
		nd.nat = newNAT(cfg)
		for j, name := range cfg.Outside {
			via, err := c.neighbour(nd, name)
			if err != nil {
				return wrong(fmt.Sprintf("%s.outside[%d]", where, j), "%v", err)
			}
			nd.nat.outside = append(nd.nat.outside, via...)
		}
		e := c.n.table.add(netip.PrefixFrom(cfg.Address, cfg.Address.BitLen()), nd.index)
		if len(e.owners) > 1 {
			return wrong(where+".address", "%v belongs to %q already, want another", cfg.Address, c.n.nodes[e.owners[0]].name)
		}
	}
	return nil
}

// neighbour returns the interfaces of nd to the node of that name.
func (c *compiler) neighbour(nd *node, name string) ([]int32, error) {
	if peer, known := c.n.byName[name]; known {
		if via := nd.towards(peer); len(via) > 0 {
			return via, nil
		}
	}
	var names []string
	for _, i := range nd.ifaces {
		if peer := c.n.nodes[i.peer].name; !slices.Contains(names, peer) && len(names) < 10 {
			names = append(names, peer)
		}
	}
	return nil, fmt.Errorf("%q, want a neighbour of %q: %s", name, nd.name, strings.Join(names, ", "))
}

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

func (c *compiler) router(name string) (int32, error) {
	i, known := c.n.byName[name]
	if !known || c.n.nodes[i].router == nil {
		return 0, fmt.Errorf("%q, want the name of a router", name)
	}
	return i, nil
}

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
