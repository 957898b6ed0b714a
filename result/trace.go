// Package result holds what a measurement found: the [Trace] with its typed
// fields, its text and JSON renderings, and the [Correlator] that joins what
// was sent with what came back.
package result

import (
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Trace is the result of one traceroute. It marshals to JSON and back without
// loss; times are RFC 3339 with nanoseconds, durations are integers in
// nanoseconds and their field names end in _ns.
type Trace struct {
	Target      string     `json:"target"`                  // as the user wrote it
	Destination netip.Addr `json:"destination"`             // what it resolved to
	Source      string     `json:"source"`                  // the agent that sent
	SourceAddr  netip.Addr `json:"source_address,omitzero"` // it sent from
	Prober      string     `json:"prober"`                  // the measurement type, e.g. "udp"
	Port        uint16     `json:"port,omitempty"`          // destination port of UDP and TCP probes
	Flow        string     `json:"flow"`                    // "paris" or "classic"
	Flows       int        `json:"flows"`                   // over which a hop's probes were spread
	FirstTTL    int        `json:"first_ttl"`               // 1 to max_ttl
	MaxTTL      int        `json:"max_ttl"`                 // 1 to 255
	Queries     int        `json:"queries"`                 // probes per hop
	TOS         uint8      `json:"tos"`                     // the whole byte that probes were sent with
	Size        int        `json:"size,omitempty"`          // of a probe in bytes, 0: the prober's default
	// Numeric says that hop names were not asked for; text then shows
	// addresses only.
	Numeric bool      `json:"numeric,omitempty"`
	Started time.Time `json:"started"` // controller's clock
	Ended   time.Time `json:"ended"`   // controller's clock
	// Reached says that the destination itself answered.
	Reached bool `json:"reached"`
	// Partial says why the measurement ended before its time; empty if not.
	Partial string `json:"partial,omitempty"`
	// Hops are in order of their TTL, from first_ttl to the last of interest.
	Hops   []Hop  `json:"hops"`
	Counts Counts `json:"counts"`
	// Clocks names the clock of each agent that took a time: agents with the
	// same clock can be compared.
	Clocks map[string]string `json:"clocks,omitempty"`
	// Notes are one-line remarks on what went out of the ordinary.
	Notes []string `json:"notes,omitempty"`
}

// Hop is all probes of one TTL.
type Hop struct {
	TTL    int     `json:"ttl"`    // with which the probes were sent
	Probes []Probe `json:"probes"` // in order of their attempt
}

// Probe is one probe and what became of it.
type Probe struct {
	ID          uint16     `json:"id"`      // unique per destination while the measurement ran
	TTL         int        `json:"ttl"`     // with which it was sent
	Attempt     int        `json:"attempt"` // from 0 within its hop
	Flow        int        `json:"flow"`    // from 0
	Destination netip.Addr `json:"destination"`
	Sent        time.Time  `json:"sent,omitzero"`        // sender's clock; zero if no report came
	SentStamp   string     `json:"sent_stamp,omitempty"` // who took that time: "kernel" or "user"
	// Error says why the host refused to send it.
	Error string `json:"error,omitempty"`
	// Verdict is "matched", or "late" where the answer came after it was
	// given up, or empty where none came. The fields below are of the answer.
	Verdict   Verdict    `json:"verdict,omitempty"`
	Receiver  string     `json:"receiver,omitempty"`       // the agent that captured it
	Addr      netip.Addr `json:"address,omitzero"`         // who answered
	Name      string     `json:"name,omitempty"`           // Addr's host name, if looked up
	Received  time.Time  `json:"received,omitzero"`        // receiver's clock
	RecvStamp string     `json:"received_stamp,omitempty"` // "kernel" or "user"
	// RTT is Received-Sent in nanoseconds, nil where either is unknown. Only
	// if OneClock is true it is a round-trip time; else it is the difference
	// of two clocks, off by their unknown offset.
	RTT       *time.Duration `json:"rtt_ns,omitempty"`
	OneClock  bool           `json:"one_clock"`
	Kind      string         `json:"kind,omitempty"` // of the answer, e.g. "time-exceeded"
	ICMPType  uint8          `json:"icmp_type"`      // 0 where the answer is no ICMP message
	ICMPCode  uint8          `json:"icmp_code"`
	ReplyTTL  uint8          `json:"reply_ttl,omitempty"`  // of the answer, as captured
	QuotedTTL uint8          `json:"quoted_ttl,omitempty"` // of the probe, as an ICMP error quotes it
	QuotedTOS uint8          `json:"quoted_tos"`           // likewise, the whole byte
	MTU       uint32         `json:"mtu,omitempty"`        // in bytes, of "fragmentation needed" and "packet too big"
	MPLS      []probe.Label  `json:"mpls,omitempty"`       // label stack of an ICMP error (RFC 4950), outermost first
}

// Answered tells whether the probe got an answer in time.
func (p *Probe) Answered() bool { return p.Verdict == Matched }

// Counts says how many probes were sent and what became of the captured
// candidates; see [Verdict]. All but Sent together are the candidates that
// claimed one of its identifiers, stragglers of earlier measurements included.
type Counts struct {
	Sent       int `json:"sent"` // probes that left the source
	Matched    int `json:"matched"`
	Late       int `json:"late"`
	Duplicate  int `json:"duplicate"`
	Foreign    int `json:"foreign"`
	Unverified int `json:"unverified"`
}
