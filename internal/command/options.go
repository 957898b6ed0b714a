package command

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// option is one that the language has.
type option struct {
	short, long string
	arg         string // what its value is called; empty: it takes none
	help        string
	set         func(p *parser, v string) error
}

// options are in the order of traceroute(8)'s own help; those that it does
// not have come last.
var options = []option{
	{short: "4", help: "Trace over IPv4 only", set: func(p *parser, _ string) error { return p.family(4) }},
	{short: "6", help: "Trace over IPv6 only", set: func(p *parser, _ string) error { return p.family(6) }},
	{short: "F", long: "dont-fragment", help: "Send probes that must not be fragmented: sets DF\nin IPv4",
		set: func(p *parser, _ string) error { p.DontFragment = true; return nil }},
	{short: "f", long: "first", arg: "hop", help: "First hop that is probed, 1 to the number of -m\n(1)",
		set: func(p *parser, v string) error { return firstHop(MaxTTL).parse(&p.FirstTTL, v) }},
	{short: "I", long: "icmp", help: "Probe with ICMP echo requests",
		set: func(p *parser, _ string) error { return p.prober("icmp", "-I") }},
	{short: "T", long: "tcp", help: "Probe with TCP SYNs, to port 80 unless -p says\notherwise",
		set: func(p *parser, _ string) error { return p.prober("tcp", "-T") }},
	{short: "m", long: "max-hops", arg: "hops", help: "Last hop that is probed, 1 to 255 (30)",
		set: func(p *parser, v string) error { return maxHops.parse(&p.MaxTTL, v) }},
	{short: "N", long: "sim-queries", arg: "probes", help: "Probes that may be under way at once, 1 to 2550\n(16)",
		set: func(p *parser, v string) error { return simQueries.parse(&p.SimQueries, v) }},
	{short: "n", help: "Show addresses only, look up no names",
		set: func(p *parser, _ string) error { p.Numeric = true; return nil }},
	{short: "p", long: "port", arg: "port", help: "Destination port of every probe, 1 to 65535\n(33434, with -U 53, with -T 80; -I has none)",
		set: setPort},
	{short: "t", long: "tos", arg: "tos", help: "TOS byte in IPv4, traffic class in IPv6: 0 to 255\nor 0x00 to 0xff (0). 2 turns ECN on: ECT(0). 1\nturns it off: a byte of 0, and only 0x01 is 1",
		set: setTOS},
	{short: "w", long: "wait", arg: "MAX,HERE,NEAR", help: "Give a probe up after MAX seconds, 0.001 to 3600,\nor sooner: after HERE times the round trip of an\nanswer from its own hop, or NEAR times that from\na later hop. Both are 0 to 1000, and 0 is off\n(5,3,10; a lone MAX leaves HERE and NEAR off)",
		set: setWait},
	{short: "q", long: "queries", arg: "probes", help: "Probes per hop, 1 to 10 (3)",
		set: func(p *parser, v string) error { return queries.parse(&p.Queries, v) }},
	{short: "z", long: "sendwait", arg: "time", help: "Least time from probe to probe: up to 10 it is in\nseconds, above 10 to 60000 in milliseconds (0)",
		set: setInterval},
	{short: "U", long: "udp", help: "Probe with UDP to port 53, or that of -p. UDP to\nport 33434 is what happens without -I, -T and -U",
		set: func(p *parser, _ string) error { p.dns = true; return p.prober("udp", "-U") }},
	{short: "P", long: "prober", arg: "name", help: "Probe with a kind of probe that the source has by\nthat name, udp, icmp, tcp or another. -M is the\nsame",
		set: func(p *parser, v string) error { return p.prober(v, "-P") }},
	{short: "o", long: "option", arg: "name=value", help: "Set an option that the kind of probe has. Can be\ngiven again for another. -O is the same",
		set: setOption},
	{long: "flows", arg: "count", help: "Flows that the probes of a hop are spread over, at\nmost as many as -q (1: routers that balance load\nby flow send all probes along one path)",
		set: func(p *parser, v string) error { return flows.parse(&p.Flows, v) }},
	{long: "classic", help: "Make every probe a flow of its own, told apart by\nits source port. UDP only",
		set: func(p *parser, _ string) error { p.Classic = true; return nil }},
}

// refused are the options that traceroute(8) has and the language has not.
var refused = []struct{ short, long, what string }{
	{"d", "debug", "socket debugging"},
	{"g", "gateway", "source routing"},
	{"i", "interface", "choice of the interface"},
	{"l", "flowlabel", "choice of the flow label"},
	{"r", "", "bypass of the routing table"},
	{"s", "source", "choice of the source address"},
	{"e", "extensions", "dump of ICMP extensions"},
	{"A", "as-path-lookups", "AS path lookups"},
	{"", "sport", "choice of the source port"},
	{"", "fwmark", "firewall mark"},
	{"D", "dccp", "DCCP probes"},
	{"", "protocol", "raw probes of a protocol"},
	{"", "mtu", "path MTU discovery"},
	{"", "back", "backward hops"},
	{"V", "version", "version of the program"},
	{"", "help", "help text"},
}

// aliases are other long forms: those of the original Voltadomar, and those
// that traceroute(8) has for what is much the same.
var aliases = map[string]string{
	"max-ttls": "max-hops", "waittime": "wait", "nqueries": "queries",
	"module": "prober", "options": "option",
}

// synonyms are short forms of traceroute(8) for what is much the same.
var synonyms = map[string]string{"M": "P", "O": "o"}

func refuse(name, what string) error {
	return &UsageError{Reason: fmt.Sprintf("%s (%s) is an option of traceroute(8) that volta does not have", name, what)}
}

// whole is the range of a whole number.
type whole struct {
	option, what string
	least, most  int
}

var (
	maxHops    = whole{"-m", "max hops", 1, MaxTTL}
	queries    = whole{"-q", "queries", 1, MaxQueries}
	simQueries = whole{"-N", "simultaneous queries", 1, MaxSimQueries}
	port       = whole{"-p", "port", 1, math.MaxUint16}
	flows      = whole{"--flows", "flows", 1, MaxQueries}
	packetLen  = whole{"packetlen", "packet length", MinSize, MaxSize}
)

func firstHop(most int) whole { return whole{"-f", "first hop", 1, most} }

func (w whole) check(n int) error {
	if n < w.least || n > w.most {
		return w.bad(strconv.Itoa(n))
	}
	return nil
}

func (w whole) parse(to *int, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < w.least || n > w.most {
		return w.bad(v)
	}
	*to = n
	return nil
}

func (w whole) bad(v string) error {
	return &UsageError{Option: w.option, Value: given(v), Reason: fmt.Sprintf("%s must be %d to %d", w.what, w.least, w.most)}
}

// given makes an empty value visible in an error.
func given(v string) string {
	if v == "" {
		return "''"
	}
	return v
}

// setOption reads name=value. All that is behind the first sign is the value.
func setOption(p *parser, v string) error {
	name, value, ok := strings.Cut(v, "=")
	if !ok {
		return &UsageError{Option: "-o", Value: given(v), Reason: "it must be NAME=VALUE"}
	}
	if err := checkOption(name, value); err != nil {
		return err
	}
	if p.Options == nil {
		p.Options = map[string]string{}
	}
	p.Options[name] = value
	return nil
}

func setPort(p *parser, v string) error {
	var n int
	if err := port.parse(&n, v); err != nil {
		return err
	}
	p.Port = uint16(n)
	return nil
}

func setTOS(p *parser, v string) error {
	digits, base := v, 10
	if hex, ok := strings.CutPrefix(strings.ToLower(v), "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 8)
	if err != nil {
		return &UsageError{Option: "-t", Value: given(v), Reason: "TOS must be 0 to 255, or 0x00 to 0xff"}
	}
	if base == 10 && n == 1 {
		n = 0
	}
	p.TOS = uint8(n)
	return nil
}

func badWait(v string) error {
	return &UsageError{Option: "-w", Value: given(v), Reason: "wait must be MAX or MAX,HERE,NEAR, with MAX 0.001 to 3600 seconds, HERE and NEAR 0 to 1000"}
}

// setWait reads as traceroute(8) does: what is left out is 0, and a slash is
// as good as a comma.
func setWait(p *parser, v string) error {
	parts := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == '/' })
	if len(parts) < 1 || len(parts) > 3 || len(strings.Join(parts, ",")) != len(v) {
		return badWait(v)
	}
	var n [3]float64
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseFloat(part, 64); err != nil {
			return badWait(v)
		}
	}
	if !(n[0] >= MinWait.Seconds() && n[0] <= MaxWait.Seconds()) {
		return badWait(v)
	}
	for _, f := range n[1:] {
		if !(f >= 0 && f <= MaxFactor) {
			return badWait(v)
		}
	}
	p.WaitMax = duration(n[0], time.Second)
	p.WaitHere, p.WaitNear = n[1]+0, n[2]+0 // -0 becomes 0
	return nil
}

func badInterval(v string) error {
	return &UsageError{Option: "-z", Value: given(v), Reason: "time between probes must be 0 to 10 seconds, or above 10 to 60000 milliseconds"}
}

func setInterval(p *parser, v string) error {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0 && f <= float64(MaxInterval/time.Millisecond)) {
		return badInterval(v)
	}
	unit := time.Second
	if f > 10 {
		unit = time.Millisecond
	}
	p.Interval = duration(f, unit)
	return nil
}
