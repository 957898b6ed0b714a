// Package slewing tells by how much a host's kernel has slewed its clock: made
// it run faster or slower than the oscillator it is counted by, so that it comes
// right. Of when the clock was set it knows nothing.
package slewing

import "time"

// Max is how fast kernels slew a clock at most, as a fraction, unless told to
// count other ticks (ADJ_TICK of adjtimex(2)): 500 parts in a million.
const Max = 500e-6

// Error is by how much two sums may together be wrong.
const Error = 2 * time.Microsecond

// Reading is the sum of the slewing since a moment of the kernel's own.
type Reading struct {
	Sum time.Duration
	// At is when it was read, by a clock that is not slewed, since a moment of
	// the kernel's own.
	At time.Duration
	// Known says that the kernel could tell, to within a quarter of [Error].
	Known bool
}

// Read asks this host's kernel. Any goroutine may call it. It takes some
// microseconds and does not allocate.
func Read() Reading { return read() }
