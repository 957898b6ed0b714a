package scenario

import (
	"cmp"
	"math"
	"slices"
)

// order sorts each column by the mean position of the neighbours, to and fro,
// and keeps the order with the fewest crossings.
func (l *layout) order() {
	best, fewest := l.copyLayers(), l.crossings()
	for round := range 8 {
		for i := range l.layers {
			k := i
			if round%2 == 1 {
				k = len(l.layers) - 1 - i
			}
			l.sortLayer(k, 1-2*(round%2))
		}
		if n := l.crossings(); n < fewest {
			best, fewest = l.copyLayers(), n
		}
	}
	l.layers = best
}

func (l *layout) copyLayers() [][]int {
	var all [][]int
	for _, layer := range l.layers {
		all = append(all, slices.Clone(layer))
	}
	return all
}

// sortLayer orders layer k by the neighbours before it (towards 1) or after it
// (towards -1).
func (l *layout) sortLayer(k, towards int) {
	if k-towards < 0 || k-towards >= len(l.layers) {
		return
	}
	position := l.positions(k - towards)
	key := map[int]float64{}
	for i, v := range l.layers[k] {
		sum, n := 0.0, 0
		for _, w := range l.neighbours(v) {
			if p, near := position[w]; near {
				sum += float64(p)
				n++
			}
		}
		switch {
		case l.vertices[v].tuck:
			key[v] = key[l.neighbours(v)[0]] + 1e-6
		case n > 0:
			key[v] = sum / float64(n)
		default:
			key[v] = float64(i)
		}
	}
	slices.SortStableFunc(l.layers[k], func(a, b int) int { return cmp.Compare(key[a], key[b]) })
	// What is tucked stays right below its neighbour.
	for _, v := range slices.Clone(l.layers[k]) {
		if l.vertices[v].tuck {
			l.layers[k] = slices.DeleteFunc(l.layers[k], func(w int) bool { return w == v })
			l.layers[k] = slices.Insert(l.layers[k], slices.Index(l.layers[k], l.neighbours(v)[0])+1, v)
		}
	}
}

func (l *layout) positions(k int) map[int]int {
	m := map[int]int{}
	for i, v := range l.layers[k] {
		m[v] = i
	}
	return m
}

// crossings counts the pairs of links between columns that cross.
func (l *layout) crossings() int {
	n := 0
	for k := range len(l.layers) - 1 {
		left, right := l.positions(k), l.positions(k+1)
		var pairs [][2]int
		for _, v := range l.layers[k] {
			for _, w := range l.neighbours(v) {
				if p, next := right[w]; next {
					pairs = append(pairs, [2]int{left[v], p})
				}
			}
		}
		for i, p := range pairs {
			for _, q := range pairs[:i] {
				if (p[0]-q[0])*(p[1]-q[1]) < 0 {
					n++
				}
			}
		}
	}
	return n
}

// align finds heights at which links are as straight as can be.
func (l *layout) align() {
	for _, layer := range l.layers {
		y := 0.0
		for i, v := range layer {
			if i > 0 {
				y += l.apart(layer[i-1], v)
			}
			l.vertices[v].y = y
		}
	}
	for round := range 100 {
		for i := range l.layers {
			k := i
			if round%2 == 1 {
				k = len(l.layers) - 1 - i
			}
			l.alignLayer(k)
		}
	}
}

// apart is the least distance of the centres of two nodes in a column.
func (l *layout) apart(upper, lower int) float64 {
	u, w := &l.vertices[upper], &l.vertices[lower]
	gap := apartY
	labels := 0.0
	for _, e := range u.edges {
		if l.edges[e].a+l.edges[e].b-upper == lower {
			_, h := labelSize(l.label(&l.edges[e]))
			labels += h
		}
	}
	if labels > 0 {
		gap = labels + apartY + 2*padding
	}
	return grid * math.Ceil(((u.h+w.h)/2+gap)/grid)
}

// alignLayer moves the nodes of a column as near as can be to the mean height
// of their neighbours in other columns: isotonic regression by pooling
// adjacent violators.
func (l *layout) alignLayer(k int) {
	type pool struct {
		sum, weight float64
		n           int
	}
	layer := l.layers[k]
	offset := make([]float64, len(layer)) // what the nodes above take
	var pools []pool
	for i, v := range layer {
		if i > 0 {
			offset[i] = offset[i-1] + l.apart(layer[i-1], v)
		}
		want, weight := l.vertices[v].y, 0.01
		if sum, n := l.pull(v); n > 0 {
			want, weight = sum/n, n
		}
		if l.vertices[v].tuck {
			want, weight = l.vertices[l.neighbours(v)[0]].y, 1e-6
		}
		pools = append(pools, pool{(want - offset[i]) * weight, weight, 1})
		for n := len(pools); n > 1 && pools[n-2].sum/pools[n-2].weight > pools[n-1].sum/pools[n-1].weight; n-- {
			a, b := pools[n-2], pools[n-1]
			pools = append(pools[:n-2], pool{a.sum + b.sum, a.weight + b.weight, a.n + b.n})
		}
	}
	i := 0
	for _, p := range pools {
		for range p.n {
			l.vertices[layer[i]].y = p.sum/p.weight + offset[i]
			i++
		}
	}
}

// pull returns the sum of the heights of a node's neighbours in other columns,
// and their number.
func (l *layout) pull(v int) (sum, n float64) {
	for _, w := range l.neighbours(v) {
		if l.vertices[w].layer != l.vertices[v].layer {
			sum += l.vertices[w].y
			n++
		}
	}
	return sum, n
}
