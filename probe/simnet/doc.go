// Package simnet is a simulated Internet: routers, links, hosts and anycast
// sites that forward, drop and answer byte-exact IP packets as real ones do,
// behind the [probe.Port] of an agent. It needs no privileges and no network.
//
// # A network
//
// A [Scenario] is plain data, and its links are drawn. This one has two sites
// that share an address, and a target behind four routers:
//
//	s := &simnet.Scenario{
//		Sites: []simnet.Site{
//			{Host: simnet.Host{Name: "a", Addresses: anycast}},
//			{Host: simnet.Host{Name: "b", Addresses: anycast}},
//		},
//		Hosts: []simnet.Host{{Name: "target", Addresses: target}},
//		Links: []simnet.Link{
//			{Draw: "a --1ms-- r1 --2ms-- r2 --3ms-- r3 --4ms-- r4 --5ms-- target"},
//			{Draw: "r3 --1ms-- b"},
//		},
//	}
//	network, err := s.Start()
//
// What is drawn and listed nowhere is a router, and a link that is given no
// addresses gets some. Every router sends along the shortest path, and towards
// a shared address to the nearest of its owners: here r1 and r2 answer to a,
// and everything from r3 on answers to b. That is anycast.
//
// # Agents on it
//
// Each site has one door. [Network.Port] opens it for an agent in this
// process, and the network is a resolver of its nodes' names too:
//
//	controller, err := volta.NewController(&volta.ControllerConfig{Resolver: network})
//	port, err := network.Port("a")
//	agent, err := volta.NewAgent(volta.AgentConfig{ID: "a", Port: port})
//
// The example below is the whole of it. [Network.Attach] opens the door for
// something outside instead; package tun puts a device of the operating system
// there, so that other tools run over the same network.
//
// # Trouble
//
// Everything that makes measuring hard can be had: see [Properties] for lossy,
// slow and disorderly links, [Stack] for routers that stay silent, limit or
// garble their errors, [ECMP] for load balancers, good and faulty, [Rewrite],
// [NAT] and [Rule] for what meddles with packets, [Tunnel] for MPLS, [Route]
// and [Change] for networks that are not as they should be or do not stay as
// they are, and [Spoofer] for those who lie.
//
// # Time and chance
//
// Packets are events in time. Within testing/synctest an hour of waiting takes
// no time at all; outside it, delays are real. In both, packets arrive with
// the exact times that the scenario makes them arrive at. [Scenario.Seed]
// decides over chance: the same seed and the same packets, sent at the same
// times, have the same outcome, however goroutines were scheduled.
//
// # In words
//
// Package scenario reads a Scenario from a text, and holds a set of them under
// names, each with what measurements over it print.
package simnet
