// Package probetest checks that a [probe.Prober] does all that its interface
// promises, and all that the rest of a measurement relies on. [Run] is one call
// in a test of the package that has the prober, [Fuzz] one in a fuzz test:
//
//	func TestConformance(t *testing.T) {
//		probetest.Run(t, func(testing.TB) probe.Prober { return dns.Prober{} }, probetest.Options{DstPort: 53})
//	}
//
// What is checked, in the words of package probe and of the identity that every
// probe carries:
//
//   - Name is the same at every call and one word.
//   - Build appends a whole, valid datagram of UDP, TCP or ICMP that is as the
//     probe says: addresses, ports, TTL, TOS, DF bit, size. It touches nothing
//     else, keeps nothing, and does not allocate where there is room.
//   - What cannot be built is [probe.ErrProbe], which names the value and what
//     it may be, and leaves the buffer as it was.
//   - What routers hash is constant along a flow and differs between flows;
//     source port or echo identifier are those of [probe.Probe.Port].
//   - Match knows the probe from any ICMP error that quotes its IP header and 8
//     bytes or more, whatever routers on the way have done to the quote, and
//     from the answers of the destination itself. It fills every field, also of
//     an [probe.Answer] used before, and does so at an agent that never built
//     the probe.
//   - Nothing passes for an answer that is none: other traffic, the probes
//     themselves, damaged, cut and forged datagrams. No bytes make Match panic,
//     and none make it vouch for a probe that was not answered.
//   - Match neither changes nor keeps the datagram, and does not allocate
//     without extensions and values. All of it holds for concurrent callers; run
//     the tests with -race.
//   - Where the type is a [probe.Batcher], batches come to the same as single
//     calls. Where it is a [probe.Optioner], its list is well formed, what is
//     wrong is a [probe.OptionError], and a prober without options set still
//     knows the ICMP errors about probes of one that has them. The help of a
//     [probe.Describer] is a line, and the port of a [probe.Porter] is where
//     probes go.
package probetest
