// Package probe holds what a measurement sends and what comes back: the
// [Prober] that turns a [Probe] into a datagram and a captured datagram into
// an [Answer], and the [Port] through which an agent reaches a network.
//
// # Identity
//
// Every probe carries an identifier of 16 bits, unique per destination while
// its measurement runs and never 0, and a tag: a SipHash-2-4 of the
// measurement's secret key over destination, identifier and protocol. Both
// survive in the IP header and 8 bytes that RFC 792 obliges an ICMP error to
// quote. Header fields that routers hash for load balancing stay constant
// along one flow, as in Paris traceroute (Augustin et al., IMC 2006).
package probe
