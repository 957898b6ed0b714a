package simnet_test

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// everything is a scenario with something of all that there is.
func everything() *simnet.Scenario {
	u8 := func(v uint8) *uint8 { return &v }
	all := []netip.Addr{a4, a6}
	return &simnet.Scenario{
		Name: "everything",
		Sites: []simnet.Site{
			{Host: simnet.Host{Name: "a", Addresses: all, DNS: "any.example"}},
			{Host: simnet.Host{Name: "b", Addresses: all, Stack: simnet.Stack{Delay: time.Millisecond}}, Clock: simnet.Clock{Ahead: time.Second, Skew: 10}},
			{Host: simnet.Host{Name: "inside", Addresses: addrs("198.51.100.2", "2001:db8:55::2")}},
		},
		Hosts: []simnet.Host{
			{
				Name: "h", Addresses: []netip.Addr{h4, h6}, Prefixes: prefixes("203.0.113.128/25", "2001:db8:fd::/48"), DNS: "h.example",
				UDP: simnet.Ports{Open: ports(100, 200), Filtered: ports(300, 400)}, TCP: simnet.Ports{Open: ports(80, 90), Rest: simnet.Filtered},
				Firewall: []simnet.Rule{{Protocol: simnet.ProtocolTCP, Ports: ports(81, 82)[0], Action: simnet.ActionReset}, {From: prefixes("198.51.100.9/32")[0]}},
				Services: map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return b }, 9: func([]byte) []byte { return make([]byte, 3000) }},
			},
			{Name: "mute", Addresses: addrs("203.0.113.11"), NoEcho: true, Stack: simnet.Stack{Errors: simnet.RateLimit{Rate: 1, Burst: 5, PerDestination: true}}},
		},
		Routers: []simnet.Router{
			{Name: "r1", DNS: "r1.example", InterfaceInfo: true, ECMP: simnet.ECMP{Hash: []simnet.Field{simnet.FieldAddresses, simnet.FieldPorts, simnet.FieldProtocol, simnet.FieldFlowLabel}}},
			{Name: "r2", From: simnet.FromOutbound, ECMP: simnet.ECMP{Hash: []simnet.Field{simnet.FieldDSCP, simnet.FieldECN, simnet.FieldTTL, simnet.FieldPacket}}, Stack: simnet.Stack{TTL: 64, Quote: 8, Quirks: []simnet.Quirk{simnet.QuirkSwapID, simnet.QuirkIncrementID, simnet.QuirkZeroChecksum, simnet.QuirkZeroTTL}}},
			{Name: "r3", From: simnet.FromOwn, Rewrite: simnet.Rewrite{DSCP: u8(10), BleachECN: true}, Stack: simnet.Stack{Errors: simnet.RateLimit{Rate: 10}}},
			{Name: "own", Addresses: addrs("198.51.100.77", "2001:db8:77::1")},
			{Name: "nat4", NAT: &simnet.NAT{Address: addr("198.51.100.1"), Outside: []string{"r1"}}},
			{Name: "nat6", NAT: &simnet.NAT{Address: addr("2001:db8:99::1"), Outside: []string{"nat4"}, StaleQuotes: true}},
			{Name: "wall", Filters: []simnet.Rule{
				{Protocol: simnet.ProtocolUDP, Ports: ports(33434, 33440)[0], Action: simnet.ActionReject, Code: u8(10)},
				{Protocol: simnet.ProtocolICMP, To: prefixes("203.0.113.11/32")[0], Action: simnet.ActionAccept}, {Action: simnet.ActionReset, Protocol: simnet.ProtocolTCP},
			}},
			{Name: "silent", Stack: simnet.Stack{Silent: true}},
		},
		Links: []simnet.Link{
			{Draw: "a --1ms-- r1 --2ms-- r2 -- r3 -- own -- h\nr1 -- p1 -- p2 -- r3\nr3 -- b\nr2 -- silent -- r3"},
			{Draw: "inside -- nat6 -- nat4 -- r1"},
			{Draw: "r3 -- wall", Prefixes: prefixes("198.51.100.64/31")},
			{Draw: "wall -- mute", Properties: simnet.Properties{MTU: 600}},
			{Draw: "r2 -- r1", Properties: simnet.Properties{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1}, Back: &simnet.Properties{MTU: 1280}},
		},
		Tunnels:  []simnet.Tunnel{{Draw: "r1 -- p1 -- p2 -- r3", Labels: []uint32{1000, 2000}, Inner: []uint32{3}}},
		Routes:   []simnet.Route{{At: "r3", To: prefixes("203.0.113.192/26")[0], Via: []string{"r2"}}, {At: "r2", To: prefixes("203.0.113.77/32")[0], Drop: simnet.Prohibited}},
		Changes:  []simnet.Change{{At: time.Second, Every: time.Minute, Withdraw: "b"}, {At: 2 * time.Second, Every: time.Minute, Announce: "b"}, {At: time.Second, Down: "r1 -- r2"}, {At: 3 * time.Second, Up: "r1 -- r2"}, {At: 4 * time.Second, Silence: "r3"}, {At: 5 * time.Second, Speak: "r3"}, {At: 6 * time.Second, Route: &simnet.Route{At: "p1", To: prefixes("0.0.0.0/0")[0], Via: []string{"r1"}}}, {At: 7 * time.Second, Forget: &simnet.Route{At: "p1", To: prefixes("0.0.0.0/0")[0]}}},
		Spoofers: []simnet.Spoofer{{At: "r2", To: a4, From: addr("198.51.100.66"), Claims: h4, Rate: 10, Until: 10 * time.Second}, {At: "r3", To: a6, From: h6, Claims: h6, Kind: simnet.ForgeEchoReply, Sees: simnet.SeesID}, {At: "r1", To: a4, From: h4, Claims: h4, Kind: simnet.ForgeReset, Sees: simnet.SeesAll}},
		Expect:   []simnet.Expectation{{Command: "a 203.0.113.10", At: time.Second}},
	}
}

// What is wrong with a scenario is said with the place of the value, the value
// and what would be right.
func TestCheck(t *testing.T) {
	require.NoError(t, everything().Check())
	require.NoError(t, (&simnet.Scenario{}).Check())
	nan, inf := math.NaN(), math.Inf(1)
	big := uint8(200)
	p := func(s string) netip.Prefix { return prefixes(s)[0] }
	for _, c := range []struct {
		where, reason string // the reason contains it
		change        func(s *simnet.Scenario)
	}{
		{"name", `"two words"`, func(s *simnet.Scenario) { s.Name = "two words" }},
		{"expect[0].at", "-1s, want 0 or more", func(s *simnet.Scenario) { s.Expect[0].At = -time.Second }},

		{"sites[0].name", `name "", want`, func(s *simnet.Scenario) { s.Sites[0].Name = "" }},
		{"sites[0].name", `"-x"`, func(s *simnet.Scenario) { s.Sites[0].Name = "-x" }},
		{"sites[0].name", "1 to 64 letters", func(s *simnet.Scenario) { s.Sites[0].Name = strings.Repeat("x", 65) }},
		{"sites[1].name", `"a" is the name of sites[0] already`, func(s *simnet.Scenario) { s.Sites[1].Name = "a" }},
		{"hosts[0].name", "sites[0]", func(s *simnet.Scenario) { s.Hosts[0].Name = "a" }},
		{"routers[0].name", "hosts[0]", func(s *simnet.Scenario) { s.Routers[0].Name = "h" }},
		{"routes[4098]", `"r1" has 4096 routes already`, func(s *simnet.Scenario) {
			for i := range 5000 {
				to := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), 32)
				s.Routes = append(s.Routes, simnet.Route{At: "r1", To: to, Via: []string{"r2"}})
			}
		}},
		{"hosts[4098].addresses[0]", "198.51.100.200/32 belongs to 4096 others already", func(s *simnet.Scenario) {
			for i := range 5000 {
				name := fmt.Sprintf("same%d", i)
				s.Hosts = append(s.Hosts, simnet.Host{Name: name, Addresses: addrs("198.51.100.200")})
				s.Links = append(s.Links, simnet.Link{Draw: name + " -- own"})
			}
		}},
		{"changes[532].down", "want at most 1048576 links", func(s *simnet.Scenario) {
			for range 2000 {
				s.Links = append(s.Links, simnet.Link{Draw: "own -- h"})
			}
			for range 600 {
				s.Changes = append(s.Changes, simnet.Change{Down: "own -- h"})
			}
		}},
		{"sites[3]", `"x" has no link`, func(s *simnet.Scenario) { s.Sites = append(s.Sites, simnet.Site{Host: simnet.Host{Name: "x"}}) }},
		{"sites[0].addresses[1]", "no address", func(s *simnet.Scenario) { s.Sites[0].Addresses = []netip.Addr{a4, {}} }},
		{"hosts[0].addresses[0]", "224.0.0.1, want a unicast", func(s *simnet.Scenario) { s.Hosts[0].Addresses = addrs("224.0.0.1") }},
		{"hosts[0].addresses[0]", "127.0.0.1", func(s *simnet.Scenario) { s.Hosts[0].Addresses = addrs("127.0.0.1") }},
		{"hosts[0].addresses[0]", "255.255.255.255", func(s *simnet.Scenario) { s.Hosts[0].Addresses = addrs("255.255.255.255") }},
		{"hosts[0].addresses[0]", "::ffff:192.0.2.1", func(s *simnet.Scenario) { s.Hosts[0].Addresses = addrs("::ffff:192.0.2.1") }},
		{"hosts[0].addresses[0]", "fe80::1%x", func(s *simnet.Scenario) { s.Hosts[0].Addresses = addrs("fe80::1%x") }},
		{"hosts[0].addresses[0]", "::, want", func(s *simnet.Scenario) { s.Hosts[0].Addresses = addrs("::") }},
		{"hosts[0].prefixes[1]", "no prefix", func(s *simnet.Scenario) { s.Hosts[0].Prefixes = []netip.Prefix{p("203.0.113.0/24"), {}} }},
		{"hosts[0].prefixes[0]", "ff00::/8", func(s *simnet.Scenario) { s.Hosts[0].Prefixes = prefixes("ff00::/8") }},
		{"hosts[0].dns", `"a b", want a domain name`, func(s *simnet.Scenario) { s.Hosts[0].DNS = "a b" }},
		{"hosts[0].dns", `"a."`, func(s *simnet.Scenario) { s.Hosts[0].DNS = "a." }},
		{"hosts[0].dns", "a.a.a", func(s *simnet.Scenario) { s.Hosts[0].DNS = strings.Repeat("a.", 130) + "a" }},
		{"routers[0].dns", `"..`, func(s *simnet.Scenario) { s.Routers[0].DNS = ".." }},
		{"hosts[0].udp.open[0]", "9-8, want the lower", func(s *simnet.Scenario) { s.Hosts[0].UDP.Open = ports(9, 8) }},
		{"hosts[0].udp.closed[0]", "9-8", func(s *simnet.Scenario) { s.Hosts[0].UDP.Closed = ports(9, 8) }},
		{"sites[0].tcp.filtered[1]", "9-8", func(s *simnet.Scenario) { s.Sites[0].TCP.Filtered = append(ports(1, 1), ports(9, 8)...) }},
		{"hosts[0].tcp.rest", "3, want 0 to 2", func(s *simnet.Scenario) { s.Hosts[0].TCP.Rest = 3 }},
		{"hosts[0].services", "port 0", func(s *simnet.Scenario) {
			s.Hosts[0].Services = map[uint16]func([]byte) []byte{0: nil}
		}},
		{"sites[0].clock.ahead", "want at most", func(s *simnet.Scenario) { s.Sites[0].Clock.Ahead = math.MinInt64 }},
		{"sites[0].clock.skew", "NaN, want", func(s *simnet.Scenario) { s.Sites[0].Clock.Skew = nan }},

		{"hosts[0].answer-delay", "-1ns, want 0 to 1h", func(s *simnet.Scenario) { s.Hosts[0].Delay = -1 }},
		{"routers[0].answer-delay", "1h0m0.000000001s", func(s *simnet.Scenario) { s.Routers[0].Delay = time.Hour + 1 }},
		{"routers[0].errors.rate", "NaN", func(s *simnet.Scenario) { s.Routers[0].Errors.Rate = nan }},
		{"routers[0].errors.rate", "+Inf", func(s *simnet.Scenario) { s.Routers[0].Errors.Rate = inf }},
		{"routers[0].errors.rate", "-1, want", func(s *simnet.Scenario) { s.Routers[0].Errors.Rate = -1 }},
		{"routers[0].errors.rate", "1e-09, want", func(s *simnet.Scenario) { s.Routers[0].Errors.Rate = 1e-9 }},
		{"routers[0].errors.burst", "-1, want 1 or more", func(s *simnet.Scenario) { s.Routers[0].Errors.Burst = -1 }},
		{"routers[0].quote", "7, want at least 8", func(s *simnet.Scenario) { s.Routers[0].Quote = 7 }},
		{"routers[0].quote", "-8", func(s *simnet.Scenario) { s.Routers[0].Quote = -8 }},
		{"routers[0].quirks[1]", "4, want 0 to 3", func(s *simnet.Scenario) { s.Routers[0].Quirks = []simnet.Quirk{0, 4} }},
		{"routers[0].from", "3, want 0 to 2", func(s *simnet.Scenario) { s.Routers[0].From = 3 }},
		{"routers[0].ecmp.hash[0]", "8, want 0 to 7", func(s *simnet.Scenario) { s.Routers[0].ECMP.Hash = []simnet.Field{8} }},
		{"routers[0].rewrite.dscp", "200, want 0 to 63", func(s *simnet.Scenario) { s.Routers[0].Rewrite.DSCP = &big }},
		{"routers[0].addresses[0]", "no address", func(s *simnet.Scenario) { s.Routers[0].Addresses = make([]netip.Addr, 1) }},

		{"hosts[0].firewall[0].protocol", "4, want 0 to 3", func(s *simnet.Scenario) { s.Hosts[0].Firewall = []simnet.Rule{{Protocol: 4}} }},
		{"routers[0].filters[1].action", "4, want 0 to 3", func(s *simnet.Scenario) { s.Routers[0].Filters = []simnet.Rule{{}, {Action: 4}} }},
		{"routers[0].filters[0].ports", "7-6", func(s *simnet.Scenario) {
			s.Routers[0].Filters = []simnet.Rule{{Protocol: simnet.ProtocolUDP, Ports: ports(7, 6)[0]}}
		}},
		{"routers[0].filters[0].ports", "without protocol", func(s *simnet.Scenario) { s.Routers[0].Filters = []simnet.Rule{{Ports: ports(6, 7)[0]}} }},
		{"routers[0].filters[0].ports", "without protocol", func(s *simnet.Scenario) {
			s.Routers[0].Filters = []simnet.Rule{{Protocol: simnet.ProtocolICMP, Ports: ports(6, 7)[0]}}
		}},
		{"routers[0].filters[0].code", "without action", func(s *simnet.Scenario) { s.Routers[0].Filters = []simnet.Rule{{Code: &big}} }},
		{"routers[0].filters[0].from", "::ffff:", func(s *simnet.Scenario) {
			s.Routers[0].Filters = []simnet.Rule{{From: netip.PrefixFrom(addr("::ffff:1.2.3.4"), 128)}}
		}},
		{"routers[0].filters[0].to", "no prefix", func(s *simnet.Scenario) {
			s.Routers[0].Filters = []simnet.Rule{{To: netip.PrefixFrom(a4, 99)}}
		}},
		{"routers[0].filters[0]", "one family", func(s *simnet.Scenario) {
			s.Routers[0].Filters = []simnet.Rule{{From: p("0.0.0.0/0"), To: p("::/0")}}
		}},

		{"links[0].draw", "want at least one link", func(s *simnet.Scenario) { s.Links[0].Draw = " \n" }},
		{"links[0].draw", `"a", want names with dashes`, func(s *simnet.Scenario) { s.Links[0].Draw = "a" }},
		{"links[0].draw", `"a --", want names`, func(s *simnet.Scenario) { s.Links[0].Draw = "b -- r3\na --" }},
		{"links[0].draw", `"a" is linked to itself`, func(s *simnet.Scenario) { s.Links[0].Draw = "a -- a" }},
		{"links[0].draw", `name "ü"`, func(s *simnet.Scenario) { s.Links[0].Draw = "a -- ü" }},
		{"links[0].draw", `dash "-", want`, func(s *simnet.Scenario) { s.Links[0].Draw = "a - r1" }},
		{"links[0].draw", `dash "--5ms"`, func(s *simnet.Scenario) { s.Links[0].Draw = "a --5ms r1" }},
		{"links[0].draw", `dash "--0s--"`, func(s *simnet.Scenario) { s.Links[0].Draw = "a --0s-- r1" }},
		{"links[0].draw", `dash "--2h--"`, func(s *simnet.Scenario) { s.Links[0].Draw = "a --2h-- r1" }},
		{"links[0].draw", `dash "---5ms--"`, func(s *simnet.Scenario) { s.Links[0].Draw = "a ---5ms-- r1" }},
		{"links[4].delay", "-1ns", func(s *simnet.Scenario) { s.Links[4].Delay = -1 }},
		{"links[4].jitter", "2h", func(s *simnet.Scenario) { s.Links[4].Jitter = 2 * time.Hour }},
		{"links[4].reorder-by", "-1ns", func(s *simnet.Scenario) { s.Links[4].ReorderBy = -1 }},
		{"links[4].loss", "NaN, want a probability", func(s *simnet.Scenario) { s.Links[4].Loss = nan }},
		{"links[4].duplicate", "1.5", func(s *simnet.Scenario) { s.Links[4].Duplicate = 1.5 }},
		{"links[4].back.reorder", "-0.5", func(s *simnet.Scenario) { s.Links[4].Back.Reorder = -0.5 }},
		{"links[4].mtu", "67, want 68 to 65535", func(s *simnet.Scenario) { s.Links[4].MTU = 67 }},
		{"links[4].back.mtu", "65536", func(s *simnet.Scenario) { s.Links[4].Back.MTU = 65536 }},
		{"links[4].cost", "-1, want 1 to 65535", func(s *simnet.Scenario) { s.Links[4].Cost = -1 }},
		{"links[4].cost", "65536", func(s *simnet.Scenario) { s.Links[4].Cost = 65536 }},
		{"links[0].prefixes", "given for 11 links", func(s *simnet.Scenario) { s.Links[0].Prefixes = prefixes("198.51.100.0/30") }},
		{"links[2].prefixes[0]", "room for two", func(s *simnet.Scenario) { s.Links[2].Prefixes = prefixes("198.51.100.0/32") }},
		{"links[2].prefixes[0]", "no prefix", func(s *simnet.Scenario) { s.Links[2].Prefixes = make([]netip.Prefix, 1) }},
		{"links[2].prefixes[0]", "0.0.0.0, want a unicast", func(s *simnet.Scenario) { s.Links[2].Prefixes = prefixes("0.0.0.0/31") }},
		{"links[2].prefixes[1]", "one of each family", func(s *simnet.Scenario) { s.Links[2].Prefixes = prefixes("198.51.100.0/30", "198.51.100.4/30") }},
		{"links[2]", `198.51.100.77/32 belongs to "own" already`, func(s *simnet.Scenario) { s.Links[2].Prefixes = prefixes("198.51.100.76/30") }},
		{"routers[3].addresses[0]", `192.0.2.1/32 belongs to "a" already`, func(s *simnet.Scenario) { s.Routers[3].Addresses = []netip.Addr{a4} }},
		{"routers[0].addresses[0]", `belongs to "a"`, func(s *simnet.Scenario) { s.Routers[0].Addresses = []netip.Addr{a4} }},

		{"routers[4].nat.address", "no address", func(s *simnet.Scenario) { s.Routers[4].NAT.Address = netip.Addr{} }},
		{"routers[4].nat.address", `belongs to "h" already`, func(s *simnet.Scenario) { s.Routers[4].NAT.Address = h4 }},
		{"routers[4].nat.outside", "empty, want at least one neighbour", func(s *simnet.Scenario) { s.Routers[4].NAT.Outside = nil }},
		{"routers[4].nat.outside[1]", `"r3", want a neighbour of "nat4": nat6, r1`, func(s *simnet.Scenario) { s.Routers[4].NAT.Outside = []string{"r1", "r3"} }},

		{"tunnels[0].draw", "single chain", func(s *simnet.Scenario) { s.Tunnels[0].Draw = "r1 -- p1\np2 -- r3" }},
		{"tunnels[0].draw", "want names with dashes", func(s *simnet.Scenario) { s.Tunnels[0].Draw = "r1" }},
		{"tunnels[0].draw", `"a", want the name of a router`, func(s *simnet.Scenario) { s.Tunnels[0].Draw = "a -- r1 -- r2" }},
		{"tunnels[0].draw", `"zz", want the name of a router`, func(s *simnet.Scenario) { s.Tunnels[0].Draw = "r1 -- r2 -- zz" }},
		{"tunnels[0].draw", "occurs twice", func(s *simnet.Scenario) { s.Tunnels[0].Draw = "r1 -- r2 -- r1" }},
		{"tunnels[0].draw", `"p2", want a neighbour of "r1"`, func(s *simnet.Scenario) { s.Tunnels[0].Draw = "r1 -- p2 -- r3" }},
		{"tunnels[0].draw", "at least three", func(s *simnet.Scenario) { s.Tunnels[0].Draw = "r1 -- p1" }},
		{"tunnels[0].labels", "1 labels, want 2", func(s *simnet.Scenario) { s.Tunnels[0].Labels = []uint32{1} }},
		{"tunnels[0].labels[1]", "label 1048576", func(s *simnet.Scenario) { s.Tunnels[0].Labels[1] = 1 << 20 }},
		{"tunnels[0].inner[0]", "label 1048576", func(s *simnet.Scenario) { s.Tunnels[0].Inner[0] = 1 << 20 }},
		{"tunnels[0].inner", "9 labels", func(s *simnet.Scenario) { s.Tunnels[0].Inner = make([]uint32, 9) }},
		{"tunnels[1].draw", "begins like another", func(s *simnet.Scenario) { s.Tunnels = append(s.Tunnels, s.Tunnels[0]) }},

		{"routes[0].at", `"h", want the name of a router`, func(s *simnet.Scenario) { s.Routes[0].At = "h" }},
		{"routes[0].to", "no prefix", func(s *simnet.Scenario) { s.Routes[0].To = netip.Prefix{} }},
		{"routes[0].drop", "4, want 0 to 3", func(s *simnet.Scenario) { s.Routes[0].Via, s.Routes[0].Drop = nil, 4 }},
		{"routes[0]", "exclude each other", func(s *simnet.Scenario) { s.Routes[0].Drop = simnet.Blackhole }},
		{"routes[0].via", "empty", func(s *simnet.Scenario) { s.Routes[0].Via = nil }},
		{"routes[0].via[1]", `"p1", want a neighbour of "r3"`, func(s *simnet.Scenario) { s.Routes[0].Via = []string{"r2", "p1"} }},
		{"routes[2].to", "has a route to 203.0.113.199/26 already", func(s *simnet.Scenario) {
			r := s.Routes[0]
			r.To = p("203.0.113.199/26")
			s.Routes = append(s.Routes, r)
		}},

		{"changes[0].at", "-1s", func(s *simnet.Scenario) { s.Changes[0].At = -time.Second }},
		{"changes[0].every", "1ns, want at least", func(s *simnet.Scenario) { s.Changes[0].Every = 1 }},
		{"changes[0].every", "-1s", func(s *simnet.Scenario) { s.Changes[0].Every = -time.Second }},
		{"changes[0]", "0 things happen", func(s *simnet.Scenario) { s.Changes[0].Withdraw = "" }},
		{"changes[0]", "2 things happen", func(s *simnet.Scenario) { s.Changes[0].Announce = "a" }},
		{"changes[0].withdraw", `"r1", want the name of a site or host`, func(s *simnet.Scenario) { s.Changes[0].Withdraw = "r1" }},
		{"changes[1].announce", `"zz"`, func(s *simnet.Scenario) { s.Changes[1].Announce = "zz" }},
		{"changes[4].silence", `"zz", want the name of a node`, func(s *simnet.Scenario) { s.Changes[4].Silence = "zz" }},
		{"changes[5].speak", `"zz"`, func(s *simnet.Scenario) { s.Changes[5].Speak = "zz" }},
		{"changes[2].down", `"r3", want a neighbour of "r1"`, func(s *simnet.Scenario) { s.Changes[2].Down = "r1 -- r3" }},
		{"changes[3].up", `"zz", want the name of a node`, func(s *simnet.Scenario) { s.Changes[3].Up = "zz -- r1" }},
		{"changes[3].up", "want names with dashes", func(s *simnet.Scenario) { s.Changes[3].Up = "r1" }},
		{"changes[6].route.via", "empty", func(s *simnet.Scenario) { s.Changes[6].Route.Via = nil }},
		{"changes[7].forget.at", `"h"`, func(s *simnet.Scenario) { s.Changes[7].Forget.At = "h" }},
		{"changes[7].forget.to", "no prefix", func(s *simnet.Scenario) { s.Changes[7].Forget.To = netip.Prefix{} }},

		{"spoofers[0].at", `"zz", want the name of a node`, func(s *simnet.Scenario) { s.Spoofers[0].At = "zz" }},
		{"spoofers[0].to", "no address", func(s *simnet.Scenario) { s.Spoofers[0].To = netip.Addr{} }},
		{"spoofers[0].from", "0.0.0.0", func(s *simnet.Scenario) { s.Spoofers[0].From = addr("0.0.0.0") }},
		{"spoofers[0].claims", "one family", func(s *simnet.Scenario) { s.Spoofers[0].Claims = h6 }},
		{"spoofers[0].kind", "4, want 0 to 3", func(s *simnet.Scenario) { s.Spoofers[0].Kind = 4 }},
		{"spoofers[0].sees", "3, want 0 to 2", func(s *simnet.Scenario) { s.Spoofers[0].Sees = 3 }},
		{"spoofers[0].rate", "0, want", func(s *simnet.Scenario) { s.Spoofers[0].Rate = 0 }},
		{"spoofers[0].rate", "1e-300, want", func(s *simnet.Scenario) { s.Spoofers[0].Rate = 1e-300 }},
		{"spoofers[0].rate", "2e+06", func(s *simnet.Scenario) { s.Spoofers[0].Rate = 2e6 }},
		{"spoofers[0].rate", "NaN", func(s *simnet.Scenario) { s.Spoofers[0].Rate = nan }},
		{"spoofers[1].rate", "given for a spoofer that sees", func(s *simnet.Scenario) { s.Spoofers[1].Rate = 1 }},
		{"spoofers[0]", "start -1s", func(s *simnet.Scenario) { s.Spoofers[0].Start = -time.Second }},
		{"spoofers[0].until", "1s, want a time after the start at 2s", func(s *simnet.Scenario) { s.Spoofers[0].Start, s.Spoofers[0].Until = 2*time.Second, time.Second }},
		{"spoofers[1].at", `"h" is no router`, func(s *simnet.Scenario) { s.Spoofers[1].At = "h" }},
	} {
		t.Run(c.where, func(t *testing.T) {
			s := everything()
			c.change(s)
			err := s.Check()
			var e *simnet.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.where, e.Where, e.Reason)
			require.Contains(t, e.Reason, c.reason)
			require.Equal(t, "scenario: "+c.where+": "+e.Reason, err.Error())
			_, err = s.Start()
			require.Equal(t, error(e), err)
		})
	}
}

// What is unusual but not wrong.
func TestCheckAllows(t *testing.T) {
	for name, change := range map[string]func(s *simnet.Scenario){
		"a host without link":         func(s *simnet.Scenario) { s.Hosts = append(s.Hosts, simnet.Host{Name: "alone"}) },
		"a router without link":       func(s *simnet.Scenario) { s.Routers = append(s.Routers, simnet.Router{Name: "alone"}) },
		"a host that shares":          func(s *simnet.Scenario) { s.Hosts[1].Addresses = []netip.Addr{a4} },
		"a block around a link":       func(s *simnet.Scenario) { s.Hosts[0].Prefixes = prefixes("198.18.0.0/15", "0.0.0.0/0", "::/0") },
		"an address twice":            func(s *simnet.Scenario) { s.Routers[3].Addresses = addrs("198.51.100.77", "198.51.100.77") },
		"the translator's own":        func(s *simnet.Scenario) { s.Routers[4].Addresses = addrs("198.51.100.1") },
		"parallel links":              func(s *simnet.Scenario) { s.Links = append(s.Links, simnet.Link{Draw: "r1 -- p1\nr1 -- p1"}) },
		"hosts joined directly":       func(s *simnet.Scenario) { s.Links = append(s.Links, simnet.Link{Draw: "h -- mute -- b"}) },
		"all ports":                   func(s *simnet.Scenario) { s.Hosts[0].UDP.Open = make([]simnet.PortRange, 1) },
		"a drawing with a lot of air": func(s *simnet.Scenario) { s.Links[1].Draw = "\n\n  inside   --  nat6 --\tnat4 -- r1 \n" },
	} {
		t.Run(name, func(t *testing.T) {
			s := everything()
			change(s)
			require.NoError(t, s.Check())
		})
	}
}
