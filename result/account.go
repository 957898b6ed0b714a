package result

import (
	"cmp"
	"slices"
	"time"
)

// Missing is why a probe that was asked for has no answer that counts. Of
// several reasons that hold, the first of this list stands.
type Missing string

// The reasons.
const (
	// NotSent: the host refused to send it; [Probe.Error] says why.
	NotSent Missing = "not sent"
	// Blocked: a rule of a blocklist forbids to send it. [Loss.Detail] is the
	// rule and whose it is: an agent's id, or "controller".
	Blocked Missing = "blocked by a rule"
	// SourceLost: the agent that was to send it went away. [Loss.Detail] is its
	// id and how long after the beginning that was noticed.
	SourceLost Missing = "source lost"
	// AnsweredLate: its answer came after it was given up.
	AnsweredLate Missing = "answered late"
	// AskedAgain: another probe took its place (see the TCP prober).
	AskedAgain Missing = "asked again"
	// Beyond: the destination answered at a lower TTL, so nobody waited.
	Beyond Missing = "beyond the destination"
	// Cancelled: the measurement ended before its time was up: the caller left,
	// the controller stopped, or the agent could not go on.
	Cancelled Missing = "cancelled"
	// Unreported: the agent never said that it sent it.
	Unreported Missing = "sending not reported"
	// ReceiverAway: an agent at which its answer may have landed was
	// disconnected, or silent, at the time.
	ReceiverAway Missing = "receiver away"
	// Dropped: an agent at which its answer may have landed lost captured
	// packets at the time.
	Dropped Missing = "capture overflow"
	// NoAnswer: all was well, and no answer came in time.
	NoAnswer Missing = "no answer in time"
)

var missingOrder = []Missing{NotSent, Blocked, SourceLost, AnsweredLate, AskedAgain, Beyond, Cancelled, Unreported, ReceiverAway, Dropped, NoAnswer}

// Account says what became of every probe and every candidate. It adds up:
// Asked = Answered + all of Unanswered, and the [Counts] of candidates are
// Matched + Late + Duplicate + Foreign + Unverified. A probe is answered by
// its first verified answer in time, so Answered = Counts.Matched.
type Account struct {
	Asked      int    `json:"asked"` // probes, those beyond the last hop shown included
	Answered   int    `json:"answered"`
	Unanswered []Loss `json:"unanswered,omitempty"` // in order of [Missing]
	// Gaps are when agents could not capture, or lost what they captured.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Loss is a number of probes without an answer, for one reason.
type Loss struct {
	Reason Missing `json:"reason"`
	// Detail is the kernel's words of NotSent, the rule of Blocked and whose it
	// is, as in "192.0.2.0/24 (node1)", the agents concerned, and of SourceLost
	// when, as in "node1 after 1.503s".
	Detail string `json:"detail,omitempty"`
	Count  int    `json:"count"`
}

// Add books a probe: with no reason as answered.
func (a *Account) Add(reason Missing, detail string) {
	a.Asked++
	if reason == "" {
		a.Answered++
		return
	}
	i, found := slices.BinarySearchFunc(a.Unanswered, Loss{Reason: reason, Detail: detail}, func(x, y Loss) int {
		return cmp.Or(
			cmp.Compare(slices.Index(missingOrder, x.Reason), slices.Index(missingOrder, y.Reason)),
			cmp.Compare(x.Detail, y.Detail),
		)
	})
	if !found {
		a.Unanswered = slices.Insert(a.Unanswered, i, Loss{Reason: reason, Detail: detail})
	}
	a.Unanswered[i].Count++
}

// Adds tells whether the account adds up.
func (a *Account) Adds() bool {
	n := a.Answered
	for _, l := range a.Unanswered {
		n += l.Count
	}
	return n == a.Asked
}

// GapKind is what kept an agent from capturing.
type GapKind string

// The kinds.
const (
	// Disconnected: it had no connection to the controller. It may have been
	// gone for a while when the controller noticed, so the gap begins with the
	// last check that it answered.
	Disconnected GapKind = "disconnected"
	// Unresponsive: it was connected and did not respond.
	Unresponsive GapKind = "unresponsive"
	// KernelDrops: its kernel's capture queue ran over.
	KernelDrops GapKind = "kernel drops"
	// QueueOverflow: its own queue to the controller ran over.
	QueueOverflow GapKind = "queue overflow"
	// NotRead: it captured what may have been direct answers to a measurement
	// type that could not be read, there or where they were passed on to.
	NotRead GapKind = "not read"
)

// Gap is a time in which answers that landed at an agent may have been missed.
// Its times are the controller's. Nobody knows when exactly something began to
// go wrong, so it begins with the last sign that all was well.
type Gap struct {
	Agent string    `json:"agent"`
	Kind  GapKind   `json:"kind"`
	From  time.Time `json:"from"`
	// To is zero if the gap lasted to the end of the measurement.
	To time.Time `json:"to,omitzero"`
	// Count is how many packets were lost, whomever they were for; 0 where
	// nobody can know.
	Count uint64 `json:"count,omitempty"`
}
