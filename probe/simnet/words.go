package simnet

import (
	"fmt"
	"strconv"
	"strings"
)

// word is one of a list of names.
type word uint8

func (w word) text(names []string) ([]byte, error) {
	if int(w) >= len(names) {
		return nil, fmt.Errorf("value %d, want 0 to %d", w, len(names)-1)
	}
	return []byte(names[w]), nil
}

func (w *word) parse(b []byte, names []string) error {
	for i, name := range names {
		if name == string(b) {
			*w = word(i)
			return nil
		}
	}
	return fmt.Errorf("%q, want one of %s", b, strings.Join(names, ", "))
}

// ErrorSource is which address of a router its errors come from.
type ErrorSource word

// The choices.
const (
	FromInbound  ErrorSource = iota // of the link on which the packet came in
	FromOutbound                    // of the link to which the error goes out
	FromOwn                         // the first one of the router itself
)

var errorSources = []string{"inbound", "outbound", "own"}

// MarshalText returns "inbound", "outbound" or "own".
func (s ErrorSource) MarshalText() ([]byte, error) { return word(s).text(errorSources) }

// UnmarshalText is the inverse of MarshalText.
func (s *ErrorSource) UnmarshalText(b []byte) error { return (*word)(s).parse(b, errorSources) }

// Field is a header field that routers hash.
type Field word

// The fields.
const (
	FieldAddresses Field = iota // source and destination
	FieldPorts                  // of UDP and TCP; the first four bytes of any other protocol: in ICMP type, code and checksum
	FieldProtocol
	FieldFlowLabel // of IPv6
	FieldDSCP      // faulty
	FieldECN       // faulty
	FieldTTL       // faulty
	FieldPacket    // each packet by itself
)

var fields = []string{"addresses", "ports", "protocol", "flow-label", "dscp", "ecn", "ttl", "packet"}

// MarshalText returns the field's name, such as "flow-label".
func (f Field) MarshalText() ([]byte, error) { return word(f).text(fields) }

// UnmarshalText is the inverse of MarshalText.
func (f *Field) UnmarshalText(b []byte) error { return (*word)(f).parse(b, fields) }

// FlowFields are what a router should hash: all that stays constant along a
// flow.
func FlowFields() []Field {
	return []Field{FieldAddresses, FieldPorts, FieldProtocol, FieldFlowLabel}
}

// Quirk is what a router does to the datagram that it quotes.
type Quirk word

// The quirks.
const (
	QuirkSwapID       Quirk = iota // identification with its bytes swapped
	QuirkIncrementID               // identification one too high
	QuirkZeroChecksum              // UDP checksum zeroed
	QuirkZeroTTL                   // TTL zeroed
)

var quirks = []string{"swap-id", "increment-id", "zero-checksum", "zero-ttl"}

// MarshalText returns the quirk's name, such as "swap-id".
func (q Quirk) MarshalText() ([]byte, error) { return word(q).text(quirks) }

// UnmarshalText is the inverse of MarshalText.
func (q *Quirk) UnmarshalText(b []byte) error { return (*word)(q).parse(b, quirks) }

// Protocol is what a rule matches.
type Protocol word

// The protocols.
const (
	ProtocolAny Protocol = iota
	ProtocolUDP
	ProtocolTCP
	ProtocolICMP // ICMP and ICMPv6
)

var protocols = []string{"any", "udp", "tcp", "icmp"}

// MarshalText returns "any", "udp", "tcp" or "icmp".
func (p Protocol) MarshalText() ([]byte, error) { return word(p).text(protocols) }

// UnmarshalText is the inverse of MarshalText.
func (p *Protocol) UnmarshalText(b []byte) error { return (*word)(p).parse(b, protocols) }

// Action is what a rule does.
type Action word

// The actions.
const (
	ActionDrop   Action = iota // without a word
	ActionAccept               // passes
	ActionReject               // with an ICMP error
	ActionReset                // TCP with a reset, anything else as ActionReject
)

var actions = []string{"drop", "accept", "reject", "reset"}

// MarshalText returns "drop", "accept", "reject" or "reset".
func (a Action) MarshalText() ([]byte, error) { return word(a).text(actions) }

// UnmarshalText is the inverse of MarshalText.
func (a *Action) UnmarshalText(b []byte) error { return (*word)(a).parse(b, actions) }

// PortState is what becomes of a packet to a port.
type PortState word

// The states.
const (
	Closed   PortState = iota // refused: port unreachable, or a reset
	Open                      // accepted: a service answers, or nobody
	Filtered                  // dropped
)

var portStates = []string{"closed", "open", "filtered"}

// MarshalText returns "closed", "open" or "filtered".
func (s PortState) MarshalText() ([]byte, error) { return word(s).text(portStates) }

// UnmarshalText is the inverse of MarshalText.
func (s *PortState) UnmarshalText(b []byte) error { return (*word)(s).parse(b, portStates) }

// DropKind is how a route drops.
type DropKind word

// The ways.
const (
	NoDrop      DropKind = iota
	Blackhole            // without a word
	Unreachable          // host unreachable; over IPv6 no route
	Prohibited           // administratively prohibited
)

var dropKinds = []string{"", "blackhole", "unreachable", "prohibited"}

// MarshalText returns "", "blackhole", "unreachable" or "prohibited".
func (k DropKind) MarshalText() ([]byte, error) { return word(k).text(dropKinds) }

// UnmarshalText is the inverse of MarshalText.
func (k *DropKind) UnmarshalText(b []byte) error { return (*word)(k).parse(b, dropKinds) }

// Forgery is what a spoofer sends.
type Forgery word

// The forgeries.
const (
	ForgeTimeExceeded Forgery = iota
	ForgeUnreachable          // port unreachable
	ForgeEchoReply
	ForgeReset // TCP
)

var forgeries = []string{"time-exceeded", "unreachable", "echo-reply", "reset"}

// MarshalText returns the forgery's name, such as "time-exceeded".
func (f Forgery) MarshalText() ([]byte, error) { return word(f).text(forgeries) }

// UnmarshalText is the inverse of MarshalText.
func (f *Forgery) UnmarshalText(b []byte) error { return (*word)(f).parse(b, forgeries) }

// Sight is what a spoofer knows of probes.
type Sight word

// The degrees.
const (
	SeesNothing Sight = iota // it guesses, at its rate
	SeesID                   // the identifier but not the tag
	SeesAll                  // whole probes: nothing tells its answers from true ones
)

var sights = []string{"nothing", "id", "all"}

// MarshalText returns "nothing", "id" or "all".
func (s Sight) MarshalText() ([]byte, error) { return word(s).text(sights) }

// UnmarshalText is the inverse of MarshalText.
func (s *Sight) UnmarshalText(b []byte) error { return (*word)(s).parse(b, sights) }

// PortRange is a range of ports, both ends included. The zero value is all.
type PortRange struct{ First, Last uint16 }

// MarshalText returns "80" or "33434-33534", and "" for all.
func (r PortRange) MarshalText() ([]byte, error) {
	switch {
	case r == PortRange{}:
		return nil, nil
	case r.First == r.Last:
		return []byte(strconv.Itoa(int(r.First))), nil
	}
	return fmt.Appendf(nil, "%d-%d", r.First, r.Last), nil
}

// UnmarshalText is the inverse of MarshalText.
func (r *PortRange) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*r = PortRange{}
		return nil
	}
	from, to, ok := strings.Cut(string(b), "-")
	if !ok {
		to = from
	}
	first, err1 := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || first > last || last == 0 {
		return fmt.Errorf("%q, want a port, 1 to 65535, or a range such as 33434-33534", b)
	}
	*r = PortRange{uint16(first), uint16(last)}
	return nil
}

// All tells whether the range holds every port.
func (r PortRange) All() bool { return r == PortRange{} }

func (r PortRange) contains(port uint16) bool {
	return r.All() || r.First <= port && port <= r.Last
}
