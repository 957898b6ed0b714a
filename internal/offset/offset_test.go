package offset_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/internal/offset"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// wrongClock is a clock that is off.
type wrongClock struct {
	ahead time.Duration // at the epoch
	skew  float64
	steps []step
	slews []slew
}

// slew is a time during which the clock is made to run faster.
type slew struct {
	from, to time.Duration // since the epoch
	rate     float64
}

// slewed is by how much it was by then.
func (c *wrongClock) slewed(at time.Duration) (sum time.Duration) {
	for _, s := range c.slews {
		if at > s.from {
			sum += time.Duration(float64(min(at, s.to)-s.from) * s.rate)
		}
	}
	return sum
}

type step struct {
	at time.Duration // since the epoch
	by time.Duration
}

// offset is how far the clock is ahead at a time.
func (c *wrongClock) offset(at time.Duration) time.Duration {
	o := c.ahead + time.Duration(float64(at)*c.skew) + c.slewed(at)
	for _, s := range c.steps {
		if at >= s.at {
			o += s.by
		}
	}
	return o
}

func (c *wrongClock) read(at time.Duration) time.Time { return epoch.Add(at + c.offset(at)) }

func (c *wrongClock) count(at time.Duration) (n uint64) {
	for _, s := range c.steps {
		if at >= s.at {
			n++
		}
	}
	return n
}

// exchange is one that begins at a time, over a path with the given delays.
func (c *wrongClock) exchange(at, there, inside, back time.Duration) offset.Exchange {
	return offset.Exchange{
		T1: epoch.Add(at), T2: c.read(at + there), T3: c.read(at + there + inside), T4: epoch.Add(at + there + inside + back),
	}
}

// served is one that the clock's side begins.
func (c *wrongClock) served(at, there, inside, back time.Duration) offset.Exchange {
	return offset.Exchange{
		T1: c.read(at), T2: epoch.Add(at + there), T3: epoch.Add(at + there + inside), T4: c.read(at + there + inside + back),
	}
}

// TestBounds makes 10,000 exchanges with clocks that are wrong in every way:
// the true offset never lies outside the bound.
func TestBounds(t *testing.T) {
	clocks := map[string]wrongClock{
		"ahead":            {ahead: 250 * time.Millisecond},
		"behind":           {ahead: -3 * time.Second},
		"fast":             {skew: 50e-6},
		"slow":             {ahead: time.Hour, skew: -50e-6},
		"stepped":          {ahead: 250 * time.Millisecond, skew: 50e-6, steps: []step{{500 * time.Second, -3 * time.Second}}},
		"back":             {steps: []step{{100 * time.Second, time.Millisecond}, {700 * time.Second, -time.Millisecond}}},
		"slewed":           {skew: 50e-6, slews: []slew{{100 * time.Second, 300 * time.Second, 500e-6}, {400 * time.Second, 401 * time.Second, -500e-6}}},
		"slewed all along": {slews: []slew{{0, time.Hour, -500e-6}}},
		// Its oscillator is far off, and its kernel makes up for that.
		"well disciplined": {skew: -300e-6, slews: []slew{{0, time.Hour, 300e-6}}},
	}
	toAndFro := wrongClock{skew: 50e-6}
	for at := time.Duration(0); at < time.Hour; at += 10 * time.Second {
		toAndFro.slews = append(toAndFro.slews, slew{at, at + 5*time.Second, 500e-6}, slew{at + 5*time.Second, at + 10*time.Second, -500e-6})
	}
	clocks["slewed to and fro, seldom asked"] = toAndFro
	pause := func(name string) time.Duration {
		if strings.HasSuffix(name, "seldom asked") {
			return 20 * time.Second
		}
		return 200 * time.Millisecond
	}
	for name, c := range clocks {
		for _, told := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, slewing told %v", name, told), func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				var e offset.Estimator
				at := time.Duration(0)
				previous := at
				var known, unknown int
				exchanges := 10000
				if !told {
					exchanges = 1000
				}
				for range exchanges {
					// From fast and even to slow and all one way.
					there := time.Duration(r.ExpFloat64() * float64(100*time.Microsecond))
					back := time.Duration(r.ExpFloat64() * float64(20*time.Millisecond))
					inside := time.Duration(r.IntN(1000)) * time.Microsecond
					end := at + there + inside + back
					crossed := c.count(at) != c.count(end)
					if !crossed {
						// Either side may begin.
						x, add := c.exchange(at, there, inside, back), e.Add
						if r.IntN(2) == 0 {
							x, add = c.served(at, there, inside, back), e.AddServed
						}
						if name == "back" {
							x.Step = c.count(at) // too small a step to be seen
						}
						// It is read after the exchange, and not exactly.
						x.Slewed, x.Steered = time.Minute, told
						if s := c.slewed(end); s != 0 {
							x.Slewed += s + time.Duration(r.IntN(500)-250)
						}
						ok, _ := add(x)
						require.True(t, ok)
					}
					for _, when := range []time.Duration{at, at + (end-at)*3/4, end, end + time.Second, (at + previous) / 2} {
						got, ok := e.At(epoch.Add(when))
						if !ok || crossed || c.count(when) != c.count(end) {
							unknown++
							continue
						}
						known++
						wrong := (got.Offset - c.offset(when)).Abs()
						require.LessOrEqual(t, wrong, got.Bound, "at %v: offset %v, true %v", when, got.Offset, c.offset(when))
						if r.IntN(5) > 0 {
							continue
						}
						if found, got, ok := e.Of(c.read(when), 0, epoch.Add(when), epoch.Add(when)); ok {
							require.LessOrEqual(t, found.Sub(epoch.Add(when)).Abs(), got.Bound, when)
						}
					}
					if got, ok := e.At(epoch.Add(end)); ok && !crossed {
						drift := float64(there+inside+back) * 2.2 * (offset.MaxDrift + offset.MaxSlewing)
						require.LessOrEqual(t, got.Bound, (there+back)/2+time.Duration(drift)+2*time.Microsecond)
					}
					previous = at
					at = end + time.Duration(r.Int64N(int64(pause(name))))
				}
				require.Greater(t, known, 100*unknown)
			})
		}
	}
}

// TestOf finds when a clock read what it read.
func TestOf(t *testing.T) {
	c := wrongClock{ahead: 250 * time.Millisecond, skew: 50e-6, steps: []step{{10 * time.Second, -3 * time.Second}}}
	var e offset.Estimator
	_, _, ok := e.Of(epoch, 0, epoch, epoch)
	require.False(t, ok, "nothing is known yet")
	for at := time.Duration(0); at <= 20*time.Second; at += 500 * time.Millisecond {
		x := c.exchange(at, 100*time.Microsecond, 0, 300*time.Microsecond)
		x.Step = c.count(at)
		ok, stepped := e.Add(x)
		require.True(t, ok)
		require.Equal(t, at == 10*time.Second, stepped, at)
	}
	for at := 100 * time.Millisecond; at < 20*time.Second; at += 700 * time.Millisecond {
		from, to := epoch.Add(at-time.Millisecond), epoch.Add(at+time.Millisecond)
		when, got, ok := e.Of(c.read(at), c.count(at), from, to)
		require.True(t, ok, at)
		require.LessOrEqual(t, when.Sub(epoch.Add(at)).Abs(), got.Bound, at)
		require.LessOrEqual(t, (got.Offset - c.offset(at)).Abs(), got.Bound)
		// Up to 300 ms after the last exchange before the clock was set.
		require.LessOrEqual(t, got.Bound, 700*time.Microsecond)
		_, _, ok = e.Of(c.read(at), 1-c.count(at), from, to)
		require.False(t, ok, "as if it had been set before, or not yet: %v", at)
	}
}

// TestOfSecretStep has a clock set that does not say so.
func TestOfSecretStep(t *testing.T) {
	c := wrongClock{steps: []step{{10*time.Second + 200*time.Millisecond, -3 * time.Second}}}
	var e offset.Estimator
	for at := time.Duration(0); at < 20*time.Second; at += 500 * time.Millisecond {
		_, stepped := e.Add(c.exchange(at, 100*time.Microsecond, 0, 300*time.Microsecond))
		require.Equal(t, at == 10500*time.Millisecond, stepped)
	}
	for at := 50 * time.Millisecond; at < 20*time.Second; at += 100 * time.Millisecond {
		when, got, ok := e.Of(c.read(at), 0, epoch.Add(at-time.Millisecond), epoch.Add(at+time.Millisecond))
		if at > 10*time.Second && at < 10500*time.Millisecond {
			require.False(t, ok, "set somewhere here: %v", at)
			continue
		}
		require.True(t, ok, at)
		require.LessOrEqual(t, when.Sub(epoch.Add(at)).Abs(), got.Bound)
	}
}

// TestToldLate has an exchange of before a step told after it, by a clock that
// owns up to the step and by one that does not.
func TestToldLate(t *testing.T) {
	c := wrongClock{steps: []step{{10 * time.Second, -3 * time.Second}}}
	for _, secret := range []bool{false, true} {
		exchange := func(at, long time.Duration) offset.Exchange {
			x := c.served(at, long, 0, long)
			if !secret {
				x.Step = c.count(at)
			}
			return x
		}
		var e offset.Estimator
		for _, at := range []time.Duration{7, 8, 11, 12} {
			ok, stepped := e.AddServed(exchange(at*time.Second, 10*time.Millisecond))
			require.True(t, ok)
			require.Equal(t, at == 11, stepped)
		}
		ok, stepped := e.AddServed(exchange(9*time.Second, time.Microsecond))
		require.True(t, ok)
		require.False(t, stepped)
		for at, offset := range map[time.Duration]time.Duration{9: 0, 12: -3 * time.Second} {
			got, ok := e.At(epoch.Add(at * time.Second))
			require.True(t, ok)
			require.LessOrEqual(t, (got.Offset - offset).Abs(), got.Bound)
			require.Equal(t, at == 9, got.Bound < time.Millisecond)
		}
		c := wrongClock{ahead: time.Hour} // as nobody knew it then
		x := c.served(9*time.Second, 0, 0, 0)
		ok, stepped = e.AddServed(x)
		require.False(t, ok)
		require.False(t, stepped)
	}
}

func TestSkew(t *testing.T) {
	c := wrongClock{skew: 50e-6}
	var e offset.Estimator
	for at := time.Duration(0); at < 1000*time.Second; at += 10 * time.Second {
		e.Add(c.exchange(at, 100*time.Microsecond, 0, 100*time.Microsecond))
	}
	got, ok := e.At(epoch.Add(1000 * time.Second))
	require.True(t, ok)
	require.InDelta(t, 50e-6, got.Skew, 1e-6)
}

func TestImpossible(t *testing.T) {
	var e offset.Estimator
	for _, x := range []offset.Exchange{
		{T1: epoch.Add(1), T2: epoch, T3: epoch, T4: epoch},
		{T1: epoch, T2: epoch.Add(1), T3: epoch, T4: epoch.Add(9)},
		{T1: epoch, T2: epoch, T3: epoch.Add(time.Second), T4: epoch.Add(time.Millisecond)},
	} {
		ok, _ := e.Add(x)
		require.False(t, ok)
	}
	_, ok := e.At(epoch)
	require.False(t, ok)
}

// TestAnything draws clocks, paths and times.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		us := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Microsecond
		}
		c := wrongClock{
			ahead: us("ahead", 1e9) - us("behind", 1e9),
			skew:  rapid.Float64Range(-offset.MaxDrift/2, offset.MaxDrift/2).Draw(t, "skew"),
		}
		var e offset.Estimator
		at := time.Duration(0)
		for range rapid.IntRange(1, 600).Draw(t, "exchanges") {
			there, inside, back := us("there", 1e5), us("inside", 1e5), us("back", 1e5)
			x, add := c.exchange(at, there, inside, back), e.Add
			if rapid.Bool().Draw(t, "served") {
				x, add = c.served(at, there, inside, back), e.AddServed
			}
			ok, stepped := add(x)
			require.True(t, ok)
			require.False(t, stepped)
			at += there + inside + back + us("pause", 1e6)
		}
		for range 20 {
			when := us("when", int(2*at/time.Microsecond)+1)
			got, ok := e.At(epoch.Add(when))
			require.True(t, ok)
			require.LessOrEqual(t, (got.Offset - c.offset(when)).Abs(), got.Bound)
			theirs := c.read(when)
			found, got, ok := e.Of(theirs, 0, epoch.Add(when), epoch.Add(when))
			require.True(t, ok)
			require.LessOrEqual(t, found.Sub(epoch.Add(when)).Abs(), got.Bound)
		}
	})
}

// TestOfLongAgo has a clock of the worst skew read long before the newest
// exchange: the time that is found is within its bound.
func TestOfLongAgo(t *testing.T) {
	for _, skew := range []float64{-199e-6, 199e-6} {
		c := wrongClock{skew: skew}
		var e offset.Estimator
		for at := time.Duration(0); at < time.Hour; at += time.Minute {
			e.Add(c.exchange(at, time.Microsecond, 0, time.Microsecond))
		}
		for _, at := range []time.Duration{0, time.Minute, 30 * time.Minute} {
			when, got, ok := e.Of(c.read(at), 0, epoch.Add(at), epoch.Add(at))
			require.True(t, ok, at)
			require.LessOrEqual(t, when.Sub(epoch.Add(at)).Abs(), got.Bound, at)
			require.LessOrEqual(t, (got.Offset - c.offset(at)).Abs(), got.Bound, at)
		}
	}
}

// TestAbsurd has clocks that are off by more than can be reckoned with.
func TestAbsurd(t *testing.T) {
	for _, theirs := range []time.Time{time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64), {}, time.Unix(1<<40, 0), time.Unix(-1<<40, 0)} {
		var e offset.Estimator
		ok, _ := e.Add(offset.Exchange{T1: epoch, T2: theirs, T3: theirs, T4: epoch.Add(time.Millisecond)})
		require.False(t, ok, theirs)
		_, ok = e.At(epoch)
		require.False(t, ok)
	}
	var e offset.Estimator
	zero := time.Unix(0, 0)
	ok, _ := e.Add(offset.Exchange{T1: epoch, T2: zero, T3: zero, T4: epoch.Add(time.Millisecond)})
	require.True(t, ok, "a clock that was never set")
	for _, theirs := range []time.Time{time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64), {}, time.Unix(1<<40, 0)} {
		_, _, ok = e.Of(theirs, 0, epoch, epoch.Add(time.Second))
		require.False(t, ok, theirs)
	}
}

// TestSlewed has exchanges prove almost all, so that what is known of the
// slewing is what the bound is made of.
func TestSlewed(t *testing.T) {
	c := wrongClock{skew: 90e-6}
	for at := time.Duration(0); at < 40*time.Second; at += 10 * time.Second {
		c.slews = append(c.slews, slew{at + 2*time.Second, at + 5*time.Second, 500e-6}, slew{at + 7*time.Second, at + 9*time.Second, -500e-6})
	}
	r := rand.New(rand.NewPCG(3, 4))
	var e offset.Estimator
	var done []time.Duration
	for at := time.Duration(0); at < 40*time.Second; at += time.Duration(r.IntN(100)) * time.Millisecond {
		x := c.exchange(at, 0, 0, 0)
		x.Steered = true
		x.Slewed = c.slewed(at) + time.Duration(r.IntN(3)-1)*250
		ok, stepped := e.Add(x)
		require.True(t, ok)
		require.False(t, stepped, at)
		done = append(done, at)
	}
	for range 10000 {
		i := r.IntN(len(done) - 1)
		at := done[i] + time.Duration(r.Int64N(int64(done[i+1]-done[i])+1))
		if r.IntN(2) == 0 {
			at = done[i] + time.Duration(r.IntN(9)-4)*time.Microsecond
		}
		got, ok := e.At(epoch.Add(at))
		require.True(t, ok)
		require.LessOrEqual(t, (got.Offset - c.offset(at)).Abs(), got.Bound, at)
		require.LessOrEqual(t, got.Bound, 2*time.Millisecond, at)
		found, got, ok := e.Of(c.read(at), 0, epoch.Add(at), epoch.Add(at))
		require.True(t, ok)
		require.LessOrEqual(t, found.Sub(epoch.Add(at)).Abs(), got.Bound, at)
	}
}

// TestSlewedTooFast has a clock slewed as fast as one can be that counts other
// ticks: it counts as one that is being set.
func TestSlewedTooFast(t *testing.T) {
	c := wrongClock{slews: []slew{{10 * time.Second, 11 * time.Second, 0.08}}}
	var e offset.Estimator
	steps := 0
	for at := time.Duration(0); at < 20*time.Second; at += 100 * time.Millisecond {
		x := c.exchange(at, time.Millisecond, 0, time.Millisecond)
		x.Slewed, x.Steered = c.slewed(at+2*time.Millisecond), true
		ok, stepped := e.Add(x)
		require.True(t, ok)
		if stepped {
			steps++
		}
		require.False(t, stepped && (at < 10*time.Second-2*time.Millisecond || at > 11*time.Second+100*time.Millisecond), at)
	}
	require.GreaterOrEqual(t, steps, 9)
	for at := time.Duration(0); at < 20*time.Second; at += 70 * time.Millisecond {
		_, got, ok := e.Of(c.read(at), 0, epoch.Add(at), epoch.Add(at))
		if at > 10*time.Second-100*time.Millisecond && at < 11*time.Second+200*time.Millisecond {
			continue // it may be told, or not
		}
		require.True(t, ok, at)
		require.LessOrEqual(t, (got.Offset - c.offset(at)).Abs(), got.Bound, at)
	}
}

// BenchmarkOf places a reading between the exchanges of a long time.
func BenchmarkOf(b *testing.B) {
	var c wrongClock
	var e offset.Estimator
	for at := time.Duration(0); at < time.Minute; at += 100 * time.Millisecond {
		e.Add(c.exchange(at, time.Microsecond, 0, time.Microsecond))
	}
	at := time.Minute - 350*time.Millisecond
	theirs, from, to := c.read(at), epoch.Add(at-time.Millisecond), epoch.Add(at+time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := e.Of(theirs, 0, from, to); !ok {
			b.Fatal("not found")
		}
	}
}
