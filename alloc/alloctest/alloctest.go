// Package alloctest checks that an [alloc.Allocator] does what the interface
// says.
package alloctest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"bitbucket.org/uwpatio/voltadomar/alloc"
)

var (
	first  = netip.MustParseAddr("192.0.2.1")
	second = netip.MustParseAddr("2001:db8::2")
	all    netip.Addr
)

// prompt is how long a call may take that must not wait for anybody.
const prompt = 10 * time.Second

// Run checks the allocators that open makes. Each check asks for a fresh one
// that nobody holds anything of and that has room for at least eight blocks
// of one identifier; it may be closed in a cleanup of the t that open gets. If
// t is a *[testing.T], each check is a subtest.
func Run(t testing.TB, open func(t testing.TB) alloc.Allocator) {
	t.Helper()
	for _, c := range []struct {
		name  string
		check func(t testing.TB, a alloc.Allocator)
	}{
		{"Block", block},
		{"Count", count},
		{"Exclusive", exclusive},
		{"ExclusiveTowardsAll", exclusiveTowardsAll},
		{"Exhausted", exhausted},
		{"NotHeld", notHeld},
		{"Concurrent", concurrent},
	} {
		if tt, ok := t.(*testing.T); ok {
			tt.Run(c.name, func(t *testing.T) { c.check(t, open(t)) })
		} else {
			c.check(t, open(t))
		}
	}
}

// block: what Acquire returns is what was asked for.
func block(t testing.TB, a alloc.Allocator) {
	t.Helper()
	for _, dst := range []netip.Addr{first, second, all} {
		for _, n := range []int{1, 2, 3} {
			b := must(t, a, dst, n)
			valid(t, b, dst, n)
			a.Release(b)
		}
	}
}

// count: a number of identifiers that can never be had is an error.
func count(t testing.TB, a alloc.Allocator) {
	t.Helper()
	for _, n := range []int{-1, 0, alloc.Limit} {
		b, err := acquire(t, a, first, n)
		if err == nil {
			t.Errorf("Acquire of %d identifiers gave %+v and no error", n, b)
		} else if errors.Is(err, alloc.ErrExhausted) {
			t.Errorf("Acquire of %d identifiers: %v; that is ErrExhausted, as if it could succeed later", n, err)
		}
	}
}

// exclusive: all blocks towards one destination are apart.
func exclusive(t testing.TB, a alloc.Allocator) {
	t.Helper()
	l := newLedger()
	fill(t, a, l, first, 2)
	fill(t, a, l, first, 1)
	fill(t, a, l, second, 1)
}

// exclusiveTowardsAll: a block towards all destinations is apart from every
// other, whichever came first.
func exclusiveTowardsAll(t testing.TB, a alloc.Allocator) {
	t.Helper()
	l := newLedger()
	for range 2 {
		l.take(t, must(t, a, first, 1))
		l.take(t, must(t, a, second, 1))
		l.take(t, must(t, a, all, 1))
	}
	fill(t, a, l, first, 1)
	fill(t, a, l, second, 1)
	fill(t, a, l, all, 1)
}

// exhausted: when nothing is left the error says so at once, and what is
// released can be had again.
func exhausted(t testing.TB, a alloc.Allocator) {
	t.Helper()
	for _, dst := range []netip.Addr{first, all} {
		l := newLedger()
		blocks := fill(t, a, l, dst, 1)
		if len(blocks) < 8 {
			t.Fatalf("%d blocks towards %s and then exhausted; the checks need room for 8", len(blocks), towards(dst))
		}
		for _, i := range []int{0, len(blocks) / 2, len(blocks) - 1} {
			a.Release(blocks[i])
			l.give(blocks[i])
			blocks[i] = must(t, a, dst, 1)
			l.take(t, blocks[i])
		}
		for _, b := range blocks {
			a.Release(b)
		}
		again := fill(t, a, newLedger(), dst, 1)
		if len(again) != len(blocks) {
			t.Fatalf("%d blocks could be had, but %d after their release", len(blocks), len(again))
		}
		for _, b := range again {
			a.Release(b)
		}
	}
}

// notHeld: releasing what is not held does nothing.
func notHeld(t testing.TB, a alloc.Allocator) {
	t.Helper()
	l := newLedger()
	blocks := fill(t, a, l, first, 1)
	b := blocks[0]
	wrong := []alloc.Block{
		{},
		{First: b.First, N: -1, Dst: first},
		{First: b.First, N: 0, Dst: first},
		{First: 65535, N: 65536, Dst: first},
		{First: b.First, N: b.N, Dst: second},
		{First: b.First, N: b.N, Dst: all},
		{First: b.First, N: b.N + 1, Dst: first},
	}
	for _, w := range wrong {
		a.Release(w)
		if got, err := acquire(t, a, first, 1); err == nil {
			t.Fatalf("all is held; after the release of %+v, which nobody holds, Acquire gave %+v", w, got)
		}
	}
	// Twice: only the first may free it.
	a.Release(b)
	a.Release(b)
	l.give(b)
	l.take(t, must(t, a, first, 1))
	if got, err := acquire(t, a, first, 1); err == nil {
		t.Fatalf("one block was released twice and gave two: %+v and then %+v", b, got)
	}
}

// concurrent: nothing of this depends on who calls when.
func concurrent(t testing.TB, a alloc.Allocator) {
	t.Helper()
	l := newLedger()
	var wg sync.WaitGroup
	for g := range 4 * max(2, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			var mine []alloc.Block
			for range 300 {
				if len(mine) > 0 && rnd.IntN(2) == 0 {
					i := rnd.IntN(len(mine))
					b := mine[i]
					mine[i] = mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					l.give(b)
					a.Release(b)
					continue
				}
				dst := [...]netip.Addr{first, second, all}[rnd.IntN(3)]
				n := 1 + rnd.IntN(3)
				b, err := a.Acquire(context.Background(), dst, n)
				switch {
				case errors.Is(err, alloc.ErrExhausted):
				case err != nil:
					t.Errorf("Acquire of %d towards %s: %v; want a block or ErrExhausted", n, towards(dst), err)
					return
				case !l.add(b):
					t.Errorf("Acquire of %d towards %s gave %+v, of which somebody holds a part", n, towards(dst), b)
					return
				default:
					mine = append(mine, b)
				}
				runtime.Gosched()
			}
			for _, b := range mine {
				l.give(b)
				a.Release(b)
			}
		})
	}
	wg.Wait()
}

// fill acquires blocks of n until there are no more.
func fill(t testing.TB, a alloc.Allocator, l *ledger, dst netip.Addr, n int) (blocks []alloc.Block) {
	t.Helper()
	for range alloc.Limit {
		b, err := acquire(t, a, dst, n)
		if err != nil {
			if !errors.Is(err, alloc.ErrExhausted) {
				t.Fatalf("Acquire of %d towards %s when none is left: %v; want ErrExhausted", n, towards(dst), err)
			}
			return blocks
		}
		valid(t, b, dst, n)
		l.take(t, b)
		blocks = append(blocks, b)
	}
	t.Fatalf("Acquire of %d towards %s gave %d blocks and still no ErrExhausted", n, towards(dst), alloc.Limit)
	return nil
}

func must(t testing.TB, a alloc.Allocator, dst netip.Addr, n int) alloc.Block {
	t.Helper()
	b, err := acquire(t, a, dst, n)
	if err != nil {
		t.Fatalf("Acquire of %d towards %s with room left: %v", n, towards(dst), err)
	}
	return b
}

// acquire calls Acquire and does not wait for it for ever.
func acquire(t testing.TB, a alloc.Allocator, dst netip.Addr, n int) (b alloc.Block, err error) {
	t.Helper()
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer close(done)
		b, err = a.Acquire(ctx, dst, n)
	}()
	timer := time.NewTimer(prompt)
	defer timer.Stop()
	select {
	case <-done:
		return b, err
	case <-timer.C:
		t.Fatalf("Acquire of %d towards %s waits; it should have said ErrExhausted", n, towards(dst))
		return alloc.Block{}, nil
	}
}

func valid(t testing.TB, b alloc.Block, dst netip.Addr, n int) {
	t.Helper()
	if b.N < n {
		t.Fatalf("Acquire of %d towards %s gave %+v, which is too few", n, towards(dst), b)
	}
	if b.First == 0 {
		t.Fatalf("Acquire gave %+v, but 0 is no identifier", b)
	}
	if int(b.First)+b.N > alloc.Limit {
		t.Fatalf("Acquire gave %+v, but there is no identifier above %d", b, alloc.Limit-1)
	}
	if b.Dst != dst {
		t.Fatalf("Acquire towards %s gave a block towards %s", towards(dst), towards(b.Dst))
	}
}

func towards(dst netip.Addr) string {
	if !dst.IsValid() {
		return "all destinations"
	}
	return dst.String()
}

// ledger knows independently of the allocator who holds what.
type ledger struct {
	mu    sync.Mutex                 // guards all below
	held  map[netip.Addr]map[int]int // per destination and identifier
	total map[int]int                // per identifier
}

func newLedger() *ledger {
	return &ledger{held: map[netip.Addr]map[int]int{}, total: map[int]int{}}
}

func (l *ledger) take(t testing.TB, b alloc.Block) {
	t.Helper()
	if !l.add(b) {
		t.Fatalf("Acquire gave %+v, of which somebody holds a part", b)
	}
}

// add enters b and tells whether nobody held a part of it.
func (l *ledger) add(b alloc.Block) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.held[b.Dst]
	if mine == nil {
		mine = map[int]int{}
		l.held[b.Dst] = mine
	}
	ok := true
	for id := int(b.First); id < int(b.First)+b.N; id++ {
		if b.Dst.IsValid() {
			ok = ok && mine[id] == 0 && l.held[netip.Addr{}][id] == 0
		} else {
			ok = ok && l.total[id] == 0
		}
		mine[id]++
		l.total[id]++
	}
	return ok
}

func (l *ledger) give(b alloc.Block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := int(b.First); id < int(b.First)+b.N; id++ {
		l.held[b.Dst][id]--
		l.total[id]--
	}
}
