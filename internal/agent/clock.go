package agent

import (
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/slewing"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	// slew is by how much a clock may run faster or slower than another one,
	// or than it did before, and not have been set: more than kernels slew it
	// by themselves.
	slew = 1.2 * slewing.Max
	// jitter is what reading two clocks one after the other may differ by.
	jitter = 10 * time.Microsecond
)

// clock is the one that probes are stamped with. It counts how often it has
// been set, by comparing it with the monotonic clock.
type clock struct {
	port probe.Clock // nil: that of the host

	mu    sync.Mutex    // guards all below
	base  time.Time     // the first look, with its monotonic reading
	ahead time.Duration // of the monotonic clock since then, at the last look
	mono  time.Duration // when that was, since the first
	steps uint64

	slewing slewing.Reading // the last one, of the host's
}

// readings is how many there are at most at one look: a thread may be put to
// sleep between the readings of two clocks, so two looks in a row must agree.
const readings = 8

// now reads the clock and returns how often it has been set.
func (c *clock) now() (time.Time, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.base.IsZero()
	at, ahead, mono := c.read()
	for range readings {
		before := ahead
		if at, ahead, mono = c.read(); (ahead - before).Abs() <= jitter {
			break
		}
	}
	may := 2 * jitter
	if c.port != nil { // the host's is disciplined with the monotonic one
		may += time.Duration(slew * float64(mono-c.mono))
	}
	if !first && (ahead-c.ahead).Abs() > may {
		c.steps++
	}
	c.ahead, c.mono = ahead, mono
	return at, c.steps
}

// read reads both clocks: ahead is by how much the one gained on the monotonic
// one, and mono that one's time, both since the first reading.
func (c *clock) read() (at time.Time, ahead, mono time.Duration) {
	now := time.Now()
	if c.base.IsZero() {
		c.base = now
	}
	at = now.Round(0)
	if c.port != nil {
		at = c.port.Now().Round(0)
	}
	mono = now.Sub(c.base)
	return at, at.Sub(c.base.Round(0)) - mono, mono
}

// slewed returns by how much the clock has been slewed, nil if that is not
// known. One that is slewed faster than kernels do by themselves counts as one
// that is set.
func (c *clock) slewed() *time.Duration {
	if c.port != nil {
		return new(time.Duration) // what it does is its drift, or a step
	}
	r := slewing.Read()
	if !r.Known {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	may := slewing.Error + time.Duration(slew*float64(r.At-c.slewing.At))
	if c.slewing.Known && (r.Sum-c.slewing.Sum).Abs() > may {
		c.steps++
	}
	c.slewing = r
	return &r.Sum
}
