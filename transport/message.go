package transport

import (
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Message is one of the pointer types below.
type Message interface{ message() }

// Hello is an agent's first message.
type Hello struct {
	Agent string // its id
	// Instance is drawn anew by every agent process: a reconnecting agent
	// replaces its own dead connection, another one with its id does not.
	Instance uint64
	// Clock names the clock that the agent stamps with: agents with the same
	// name read the same clock.
	Clock   string
	Probers []string     // the measurement types it can run
	Sources []netip.Addr // one address per family it can send from
}

// Welcome accepts an agent. It captures answers from then on and reports
// those whose ID lies in [Start, End).
type Welcome struct {
	Start, End uint32
}

// Refused turns an agent away; the controller closes the connection after it.
type Refused struct {
	Code   int // as in HTTP
	Reason string
}

// Job prepares an agent to send the probes of one measurement.
type Job struct {
	Session      uint64
	Prober       string
	Key          probe.Key
	Dst          netip.Addr
	DstPort      uint16
	TOS          uint8
	DontFragment bool
	Size         int // of the whole datagram in bytes, 0: the prober's default
	Mode         probe.FlowMode
	// Interval is the least time between two probes of this job.
	Interval time.Duration
}

// Ask tells an agent to send probes of a job, in order.
type Ask struct {
	Session uint64
	Probes  []Ticket
}

// Ticket is what distinguishes one probe of a job.
type Ticket struct {
	ID   uint16
	TTL  uint8
	Flow uint8
}

// Cancel ends a job: what was not sent yet will not be.
type Cancel struct {
	Session uint64
}

// Sent reports probes that left, or that the host refused to send.
type Sent struct {
	Session uint64
	Source  netip.Addr
	Probes  []SentProbe
	// Step counts how often the agent's clock has been set, as far as it
	// noticed, when the probes had left.
	Step uint64
}

// SentProbe is the report of one probe.
type SentProbe struct {
	ID    uint16
	Time  time.Time
	Stamp probe.Stamp
	Err   string // not empty: it was not sent, and why
}

// Failed says that an agent cannot do a job at all.
type Failed struct {
	Session uint64
	Code    int // as in HTTP
	Reason  string
}

// Answers reports captured candidates.
type Answers struct {
	Answers []probe.Answer
	// Dropped counts candidates that this agent captured but could not queue
	// since the last report, KernelDropped packets that the kernel could not
	// hand it.
	Dropped, KernelDropped uint64
	// Step is that of [Sent], when the candidates had been captured.
	Step uint64
}

// Check asks an agent for its status.
type Check struct {
	Seq uint64
}

// Status answers a check. All that the agent captured before Replied was
// reported before, dropped packets included.
type Status struct {
	Seq uint64 // of the check
	// Received and Replied are when the check came in and when this left, by
	// the clock that probes are stamped with. Zero times mean that the clock
	// was set in between.
	Received, Replied time.Time
	Step              uint64 // see [Sent]
	// Discipline is what the kernel says of its clock: "synchronized",
	// "unsynchronized", or empty if it cannot tell. MaxError and EstError are
	// its estimates.
	Discipline         string
	MaxError, EstError time.Duration
}

func (*Hello) message()   {}
func (*Welcome) message() {}
func (*Refused) message() {}
func (*Job) message()     {}
func (*Ask) message()     {}
func (*Cancel) message()  {}
func (*Sent) message()    {}
func (*Failed) message()  {}
func (*Answers) message() {}
func (*Check) message()   {}
func (*Status) message()  {}
