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
	// name read the same clock. Those that name none share none.
	Clock   string
	Types   []probe.Type // the measurement types it can run
	Sources []netip.Addr // one address per family it can send from
	// Watches says that it takes [Watch], [Unwatch] and [Read].
	Watches bool
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
	Options      map[string]string // of the prober, by name
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
	// Blocked is the rule of the agent's blocklist that kept it from being
	// sent, else the zero value.
	Blocked netip.Prefix
}

// Failed says that an agent cannot do a job at all.
type Failed struct {
	Session uint64
	Code    int // as in HTTP
	Reason  string
	// Blocked is the rule of the agent's blocklist that forbids it, else the
	// zero value.
	Blocked netip.Prefix
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
// reported before, dropped packets included, but for what is being read by a
// prober that is a [probe.Batcher].
type Status struct {
	Seq uint64 // of the check
	// Received and Replied are when the check came in and when this left, by
	// the clock that probes are stamped with. Zero times mean that the clock
	// was set in between.
	Received, Replied time.Time
	Step              uint64 // see [Sent]
	// Slewed is by how much the agent's kernel has slewed that clock by then,
	// since a moment of its own: made it run ahead of the oscillator that it is
	// counted by. Nil says that this is not known.
	Slewed *time.Duration
	// Discipline is what the kernel says of its clock: "synchronized",
	// "unsynchronized", or empty if it cannot tell. MaxError and EstError are
	// its estimates.
	Discipline         string
	MaxError, EstError time.Duration
	// Behind tells of watches of which datagrams have been waiting to be read.
	Behind []Backlog
}

// Timing reports an exchange of time beside the connection; see [TimeAsker].
type Timing struct {
	Exchange uint64 // its number
	// Sent and Received are when the agent's request left and the reply came,
	// by the clock that probes are stamped with.
	Sent, Received time.Time
	Step           uint64         // see [Sent]; the same before and after
	Slewed         *time.Duration // see [Status]; during the exchange
}

// Backlog is how many datagrams of a watch have been waiting to be read.
type Backlog struct {
	Number uint64 // of the watch
	Count  uint64
}

// MaxForwarded is the longest datagram in bytes that agents pass on.
const MaxForwarded = 1500

// Watch asks an agent for the direct answers that Dst sends to probes of a
// measurement type, beside those that it knows as a matter of course. If it
// has the type it reads them, otherwise it passes on, with [Unread], what
// Dst sent and no other type claims. It answers with a [Watching].
type Watch struct {
	Number  uint64 // of this watch
	Prober  string
	Options map[string]string // of the prober, by name
	Dst     netip.Addr
}

// Unwatch ends a watch.
type Unwatch struct {
	Number uint64
}

// Watching says that an agent watches from now on; or, with a reason, that it
// cannot read any more.
type Watching struct {
	Number uint64
	Code   int // as in HTTP, 0: all is well
	Reason string
}

// Unread passes on what may be direct answers, to be read elsewhere.
type Unread struct {
	Number    uint64 // of the watch
	Datagrams []Captured
	// Dropped counts those captured since the last report that were too long,
	// too many or too late to be read or passed on.
	Dropped uint64
	// Step is that of [Sent], when the datagrams had been captured.
	Step uint64
}

// Captured is a datagram that may be a direct answer, from the IP header on.
type Captured struct {
	Data  []byte // at most [MaxForwarded] bytes
	Time  time.Time
	Stamp probe.Stamp
}

// Read asks an agent that has the type of a watch to read what others
// captured. It answers each of them once, with a [Reading].
type Read struct {
	Number    uint64 // of the watch
	Datagrams []Reference
}

// Reference is a datagram under a number that the controller gave it.
type Reference struct {
	Ref  uint64
	Data []byte // at most [MaxForwarded] bytes
}

// Readings is what an agent read in the datagrams of a [Read].
type Readings struct {
	Number   uint64 // of the watch
	Readings []Reading
}

// Reading is what one of them says. All else the controller knows itself.
type Reading struct {
	Ref uint64
	// OK says that it answers a probe. The other fields are then those of
	// [probe.Answer].
	OK      bool
	ID      uint16
	Tag     uint64
	TagBits uint8
	Values  []probe.Value
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
func (*Timing) message()  {}

func (*Watch) message()    {}
func (*Unwatch) message()  {}
func (*Watching) message() {}
func (*Unread) message()   {}
func (*Read) message()     {}
func (*Readings) message() {}
