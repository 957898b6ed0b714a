package probe

import (
	"net/netip"
	"time"
)

// Port is an agent's door to a network: real sockets, or a simulated network.
//
// Send may be called by one goroutine at a time, Receive by another one at the
// same time, Source and Close by any. After Close all return an error that is
// [net.ErrClosed].
type Port interface {
	// Send hands the datagrams to the network in order and fills Time, Stamp
	// and Err of each. The error is of the port itself: none of the
	// datagrams from the first one without a Time was sent.
	Send(ds []Outgoing) error
	// Receive waits for captured datagrams and fills at least one of ds; it
	// returns how many. Data is valid until the next call. A port captures
	// ICMP errors that quote a probe, and direct answers to probes; what else
	// it captures the agent ignores.
	Receive(ds []Incoming) (int, error)
	// Source returns the address from which this port sends to dst. For the
	// unspecified address of a family it returns the one it would use in
	// general. The error is [ErrNoSource] if it has none of that family.
	Source(dst netip.Addr) (netip.Addr, error)
	// Close ends pending calls and releases what the port holds.
	Close() error
}

// Dropper is implemented by ports that know how many packets were lost between
// the network and Receive. It may be called by any goroutine.
type Dropper interface {
	// Dropped returns the count since the port was opened.
	Dropped() uint64
}

// Marker is implemented by ports that know what has become of what they
// captured. It may be called by any goroutine.
type Marker interface {
	// Mark returns a function that tells whether all that was captured before
	// the call of Mark has been dealt with: Receive returned it, and has been
	// called again since. That function may be called by any goroutine; of a
	// port that is closed it returns true.
	Mark() (done func() bool)
}

// Clock is implemented by ports whose times come from another clock than
// [time.Now]. It is taken to run right to within 100 parts in a million. It may
// be called by any goroutine.
type Clock interface {
	Now() time.Time
}

// Outgoing is a datagram to be sent.
type Outgoing struct {
	Data  []byte    // from the IP header on
	Time  time.Time // filled: when it left
	Stamp Stamp     // filled: where Time was taken
	Err   error     // filled: why it was refused
}

// Incoming is a captured datagram.
type Incoming struct {
	Data  []byte // from the IP header on
	Time  time.Time
	Stamp Stamp
}
