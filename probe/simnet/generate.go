package simnet

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is how large a generated network is.
type Size struct {
	Sites   int // 1 to 1,000
	Routers int // 1 to 10,000
	Targets int // 0 to 1,000,000
	// Seed decides all that is left to chance: the same size with the same
	// seed is the same scenario.
	Seed uint64
}

// What is generated.
const (
	maxSites   = 1000
	maxRouters = 10_000
	maxTargets = 1_000_000

	// Positions are on a map of this size, in km.
	mapWidth, mapHeight = 12_000, 6_000
	// speed of light in fibre, in km a millisecond, and by how much cables
	// are longer than the straight line
	lightSpeed, detour = 204, 1.4
	// costPer are the km for which a link of the core costs one more. Links to
	// the tier above cost the same at any length, so that both of a router
	// are used, and more than any way through the core, so that nothing
	// passes through a tier below.
	costPer, regionCost, edgeCost = 400, 1000, 10_000
)

// Generate makes up a network: a core, regions and edges at random places, each
// router with links to two of the tier above, over which it spreads flows.
// Delays are those of light in fibre, and long links cost more than short ones.
// Sites site1, site2 and so on and targets
// t1, t2 and so on hang on edge routers. All sites have the addresses 192.0.2.1
// and 2001:db8:ff::1. Each target has one of 198.18.0.0/15, after 131,071 of
// them 100.96.0.0/11, and one of 2001:db8:fe::/96, in the order of their
// numbers. Routers have one of 100.64.0.0/11 and one of 2001:db8:fd::/96, and
// their name under "example". A few of them are silent or limit their errors.
//
// The error, an [*Error], names what is out of its range.
func Generate(size Size) (*Scenario, error) {
	for _, c := range []struct {
		what         string
		n, low, high int
	}{{"sites", size.Sites, 1, maxSites}, {"routers", size.Routers, 1, maxRouters}, {"targets", size.Targets, 0, maxTargets}} {
		if c.n < c.low || c.n > c.high {
			return nil, wrong("size."+c.what, "%d, want %d to %d", c.n, c.low, c.high)
		}
	}
	g := &generator{dice: dice{mix(size.Seed)}, flow: FlowFields()}
	g.s = &Scenario{
		Name:    "generated",
		About:   fmt.Sprintf("Made up: %d sites, %d routers and %d targets from seed %d.", size.Sites, size.Routers, size.Targets, size.Seed),
		Seed:    size.Seed,
		Routers: make([]Router, 0, size.Routers),
		Sites:   make([]Site, 0, size.Sites),
		Hosts:   make([]Host, 0, size.Targets),
	}
	g.backbone(size.Routers)
	g.sites(size.Sites)
	g.targets(size.Targets)
	return g.s, nil
}

// generator makes a network.
type generator struct {
	s    *Scenario
	flow []Field
	dice dice
	edge []spot // routers on which ends hang
}

// spot is a router on the map.
type spot struct {
	name string
	x, y float64 // km
}

func (p spot) distance(o spot) float64 { return math.Hypot(p.x-o.x, p.y-o.y) }

// backbone makes the routers: in the middle a core whose routers form a ring
// with chords, around it regions, then edges.
func (g *generator) backbone(n int) {
	core := g.tier("core", max(1, n/16))
	n -= len(core)
	region := g.tier("region", n/4)
	edge := g.tier("edge", n-len(region))

	links := newDrawing()
	slices.SortStableFunc(core, func(a, b spot) int { return cmp.Compare(angle(a), angle(b)) })
	for i, p := range core {
		if next := core[(i+1)%len(core)]; i+1 < len(core) || len(core) > 2 {
			links.link(p, next)
		}
	}
	for i, p := range core {
		for _, o := range nearest(p, slices.Delete(slices.Clone(core), i, i+1)) {
			links.link(p, o)
		}
		if o := g.dice.intN(len(core)); o != i {
			links.link(p, core[o])
		}
	}
	g.edge = core
	for _, tier := range []struct {
		routers []spot
		cost    int
	}{{region, regionCost}, {edge, edgeCost}} {
		for _, p := range tier.routers {
			for _, o := range nearest(p, g.edge) {
				links.line(tier.cost, p.name, o.name, delay(p, o))
			}
		}
		if len(tier.routers) > 0 {
			g.edge = tier.routers
		}
	}
	g.draw(links)
}

// delay returns that of a cable, in steps of 10 µs.
func delay(a, b spot) int { return int(100 * a.distance(b) * detour / lightSpeed) }

func angle(p spot) float64 { return math.Atan2(p.y-mapHeight/2, p.x-mapWidth/2) }

// nearest returns the two places that are nearest to p, or the one there is.
func nearest(p spot, all []spot) []spot {
	best := []int{-1, -1}
	for i := range all {
		switch d := p.distance(all[i]); {
		case best[0] < 0 || d < p.distance(all[best[0]]):
			best = []int{i, best[0]}
		case best[1] < 0 || d < p.distance(all[best[1]]):
			best[1] = i
		}
	}
	var found []spot
	for _, i := range best {
		if i >= 0 {
			found = append(found, all[i])
		}
	}
	return found
}

// tier makes routers.
func (g *generator) tier(name string, n int) []spot {
	places := make([]spot, 0, n)
	for i := range n {
		p := spot{name + strconv.Itoa(i+1), g.dice.fraction() * mapWidth, g.dice.fraction() * mapHeight}
		places = append(places, p)
		k := len(g.s.Routers) + 1
		r := Router{
			Name: p.name,
			DNS:  p.name + ".example",
			Addresses: []netip.Addr{
				netip.AddrFrom4([4]byte{100, 64 + byte(k>>16), byte(k >> 8), byte(k)}),
				documentation(0xfd, k),
			},
			ECMP: ECMP{Hash: g.flow},
		}
		r.Delay = time.Duration(g.dice.intN(50)) * 10 * time.Microsecond
		switch chance := g.dice.fraction(); {
		case chance < 0.03:
			r.Silent = true
		case chance < 0.10:
			r.Errors = RateLimit{Rate: float64(1 + g.dice.intN(100)), Burst: 1 + g.dice.intN(10)}
		}
		g.s.Routers = append(g.s.Routers, r)
	}
	return places
}

// documentation returns the n-th address of 2001:db8:NET::/96.
func documentation(net byte, n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, net, 12: byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (g *generator) sites(n int) {
	anycast := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1}), documentation(0xff, 1)}
	links := newDrawing()
	// Sites are spread: a second one at an edge only when all have one.
	order := g.dice.permutation(len(g.edge))
	for i := range n {
		name := "site" + strconv.Itoa(i+1)
		g.s.Sites = append(g.s.Sites, Site{Host: Host{Name: name, Addresses: anycast}})
		links.line(1, g.edge[order[i%len(order)]].name, name, 1+g.dice.intN(50))
	}
	g.draw(links)
}

func (g *generator) targets(n int) {
	links := newDrawing()
	addresses := make([]netip.Addr, 0, 2*n) // one piece of memory for all
	for i := range n {
		name := "t" + strconv.Itoa(i+1)
		addresses = append(addresses, targetAddr(i+1), documentation(0xfe, i+1))
		g.s.Hosts = append(g.s.Hosts, Host{Name: name, Addresses: addresses[2*i : 2*i+2 : 2*i+2]})
		links.line(1, g.edge[g.dice.intN(len(g.edge))].name, name, 10+g.dice.intN(1000))
	}
	g.draw(links)
}

// targetAddr returns the n-th target's IPv4 address.
func targetAddr(n int) netip.Addr {
	const benchmark = 1 << 17 // addresses of 198.18.0.0/15
	if n < benchmark {
		return netip.AddrFrom4([4]byte{198, 18 + byte(n>>16), byte(n >> 8), byte(n)})
	}
	n -= benchmark - 1
	return netip.AddrFrom4([4]byte{100, 96 + byte(n>>16), byte(n >> 8), byte(n)})
}

func (g *generator) draw(d *drawing) {
	for _, cost := range slices.Sorted(maps.Keys(d.byCost)) {
		g.s.Links = append(g.s.Links, Link{Draw: d.byCost[cost].String(), Properties: Properties{Cost: cost}})
	}
}

// drawing collects links.
type drawing struct {
	byCost map[int]*strings.Builder
	known  map[[2]string]bool
}

func newDrawing() *drawing {
	return &drawing{byCost: map[int]*strings.Builder{}, known: map[[2]string]bool{}}
}

// link joins two routers of the core, unless they are.
func (d *drawing) link(a, b spot) {
	if d.known[[2]string{a.name, b.name}] || d.known[[2]string{b.name, a.name}] {
		return
	}
	d.known[[2]string{a.name, b.name}] = true
	d.line(1+int(a.distance(b)/costPer), a.name, b.name, delay(a, b))
}

// line joins two nodes, by a delay in steps of 10 µs.
func (d *drawing) line(cost int, a, b string, delay int) {
	if d.byCost[cost] == nil {
		d.byCost[cost] = new(strings.Builder)
	}
	fmt.Fprintf(d.byCost[cost], "%s --%gms-- %s\n", a, float64(max(1, delay))/100, b)
}

// dice are a sequence of draws that is the same wherever it is made.
type dice struct{ state uint64 }

func (d *dice) draw() uint64 {
	d.state++
	return mix(d.state)
}

// fraction returns a number in [0, 1).
func (d *dice) fraction() float64 { return fraction(d.draw()) }

// intN returns a number in [0, n).
func (d *dice) intN(n int) int { return int(d.fraction() * float64(n)) }

func (d *dice) permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := d.intN(i + 1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}
