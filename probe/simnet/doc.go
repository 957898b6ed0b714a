// Package simnet is a simulated Internet: routers, links, hosts and anycast
// sites that forward, drop and answer byte-exact IP packets as real ones do,
// behind the [probe.Port] of an agent.
package simnet
