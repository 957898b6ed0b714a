// Package offset estimates how far another clock is off, from exchanges of
// time over any path, however slow or lopsided.
//
// An exchange is NTP's (RFC 5905): four times, two by either clock. The
// request cannot arrive before it was sent, nor the reply be sent after it was
// received, so an exchange proves an interval in which the offset lies, as
// wide as the round trip. Two crystals drift apart by no more than a known
// rate, so what was proved then still holds now in an interval wider by that
// rate times the age. The intersection of all such intervals is the estimate:
// no filter to tune, and the bound is hard as long as the rate is.
//
// A kernel that disciplines its clock makes it run faster or slower than its
// crystal, by 500 parts in a million and more. It says by how much, see
// [Slewed], so that is taken out of the intervals and put back where the
// offset is asked for.
package offset

import (
	"cmp"
	"slices"
	"time"
)

// MaxDrift is how fast two clocks are taken to part at most unless they are
// slewed: each by 100 parts in a million, what the worst crystals on sale do.
const MaxDrift = 200e-6

// MaxSlewing is how fast two kernels are taken to slew their clocks apart at
// most where they have not said, each by 500 parts in a million.
const MaxSlewing = 1000e-6

// slewedError is by how much two sums of slewing may be wrong together.
const slewedError = 500 * time.Nanosecond

// Exchange is one of time. T1 and T4 are by the clock of reference, T2 and T3
// by the other one.
type Exchange struct {
	T1, T2, T3, T4 time.Time
	// Step counts how often the other clock is known to have been set. An
	// exchange during which it was is worth nothing and must not be added.
	Step uint64
	// Slewed is by how much more the other clock has been slewed by now than
	// the one of reference, each since a moment of its own.
	Slewed time.Duration
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
}

// sample is an interval that holds the offset at a time of the reference, less
// what the clocks were slewed by then.
type sample struct {
	at     time.Time
	lo, hi time.Duration
	// least and most is between what these lay.
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
// the other clock, T2 and T3 by the one of reference. It is otherwise as [Estimator.Add].
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
	e.unslew(&s, whole, x.Slewed)
	n := len(e.runs)
	if n == 0 {
		e.runs = append(e.runs, run{step: x.Step, samples: []sample{s}})
		return true, false
	}
	newest := &e.runs[n-1]
	switch {
	case x.Step == newest.step && newest.agrees(s):
		newest.add(s)
		return true, false
	case x.Step < newest.step || s.at.Before(newest.first()):
		// Of before the clock was set, but told after it.
		for i := n - 2; i >= 0; i-- {
			if r := &e.runs[i]; r.step == x.Step && r.agrees(s) {
				r.add(s)
				return true, false
			}
		}
		return false, false
	}
	e.runs = append(e.runs, run{step: x.Step, samples: []sample{s}})
	if len(e.runs) > maxRuns {
		e.runs = slices.Delete(e.runs, 0, 1)
	}
	return true, true
}

// unslew takes out of a sample what the clocks were slewed by, of which it is
// not known when during the exchange that was read.
func (e *Estimator) unslew(s *sample, whole, slewed time.Duration) {
	var meanwhile time.Duration
	if n := len(e.runs); n > 0 {
		least, most := e.runs[n-1].read(s.at, s.at)
		meanwhile = min(max((slewed-least).Abs(), (slewed-most).Abs()), time.Duration(float64(whole)*MaxSlewing))
	}
	s.least, s.most = slewed-meanwhile, slewed+meanwhile
	s.lo -= s.most
	s.hi -= s.least
}

// agrees tells whether a sample can be true of the clock as it was set then.
func (r *run) agrees(s sample) bool {
	lo, hi := r.unslewed(s.at, s.least, s.most)
	return s.lo <= hi && s.hi >= lo
}

func (r *run) add(s sample) {
	i := r.find(s.at)
	r.samples = slices.Insert(r.samples, i, s)
	if len(r.samples) > maxSamples {
		r.thin()
	}
}

// thin drops, of each pair of neighbours, the wider one, except the newest.
func (r *run) thin() {
	kept := r.samples[:0]
	n := len(r.samples)
	for i := 0; i+1 < n-1; i += 2 {
		a, b := r.samples[i], r.samples[i+1]
		if b.hi-b.lo < a.hi-a.lo {
			a = b
		}
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

// at is between what the offset lies at a time, as the clocks were slewed
// within that much of it.
func (r *run) at(t time.Time, within time.Duration) (lo, hi time.Duration) {
	least, most := r.slewed(t.Add(-within), t.Add(within))
	lo, hi = r.unslewed(t, least, most)
	return lo + least, hi + most
}

// slewed is between what the slewing lies from one time to another. Of before
// the first sample and after the last nothing was read.
func (r *run) slewed(from, to time.Time) (least, most time.Duration) {
	least, most = r.read(from, to)
	unknown := max(r.first().Sub(from), to.Sub(r.last()), 0)
	apart := time.Duration(float64(unknown) * MaxSlewing)
	return least - apart, most + apart
}

// read is between what the slewing lies at the samples from one time to another
// and around: as kernels do not slew to and fro, it lies there in between too.
func (r *run) read(from, to time.Time) (least, most time.Duration) {
	i, j := max(r.find(from)-1, 0), min(r.find(to), len(r.samples)-1)
	least, most = r.samples[i].least, r.samples[i].most
	for _, s := range r.samples[min(i+1, j) : j+1] {
		least, most = min(least, s.least), max(most, s.most)
	}
	return least, most
}

// unslewed intersects what all samples say of the offset at a time, less the
// slewing, which is from least to most then.
func (r *run) unslewed(t time.Time, least, most time.Duration) (lo, hi time.Duration) {
	for i, s := range r.samples {
		w := grow(t.Sub(s.at).Abs())
		if s.least != least || s.most != most {
			w += slewedError
		}
		if i == 0 || s.lo-w > lo {
			lo = s.lo - w
		}
		if i == 0 || s.hi+w < hi {
			hi = s.hi + w
		}
	}
	return lo, hi
}

// grow is how far two clocks part in a time.
func grow(d time.Duration) time.Duration {
	return time.Duration(float64(d) * MaxDrift)
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
		lo, hi := r.at(t, 0)
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
		lo, hi := r.at(t, bound)
		guess := theirs.Add(-(lo + (hi-lo)/2))
		// The offset that was asked for is that at t, and the true time is as
		// far from there as the guess, and as the guess is wrong.
		bound = (hi-lo)/2 + 1
		apart := bound + guess.Sub(t).Abs()
		bound += grow(apart+grow(2*apart)) + 1
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
	slewed := b.least + (b.most-b.least)/2 - a.least - (a.most-a.least)/2
	return float64((b.lo+b.hi)/2-(a.lo+a.hi)/2+slewed) / float64(span)
}
