// Package offset estimates how far another clock is off, from exchanges of
// time over any path, however slow or lopsided.
//
// An exchange is NTP's (RFC 5905): four times, two by either clock. The
// request cannot arrive before it was sent, nor the reply be sent after it was
// received, so an exchange proves an interval in which the offset lies, as
// wide as the round trip. Two clocks drift apart by no more than a known rate,
// and by what their kernels slew them, so what was proved then still holds now
// in an interval wider by that rate times the age and by that slewing. The
// intersection of all such intervals is the estimate: no filter to tune, and the
// bound is hard as long as the rate is.
package offset

import (
	"cmp"
	"slices"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/slewing"
)

// MaxDrift is how fast two clocks are taken to part at most beside what their
// kernels say to slew them: each by 100 parts in a million. That is more than
// the worst crystals on sale do; of a clock whose oscillator is further off it
// is enough if the kernel slews it right.
const MaxDrift = 200e-6

// MaxSlewing is how fast two kernels are taken to slew their clocks apart where
// nothing is known of it. Slewing beyond it counts as setting a clock.
const MaxSlewing = 2 * slewing.Max

// steady is for how long kernels are taken not to slew a clock to and fro.
const steady = time.Second

// Exchange is one of time. T1 and T4 are by the clock of reference, T2 and T3
// by the other one.
type Exchange struct {
	T1, T2, T3, T4 time.Time
	// Step counts how often the other clock is known to have been set. An
	// exchange during which it was is worth nothing and must not be added.
	Step uint64
	// Slewed is by how much more the kernel has slewed the other clock than the
	// one of reference, each since a moment of its own, during the exchange. A
	// sum that is the same as before means that it was not slewed.
	Slewed time.Duration
	// Steered says that Slewed is known.
	Steered bool
}

// Estimate is how far a clock is ahead of the reference.
type Estimate struct {
	Offset time.Duration
	// Bound is the most that Offset can be wrong by.
	Bound time.Duration
	// Skew is how much faster the clock seems to run, as a fraction, over the
	// exchanges since it was last set; 0 while there are too few. It is an
	// estimate without a bound, and Offset does not rest on it.
	Skew float64
}

// Estimator collects exchanges with one clock. The zero value is ready to use.
// It is not safe for concurrent use.
type Estimator struct {
	runs []run // between settings of the clock, oldest first
}

// run is what was learnt between two settings of the clock.
type run struct {
	step    uint64
	samples []sample
	blind   bool // of one of them the slewing is not known
}

// sample is an interval that holds the offset at a time of the reference.
type sample struct {
	at     time.Time
	lo, hi time.Duration
	slewed time.Duration
	// Between what the slewing was here and at samples that were dropped.
	least, most time.Duration
}

const (
	maxSamples = 256 // of a run
	maxRuns    = 16
	// maxOffset is what is believed of a clock: more than the 56 years that one
	// without a battery is off, less than what overflows.
	maxOffset = 1 << 61
)

// Add takes in an exchange. It reports false for one that cannot be: that ends
// before it begins, whose other side took longer than the whole, that puts the
// clocks more than 73 years apart, or that is of before the clock was set, is
// told after it and adds nothing to what was known then. stepped says that the
// clock was set since the one before, by its own account or because both cannot
// be true of a clock that was not. A step that the clock does not own up to, and
// that is smaller than the round trip, goes unnoticed.
func (e *Estimator) Add(x Exchange) (ok, stepped bool) {
	// The two readings of the other clock happened at unknown moments of the
	// exchange, during which it drifted.
	whole := x.T4.Sub(x.T1)
	drift := grow(whole) + 1
	return e.add(x, sample{at: x.T1.Add(whole / 2), lo: x.T3.Sub(x.T4) - drift, hi: x.T2.Sub(x.T1) + drift})
}

// AddServed takes in an exchange that the other side began: T1 and T4 are by
// the other clock, T2 and T3 by the one of reference. It is otherwise as
// [Estimator.Add].
func (e *Estimator) AddServed(x Exchange) (ok, stepped bool) {
	// Of the moments of the other clock's readings it is known only that they
	// were before and after.
	whole := x.T4.Sub(x.T1)
	drift := grow(whole+grow(whole)) + 1
	return e.add(x, sample{at: x.T2.Add(x.T3.Sub(x.T2) / 2), lo: x.T1.Sub(x.T2) - drift, hi: x.T4.Sub(x.T3) + drift})
}

// add takes in what an exchange proves.
func (e *Estimator) add(x Exchange, s sample) (ok, stepped bool) {
	whole, inside := x.T4.Sub(x.T1), x.T3.Sub(x.T2)
	if whole < 0 || inside < 0 || inside > whole+grow(whole)+1 {
		return false, false
	}
	// An interval that ends before it begins is what a reference that was set
	// meanwhile makes, or an overflow.
	if s.lo > s.hi || s.lo < -maxOffset || s.hi > maxOffset || x.Slewed < -maxOffset || x.Slewed > maxOffset {
		return false, false
	}
	s.slewed, s.least, s.most = x.Slewed, x.Slewed, x.Slewed
	n := len(e.runs)
	if n == 0 {
		e.runs = append(e.runs, newRun(x, s, whole))
		return true, false
	}
	newest := &e.runs[n-1]
	switch {
	case x.Step == newest.step && newest.add(x, s, whole):
		return true, false
	case x.Step < newest.step || s.at.Before(newest.first()):
		// Of before the clock was set, but told after it.
		for i := n - 2; i >= 0; i-- {
			if r := &e.runs[i]; r.step == x.Step && r.add(x, s, whole) {
				return true, false
			}
		}
		return false, false
	}
	e.runs = append(e.runs, newRun(x, s, whole))
	if len(e.runs) > maxRuns {
		e.runs = slices.Delete(e.runs, 0, 1)
	}
	return true, true
}

// newRun begins a run with a sample from an exchange that took so long as a
// whole, of which nothing is known of the slewing before.
func newRun(x Exchange, s sample, whole time.Duration) run {
	return run{step: x.Step, samples: []sample{s.during(part(whole, MaxSlewing))}, blind: !x.Steered}
}

// during widens a sample by what the clocks were slewed during the exchange.
func (s sample) during(slews time.Duration) sample {
	s.lo -= slews
	s.hi += slews
	return s
}

// add takes a sample in unless it cannot be true of the clock as it was set
// then.
func (r *run) add(x Exchange, s sample, whole time.Duration) bool {
	i := r.find(s.at)
	slews := part(whole, MaxSlewing)
	if before := max(i-1, 0); x.Steered && !r.blind {
		since := (s.slewed - r.samples[before].slewed).Abs()
		if since > part(s.at.Sub(r.samples[before].at).Abs()+whole, MaxSlewing)+slewing.Error {
			return false
		}
		slews = min(slews, since)
	}
	r.samples = slices.Insert(r.samples, i, s.during(slews))
	blind := r.blind
	r.blind = blind || !x.Steered
	if lo, hi := r.at(s.at, true); lo > hi {
		r.samples, r.blind = slices.Delete(r.samples, i, i+1), blind
		return false
	}
	if len(r.samples) > maxSamples {
		r.thin()
	}
	return true
}

// thin drops, of each pair of neighbours, the wider one, except the newest.
func (r *run) thin() {
	kept := r.samples[:0]
	n := len(r.samples)
	for i := 0; i+1 < n-1; i += 2 {
		a, b := r.samples[i], r.samples[i+1]
		if b.hi-b.lo < a.hi-a.lo {
			a, b = b, a
		}
		a.least, a.most = min(a.least, b.least), max(a.most, b.most)
		kept = append(kept, a)
	}
	if n%2 == 0 {
		kept = append(kept, r.samples[n-2])
	}
	kept = append(kept, r.samples[n-1])
	r.samples = kept
}

// find returns the index of the first sample that is not of before t.
func (r *run) find(t time.Time) int {
	i, _ := slices.BinarySearchFunc(r.samples, t, func(s sample, t time.Time) int { return s.at.Compare(t) })
	return i
}

// at intersects what the samples say of the offset at a time: all of them, or
// those near enough to make a difference.
func (r *run) at(t time.Time, all bool) (lo, hi time.Duration) {
	lo, hi = -3*maxOffset/2, 3*maxOffset/2
	far := func(s *sample) bool { return !all && grow(t.Sub(s.at).Abs()) > hi-lo }
	i, n := r.find(t), len(r.samples)
	unknown := r.unknown(t, i)
	// From t outwards: what a sample says has to allow for all the slewing
	// between it and the first sample beyond t.
	least, most := r.samples[min(i, n-1)].least, r.samples[min(i, n-1)].most
	for k := i - 1; k >= 0 && !far(&r.samples[k]); k-- {
		s := &r.samples[k]
		least, most = min(least, s.least), max(most, s.most)
		r.narrow(t, s, least, most, unknown, &lo, &hi)
	}
	least, most = r.samples[max(i-1, 0)].least, r.samples[max(i-1, 0)].most
	for k := i; k < n && !far(&r.samples[k]); k++ {
		s := &r.samples[k]
		least, most = min(least, s.least), max(most, s.most)
		r.narrow(t, s, least, most, unknown, &lo, &hi)
	}
	return lo, hi
}

// narrow intersects an interval with what a sample says of the offset at t,
// where the slewing since lay in between.
func (r *run) narrow(t time.Time, s *sample, least, most, unknown time.Duration, lo, hi *time.Duration) {
	age := t.Sub(s.at).Abs()
	w := grow(age)
	switch {
	case age == 0:
	case r.blind:
		w += part(age, MaxSlewing)
	case least != most:
		w += max(most-s.slewed, s.slewed-least) + slewing.Error
		fallthrough
	default:
		w += unknown
	}
	*lo, *hi = max(*lo, s.lo-w), min(*hi, s.hi+w)
}

// unknown is how far the slewing at t may be from that at the samples before
// the i-th and that: kernels may have begun to slew since, and in a long time
// they may slew to and fro.
func (r *run) unknown(t time.Time, i int) time.Duration {
	switch i {
	case len(r.samples):
		return part(t.Sub(r.last()), MaxSlewing)
	case 0:
		return part(r.first().Sub(t), MaxSlewing)
	}
	before, after := r.samples[i-1].at, r.samples[i].at
	if after.Sub(before) <= steady {
		return 0
	}
	return part(min(t.Sub(before), after.Sub(t)), MaxSlewing)
}

// grow is how far two clocks part in a time.
func grow(d time.Duration) time.Duration { return part(d, MaxDrift) }

func part(d time.Duration, rate float64) time.Duration {
	return time.Duration(float64(d) * rate)
}

// first and last are the times that a run is known to span.
func (r *run) first() time.Time { return r.samples[0].at }
func (r *run) last() time.Time  { return r.samples[len(r.samples)-1].at }

// At estimates the offset at a time of the reference. It reports false where
// nothing is known: there was no exchange, or the clock was set somewhere
// between the two exchanges around t.
func (e *Estimator) At(t time.Time) (Estimate, bool) {
	for i := len(e.runs) - 1; i >= 0; i-- {
		r := &e.runs[i]
		if i > 0 && t.Before(r.first()) {
			if t.After(e.runs[i-1].last()) {
				return Estimate{}, false
			}
			continue
		}
		lo, hi := r.at(t, false)
		// Rounded up: a bound that is a nanosecond short is none.
		return Estimate{Offset: lo + (hi-lo)/2, Bound: (hi-lo)/2 + 1, Skew: r.skew()}, true
	}
	return Estimate{}, false
}

// Of returns the reference's time at which the other clock, having been set
// step times, read theirs, and the estimate then. The reading is known to have
// happened from one time of the reference to another. It reports false where
// nothing is known.
func (e *Estimator) Of(theirs time.Time, step uint64, from, to time.Time) (time.Time, Estimate, bool) {
	for i := len(e.runs) - 1; i >= 0; i-- {
		r := &e.runs[i]
		if r.step != step {
			continue
		}
		t, bound := r.when(theirs)
		slack := bound + time.Microsecond
		// Of a setting that the clock did not own up to it is not known when
		// it was, between two exchanges.
		secret := i > 0 && e.runs[i-1].step == step && t.Before(r.first())
		if secret || t.Before(from.Add(-slack)) || t.After(to.Add(slack)) {
			continue
		}
		if i+1 < len(e.runs) && e.runs[i+1].step == step && t.After(r.last()) {
			break
		}
		return t, Estimate{Offset: theirs.Sub(t), Bound: bound, Skew: r.skew()}, true
	}
	return time.Time{}, Estimate{}, false
}

// when is the reference's time at which the other clock read theirs, and by how
// much that can be wrong.
func (r *run) when(theirs time.Time) (t time.Time, bound time.Duration) {
	t = r.last()
	for range 4 {
		lo, hi := r.at(t, false)
		guess := theirs.Add(-(lo + (hi-lo)/2))
		// The offset that was asked for is that at t, and the true time is as
		// far from there as the guess, and as the guess is wrong.
		bound = (hi-lo)/2 + 1
		apart := bound + guess.Sub(t).Abs()
		bound += grow(apart+grow(2*apart)) + r.slews(t, apart) + 1
		t = guess
	}
	return t, bound
}

// skew is the slope of a line through the tightest samples of the first and
// the second half of a run.
func (r *run) skew() float64 {
	n := len(r.samples)
	if n < 4 {
		return 0
	}
	tightest := func(s []sample) sample {
		return slices.MinFunc(s, func(a, b sample) int { return cmp.Compare(a.hi-a.lo, b.hi-b.lo) })
	}
	a, b := tightest(r.samples[:n/2]), tightest(r.samples[n/2:])
	span := b.at.Sub(a.at)
	if span <= 0 {
		return 0
	}
	return float64((b.lo+b.hi)/2-(a.lo+a.hi)/2) / float64(span)
}

// slews is how far the clocks may be slewed within that much of a time.
func (r *run) slews(t time.Time, within time.Duration) time.Duration {
	i, j := r.find(t.Add(-within)), r.find(t.Add(within))
	if !r.blind && i > 0 && j < len(r.samples) {
		least, most := r.samples[i-1].least, r.samples[i-1].most
		for _, s := range r.samples[i : j+1] {
			least, most = min(least, s.least), max(most, s.most)
		}
		if least == most && r.unknown(t, r.find(t)) == 0 {
			return 0
		}
	}
	return part(within, MaxSlewing)
}
