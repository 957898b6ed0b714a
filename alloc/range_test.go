package alloc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/alloc"
)

var (
	dst1 = netip.MustParseAddr("192.0.2.1")
	dst2 = netip.MustParseAddr("2001:db8::2")
	all  netip.Addr
)

func newRange(t testing.TB, start, end uint32, block int) *alloc.Range {
	t.Helper()
	r, err := alloc.NewRange(start, end, block)
	require.NoError(t, err)
	return r
}

func acquire(t testing.TB, r *alloc.Range, dst netip.Addr, n int) alloc.Block {
	t.Helper()
	b, err := r.Acquire(t.Context(), dst, n)
	require.NoError(t, err)
	return b
}

func TestNewRange(t *testing.T) {
	for _, c := range []struct {
		start, end uint32
		block      int
		want       string // in the error, empty if fine
	}{
		{10000, 20000, 100, ""},
		{0, 65536, 100, ""},
		{65535, 65536, 1, ""},
		{1, 2, 1, ""},
		{0, 65537, 100, "ends at 65537: the end must be at most 65536"},
		{1000, 100000, 1000, "ends at 100000"},
		{20000, 10000, 100, "range of probe identifiers 20000-10000 is empty"},
		{5, 5, 1, "5-5 is empty"},
		{0, 1, 1, "0 is no identifier"},
		{0, 0, 1, "is empty"},
		{10, 20, 0, "block of 0 probe identifiers: must be 1 to 10"},
		{10, 20, -1, "block of -1"},
		{10, 20, 11, "block of 11"},
		{0, 20, 20, "block of 20 probe identifiers: must be 1 to 19"},
	} {
		r, err := alloc.NewRange(c.start, c.end, c.block)
		if c.want == "" {
			require.NoError(t, err)
			require.NotNil(t, r)
		} else {
			require.ErrorContains(t, err, c.want)
			require.Nil(t, r)
		}
	}
}

func TestTakesWholeNeighbouringBlocks(t *testing.T) {
	r := newRange(t, 10000, 20000, 100)
	require.Equal(t, alloc.Block{First: 10000, N: 100, Dst: dst1}, acquire(t, r, dst1, 90))
	require.Equal(t, alloc.Block{First: 10100, N: 200, Dst: dst1}, acquire(t, r, dst1, 150))
	require.Equal(t, alloc.Block{First: 10300, N: 100, Dst: all}, acquire(t, r, all, 100))
}

func TestShortLastBlock(t *testing.T) {
	r := newRange(t, 10, 35, 10) // 10-20, 20-30, 30-35
	require.Equal(t, alloc.Block{First: 10, N: 25, Dst: dst1}, acquire(t, r, dst1, 25))
	require.Equal(t, alloc.Block{First: 10, N: 20, Dst: dst2}, acquire(t, r, dst2, 11))
	require.Equal(t, alloc.Block{First: 30, N: 5, Dst: dst2}, acquire(t, r, dst2, 5))
	_, err := r.Acquire(t.Context(), dst2, 1)
	require.ErrorIs(t, err, alloc.ErrExhausted)

	r = newRange(t, 10, 35, 10)
	acquire(t, r, dst1, 20)
	_, err = r.Acquire(t.Context(), dst1, 6)
	require.ErrorIs(t, err, alloc.ErrExhausted, "the last block has 5")
	acquire(t, r, dst1, 5)
}

func TestNeverZero(t *testing.T) {
	r := newRange(t, 0, 65536, 1)
	require.Equal(t, alloc.Block{First: 1, N: 65535, Dst: all}, acquire(t, r, all, 65535))
	_, err := r.Acquire(t.Context(), dst1, 1)
	require.ErrorIs(t, err, alloc.ErrExhausted)
}

func TestDestinationsAreApartButAllIsNot(t *testing.T) {
	r := newRange(t, 100, 200, 100)
	b1 := acquire(t, r, dst1, 100)
	b2 := acquire(t, r, dst2, 100)
	require.Equal(t, b1.First, b2.First, "other destinations may hold the same identifiers")
	_, err := r.Acquire(t.Context(), all, 1)
	require.ErrorIs(t, err, alloc.ErrExhausted)
	r.Release(b1)
	_, err = r.Acquire(t.Context(), all, 1)
	require.ErrorIs(t, err, alloc.ErrExhausted, "one destination still holds it")
	r.Release(b2)
	ball := acquire(t, r, all, 1)
	_, err = r.Acquire(t.Context(), dst1, 1)
	require.ErrorIs(t, err, alloc.ErrExhausted)
	r.Release(ball)
	acquire(t, r, dst1, 1)
}

func TestMappedAndZonedAddressesAreOneDestination(t *testing.T) {
	for _, pair := range [][2]string{{"192.0.2.1", "::ffff:192.0.2.1"}, {"fe80::1%a", "fe80::1%b"}, {"fe80::1%a", "fe80::1"}} {
		r := newRange(t, 100, 200, 100)
		one, other := netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])
		b := acquire(t, r, one, 1)
		require.Equal(t, one, b.Dst)
		_, err := r.Acquire(t.Context(), other, 1)
		require.ErrorIs(t, err, alloc.ErrExhausted, "%s and %s", one, other)
	}
}

func TestReleasedIdentifiersRest(t *testing.T) {
	r := newRange(t, 1, 11, 1)
	for i := range 25 {
		b := acquire(t, r, dst1, 1)
		require.Equal(t, uint16(1+i%10), b.First)
		r.Release(b)
	}
}

func TestErrors(t *testing.T) {
	r := newRange(t, 10000, 20000, 100)
	_, err := r.Acquire(t.Context(), dst1, 10001)
	require.ErrorIs(t, err, alloc.ErrTooMany)
	require.NotErrorIs(t, err, alloc.ErrExhausted)
	require.ErrorContains(t, err, "10001 asked for, the range 10000-20000 has 10000")

	for _, n := range []int{0, -1} {
		_, err = r.Acquire(t.Context(), dst1, n)
		require.ErrorIs(t, err, alloc.ErrNone)
	}

	acquire(t, r, all, 9000)
	_, err = r.Acquire(t.Context(), dst1, 1001)
	require.ErrorIs(t, err, alloc.ErrExhausted)
	require.ErrorContains(t, err, "no 1001 in a row are free towards 192.0.2.1 in the range 10000-20000")
	_, err = r.Acquire(t.Context(), all, 1001)
	require.ErrorContains(t, err, "towards all destinations")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Acquire(ctx, dst1, 1)
	require.ErrorIs(t, err, context.Canceled)
}

// model holds, per destination, who has each identifier.
type model map[netip.Addr]map[int]bool

func (m model) free(dst netip.Addr, from, to int) bool {
	for d, ids := range m {
		if dst.IsValid() && d.IsValid() && d != dst {
			continue
		}
		for id := from; id < to; id++ {
			if ids[id] {
				return false
			}
		}
	}
	return true
}

func (m model) set(b alloc.Block, v bool) {
	if m[b.Dst] == nil {
		m[b.Dst] = map[int]bool{}
	}
	for id := int(b.First); id < int(b.First)+b.N; id++ {
		m[b.Dst][id] = v
	}
}

// Whatever is acquired and released in whatever order: no two blocks overlap,
// and exhaustion is said only when there really is no row of free blocks.
func TestOverlapIsImpossible(t *testing.T) {
	dsts := []netip.Addr{all, dst1, dst2, netip.MustParseAddr("198.51.100.3")}
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.IntRange(0, 5).Draw(t, "start")
		size := rapid.IntRange(2, 60).Draw(t, "size")
		if rapid.Bool().Draw(t, "at the top") {
			start = alloc.Limit - size
		}
		end := start + size
		first := max(start, 1)
		block := rapid.IntRange(1, end-first).Draw(t, "block")
		r, err := alloc.NewRange(uint32(start), uint32(end), block)
		require.NoError(t, err)
		m := model{}
		var held []alloc.Block
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				dst := rapid.SampledFrom(dsts).Draw(t, "dst")
				n := rapid.IntRange(1, end-first).Draw(t, "n")
				b, err := r.Acquire(context.Background(), dst, n)
				if err != nil {
					require.ErrorIs(t, err, alloc.ErrExhausted)
					for at := first; at+n <= end; at += block {
						require.False(t, m.free(dst, at, min(end, at+(n+block-1)/block*block)),
							"exhausted, but %d from %d on are free", n, at)
					}
					return
				}
				require.GreaterOrEqual(t, b.N, n)
				require.Less(t, b.N, n+block)
				require.GreaterOrEqual(t, int(b.First), first)
				require.LessOrEqual(t, int(b.First)+b.N, end)
				require.True(t, m.free(dst, int(b.First), int(b.First)+b.N), "%+v overlaps", b)
				m.set(b, true)
				held = append(held, b)
			},
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing held")
				}
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				b := held[i]
				held = append(held[:i], held[i+1:]...)
				m.set(b, false)
				r.Release(b)
				if rapid.Bool().Draw(t, "twice") {
					r.Release(b)
				}
			},
			"release what is not held": func(t *rapid.T) {
				b := alloc.Block{
					First: uint16(rapid.IntRange(0, 65535).Draw(t, "any")),
					N:     rapid.IntRange(-2, 70).Draw(t, "n"),
					Dst:   rapid.SampledFrom(dsts).Draw(t, "dst"),
				}
				if rapid.Bool().Draw(t, "near") {
					b.First = uint16(rapid.IntRange(start, end-1).Draw(t, "first"))
				}
				for _, h := range held {
					if h == b {
						t.Skip("held")
					}
				}
				r.Release(b)
			},
		})
	})
}

func TestOverlapIsImpossibleConcurrently(t *testing.T) {
	const start, end, block = 1000, 1400, 10
	r := newRange(t, start, end, block)
	dsts := make([]netip.Addr, 8)
	for i := 1; i < len(dsts); i++ {
		dsts[i] = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
	}
	var mu sync.Mutex // guards m
	m := model{}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(g)))
			for range 2000 {
				dst := dsts[rnd.IntN(len(dsts))]
				b, err := r.Acquire(context.Background(), dst, 1+rnd.IntN(5*block))
				if err != nil {
					if !errors.Is(err, alloc.ErrExhausted) {
						t.Errorf("acquire: %v", err)
					}
					continue
				}
				mu.Lock()
				if !m.free(dst, int(b.First), int(b.First)+b.N) {
					t.Errorf("%+v overlaps", b)
				}
				m.set(b, true)
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				m.set(b, false)
				mu.Unlock()
				r.Release(b)
			}
		})
	}
	wg.Wait()
	acquire(t, r, all, end-start)
}

func target(i int) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(a[12:], uint32(i))
	return netip.AddrFrom16(a)
}

func TestMemoryIsBoundedByWhatIsHeld(t *testing.T) {
	r := newRange(t, 10000, 20000, 100)
	const n = 100_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range n {
		r.Release(acquire(t, r, target(i), 90))
	}
	require.Less(t, heap(), before+1<<20, "destinations that hold nothing must cost nothing")
	blocks := make([]alloc.Block, n)
	before = heap()
	for i := range n {
		blocks[i] = acquire(t, r, target(i), 90)
	}
	require.Less(t, heap(), before+n*300, "a destination that holds a block")
	for _, b := range blocks {
		r.Release(b)
	}
	acquire(t, r, all, 10000)
	runtime.KeepAlive(r)
}

func BenchmarkRange(b *testing.B) {
	for _, held := range []int{0, 100_000} {
		b.Run(map[int]string{0: "idle", 100_000: "100000-destinations"}[held], func(b *testing.B) {
			r := newRange(b, 10000, 20000, 100)
			for i := range held {
				acquire(b, r, target(i), 90)
			}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				block, err := r.Acquire(ctx, dst1, 90)
				if err != nil {
					b.Fatal(err)
				}
				r.Release(block)
			}
		})
	}
}
