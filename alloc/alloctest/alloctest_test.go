package alloctest_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/alloc"
	"bitbucket.org/uwpatio/voltadomar/alloc/alloctest"
)

func open(t testing.TB, start, end uint32, block int) *alloc.Range {
	r, err := alloc.NewRange(start, end, block)
	require.NoError(t, err)
	return r
}

func TestRange(t *testing.T) {
	for _, c := range []struct {
		start, end uint32
		block      int
	}{
		{10000, 20000, 100},
		{0, 65536, 70},
		{1, 9, 1},
		{65000, 65536, 10},
		{1, 66, 8},
	} {
		t.Run(fmt.Sprintf("%d-%d by %d", c.start, c.end, c.block), func(t *testing.T) {
			alloctest.Run(t, func(t testing.TB) alloc.Allocator { return open(t, c.start, c.end, c.block) })
		})
	}
}

// recorder is a testing.TB that remembers whether a check failed.
type recorder struct {
	testing.TB
	mu      sync.Mutex // guards message
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.message == "" {
		r.message = fmt.Sprintf(format, args...)
	}
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// broken is an allocator with a defect.
type broken struct {
	alloc.Allocator
	acquire func(a alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error)
	release func(a alloc.Allocator, b alloc.Block)
}

func (b broken) Acquire(ctx context.Context, dst netip.Addr, n int) (alloc.Block, error) {
	if b.acquire == nil {
		return b.Allocator.Acquire(ctx, dst, n)
	}
	return b.acquire(b.Allocator, dst, n)
}

func (b broken) Release(block alloc.Block) {
	if b.release == nil {
		b.Allocator.Release(block)
		return
	}
	b.release(b.Allocator, block)
}

func TestBrokenAllocatorsFail(t *testing.T) {
	ctx := t.Context()
	type acquire = func(a alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error)
	edit := func(f func(b *alloc.Block)) acquire {
		return func(a alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error) {
			b, err := a.Acquire(ctx, dst, n)
			f(&b)
			return b, err
		}
	}
	for _, c := range []struct {
		name    string
		acquire acquire
		release func(a alloc.Allocator, b alloc.Block)
		want    string // a part of the message
	}{
		{name: "identifier 0", want: "0 is no identifier", acquire: edit(func(b *alloc.Block) { b.First = 0 })},
		{name: "beyond 16 bits", want: "no identifier above", acquire: edit(func(b *alloc.Block) { b.First = 65535; b.N = max(b.N, 2) })},
		{name: "too few", want: "too few", acquire: edit(func(b *alloc.Block) { b.N = 1 })},
		{name: "another destination", want: "gave a block towards", acquire: edit(func(b *alloc.Block) { b.Dst = netip.MustParseAddr("192.0.2.99") })},
		{name: "overlap", want: "somebody holds a part", acquire: edit(func(b *alloc.Block) { b.N++ })},
		{name: "forgets who holds", want: "somebody holds a part", acquire: func(_ alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error) {
			if n < 1 || n >= alloc.Limit {
				return alloc.Block{}, alloc.ErrTooMany
			}
			return alloc.Block{First: 1000, N: n, Dst: dst}, nil
		}},
		{name: "all is one destination among others", want: "somebody holds a part", acquire: func(a alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error) {
			if dst.IsValid() {
				return a.Acquire(ctx, dst, n)
			}
			b, err := a.Acquire(ctx, netip.MustParseAddr("198.51.100.1"), n)
			b.Dst = dst
			return b, err
		}, release: func(a alloc.Allocator, b alloc.Block) {
			if !b.Dst.IsValid() {
				b.Dst = netip.MustParseAddr("198.51.100.1")
			}
			a.Release(b)
		}},
		{name: "another error", want: "want ErrExhausted", acquire: func(a alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error) {
			b, err := a.Acquire(ctx, dst, n)
			if err != nil {
				err = errors.New("full")
			}
			return b, err
		}},
		{name: "never possible as exhausted", want: "as if it could succeed later", acquire: func(a alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error) {
			b, err := a.Acquire(ctx, dst, n)
			if err != nil {
				err = alloc.ErrExhausted
			}
			return b, err
		}},
		{name: "takes any count", want: "and no error", acquire: func(a alloc.Allocator, dst netip.Addr, n int) (alloc.Block, error) {
			return a.Acquire(ctx, dst, min(max(n, 1), 8))
		}},
		{name: "keeps what is released", want: "with room left", release: func(alloc.Allocator, alloc.Block) {}},
		{name: "frees for whoever asks", want: "which nobody holds", release: func(a alloc.Allocator, b alloc.Block) {
			if b.Dst.Is6() {
				b.Dst = netip.MustParseAddr("192.0.2.1")
			}
			a.Release(b)
		}},
		{name: "frees by the first identifier", want: "which nobody holds", release: func(a alloc.Allocator, b alloc.Block) {
			b.N = 1
			a.Release(b)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				alloctest.Run(r, func(testing.TB) alloc.Allocator {
					return broken{open(t, 10000, 10064, 1), c.acquire, c.release}
				})
			}()
			<-done
			require.Contains(t, r.message, c.want)
		})
	}
}

// twice frees the neighbour when a block is released that is not held.
type twice struct {
	alloc.Allocator
	mu   sync.Mutex // guards held
	held map[alloc.Block]bool
}

func (a *twice) Acquire(ctx context.Context, dst netip.Addr, n int) (alloc.Block, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, err := a.Allocator.Acquire(ctx, dst, n)
	if err == nil {
		a.held[b] = true
	}
	return b, err
}

func (a *twice) Release(b alloc.Block) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.held[b] && b.N == 1 {
		b.First++
	}
	delete(a.held, b)
	a.Allocator.Release(b)
}

func TestSecondReleaseThatFreesFails(t *testing.T) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		alloctest.Run(r, func(testing.TB) alloc.Allocator {
			return &twice{Allocator: open(t, 10000, 10064, 1), held: map[alloc.Block]bool{}}
		})
	}()
	<-done
	require.NotEmpty(t, r.message)
}

// racy gives one identifier too many when two ask at once.
type racy struct {
	alloc.Allocator
	asking atomic.Int32
}

func (a *racy) Acquire(ctx context.Context, dst netip.Addr, n int) (alloc.Block, error) {
	a.asking.Add(1)
	defer a.asking.Add(-1)
	runtime.Gosched()
	b, err := a.Allocator.Acquire(ctx, dst, n)
	if err == nil && a.asking.Load() > 1 {
		b.N++
	}
	return b, err
}

func TestRacyAllocatorFails(t *testing.T) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		alloctest.Run(r, func(testing.TB) alloc.Allocator {
			return &racy{Allocator: open(t, 10000, 12000, 1)}
		})
	}()
	<-done
	require.Contains(t, r.message, "somebody holds a part")
}
