package agent

import (
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	// slew is by how much a clock may seem to run faster or slower than the
	// monotonic one that is disciplined with it, before it must have been set:
	// more than kernels slew at most (500 millionths).
	slew = 600e-6
	// jitter is what reading two clocks one after the other may differ by.
	jitter = 10 * time.Microsecond
)

// clock is the one that probes are stamped with. It counts how often it has
// been set, by comparing it with the monotonic clock.
type clock struct {
	port probe.Clock // nil: that of the host

	mu    sync.Mutex // guards all below
	base  time.Time  // the first look, with its monotonic reading
	wall  time.Duration
	mono  time.Duration
	steps uint64
}

// readings is how often a strange reading is repeated before it is believed: a
// thread may be put to sleep between the readings of two clocks.
const readings = 5

// now reads the clock and returns how often it has been set.
func (c *clock) now() (time.Time, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for left := readings; ; left-- {
		at, wall, mono, took := c.read()
		// What the two gained on each other since the last look.
		gain := (wall - c.wall) - (mono - c.mono)
		strange := gain.Abs() > jitter+took+time.Duration(slew*float64(mono-c.mono))
		if strange && left > 1 {
			continue
		}
		if strange {
			c.steps++
		}
		c.wall, c.mono = wall, mono
		return at, c.steps
	}
}

// read reads both clocks; wall and mono are times since the first reading.
func (c *clock) read() (at time.Time, wall, mono, took time.Duration) {
	before := time.Now()
	at = before.Round(0)
	if c.port != nil {
		at = c.port.Now().Round(0)
		took = time.Since(before)
	}
	if c.base.IsZero() {
		c.base = before
		c.wall = at.Sub(before.Round(0))
	}
	return at, at.Sub(c.base.Round(0)), before.Sub(c.base), took
}
