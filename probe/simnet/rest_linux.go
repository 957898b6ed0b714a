package simnet

import (
	"time"

	"golang.org/x/sys/unix"
)

// preciseWithin is from when on the timers of the runtime, which are right to
// a millisecond, are too coarse.
const preciseWithin = 2 * time.Millisecond

// rest waits, at most for d, in naps short enough to notice a wake-up, and the
// last microseconds without sleeping.
func rest(d time.Duration, wake <-chan struct{}) {
	const nap, spin = 100 * time.Microsecond, 80 * time.Microsecond
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		select {
		case <-wake:
			return
		default:
		}
		if left > spin {
			ts := unix.NsecToTimespec(int64(min(nap, left-spin)))
			_ = unix.Nanosleep(&ts, nil)
		}
	}
}
