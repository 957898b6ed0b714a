package simnet

import (
	"fmt"
	"math"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// maxWrong bounds how wrong a clock may be.
const maxWrong = 100 * 365 * 24 * time.Hour

func (c *Clock) check(where string) error {
	if c.Ahead.Abs() > maxWrong {
		return wrong(where+".ahead", "%v, want at most %v either way", c.Ahead, maxWrong)
	}
	if math.IsNaN(c.Skew) || math.Abs(c.Skew) > 1000 {
		return wrong(where+".skew", "%v, want -1000 to 1000 millionths", c.Skew)
	}
	for i, s := range c.Steps {
		at := fmt.Sprintf("%s.steps[%d]", where, i)
		if s.At < 0 {
			return wrong(at+".at", "%v, want 0 or more", s.At)
		}
		if s.By == 0 || s.By.Abs() > maxWrong {
			return wrong(at+".by", "%v, want other than 0 and at most %v either way", s.By, maxWrong)
		}
	}
	return nil
}

// offset is how far the clock is ahead at a time since the start.
func (c *Clock) offset(at int64) time.Duration {
	o := c.Ahead + time.Duration(float64(at)*c.Skew/1e6)
	for _, s := range c.Steps {
		if at >= int64(s.At) {
			o += s.By
		}
	}
	return o
}

var _ probe.Clock = (*port)(nil)

// Now reads the site's clock.
func (p *port) Now() time.Time { return p.read(p.n.now()) }

func (p *port) read(at int64) time.Time { return p.n.date(at).Add(p.clock.offset(at)) }
