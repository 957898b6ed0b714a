package probe

import (
	"context"
	"errors"
)

// ErrProber says that a prober failed, for a reason that lies not in the
// probes: the measurement that uses it cannot go on.
var ErrProber = errors.New("prober failed")

// Batcher is implemented by probers of which one call is dear, as it is of
// those in another process. Its methods are safe for concurrent use, and give
// up when ctx ends.
type Batcher interface {
	Prober
	// BuildAll builds ps[i] into out[i], which is as long. The error is
	// [ErrProber], and then out means nothing.
	BuildAll(ctx context.Context, ps []Probe, out []Built) error
	// MatchAll does for datagrams[i] what Match does, into out[i]. It retains
	// nothing of datagrams. The error is [ErrProber], and then out means
	// nothing.
	MatchAll(ctx context.Context, datagrams [][]byte, out []Matched) error
}

// Built is a datagram, or why there is none.
type Built struct {
	Data []byte
	Err  error // [ErrProbe]
}

// Matched is an answer, if OK.
type Matched struct {
	Answer Answer
	OK     bool
}
