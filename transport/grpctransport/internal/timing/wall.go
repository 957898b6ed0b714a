package timing

import (
	"sync"
	"time"
)

// settled is by how much two looks at the wall clock and the monotonic one may
// disagree before the wall clock must have been set.
const settled = 20 * time.Microsecond

// wall places the kernel's stamps, which are of the wall clock, on the
// monotonic clock of this process, so that a time that was taken before the
// wall clock was set can be told from a wrong one.
type wall struct {
	mu   sync.Mutex // guards all below
	base time.Time
	gain time.Duration // of the wall clock since base, at the last look
}

// look tells whether the wall clock has gone on undisturbed since the last look.
func (w *wall) look(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.base.IsZero() {
		w.base = now
	}
	gain := now.Round(0).Sub(w.base.Round(0)) - now.Sub(w.base)
	same := (gain - w.gain).Abs() <= settled
	w.gain = gain
	return same
}

// place returns a stamp with a monotonic reading. It reports false unless the
// stamp lies between two times between which the clock was not set.
func (w *wall) place(stamp, from, to time.Time) (time.Time, bool) {
	ago := to.Round(0).Sub(stamp)
	if !w.look(to) || ago < 0 || ago > to.Sub(from)+time.Microsecond {
		return time.Time{}, false
	}
	return to.Add(-ago), true
}
