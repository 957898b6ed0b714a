package volta

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"time"

	"bitbucket.org/uwpatio/voltadomar/alloc"
	"bitbucket.org/uwpatio/voltadomar/internal/agent"
	"bitbucket.org/uwpatio/voltadomar/internal/command"
	"bitbucket.org/uwpatio/voltadomar/internal/controller"
	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/internal/hostclock"
	"bitbucket.org/uwpatio/voltadomar/internal/rawsock"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// What callers branch on with errors.Is. Probe identifiers that have run out
// are [alloc.ErrExhausted]; a port without privileges is [probe.ErrPermission].
var (
	// ErrUsage says that a request is wrong: code 400.
	ErrUsage = fault.ErrUsage
	// ErrUnknownAgent says that no agent of that id is connected: code 404.
	ErrUnknownAgent = fault.ErrUnknownAgent
	// ErrUnknownProber says that the agent has no measurement type of that
	// name: code 400. It is [ErrUsage] too.
	ErrUnknownProber = fault.ErrUnknownProber
	// ErrDuplicateAgent says that an agent of that id is connected: code 409.
	ErrDuplicateAgent = fault.ErrDuplicateAgent
	// ErrAgentLost says that the source agent disconnected: code 503.
	ErrAgentLost = fault.ErrAgentLost
	// ErrRefused says that the agent could not do what was asked.
	ErrRefused = fault.ErrRefused
	// ErrBlocked says that a rule of a blocklist, the controller's or the
	// agent's, forbids to send to the destination: code 403.
	ErrBlocked = fault.ErrBlocked
	// ErrStopped says that the controller does not run any longer: code 503.
	ErrStopped = fault.ErrStopped
)

// Error is a failed measurement or a refused agent. It unwraps to its cause.
type Error struct {
	Code   int    // as in HTTP: 400, 403, 404, 409, 429, 500, 503
	Reason string // a sentence for people
	Err    error  // the cause, may be nil
}

// Error returns the reason.
func (e *Error) Error() string { return e.Reason }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// StatusCode returns Code. Transports that serve users look for it.
func (e *Error) StatusCode() int { return e.Code }

func public(err error) error {
	var f *fault.Error
	var u *command.UsageError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return &Error{Code: f.Code, Reason: f.Reason, Err: f.Err}
	case errors.As(err, &u):
		return &Error{Code: fault.BadRequest, Reason: u.Error(), Err: errors.Join(ErrUsage, u)}
	}
	return err
}

// Measurement is a traceroute to be run. Only Source and Target must be set;
// the zero value of each other field is its default.
type Measurement struct {
	Source string // id of the agent that sends
	Target string // host name or address
	Prober string // "udp" (default), "icmp", "tcp", or another one the agent has
	// Options are those of the prober, by name; what is missing has its
	// default.
	Options map[string]string

	FirstTTL int // 1 to MaxTTL; default 1
	MaxTTL   int // 1 to 255; default 30
	Queries  int // probes per hop, 1 to 10; default 3
	Window   int // probes under way at once, 1 to 2550; default 16

	// Wait is how long to wait for an answer at most; default 5 s. Here and
	// Near shorten it as in traceroute(8): to Here times what an answer from
	// the same hop took, else to Near times what one from a later hop took.
	// Defaults 3 and 10; negative: off.
	Wait       time.Duration
	Here, Near float64
	// Interval is the least time between two probes; default none.
	Interval time.Duration

	TOS          uint8  // the whole TOS or traffic class byte
	Port         uint16 // of UDP (default 33434) and TCP (default 80)
	Size         int    // of a whole datagram in bytes; 0: the prober's default
	DontFragment bool   // sets DF in IPv4
	Family       int    // 4 or 6; 0: whichever the target and the agent have, IPv4 first
	Flows        int    // flows over which a hop's probes are spread, 1 to 256; default 1
	FlowMode     probe.FlowMode
	Numeric      bool // no look-up of hop names
}

// ParseCommand reads a measurement in the command language of all fronts:
// "volta SOURCE DESTINATION [options] [packet length]" with the letters of
// traceroute(8). The error is an [*Error] with code 400.
func ParseCommand(line string) (Measurement, error) {
	s, err := command.Parse(line)
	return fromSpec(s), public(err)
}

// ParseArgs is [ParseCommand] for words that are split already and lack the
// leading "volta".
func ParseArgs(args []string) (Measurement, error) {
	s, err := command.ParseArgs(args)
	return fromSpec(s), public(err)
}

// Usage describes the command language, a line per option.
func Usage() string { return command.Usage() }

func fromSpec(s command.Spec) Measurement {
	m := Measurement{
		Source: s.Source, Target: s.Target, Prober: s.Prober,
		FirstTTL: s.FirstTTL, MaxTTL: s.MaxTTL, Queries: s.Queries, Window: s.SimQueries,
		Wait: s.WaitMax, Here: s.WaitHere, Near: s.WaitNear, Interval: s.Interval,
		TOS: s.TOS, Port: s.Port, Size: s.Size, DontFragment: s.DontFragment,
		Family: s.Family, Flows: s.Flows, Numeric: s.Numeric, Options: s.Options,
	}
	if s.Classic {
		m.FlowMode = probe.Classic
	}
	if m.Here == 0 {
		m.Here = -1
	}
	if m.Near == 0 {
		m.Near = -1
	}
	return m
}

// spec checks the measurement and fills in the defaults.
func (m Measurement) spec() (controller.Spec, error) {
	d := command.Defaults()
	c := command.Spec{
		Source: m.Source, Target: m.Target, Prober: or(m.Prober, d.Prober),
		FirstTTL: or(m.FirstTTL, d.FirstTTL), MaxTTL: or(m.MaxTTL, d.MaxTTL),
		Queries: or(m.Queries, d.Queries), SimQueries: or(m.Window, d.SimQueries),
		WaitMax: or(m.Wait, d.WaitMax), WaitHere: max(0, or(m.Here, d.WaitHere)), WaitNear: max(0, or(m.Near, d.WaitNear)),
		TOS: m.TOS, Port: m.Port, DontFragment: m.DontFragment, Numeric: m.Numeric, Interval: m.Interval,
		Family: m.Family, Size: m.Size, Flows: or(m.Flows, d.Flows), Classic: m.FlowMode == probe.Classic,
		Options: m.Options,
	}
	if err := c.Validate(); err != nil {
		return controller.Spec{}, err
	}
	switch c.Prober {
	case "udp":
		c.Port = or(c.Port, command.DefaultUDPPort)
	case "tcp":
		c.Port = or(c.Port, command.DefaultTCPPort)
	}
	return controller.Spec{
		Source: c.Source, Target: c.Target, Prober: c.Prober, FirstTTL: c.FirstTTL, MaxTTL: c.MaxTTL,
		Queries: c.Queries, Window: c.SimQueries, Wait: c.WaitMax, Here: c.WaitHere, Near: c.WaitNear,
		TOS: c.TOS, Port: c.Port, Size: c.Size, Flows: c.Flows, Mode: m.FlowMode, Interval: c.Interval,
		Family: c.Family, DontFragment: c.DontFragment, Numeric: c.Numeric, Options: maps.Clone(c.Options),
	}, nil
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Resolver looks names up; [*net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// ControllerConfig says how a controller works. A nil config works.
type ControllerConfig struct {
	// Start and End limit the probe identifiers to [Start, End); default 10000
	// to 20000. Controllers that share agents must have disjoint ranges.
	Start, End uint32
	// Block is how many identifiers a measurement takes at least; default 100.
	Block int
	// Allocator replaces the built-in one over [Start, End). It must keep to
	// that range.
	Allocator alloc.Allocator
	// NewCorrelator replaces the built-in one, [result.NewCorrelator].
	NewCorrelator func(result.Session) result.Correlator
	// Resolver replaces [net.DefaultResolver].
	Resolver Resolver
	// Logger hears of agents that come and go; default silent.
	Logger *slog.Logger
	// Blocklist holds the destinations to which no agent is asked to send;
	// default none. A measurement of one is refused with [ErrBlocked]; one
	// under way when the list is set ends, and its remaining probes are booked
	// as [result.Blocked]. Of a name's addresses the one that would be measured
	// counts, no other is tried instead. Agents do not get the list.
	Blocklist *probe.Blocklist
}

// Controller accepts measurements, hands them to agents and joins what comes
// back. Its methods are safe for concurrent use.
type Controller struct {
	c *controller.Controller
}

// NewController makes a controller. The error names a range or block that
// makes no sense.
func NewController(cfg *ControllerConfig) (*Controller, error) {
	var c ControllerConfig
	if cfg != nil {
		c = *cfg
	}
	c.Start, c.End, c.Block = or(c.Start, 10000), or(c.End, 20000), or(c.Block, 100)
	if c.Allocator == nil {
		r, err := alloc.NewRange(c.Start, c.End, c.Block)
		if err != nil {
			return nil, err
		}
		c.Allocator = r
	}
	if c.NewCorrelator == nil {
		c.NewCorrelator = result.NewCorrelator
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	return &Controller{controller.New(controller.Config{
		Start: c.Start, End: c.End, Allocator: c.Allocator, NewCorrelator: c.NewCorrelator,
		Resolver: c.Resolver, Logger: logger(c.Logger), Blocklist: c.Blocklist,
	})}, nil
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// Run serves the agents that connect over the transports until ctx ends, then
// ends the measurements under way with [ErrStopped] and returns nil when
// everything it started is gone; or the error with which a transport failed.
// It does not close the transports. It can be called once.
func (c *Controller) Run(ctx context.Context, transports ...transport.Transport) error {
	return public(c.c.Run(ctx, transports...))
}

// Agents returns the ids of the connected agents, sorted.
func (c *Controller) Agents() []string { return c.c.Agents() }

// Types returns what each connected agent can measure, by its id.
func (c *Controller) Types() map[string][]probe.Type { return c.c.Types() }

// WaitAgents returns when all the named agents are connected. If ctx ends
// before, the error is [ErrUnknownAgent] and the context's.
func (c *Controller) WaitAgents(ctx context.Context, ids ...string) error {
	return public(c.c.WaitAgents(ctx, ids...))
}

// Measure runs m to its end. If it began but could not end as it should, both
// the partial trace and an error are returned. Errors are [*Error] values.
func (c *Controller) Measure(ctx context.Context, m Measurement) (*result.Trace, error) {
	return c.measure(ctx, m, nil)
}

func (c *Controller) measure(ctx context.Context, m Measurement, each func(result.Event)) (*result.Trace, error) {
	spec, err := m.spec()
	if err != nil {
		return nil, public(err)
	}
	trace, err := c.c.Measure(ctx, spec, each)
	return trace, public(err)
}

// Stream runs m and yields every probe as its fate is decided, last the whole
// trace. An error comes with the last event. Leaving the loop cancels m.
func (c *Controller) Stream(ctx context.Context, m Measurement) iter.Seq2[result.Event, error] {
	return func(yield func(result.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		left := false
		trace, err := c.measure(ctx, m, func(e result.Event) {
			if !left && !yield(e, nil) {
				left = true
				cancel()
			}
		})
		if !left {
			yield(result.Event{Trace: trace}, err)
		}
	}
}

// Do runs the measurement that args describe, see [ParseArgs], and calls each,
// unless nil, with every probe as its fate is decided.
func (c *Controller) Do(ctx context.Context, args []string, each func(result.Event)) (*result.Trace, error) {
	m, err := ParseArgs(args)
	if err != nil {
		return nil, err
	}
	return c.measure(ctx, m, each)
}

// Command runs a line of the command language, see [ParseCommand], and returns
// a code as in HTTP with the text of the trace, or of what is wrong. A trace
// that could not be ended comes with its code and its text.
func (c *Controller) Command(ctx context.Context, line string) (code int, output string) {
	m, err := ParseCommand(line)
	if err != nil {
		return fault.BadRequest, err.Error()
	}
	trace, err := c.Measure(ctx, m)
	var e *Error
	switch {
	case err == nil:
		return 200, trace.Text()
	case !errors.As(err, &e):
		return fault.Internal, err.Error()
	case trace != nil && len(trace.Hops) > 0:
		return e.Code, trace.Text()
	}
	return e.Code, e.Reason
}

// AgentConfig says how an agent works. ID and Port must be set.
type AgentConfig struct {
	// ID names the agent: 1 to 64 letters, digits, '.', '_' or '-'.
	ID string
	// Port is the agent's door to the network, see [OpenPort]. The agent owns
	// it: Run closes it.
	Port probe.Port
	// Probers are the agent's measurement types, each with a name of its own.
	// Default: [DefaultProbers]. Whatever they are, the agent reports answers
	// to UDP, ICMP echo and TCP SYN probes of others that land at it.
	Probers []probe.Prober
	// Clock names the clock that the port's times come from. Agents with the
	// same name claim to read the same clock, and times between them are shown
	// as round-trip times, without correction and bound.
	//
	// The default is one name for this process where the port is a
	// [probe.Clock]. Else it is the name of this host's clock, which the
	// processes of one user share as long as there are some: they find it by a
	// locked file in [os.TempDir], so those with temporary directories of their
	// own do not. Where that does not work, and on other systems than Linux, it
	// is one name for this process.
	Clock string
	// Logger hears of connections made and lost; default silent.
	Logger *slog.Logger
	// Blocklist holds the destinations to which the agent sends nothing,
	// whatever a controller asks; default none. It is looked at for every probe
	// right before that leaves, so setting it stops measurements under way.
	Blocklist *probe.Blocklist
}

// Agent sends probes and captures answers for controllers.
type Agent struct {
	a *agent.Agent
}

// Every process draws its own numbers: two agents of one process share a clock
// for certain, two processes with the same looks need not.
var processClock = fmt.Sprintf("process-%016x", draw())

// clockOf names the clock that the times of a port come from.
func clockOf(port probe.Port, log *slog.Logger) string {
	if _, own := port.(probe.Clock); own {
		return processClock
	}
	name, err := hostclock.Name()
	if err != nil {
		log.Debug("other processes cannot tell that this one reads the same clock", "error", err)
		return processClock
	}
	return name
}

func draw() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// DefaultProbers returns the built-in measurement types: udp, icmp and tcp.
func DefaultProbers() []probe.Prober {
	return []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}}
}

// NewAgent makes an agent. The error names what is missing.
func NewAgent(cfg AgentConfig) (*Agent, error) {
	if err := command.CheckAgent(cfg.ID); err != nil {
		return nil, public(err)
	}
	if cfg.Port == nil {
		return nil, errors.New("agent config: Port must be set")
	}
	if cfg.Probers == nil {
		cfg.Probers = DefaultProbers()
	}
	if err := checkProbers(cfg.Probers); err != nil {
		return nil, err
	}
	log := logger(cfg.Logger)
	if cfg.Clock == "" {
		cfg.Clock = clockOf(cfg.Port, log)
	}
	return &Agent{agent.New(agent.Config{
		ID: cfg.ID, Clock: cfg.Clock, Instance: draw(), Port: cfg.Port,
		Probers: cfg.Probers, Logger: log, Blocklist: cfg.Blocklist,
	})}, nil
}

// checkProbers says what is wrong with the measurement types of an agent.
func checkProbers(all []probe.Prober) error {
	seen := map[string]bool{}
	for _, p := range all {
		t := probe.Describe(p)
		if err := t.Check(); err != nil {
			return fmt.Errorf("agent config: Probers: %w", err)
		}
		if seen[t.Name] {
			return fmt.Errorf("agent config: Probers: two are called %q", t.Name)
		}
		seen[t.Name] = true
	}
	return nil
}

// Run connects to the controller behind t and works for it, reconnecting with
// growing waits when the connection is lost. It returns nil when ctx ends,
// [ErrDuplicateAgent] or another [*Error] when the controller turns the agent
// away, or the error with which the port failed; by then everything it started
// is gone and the port is closed. It can be called once.
func (a *Agent) Run(ctx context.Context, t transport.Transport) error {
	return public(a.a.Run(ctx, t))
}

// PortConfig says how a port to this host's network works. The zero value
// works.
type PortConfig struct {
	// Sources are the addresses to send from, one per family at most, such as
	// the anycast addresses of the node. Without one for a family the kernel
	// chooses.
	Sources []netip.Addr
	// Logger hears of what does not work as it should; default silent.
	Logger *slog.Logger
}

// OpenPort opens a port to this host's network. It needs CAP_NET_RAW: without
// it the error is [probe.ErrPermission]. Where there is no such port, on other
// systems than Linux, it is [probe.ErrUnsupported].
func OpenPort(cfg PortConfig) (probe.Port, error) {
	p, err := rawsock.Open(rawsock.Config{Sources: cfg.Sources, Logger: logger(cfg.Logger)})
	if err != nil {
		return nil, err
	}
	return p, nil
}
