package result

import (
	"net/netip"
	"slices"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// NewCorrelator returns the built-in correlator. It judges a candidate in this
// order:
//
//  1. [Foreign] if its destination is not the session's, or no probe with its
//     ID was asked for.
//  2. [Unverified] if it does not carry the probe's tag.
//  3. [Duplicate] if the probe was answered before, in time or late.
//  4. [Late] if the probe had been given up.
//  5. [Matched] otherwise.
//
// So a forged candidate never takes the place of a true one. Whether the
// probe has left, or only was asked for, makes no difference: an answer may
// overtake the report of sending.
//
// The correlator also is a [GaveUper]. It keeps one byte for each ID between
// the lowest and the highest that was asked for. Like every [Correlator] it
// serves one call at a time.
func NewCorrelator(s Session) Correlator {
	return &correlator{key: s.Key, dst: bare(s.Dst)}
}

type correlator struct {
	key   probe.Key
	dst   netip.Addr
	first uint16 // the ID of fates[0]
	fates []fate
}

// fate is what became of a probe.
type fate uint8

const (
	unasked fate = iota
	asked
	gaveUp
	answered
)

// fate returns that of the probe id, nil if it lies outside of all asked for.
func (c *correlator) fate(id uint16) *fate {
	if i := int(id) - int(c.first); i >= 0 && i < len(c.fates) {
		return &c.fates[i]
	}
	return nil
}

// Sent makes the probe known. ID 0 is nobody's.
func (c *correlator) Sent(s Sent) {
	if s.ID == 0 {
		return
	}
	switch {
	case len(c.fates) == 0:
		c.first = s.ID
		c.fates = append(c.fates, unasked)
	case s.ID < c.first:
		c.fates = slices.Insert(c.fates, 0, make([]fate, c.first-s.ID)...)
		c.first = s.ID
	default:
		if missing := int(s.ID) - int(c.first) + 1 - len(c.fates); missing > 0 {
			c.fates = append(c.fates, make([]fate, missing)...)
		}
	}
	if f := c.fate(s.ID); *f == unasked {
		*f = asked
	}
}

// GaveUp makes the first answer to the probe late.
func (c *correlator) GaveUp(id uint16) {
	if f := c.fate(id); f != nil && *f == asked {
		*f = gaveUp
	}
}

// Answered judges a candidate.
func (c *correlator) Answered(a Answer) Verdict {
	f := c.fate(a.ID)
	if f == nil || *f == unasked || bare(a.Dst) != c.dst {
		return Foreign
	}
	if !a.Verified(&c.key, a.ID) {
		return Unverified
	}
	was := *f
	*f = answered
	switch was {
	case answered:
		return Duplicate
	case gaveUp:
		return Late
	default:
		return Matched
	}
}

// bare is an address as packets carry it: without zone, IPv4 as IPv4.
func bare(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
