package result

import (
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Verdict is what a [Correlator] says of a captured candidate.
type Verdict string

// The verdicts.
const (
	Matched Verdict = "matched" // the first verified answer to a probe
	// Late: verified, but the probe had been given up. A measurement takes as
	// matched what by the agents' clocks had come by then, and was told late.
	Late       Verdict = "late"
	Duplicate  Verdict = "duplicate"  // verified, but the probe was answered already
	Foreign    Verdict = "foreign"    // claims a probe that this measurement never asked for
	Unverified Verdict = "unverified" // the tag is wrong: forged, corrupted or rewritten
)

// Correlator joins what was sent with what came back, for one measurement.
// Calls are serialised by the caller. An implementation may also be a
// [GaveUper].
type Correlator interface {
	// Sent tells of a probe that was asked for; once more when the agent's
	// report with the time of sending arrives.
	Sent(s Sent)
	// Answered judges a candidate. Answers may come before the report of the
	// probe they answer.
	Answered(a Answer) Verdict
}

// GaveUper is implemented by correlators that tell late answers.
type GaveUper interface {
	// GaveUp tells that the probe is not waited for any longer.
	GaveUp(id uint16)
}

// Sent is a probe on its way.
type Sent struct {
	ID   uint16
	TTL  uint8
	Flow uint8
	Time time.Time // zero until the agent's report came
}

// Answer is a candidate and who captured it. ID is the reading of the
// answer's identifier under which it was found, see [probe.Answer.Readings].
type Answer struct {
	probe.Answer
	ID       uint16
	Receiver string
}

// Session is what a correlator needs to know of its measurement.
type Session struct {
	Key probe.Key
	Dst netip.Addr
}
