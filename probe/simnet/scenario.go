package simnet

import (
	"net/netip"
	"time"
)

// Scenario is a network on paper: plain data, the same whether it was written
// in Go or read from a file (package scenario). [Scenario.Start] brings it to
// life. The zero value of every field is its default.
type Scenario struct {
	Name  string `yaml:"name"`  // one word, as users give it
	About string `yaml:"about"` // what it shows, a sentence or two
	// Seed decides everything that is left to chance.
	Seed uint64 `yaml:"seed"`

	Sites   []Site   `yaml:"sites"`
	Hosts   []Host   `yaml:"hosts"`
	Routers []Router `yaml:"routers"` // what is drawn and not listed anywhere is a router with defaults
	Links   []Link   `yaml:"links"`
	Tunnels []Tunnel `yaml:"tunnels"`
	// Routes override what shortest paths would choose.
	Routes   []Route   `yaml:"routes"`
	Changes  []Change  `yaml:"changes"`
	Spoofers []Spoofer `yaml:"spoofers"`
	// Expect is what measurements over the scenario print.
	Expect []Expectation `yaml:"expect"`
}

// Site is a host with a door for an agent: see [Network.Port]. Several sites
// with the same address make it anycast: every router sends to the nearest one
// by [Properties.Cost], unless a [Route] says otherwise. The host's own stack
// answers beside the agent: it resets connections that it knows nothing of.
type Site struct {
	Host `yaml:",inline"`
	// Clock is what the times of the agent's port come from.
	Clock Clock `yaml:"clock"`
}

// Clock is a clock that may be wrong. The zero value is right.
type Clock struct {
	Ahead time.Duration `yaml:"ahead"` // at the start; negative: behind
	// Skew is how much faster it runs, in millionths: -1000 to 1000.
	Skew  float64     `yaml:"skew"`
	Steps []ClockStep `yaml:"steps"`
}

// ClockStep is a setting of a clock.
type ClockStep struct {
	At time.Duration `yaml:"at"` // since the start
	By time.Duration `yaml:"by"` // forward; negative: back
}

// Host is an end of the network. It answers as a Linux host does. A host with
// several links sends over the first one that is up.
type Host struct {
	Name string `yaml:"name"`
	// Addresses are its own, besides those of its links.
	Addresses []netip.Addr `yaml:"addresses"`
	// Prefixes are blocks of which every address is its own.
	Prefixes []netip.Prefix `yaml:"prefixes"`
	DNS      string         `yaml:"dns"` // its domain name, none by default
	UDP      Ports          `yaml:"udp"`
	TCP      Ports          `yaml:"tcp"`
	NoEcho   bool           `yaml:"no-echo"` // ignores echo requests
	Firewall []Rule         `yaml:"firewall"`
	Stack    `yaml:",inline"`

	// Services answer datagrams to UDP ports, which are thereby open: a
	// service returns the payload of its answer, or nil for none. It is
	// called by one goroutine at a time and must neither block nor retain
	// the request.
	Services map[uint16]func(request []byte) (response []byte) `yaml:"-"`
}

// Router forwards. The order of things is that of Linux: route, TTL, MTU,
// filters.
type Router struct {
	Name string `yaml:"name"`
	// Addresses are its own. Links of a router that has some get no
	// addresses by themselves, and its answers come from the first of the
	// family.
	Addresses []netip.Addr `yaml:"addresses"`
	DNS       string       `yaml:"dns"`
	// From is which address its errors come from.
	From    ErrorSource `yaml:"from"`
	ECMP    ECMP        `yaml:"ecmp"`
	Rewrite Rewrite     `yaml:"rewrite"`
	NAT     *NAT        `yaml:"nat"`
	Filters []Rule      `yaml:"filters"`
	// InterfaceInfo adds the incoming interface to errors (RFC 5837).
	InterfaceInfo bool `yaml:"interface-info"`
	Stack         `yaml:",inline"`
}

// Stack is how a host or router makes the packets of its own.
type Stack struct {
	Silent bool `yaml:"silent"` // answers nothing; a router still forwards
	// TTL of what it sends; default 64 for hosts and 255 for routers.
	TTL uint8 `yaml:"ttl"`
	// Errors limits its ICMP errors, but not those that path MTU discovery
	// needs.
	Errors RateLimit `yaml:"errors"`
	// Quote is how many bytes after the IP header its errors quote, at least
	// 8. Default: as much as fits into 576 bytes (RFC 1812) and, over IPv6,
	// into 1280 (RFC 4443).
	Quote int `yaml:"quote"`
	// Quirks are what it does to the quoted datagram.
	Quirks []Quirk `yaml:"quirks"`
	// Delay is how long it takes to make an answer.
	Delay time.Duration `yaml:"answer-delay"`
}

// RateLimit is a token bucket.
type RateLimit struct {
	Rate float64 `yaml:"rate"` // a second; 0: no limit
	// Burst is how many at once after a rest; default 1.
	Burst int `yaml:"burst"`
	// PerDestination keeps a bucket for each address that is answered.
	PerDestination bool `yaml:"per-destination"`
}

// ECMP says how a router spreads packets over routes of equal cost. Routers
// without it take the first one drawn.
type ECMP struct {
	// Hash are the header fields that choose the route. A router whose list
	// has only [FieldPacket] chooses anew for each packet.
	Hash []Field `yaml:"hash"`
}

// Rewrite changes the TOS or traffic class of what a router forwards.
type Rewrite struct {
	DSCP      *uint8 `yaml:"dscp"`       // set to this, 0 to 63
	BleachECN bool   `yaml:"bleach-ecn"` // clear the two ECN bits
}

// NAT rewrites the sources of packets that leave over some links to Address,
// and back. Ports and echo identifiers are kept where they are free. While one
// is in use, and for two minutes after, all that is sent to it from the outside
// comes in, whoever sends it (RFC 4787, endpoint-independent).
type NAT struct {
	Address netip.Addr `yaml:"address"`
	// Outside names the neighbours towards which sources are rewritten.
	Outside []string `yaml:"outside"`
	// StaleQuotes leaves the transport checksum in the quotes of errors as
	// the outside saw it, as many do.
	StaleQuotes bool `yaml:"stale-quotes"`
}

// Rule decides over packets that match all that it gives; the first matching
// rule of a list counts, and what matches none passes.
type Rule struct {
	Protocol Protocol     `yaml:"protocol"` // default any
	From     netip.Prefix `yaml:"from"`     // source; default any
	To       netip.Prefix `yaml:"to"`       // destination; default any
	Ports    PortRange    `yaml:"ports"`    // destination ports of UDP and TCP; default any
	Action   Action       `yaml:"action"`
	// Code is that of [ActionReject]; default 13 over IPv4 and 1 over IPv6,
	// "administratively prohibited".
	Code *uint8 `yaml:"code"`
}

// Ports are the ports of a host's UDP or TCP. The most particular list that
// holds a port counts: Open, then Closed, then Filtered, then Rest.
type Ports struct {
	Open     []PortRange `yaml:"open"`
	Closed   []PortRange `yaml:"closed"`
	Filtered []PortRange `yaml:"filtered"`
	Rest     PortState   `yaml:"rest"` // default closed
}

// Link joins neighbours.
type Link struct {
	// Draw is chains of nodes, a line each: "a -- r1 --10ms-- r2". A time in
	// a dash is that link's delay.
	Draw string `yaml:"draw"`
	// Prefixes number the link, if Draw is of a single one: its first end
	// takes the first address after the prefix's own, its second end the
	// next. Default: 198.18.N.0/24 and 2001:db8:N::/64 for the N-th link from
	// 0 (198.19.0.0/24 after 198.18.255.0/24), but pairs of consecutive
	// addresses in a network of more than 512 links, and none at all for the
	// link of a router that has addresses of its own.
	Prefixes   []netip.Prefix `yaml:"prefixes"`
	Properties `yaml:",inline"`
	// Back is for the other direction; default the same.
	Back *Properties `yaml:"back"`
}

// Properties are those of one direction of a link.
type Properties struct {
	// Delay is the time from end to end; default, and least, a nanosecond.
	Delay time.Duration `yaml:"delay"`
	// Jitter is the most that is added, evenly distributed. Packets stay in
	// order.
	Jitter    time.Duration `yaml:"jitter"`
	Loss      float64       `yaml:"loss"`      // probability, 0 to 1
	Duplicate float64       `yaml:"duplicate"` // probability, 0 to 1
	// Reorder is the probability that a packet is held back by ReorderBy,
	// during which later ones pass.
	Reorder   float64       `yaml:"reorder"`
	ReorderBy time.Duration `yaml:"reorder-by"` // default the delay
	MTU       int           `yaml:"mtu"`        // in bytes, 68 to 65535, for IPv6 at least 1280 (RFC 8200); default 1500
	Cost      int           `yaml:"cost"`       // 1 to 65535; default 1
}

// Tunnel is a label-switched path (RFC 3031) for what its first router sends
// to its second one. The last but one router pops. While a link of it is down,
// packets go without it.
type Tunnel struct {
	Draw string `yaml:"draw"` // a single chain of at least three routers
	// Labels are the outer labels, one for each router between the ends.
	Labels []uint32 `yaml:"labels"`
	// Inner are the labels under the outer one, all along the path.
	Inner []uint32 `yaml:"inner"`
	// Hidden keeps the IP TTL as it is in the tunnel (RFC 3443, pipe), so
	// that the routers between the ends never answer.
	Hidden bool `yaml:"hidden"`
	// Bare leaves the label stack out of errors (RFC 4950 puts it in).
	Bare bool `yaml:"bare"`
}

// Route is a static route at a router. It wins over all that shortest paths
// say, unless all its neighbours' links are down; of several the longest prefix
// wins.
type Route struct {
	At  string       `yaml:"at"`
	To  netip.Prefix `yaml:"to"`
	Via []string     `yaml:"via"` // neighbours; several are of equal cost
	// Drop, instead of Via: without a word ("blackhole") or with an error
	// ("unreachable", "prohibited").
	Drop DropKind `yaml:"drop"`
}

// Change is something that happens at a given time. It has exactly one of the
// fields after Every.
type Change struct {
	At    time.Duration `yaml:"at"`    // since the start
	Every time.Duration `yaml:"every"` // repeated; default once

	Withdraw string `yaml:"withdraw"` // a site or host is routed to no longer
	Announce string `yaml:"announce"` // and again
	Down     string `yaml:"down"`     // the links between two neighbours fail: "r1 -- r2"
	Up       string `yaml:"up"`
	Silence  string `yaml:"silence"` // a host or router answers no longer
	Speak    string `yaml:"speak"`
	Route    *Route `yaml:"route"`  // set, in place of the router's one to the same prefix
	Forget   *Route `yaml:"forget"` // of which only At and To count
}

// Spoofer forges answers.
type Spoofer struct {
	At   string     `yaml:"at"`   // the node where they enter the network
	To   netip.Addr `yaml:"to"`   // whom they are sent to
	From netip.Addr `yaml:"from"` // whom they claim to be from
	Kind Forgery    `yaml:"kind"`
	// Claims is the destination of the probes that they claim to answer.
	Claims netip.Addr `yaml:"claims"`
	// Rate, a second, from Start until Until (default for ever), of a spoofer
	// that knows nothing of the probes.
	Rate  float64       `yaml:"rate"`
	Start time.Duration `yaml:"start"`
	Until time.Duration `yaml:"until"`
	// Sees is what it knows, of the probes to Claims that pass At: it forges
	// an answer for each of them.
	Sees Sight `yaml:"sees"`
}

// Expectation is a measurement over a scenario and what it prints.
type Expectation struct {
	Command string `yaml:"command"` // as users write it, without the leading "volta"
	Output  string `yaml:"output"`
	// At is when it begins, since the start.
	At time.Duration `yaml:"at"`
}
