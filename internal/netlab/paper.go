package netlab

import (
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// OnPaper returns the network of [NewTwoSites] as a scenario, with the same
// names and addresses. TCP port 80 of its target is open. Links are an entry
// each, in the order A-R1, R1-R2, R2-R3, R3-R4, R4-Target, R3-B.
func OnPaper() *simnet.Scenario {
	s := &simnet.Scenario{}
	anycast := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:ff::1")}
	for _, name := range []string{"a", "b"} {
		s.Sites = append(s.Sites, simnet.Site{Host: simnet.Host{Name: name, Addresses: anycast}})
	}
	s.Hosts = []simnet.Host{{
		Name: "target", Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:fe::10")},
		TCP: simnet.Ports{Open: []simnet.PortRange{{First: 80, Last: 80}}},
	}}
	for _, name := range []string{"r1", "r2", "r3", "r4"} {
		s.Routers = append(s.Routers, simnet.Router{Name: name, Stack: simnet.Stack{TTL: 64}})
	}
	for _, draw := range []string{"a -- r1", "r1 -- r2", "r2 -- r3", "r3 -- r4", "r4 -- target", "r3 -- b"} {
		s.Links = append(s.Links, simnet.Link{Draw: draw})
	}
	return s
}
