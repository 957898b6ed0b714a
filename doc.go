// Package volta measures anycast networks.
//
// In anycast many nodes share one address: a probe leaves one node, and its
// answer lands at whichever node the routing picks. A [Controller] hands
// measurements to an [Agent] on each node; agents send probes and capture
// answers, and every hop of the resulting [result.Trace] names the node that
// caught its answer.
//
// The parts meet through four small interfaces, and each can be replaced:
//
//   - [probe.Prober] builds and matches the packets of one measurement type;
//   - [transport.Transport] connects agents with a controller, in process
//     (transport/inproc) or over gRPC (transport/grpctransport);
//   - [alloc.Allocator] decides who may use which probe identifiers;
//   - [result.Correlator] joins what was sent with what came back.
//
// An agent reaches its network through a [probe.Port]; [OpenPort] opens the
// one of a Linux host.
package volta
