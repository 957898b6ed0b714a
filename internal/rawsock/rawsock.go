// Package rawsock is the [probe.Port] of a real host: raw sockets to send
// whole IP datagrams, packet sockets to capture answers, and the kernel's own
// times for both. It works on Linux; elsewhere [Open] says so.
//
// # Sending
//
// Datagrams leave as they are; the kernel only completes the IPv4 header
// checksum, total length, and an identification of 0. Their source must be
// chosen by the caller, see [Port.Source]. UDP and TCP source ports are held
// by bound sockets from their first use on, so that no program on this host
// takes them meanwhile: answers to UDP probes cause no port unreachable, and
// a SYN-ACK gets the kernel's RST. A source port that another program holds
// already is that datagram's error. Ports of several agents of one user on
// one host share the source ports.
//
// # Times
//
// Both times of a round trip are what a capture on the interface shows:
// packet sockets of one kernel share one stamp of a packet that leaves, and
// one of a packet that arrives. So a port watches, while it sends, its own
// probes leave, and only for what it does not see there takes the stamps of
// drivers: see [Port.Send]. Which of them a time is, its Stamp says. Watching
// costs every packet that leaves the host, of whatever program, about 0.3
// microseconds of its processor; a port that did not send for ten seconds costs
// nothing of the kind.
//
// # Capturing
//
// A filter in the kernel passes on only ICMP errors that quote a probe, and
// direct answers to probes: see the conditions at filter4 and filter6. It
// cannot check keyed tags, so what it passes may still be foreign. Answers to
// other hosts that this one forwards are not captured.
package rawsock

import (
	"log/slog"
	"net/netip"
)

// Config says how a port is opened. The zero value works.
type Config struct {
	// Sources are the addresses to send from, at most one per family; this
	// host must have them. A family without one takes the kernel's choice.
	Sources []netip.Addr
	// Logger takes what is worth knowing but no error; nil logs nothing.
	Logger *slog.Logger
}
