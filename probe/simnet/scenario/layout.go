package scenario

import (
	"cmp"
	"math"
	"slices"
)

// Distances in a picture, in pixels.
const (
	margin  = 24.0
	apartX  = 56.0 // least width of the gap between two columns
	apartY  = 26.0 // least height of that between two nodes of a column
	bulge   = 34.0 // of a link between two nodes of a column that are not neighbours
	padding = 4.0  // around labels
	grid    = 4.0  // of heights: what is almost level becomes level
)

// layout is where everything goes. Nodes stand in columns by their distance
// from the first one drawn, as in the layered drawings of Sugiyama, Tagawa and
// Toda (1981).
type layout struct {
	*graph
	layers [][]int // vertices from top to bottom
	curves []curve // by edge
	labels []mark  // by edge
	w, h   float64
}

func arrange(g *graph) *layout {
	l := &layout{graph: g}
	for i := range g.vertices {
		v := &g.vertices[i]
		v.w, v.h = size(v)
	}
	for _, c := range g.components() {
		l.place(c)
	}
	return l
}

// components returns the connected parts, each from the vertex at which its
// picture begins: the first site or else the first node that is drawn.
func (g *graph) components() [][]int {
	var order []int
	for i := range g.edges {
		order = append(order, g.edges[i].a, g.edges[i].b)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(b2i(g.vertices[a].kind != site), b2i(g.vertices[b].kind != site))
	})
	for i := range g.vertices {
		order = append(order, i)
	}
	seen := make([]bool, len(g.vertices))
	var all [][]int
	for _, root := range order {
		if seen[root] {
			continue
		}
		seen[root] = true
		c := []int{root}
		for k := 0; k < len(c); k++ {
			for _, n := range g.neighbours(c[k]) {
				if !seen[n] {
					seen[n] = true
					c = append(c, n)
				}
			}
		}
		all = append(all, c)
	}
	return all
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// neighbours returns each neighbour once, in the order drawn.
func (g *graph) neighbours(v int) []int {
	var all []int
	for _, e := range g.vertices[v].edges {
		n := g.edges[e].a + g.edges[e].b - v
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// place lays out a component under those before it.
func (l *layout) place(c []int) {
	l.layer(c)
	l.tuck(c)
	l.order()
	l.align()
	l.spread(c)
}

// layer puts the vertices into columns by their distance from the first one.
func (l *layout) layer(c []int) {
	known := map[int]bool{c[0]: true}
	l.layers = [][]int{{c[0]}}
	for i := 0; i < len(l.layers); i++ {
		var next []int
		for _, v := range l.layers[i] {
			for _, n := range l.neighbours(v) {
				if !known[n] {
					known[n] = true
					l.vertices[n].layer = i + 1
					next = append(next, n)
				}
			}
		}
		if len(next) > 0 {
			l.layers = append(l.layers, next)
		}
	}
}

// tuck puts a lone end that hangs on a router along the way below that router,
// so that the way goes straight on.
func (l *layout) tuck(c []int) {
	for _, v := range c {
		var ends []int
		on := false
		for _, n := range l.neighbours(v) {
			switch w := &l.vertices[n]; {
			case w.layer != l.vertices[v].layer+1:
			case len(l.neighbours(n)) == 1 && w.kind != router:
				ends = append(ends, n)
			default:
				on = true
			}
		}
		if len(ends) != 1 || !on || l.vertices[v].layer == 0 {
			continue
		}
		end := ends[0]
		k := l.vertices[v].layer
		l.layers[k+1] = slices.DeleteFunc(l.layers[k+1], func(w int) bool { return w == end })
		l.layers[k] = slices.Insert(l.layers[k], slices.Index(l.layers[k], v)+1, end)
		l.vertices[end].layer, l.vertices[end].tuck = k, true
	}
}

// spread sets the columns side by side, with room for the labels between them,
// and moves everything below what was placed before.
func (l *layout) spread(c []int) {
	top := math.Inf(1)
	for _, v := range c {
		l.vertices[v].y = grid * math.Round(l.vertices[v].y/grid)
		top = min(top, math.Floor(l.vertices[v].top()))
	}
	down := margin - top
	if l.h > 0 {
		down = l.h + margin - top
	}
	for _, v := range c {
		l.vertices[v].y += down
		l.h = max(l.h, l.vertices[v].bottom())
	}
	x := margin
	for k, layer := range l.layers {
		w := 0.0
		for _, v := range layer {
			w = max(w, l.vertices[v].w)
			for _, e := range l.vertices[v].edges {
				if l.vertical(e) {
					label, _ := labelSize(l.label(&l.edges[e]))
					w = max(w, label+2*math.Abs(l.shift(e)))
				}
			}
		}
		w = math.Ceil(w)
		for _, v := range layer {
			l.vertices[v].x = x + w/2
		}
		x = l.gap(k, x+w)
	}
	l.w = max(l.w, x)
	for _, v := range c {
		for _, i := range l.vertices[v].edges {
			if l.crosses(i) && l.left(i) != v {
				l.curves[i].to.x = l.vertices[v].left()
				l.centre(i)
			}
		}
	}
}
