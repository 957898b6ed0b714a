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
	// Options are those of the type that were asked for, by name.
	Options map[string]string `json:"options,omitempty"`
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
	Hops    []Hop   `json:"hops"`
	Counts  Counts  `json:"counts"`
	Account Account `json:"account"`
	// Findings are what is out of the ordinary with the path, see
	// [Trace.Find].
	Findings []Finding `json:"findings,omitempty"`
	// Rewritten counts the unverified answers whose 16-bit tags are off by
	// one and the same constant, if there are at least two.
	Rewritten int `json:"rewritten,omitempty"`
	// Clocks says what is known of the clock of each agent that took a time.
	Clocks map[string]Clock `json:"clocks,omitempty"`
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
	Sent        time.Time  `json:"sent,omitzero"` // sender's clock; zero if no report came
	// SentStamp is where that time was taken: "kernel" (as a capture on the
	// interface shows it), "driver" (by the kernel too, but where the driver
	// gave it to the hardware, some microseconds later: of what captures do not
	// show for what it is, such as a probe in a tunnel) or "user" (in user
	// space, around the system call).
	SentStamp string `json:"sent_stamp,omitempty"`
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
	// RTT is Received-Sent in nanoseconds, as the clocks read, nil where
	// either is unknown. Only if OneClock is true it is a round-trip time: one
	// agent took both times, or two whose clocks have the same [Clock.Name],
	// and the clock was not set meanwhile. Else it is off by the offset of two
	// clocks.
	RTT      *time.Duration `json:"rtt_ns,omitempty"`
	OneClock bool           `json:"one_clock"`
	// Delay is from sending to receiving, with the offset of the two clocks
	// taken out, and wrong by at most Bound. Where that offset is not known
	// both are nil. It may be negative: then a clock was not what it was
	// taken to be.
	Delay *time.Duration `json:"delay_ns"`
	Bound *time.Duration `json:"delay_bound_ns"`
	// Missing is why there is no answer that counts; empty if there is one.
	Missing Missing `json:"missing,omitempty"`
	// MissingDetail is [Loss.Detail].
	MissingDetail string `json:"missing_detail,omitempty"`
	Kind          string `json:"kind,omitempty"` // of the answer, e.g. "time-exceeded"
	ICMPType      uint8  `json:"icmp_type"`      // 0 where the answer is no ICMP message
	ICMPCode      uint8  `json:"icmp_code"`
	ReplyTTL      uint8  `json:"reply_ttl,omitempty"`  // of the answer, as captured
	QuotedTTL     uint8  `json:"quoted_ttl,omitempty"` // of the probe, as an ICMP error quotes it
	QuotedTOS     uint8  `json:"quoted_tos"`           // likewise, the whole byte
	// QuotedSource is the source address of the probe, as an ICMP error
	// quotes it.
	QuotedSource netip.Addr    `json:"quoted_source,omitzero"`
	MTU          uint32        `json:"mtu,omitempty"`  // in bytes, of "fragmentation needed" and "packet too big"
	MPLS         []probe.Label `json:"mpls,omitempty"` // label stack of an ICMP error (RFC 4950), outermost first
	// Values are what the destination's answer says besides, as its
	// measurement type reads it, such as the name of its site.
	Values []probe.Value `json:"values,omitempty"`
}

// Answered tells whether the probe got an answer in time.
func (p *Probe) Answered() bool { return p.Verdict == Matched }

// Clock is what is known of an agent's clock.
type Clock struct {
	// Name is the clock's: agents with the same one read the same clock, and
	// times between them are neither corrected nor have a bound. That two
	// names differ does not prove that the clocks do.
	Name string `json:"name"`
	// Offset is how far it is ahead of the controller's, at the end of the
	// measurement, and wrong by at most Bound; nil if unknown.
	Offset *time.Duration `json:"offset_ns"`
	Bound  *time.Duration `json:"offset_bound_ns"`
	// Skew is how much faster it seems to run, in millionths; 0 if unknown.
	Skew float64 `json:"skew_ppm,omitempty"`
	// Stepped says that it was set during the measurement.
	Stepped bool `json:"stepped,omitempty"`
	// Discipline is what its kernel says of it, e.g. "synchronized" with its
	// own estimates; empty if unknown.
	Discipline string        `json:"discipline,omitempty"`
	MaxError   time.Duration `json:"max_error_ns,omitempty"` // by the kernel's account
	EstError   time.Duration `json:"est_error_ns,omitempty"`
}

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
