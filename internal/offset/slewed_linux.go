package offset

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// slewing is what was last read of the kernel's.
var slewing struct {
	sync.Mutex // guards the rest
	sum        time.Duration
}

// Slewed returns by how much this host's kernel has made its clock run ahead of
// the crystal by slewing it since some moment, to within 0.25 microseconds. It
// knows nothing of when the clock was set. Any goroutine may call it.
func Slewed() time.Duration {
	slewing.Lock()
	defer slewing.Unlock()
	// The two clocks are read one after the other, and again if the thread
	// was interrupted meanwhile.
	const tries = 4
	sum, within := time.Duration(0), time.Duration(-1)
	for range tries {
		before, now, after := read(unix.CLOCK_MONOTONIC_RAW), read(unix.CLOCK_MONOTONIC), read(unix.CLOCK_MONOTONIC_RAW)
		if w := (after - before) / 2; within < 0 || w < within {
			sum, within = now-before-w, w
		}
	}
	// A difference that may be none is none, so that a clock which is not
	// slewed does not seem to be.
	if (sum - slewing.sum).Abs() > within {
		slewing.sum = sum
	}
	return slewing.sum
}

func read(clock int32) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(clock, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
