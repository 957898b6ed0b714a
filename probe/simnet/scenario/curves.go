package scenario

import (
	"cmp"
	"math"
	"slices"
)

// curve is a link: a cubic Bézier curve with straight ends.
type curve struct {
	from, to point // ends at the nodes
	p        [4]point
}

type point struct{ x, y float64 }

func (c *curve) at(t float64) point {
	u := 1 - t
	a, b, d, e := u*u*u, 3*u*u*t, 3*u*t*t, t*t*t
	return point{
		a*c.p[0].x + b*c.p[1].x + d*c.p[2].x + e*c.p[3].x,
		a*c.p[0].y + b*c.p[1].y + d*c.p[2].y + e*c.p[3].y,
	}
}

// mark is a label on a link.
type mark struct {
	box
	lines []string
}

// gap draws the links to the right of layer k, which begins at x, and returns
// where the next column begins.
func (l *layout) gap(k int, x float64) float64 {
	var edges []int
	for i := range l.edges {
		a, b := l.vertices[l.edges[i].a].layer, l.vertices[l.edges[i].b].layer
		if min(a, b) == k && slices.Contains(l.layers[k], l.left(i)) {
			edges = append(edges, i)
		}
	}
	if len(l.curves) < len(l.edges) {
		l.curves = make([]curve, len(l.edges))
		l.labels = make([]mark, len(l.edges))
	}
	if len(edges) == 0 {
		return x
	}
	// Arcs first, the shorter ones within the longer ones.
	slices.SortStableFunc(edges, func(i, j int) int {
		return cmp.Or(cmp.Compare(b2i(l.crosses(i)), b2i(l.crosses(j))), cmp.Compare(l.height(i), l.height(j)))
	})
	width, arc, widest := 0.0, 0.0, 0.0
	for _, i := range edges {
		w, _ := labelSize(l.label(&l.edges[i]))
		widest = max(widest, math.Ceil(w)+2*padding)
	}
	for _, i := range edges {
		switch {
		case l.vertical(i):
		case l.crosses(i):
			width = max(width, apartX, widest+28)
		default:
			arc = max(arc+widest, bulge+l.height(i)/8)
			l.edges[i].out = arc
			width = max(width, arc+widest)
		}
	}
	for !l.connect(edges, x, width) {
		width = math.Ceil(width * 1.25)
	}
	return x + width
}

// height returns how far apart the ends of an edge are.
func (l *layout) height(i int) float64 {
	return math.Abs(l.vertices[l.edges[i].a].y - l.vertices[l.edges[i].b].y)
}

// centre moves the label of a level edge to the middle between its nodes, if
// there is room.
func (l *layout) centre(i int) {
	c, m := &l.curves[i], &l.labels[i]
	a, b := &l.vertices[l.edges[i].a], &l.vertices[l.edges[i].b]
	if m.lines == nil || c.p[0].y != c.p[3].y || m.h > min(a.h, b.h) || l.edges[i].of > 1 {
		return
	}
	there := box{math.Round((c.from.x + c.to.x) / 2), m.y, m.w, m.h}
	for j := range l.edges {
		if j != i && (l.labels[j].lines != nil && l.labels[j].overlaps(there) || l.curves[j].touches(there)) {
			return
		}
	}
	m.box = there
}

// left returns the end of an edge that is in the column more to the left, or
// higher.
func (l *layout) left(i int) int {
	a, b := l.edges[i].a, l.edges[i].b
	if cmp.Or(cmp.Compare(l.vertices[a].layer, l.vertices[b].layer), cmp.Compare(l.vertices[a].y, l.vertices[b].y)) > 0 {
		return b
	}
	return a
}

// vertical tells whether an edge joins two nodes one of which is right below
// the other.
func (l *layout) vertical(i int) bool {
	a := l.left(i)
	b := l.edges[i].a + l.edges[i].b - a
	k := l.vertices[a].layer
	if k != l.vertices[b].layer {
		return false
	}
	at := slices.Index(l.layers[k], a)
	return at+1 < len(l.layers[k]) && l.layers[k][at+1] == b
}

// connect draws edges over a gap and puts their labels on them. It reports
// false if the labels do not fit.
func (l *layout) connect(edges []int, x, width float64) bool {
	var taken []box
	for _, i := range edges {
		l.curves[i] = l.curve(i, x, width)
	}
	for _, i := range edges {
		lines := l.label(&l.edges[i])
		if len(lines) == 0 {
			l.labels[i] = mark{}
			continue
		}
		w, h := labelSize(lines)
		b, ok := box{l.curves[i].from.x, l.stacked(i), w, h}, true
		if !l.vertical(i) {
			b, ok = l.spot(i, edges, taken, w, h, x, width)
		}
		if !ok {
			return false
		}
		l.labels[i] = mark{b, lines}
		taken = append(taken, box{b.x, b.y, b.w + 2*padding, b.h + padding})
	}
	return true
}

// stacked returns the height of a label between a node and the one right below
// it: those of parallel links stand one above the other.
func (l *layout) stacked(i int) float64 {
	e := &l.edges[i]
	y := (l.curves[i].from.y + l.curves[i].to.y) / 2
	for _, j := range l.vertices[e.a].edges {
		o := &l.edges[j]
		if o.a+o.b-e.a != e.b {
			continue
		}
		_, h := labelSize(l.label(o))
		switch {
		case j < i:
			y += h / 2
		case j > i:
			y -= h / 2
		}
	}
	return y
}

// crowd is how many links in a gap are too many to look for a place where a
// label covers none of the others.
const crowd = 50

// spot finds where on its curve a label overlaps no other one, and if possible
// no other curve either.
func (l *layout) spot(i int, edges []int, taken []box, w, h, x, width float64) (b box, ok bool) {
	tries := 40 + 4*len(edges)
	for k := range tries {
		t := 0.5 + 0.46*float64((k+1)/2*(1-k%2*2))/float64(tries/2)
		p := l.curves[i].at(t)
		c := box{math.Round(p.x), math.Round(p.y), w, h}
		if l.crosses(i) && (c.left() < x+padding || c.right() > x+width-padding) || slices.ContainsFunc(taken, c.overlaps) {
			continue
		}
		free := len(edges) > crowd || !slices.ContainsFunc(edges, func(o int) bool { return o != i && l.curves[o].touches(c) })
		if free || !ok {
			b, ok = c, true
		}
		if free || !l.crosses(i) {
			break
		}
	}
	return b, ok
}

// crosses tells whether an edge goes from one column to the next.
func (l *layout) crosses(i int) bool {
	return l.vertices[l.edges[i].a].layer != l.vertices[l.edges[i].b].layer
}

func (c *curve) touches(b box) bool {
	for k := range 41 {
		if p := c.at(float64(k) / 40); p.x > b.left() && p.x < b.right() && p.y > b.top() && p.y < b.bottom() {
			return true
		}
	}
	return false
}

// shift returns how far an edge is from the middle of the side of its nodes,
// because there are others between the same two.
func (l *layout) shift(i int) float64 {
	e := &l.edges[i]
	a, b := &l.vertices[e.a], &l.vertices[e.b]
	side := min(a.h, b.h)
	if l.vertical(i) {
		side = min(a.w, b.w)
	}
	step := min(14, (side-12)/float64(e.of))
	return math.Round(step * (float64(e.bundle) - float64(e.of-1)/2))
}

// curve draws an edge over the gap that begins at x.
func (l *layout) curve(i int, x, width float64) curve {
	e := &l.edges[i]
	left := l.left(i)
	a, b := &l.vertices[left], &l.vertices[e.a+e.b-left]
	shift := l.shift(i)
	switch {
	case l.vertical(i):
		p, q := point{a.x + shift, a.bottom()}, point{b.x + shift, b.top()}
		return curve{p, q, [4]point{p, p, q, q}}
	case a.layer == b.layer:
		// The curve goes three quarters as far out as its handles.
		p, q, out := point{x, a.y + shift}, point{x, b.y + shift}, math.Round(x+e.out/0.75)
		return curve{point{a.right(), p.y}, point{b.right(), q.y}, [4]point{p, {out, p.y}, {out, q.y}, q}}
	}
	p, q := point{x, a.y + shift}, point{x + width, b.y + shift}
	middle := x + width/2
	return curve{point{a.right(), p.y}, q, [4]point{p, {middle, p.y}, {middle, q.y}, q}}
}
