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
	// What a scenario may have at most of things that are searched one by one.
	maxSharers = 1 << 12 // of an address
	maxStatics = 1 << 12 // routes of a router
	maxToggles = 1 << 20 // links that changes take down or up
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

	toggles int
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
	linked := map[string]bool{}
	for i := range c.links {
		linked[c.links[i].a], linked[c.links[i].b] = true, true
	}
	for i, nd := range c.n.nodes {
		if nd.kind == siteKind && !linked[nd.name] {
			return wrong(c.where[i], "site %q has no link, want one drawn", nd.name)
		}
	}
	return nil
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

func (c *compiler) router(name string) (int32, error) {
	i, known := c.n.byName[name]
	if !known || c.n.nodes[i].router == nil {
		return 0, fmt.Errorf("%q, want the name of a router", name)
	}
	return i, nil
}
