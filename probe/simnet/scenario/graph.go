package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// kind is what a node is, and thereby its shape.
type kind int

const (
	router kind = iota
	site
	host
)

// vertex is a node to be drawn.
type vertex struct {
	name  string
	kind  kind
	lines []string // under the name
	notes []string // how it differs from others

	edges []int
	layer int
	tuck  bool // an end that is drawn right below its only neighbour
	box
}

// edge is a link to be drawn.
type edge struct {
	a, b   int
	there  []string // what is said of the direction from a to b
	back   []string
	labels []string // of a tunnel, from a to b or back
	bundle int      // which of the links between the two
	of     int      // so many
	out    float64  // how far it goes out, between two nodes of a column
}

// box is a rectangle around its centre.
type box struct{ x, y, w, h float64 }

func (b box) left() float64   { return b.x - b.w/2 }
func (b box) right() float64  { return b.x + b.w/2 }
func (b box) top() float64    { return b.y - b.h/2 }
func (b box) bottom() float64 { return b.y + b.h/2 }

func (b box) overlaps(o box) bool {
	return b.left() < o.right() && o.left() < b.right() && b.top() < o.bottom() && o.top() < b.bottom()
}

// graph is what a picture shows.
type graph struct {
	vertices []vertex
	edges    []edge
	byName   map[string]int
}

// drawable refuses what would make no picture that can be read.
func drawable(s *simnet.Scenario) error {
	names, links := map[string]bool{}, 0
	for i := range s.Links {
		for _, seg := range segments(s.Links[i].Draw) {
			names[seg.a], names[seg.b] = true, true
			links++
		}
	}
	for i := range s.Sites {
		names[s.Sites[i].Name] = true
	}
	for i := range s.Hosts {
		names[s.Hosts[i].Name] = true
	}
	for i := range s.Routers {
		names[s.Routers[i].Name] = true
	}
	if len(names) > maxVertices || links > maxEdges {
		return fmt.Errorf("scenario: %d nodes and %d links, want at most %d and %d for a picture", len(names), links, maxVertices, maxEdges)
	}
	return nil
}

// newGraph takes from a valid scenario what can be drawn.
func newGraph(s *simnet.Scenario) *graph {
	g := &graph{byName: map[string]int{}}
	for i := range s.Sites {
		g.end(&s.Sites[i].Host, site)
	}
	for i := range s.Hosts {
		g.end(&s.Hosts[i], host)
	}
	for i := range s.Routers {
		r := &s.Routers[i]
		g.vertices[g.vertex(r.Name, router)].notes = routerNotes(r)
	}
	for i := range s.Links {
		l := &s.Links[i]
		for _, seg := range segments(l.Draw) {
			there, back := l.Properties, l.Properties
			if l.Back != nil {
				back = *l.Back
			}
			if seg.delay > 0 {
				there.Delay = seg.delay
				if l.Back == nil || back.Delay == 0 {
					back.Delay = seg.delay
				}
			}
			g.link(seg, there, back)
		}
	}
	for _, t := range s.Tunnels {
		g.tunnel(&t)
	}
	return g
}

// segment is one link of a drawing.
type segment struct {
	a, b  string
	delay time.Duration
}

// segments reads a valid drawing.
func segments(drawing string) []segment {
	var all []segment
	for line := range strings.Lines(drawing) {
		words := strings.Fields(line)
		for i := 0; i+2 < len(words); i += 2 {
			delay, _ := time.ParseDuration(strings.Trim(words[i+1], "-"))
			all = append(all, segment{words[i], words[i+2], delay})
		}
	}
	return all
}

func (g *graph) vertex(name string, k kind) int {
	i, known := g.byName[name]
	if !known {
		i = len(g.vertices)
		g.byName[name] = i
		g.vertices = append(g.vertices, vertex{name: name, kind: k})
	}
	return i
}

// maxLines is how many addresses of a node are shown.
const maxLines = 4

func (g *graph) end(h *simnet.Host, k kind) {
	var lines []string
	for _, a := range h.Addresses {
		lines = append(lines, a.String())
	}
	for _, p := range h.Prefixes {
		lines = append(lines, p.String())
	}
	if more := len(lines) - maxLines; more > 0 {
		lines = append(lines[:maxLines], fmt.Sprintf("and %d more", more))
	}
	v := &g.vertices[g.vertex(h.Name, k)]
	v.lines = lines
	if h.NoEcho {
		v.notes = append(v.notes, "no echo")
	}
	if len(h.Firewall) > 0 {
		v.notes = append(v.notes, "firewall")
	}
	v.notes = append(v.notes, stackNotes(&h.Stack)...)
}

func (g *graph) link(seg segment, there, back simnet.Properties) {
	e := edge{a: g.vertex(seg.a, router), b: g.vertex(seg.b, router), there: propertyNotes(there), back: propertyNotes(back)}
	i := len(g.edges)
	g.vertices[e.a].edges = append(g.vertices[e.a].edges, i)
	g.vertices[e.b].edges = append(g.vertices[e.b].edges, i)
	g.edges = append(g.edges, e)
	var bundle []*edge
	for j := range g.edges {
		if o := &g.edges[j]; min(o.a, o.b) == min(e.a, e.b) && max(o.a, o.b) == max(e.a, e.b) {
			bundle = append(bundle, o)
		}
	}
	for j, o := range bundle {
		o.bundle, o.of = j, len(bundle)
	}
}

// tunnel labels the first link of each two neighbours along a tunnel.
func (g *graph) tunnel(t *simnet.Tunnel) {
	for i, seg := range segments(t.Draw) {
		if i == len(t.Labels) {
			break // popped
		}
		a, b := g.byName[seg.a], g.byName[seg.b]
		for _, k := range g.vertices[a].edges {
			if e := &g.edges[k]; e.a == b || e.b == b {
				e.labels = append(e.labels, fmt.Sprintf("MPLS %d", t.Labels[i]))
				if t.Hidden {
					e.labels = append(e.labels, "hidden")
				}
				break
			}
		}
	}
}

// label returns the lines on an edge.
func (g *graph) label(e *edge) []string {
	all := slices.Clone(e.labels)
	if slices.Equal(e.there, e.back) {
		return append(all, e.there...)
	}
	forth, back := "→ ", "← "
	switch a, b := &g.vertices[e.a], &g.vertices[e.b]; {
	case cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.y, b.y)) > 0 && a.layer == b.layer:
		forth, back = "↑ ", "↓ "
	case a.layer == b.layer:
		forth, back = "↓ ", "↑ "
	case a.layer > b.layer:
		forth, back = back, forth
	}
	say := func(arrow string, notes []string) {
		if len(notes) > 0 {
			all = append(all, arrow+strings.Join(notes, ", "))
		}
	}
	say(forth, e.there)
	say(back, e.back)
	return all
}
