// Package command is the command language of every front:
//
//	volta <source> <destination> [options] [packetlen]
//
// with the letters and long forms of traceroute(8). [Parse] and [ParseArgs]
// turn it into a [Spec], [Spec.Words] turns that back. What traceroute(8) has
// and this language does not is refused by name, never ignored.
package command

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// What the options stand at if they are not given, as in traceroute(8).
const (
	DefaultProber     = "udp"
	DefaultFirstTTL   = 1
	DefaultMaxTTL     = 30
	DefaultQueries    = 3
	DefaultSimQueries = 16
	DefaultWaitMax    = 5 * time.Second
	DefaultWaitHere   = 3.0
	DefaultWaitNear   = 10.0
	DefaultFlows      = 1

	// DefaultUDPPort and DefaultTCPPort are what a Spec.Port of 0 means.
	DefaultUDPPort uint16 = 33434
	DefaultTCPPort uint16 = 80
	// dnsPort is the port of -U.
	dnsPort uint16 = 53
)

// Ranges of the options, and lengths of what stands in a command.
const (
	MaxTTL        = 255
	MaxQueries    = 10
	MaxSimQueries = MaxTTL * MaxQueries // every probe of the longest trace
	MinWait       = time.Millisecond
	MaxWait       = time.Hour
	MaxFactor     = 1000.0      // of HERE and NEAR
	MaxInterval   = time.Minute // between probes
	MinSize       = 28
	MaxSize       = 65000

	MaxLine   = 4096 // bytes of a command
	MaxSource = 64   // bytes of an agent's id
	MaxTarget = 253  // bytes of a host name or address
)

// Spec is a traceroute as its user asked for it. [Defaults] is one with every
// option at its default; [Spec.Validate] knows the ranges.
type Spec struct {
	Source string // the agent's id: 1 to 64 letters, digits, '.', '_' and '-'
	Target string // host name or address, at most 253 bytes
	Prober string // "udp", "icmp", "tcp", or another one that the agent has
	// Options are those of the prober, by name, nil if there are none: names
	// of 1 to 32 lower-case letters, digits or '-', at most 64 of them, with
	// values of at most 255 bytes. What they mean the prober decides.
	Options map[string]string

	FirstTTL   int // 1 to MaxTTL
	MaxTTL     int // 1 to 255
	Queries    int // probes per hop, 1 to 10
	SimQueries int // probes under way at once, 1 to MaxSimQueries

	// WaitMax is the longest wait for an answer, 1 ms to 1 h.
	WaitMax time.Duration
	// WaitHere and WaitNear shorten the wait to that many times the round-trip
	// time of an answer from the same hop, or from a hop further on. 0 to 1000;
	// 0 turns that off.
	WaitHere, WaitNear float64

	TOS          uint8  // the whole TOS or traffic class byte
	Port         uint16 // destination port, 0: the prober's default; ICMP has none
	DontFragment bool
	Numeric      bool          // hop names are not looked up
	Interval     time.Duration // least time between probes, 0 to 1 min
	Family       int           // 4 or 6, 0: whichever the target has
	Size         int           // of a probe in bytes, 28 to 65000, 0: the prober's default; TCP has none
	Flows        int           // the probes of a hop are spread over so many flows, 1 to Queries
	Classic      bool          // every probe is a flow of its own; UDP only
}

// Defaults returns a Spec with every option at its default, and no source and
// target.
func Defaults() Spec {
	return Spec{
		Prober: DefaultProber, FirstTTL: DefaultFirstTTL, MaxTTL: DefaultMaxTTL,
		Queries: DefaultQueries, SimQueries: DefaultSimQueries,
		WaitMax: DefaultWaitMax, WaitHere: DefaultWaitHere, WaitNear: DefaultWaitNear,
		Flows: DefaultFlows,
	}
}

// Validate tells whether the fields are in range and go together; for a Spec
// that did not come from a command. The error is a [*UsageError] that speaks
// of the option that sets the field.
func (s Spec) Validate() error {
	for _, check := range []func() error{
		func() error { return CheckAgent(s.Source) },
		func() error { return checkTarget(s.Target) },
		s.checkProber,
		s.checkOptions,
		func() error { return maxHops.check(s.MaxTTL) },
		func() error { return firstHop(s.MaxTTL).check(s.FirstTTL) },
		func() error { return queries.check(s.Queries) },
		func() error { return simQueries.check(s.SimQueries) },
		func() error { return flows.check(s.Flows) },
		s.checkFlows,
		s.checkTimes,
		s.checkFamily,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckAgent says what is wrong with an agent's id.
func CheckAgent(id string) error {
	if len(id) == 0 || len(id) > MaxSource || strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	}) {
		return &UsageError{Option: "source", Value: given(id), Reason: "an agent's id must be 1 to 64 letters, digits, '.', '_' or '-'"}
	}
	return nil
}

func checkTarget(name string) error {
	switch {
	case len(name) == 0 || len(name) > MaxTarget:
		return &UsageError{Option: "destination", Value: given(name), Reason: "a host name or address must have 1 to 253 bytes, this has " + strconv.Itoa(len(name))}
	case name[0] == '-':
		return &UsageError{Option: "destination", Value: name, Reason: "a host name or address cannot begin with '-'"}
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return &UsageError{Option: "destination", Value: name, Reason: "a host name or address cannot hold spaces or control characters"}
	}
	return nil
}

func (s Spec) checkProber() error {
	switch s.Prober {
	case "udp":
	case "icmp":
		if s.Port != 0 {
			return &UsageError{Option: "-p", Value: strconv.Itoa(int(s.Port)), Reason: "ICMP probes (-I) have no port, and their sequence number identifies the probe: leave it out, or use UDP or TCP"}
		}
	case "tcp":
		if s.Size != 0 {
			return &UsageError{Option: "packetlen", Value: strconv.Itoa(s.Size), Reason: "TCP probes (-T) have no payload, so their length cannot be chosen"}
		}
	case "":
		return &UsageError{Option: "prober", Reason: `must be "udp", "icmp", "tcp", or another one that the agent has`}
	default:
		if !probe.WellNamed(s.Prober) {
			return &UsageError{Option: "-P", Value: s.Prober, Reason: "a kind of probe is called by 1 to 32 lower-case letters, digits or '-', a letter first"}
		}
	}
	if s.Classic && (s.Prober == "icmp" || s.Prober == "tcp") {
		return &UsageError{Option: "--classic", Reason: "only UDP probes can be sent so, not " + s.Prober}
	}
	if s.Classic && s.Flows > 1 {
		return &UsageError{Option: "--flows", Value: strconv.Itoa(s.Flows), Reason: "with --classic every probe is a flow of its own"}
	}
	if s.Size != 0 {
		return packetLen.check(s.Size)
	}
	return nil
}

func (s Spec) checkOptions() error {
	if len(s.Options) > probe.MaxOptions {
		return &UsageError{Option: "-o", Reason: "there are " + strconv.Itoa(len(s.Options)) + " options of the prober, they must be at most " + strconv.Itoa(probe.MaxOptions)}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Options)) {
		if err := checkOption(name, s.Options[name]); err != nil {
			return err
		}
	}
	return nil
}

func checkOption(name, value string) error {
	switch {
	case !probe.WellNamed(name):
		return &UsageError{Option: "-o", Value: name + "=" + value, Reason: "it must be NAME=VALUE, with a name of 1 to 32 lower-case letters, digits or '-', a letter first"}
	case len(value) > probe.MaxOptionValue:
		return &UsageError{Option: "-o", Value: name + "=" + value, Reason: "a value must have at most " + strconv.Itoa(probe.MaxOptionValue) + " bytes, this has " + strconv.Itoa(len(value))}
	case !utf8.ValidString(value), strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return &UsageError{Option: "-o", Value: name + "=" + value, Reason: "a value cannot hold control characters"}
	}
	return nil
}

func (s Spec) checkFlows() error {
	if s.Flows > s.Queries {
		return &UsageError{Option: "--flows", Value: strconv.Itoa(s.Flows), Reason: "each flow needs a probe at every hop: must be at most the queries, -q " + strconv.Itoa(s.Queries)}
	}
	return nil
}

func (s Spec) checkTimes() error {
	inRange := func(f float64) bool { return f >= 0 && f <= MaxFactor }
	if s.WaitMax < MinWait || s.WaitMax > MaxWait || !inRange(s.WaitHere) || !inRange(s.WaitNear) {
		return badWait(s.waitWord())
	}
	if s.Interval < 0 || s.Interval > MaxInterval {
		return badInterval(s.intervalWord())
	}
	return nil
}

func (s Spec) checkFamily() error {
	a, err := netip.ParseAddr(s.Target)
	switch {
	case s.Family != 0 && s.Family != 4 && s.Family != 6:
		return &UsageError{Option: "address family", Value: strconv.Itoa(s.Family), Reason: "must be 4, 6, or 0 for either"}
	case err != nil:
	case s.Family == 4 && !a.Is4():
		return &UsageError{Option: "-4", Reason: "the destination " + show(s.Target) + " is an IPv6 address"}
	case s.Family == 6 && !a.Is6():
		return &UsageError{Option: "-6", Reason: "the destination " + show(s.Target) + " is an IPv4 address"}
	}
	return nil
}

// Words returns the words of the shortest command for a valid s, without the
// leading "volta": [ParseArgs] of them is s again.
func (s Spec) Words() []string {
	var opts []string
	number := func(name string, v, otherwise int) {
		if v != otherwise {
			opts = append(opts, name, strconv.Itoa(v))
		}
	}
	flag := func(name string, v bool) {
		if v {
			opts = append(opts, name)
		}
	}
	flag("-4", s.Family == 4)
	flag("-6", s.Family == 6)
	flag("-F", s.DontFragment)
	number("-f", s.FirstTTL, DefaultFirstTTL)
	flag("-I", s.Prober == "icmp")
	flag("-T", s.Prober == "tcp")
	number("-m", s.MaxTTL, DefaultMaxTTL)
	number("-N", s.SimQueries, DefaultSimQueries)
	flag("-n", s.Numeric)
	switch s.Prober {
	case "udp", "icmp", "tcp":
	default:
		opts = append(opts, "-P", s.Prober)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Options)) {
		opts = append(opts, "-o", name+"="+s.Options[name])
	}
	number("-p", int(s.Port), 0)
	switch s.TOS {
	case 0:
	case 1: // the decimal 1 means 0
		opts = append(opts, "-t", "0x01")
	default:
		number("-t", int(s.TOS), 0)
	}
	if s.WaitMax != DefaultWaitMax || s.WaitHere != DefaultWaitHere || s.WaitNear != DefaultWaitNear {
		opts = append(opts, "-w", s.waitWord())
	}
	number("-q", s.Queries, DefaultQueries)
	if s.Interval != 0 {
		opts = append(opts, "-z", s.intervalWord())
	}
	number("--flows", s.Flows, DefaultFlows)
	flag("--classic", s.Classic)

	operands := []string{s.Source, s.Target}
	if s.Size != 0 {
		operands = append(operands, strconv.Itoa(s.Size))
	}
	if strings.HasPrefix(s.Source, "-") {
		return append(append(opts, "--"), operands...)
	}
	return append(append(operands[:2:2], opts...), operands[2:]...)
}

func (s Spec) waitWord() string {
	w := decimal(s.WaitMax.Seconds())
	if s.WaitHere != 0 || s.WaitNear != 0 {
		w += "," + decimal(s.WaitHere) + "," + decimal(s.WaitNear)
	}
	return w
}

func (s Spec) intervalWord() string {
	if s.Interval > 10*time.Second {
		return decimal(float64(s.Interval) / float64(time.Millisecond))
	}
	return decimal(s.Interval.Seconds())
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// duration rounds to nanoseconds, so that what decimal wrote comes back.
func duration(f float64, unit time.Duration) time.Duration {
	return time.Duration(math.Round(f * float64(unit)))
}
