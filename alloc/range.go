package alloc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

var (
	// ErrTooMany says that more identifiers were asked for than the allocator
	// has in all: such a request can never be met.
	ErrTooMany = errors.New("more probe identifiers than there are")
	// ErrNone says that fewer than one identifier was asked for.
	ErrNone = errors.New("fewer than one probe identifier")
)

// Limit is the end of the largest range: identifiers have 16 bits.
const Limit = 1 << 16

// Range is an [Allocator] that hands out neighbouring blocks of a range of
// identifiers. Two blocks overlap only if they are held towards different
// destinations; a block held towards all overlaps with none.
//
// It searches from where the last block that it gave out ended, so released
// identifiers rest as long as possible before they are used again. It keeps
// state for a destination only while that holds something. An IPv4 address
// and its IPv4-mapped IPv6 form are one destination, and so are addresses that
// differ in their zone: an answer does not tell them apart.
//
// All methods may be called by several goroutines at once.
type Range struct {
	start, end uint32
	block      uint32
	count      uint32 // blocks, the last one may be short

	mu    sync.Mutex // guards all below
	next  uint32     // the block at which the next search begins
	all   held       // towards all destinations
	held  map[netip.Addr]held
	users []uint32 // per block, how many destinations hold it
}

// run is the blocks [from, to).
type run struct{ from, to uint32 }

// held is the runs that one destination holds, sorted and apart.
type held []run

// NewRange makes an allocator over the identifiers [start, end), in blocks of
// block identifiers each. end is at most [Limit]. Identifier 0 is never handed
// out: a start of 0 counts as 1. Where the range is no multiple of block, its
// last block is shorter.
func NewRange(start, end uint32, block int) (*Range, error) {
	if end > Limit {
		return nil, fmt.Errorf("range of probe identifiers ends at %d: the end must be at most %d", end, Limit)
	}
	if start >= end || end == 1 {
		return nil, fmt.Errorf("range of probe identifiers %d-%d is empty: the end must be above the start, and 0 is no identifier", start, end)
	}
	start = max(start, 1)
	size := end - start
	if block < 1 || block > int(size) {
		return nil, fmt.Errorf("block of %d probe identifiers: must be 1 to %d, the size of the range %d-%d", block, size, start, end)
	}
	r := &Range{start: start, end: end, block: uint32(block), held: map[netip.Addr]held{}}
	r.count = (size + r.block - 1) / r.block
	r.users = make([]uint32, r.count)
	return r, nil
}

// Acquire returns n identifiers, rounded up to whole blocks. The error is
// [ErrNone] or [ErrTooMany] if the request can never be met, [ErrExhausted] if
// it cannot be met now, or the context's if that has ended.
func (r *Range) Acquire(ctx context.Context, dst netip.Addr, n int) (Block, error) {
	if err := ctx.Err(); err != nil {
		return Block{}, err
	}
	if n < 1 {
		return Block{}, fmt.Errorf("%w: %d asked for, must be 1 to %d", ErrNone, n, r.end-r.start)
	}
	if n > int(r.end-r.start) {
		return Block{}, fmt.Errorf("%w: %d asked for, the range %d-%d has %d", ErrTooMany, n, r.start, r.end, r.end-r.start)
	}
	need := (uint32(n) + r.block - 1) / r.block
	key := destination(dst)

	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.held[key]
	at, ok := r.find(key, mine, need, uint32(n))
	if !ok {
		return Block{}, fmt.Errorf("%w: no %d in a row are free towards %s in the range %d-%d", ErrExhausted, n, name(dst), r.start, r.end)
	}
	got := run{at, at + need}
	r.next = got.to % r.count
	if key.IsValid() {
		r.held[key] = mine.with(got)
		for i := got.from; i < got.to; i++ {
			r.users[i]++
		}
	} else {
		r.all = r.all.with(got)
	}
	first := r.id(got.from)
	return Block{First: uint16(first), N: int(r.id(got.to) - first), Dst: dst}, nil
}

// Release gives back a block exactly as Acquire returned it.
func (r *Range) Release(b Block) {
	first, end := uint32(b.First), uint32(b.First)+uint32(max(b.N, 0))
	if b.N < 1 || b.N > Limit || first < r.start || end > r.end {
		return
	}
	from, to := (first-r.start)/r.block, (end-r.start+r.block-1)/r.block
	if r.id(from) != first || r.id(to) != end {
		return
	}
	key := destination(b.Dst)

	r.mu.Lock()
	defer r.mu.Unlock()
	if !key.IsValid() {
		r.all, _ = r.all.without(run{from, to})
		return
	}
	rest, ok := r.held[key].without(run{from, to})
	if !ok {
		return
	}
	if len(rest) == 0 {
		delete(r.held, key)
	} else {
		r.held[key] = rest
	}
	for i := from; i < to; i++ {
		r.users[i]--
	}
}

// id returns the first identifier of block i, or the end of the range.
func (r *Range) id(i uint32) uint32 { return min(r.start+i*r.block, r.end) }

// find looks for need free blocks in a row that hold n identifiers: from next
// to the end of the range, then once more from its beginning.
func (r *Range) find(key netip.Addr, mine held, need, n uint32) (at uint32, ok bool) {
	for _, from := range [2]uint32{r.next, 0} {
		for at := from; at+need <= r.count; {
			past, busy := r.busy(key, mine, run{at, at + need})
			if busy {
				at = past
				continue
			}
			// Only the range's short last block can hold too few.
			if r.id(at+need)-r.id(at) >= n {
				return at, true
			}
			break
		}
	}
	return 0, false
}

// busy tells whether a block of w is held by who must not share it, and the
// block at which to go on searching.
func (r *Range) busy(key netip.Addr, mine held, w run) (past uint32, busy bool) {
	if past, busy = r.all.overlap(w); busy {
		return past, true
	}
	if key.IsValid() {
		return mine.overlap(w)
	}
	for i := w.to; i > w.from; i-- {
		if r.users[i-1] > 0 {
			return i, true
		}
	}
	return 0, false
}

// search returns the index of the first run that ends after block i.
func (h held) search(i uint32) int {
	k, _ := slices.BinarySearchFunc(h, i, func(r run, i uint32) int {
		if r.to <= i {
			return -1
		}
		return 1
	})
	return k
}

// overlap tells whether a run shares a block with w, and where that run ends.
func (h held) overlap(w run) (past uint32, ok bool) {
	if k := h.search(w.from); k < len(h) && h[k].from < w.to {
		return h[k].to, true
	}
	return 0, false
}

func (h held) with(w run) held { return slices.Insert(h, h.search(w.from), w) }

// without takes w out if it is one of the runs.
func (h held) without(w run) (rest held, ok bool) {
	k := h.search(w.from)
	if k == len(h) || h[k] != w {
		return h, false
	}
	return slices.Delete(h, k, k+1), true
}

// destination is what tells destinations apart in an answer.
func destination(dst netip.Addr) netip.Addr { return dst.Unmap().WithZone("") }

func name(dst netip.Addr) string {
	if !dst.IsValid() {
		return "all destinations"
	}
	return dst.String()
}
