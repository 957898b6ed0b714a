// Package alloc decides which measurement may use which probe identifiers.
package alloc

import (
	"context"
	"errors"
	"net/netip"
)

// ErrExhausted says that no free identifiers are left towards a destination.
var ErrExhausted = errors.New("probe identifiers exhausted")

// Allocator hands out blocks of probe identifiers. Implementations are safe
// for concurrent use.
type Allocator interface {
	// Acquire returns a block of n contiguous identifiers that nobody else
	// holds towards dst until it is released. The zero dst means all
	// destinations: nobody holds the identifiers towards any. It does not
	// wait: the error is [ErrExhausted] when there is no such block now, and
	// another one, e.g. [ErrTooMany] or [ErrNone], when n can never be met.
	// No block holds identifier 0.
	Acquire(ctx context.Context, dst netip.Addr, n int) (Block, error)
	// Release gives back a block that Acquire returned. Releasing a block
	// that is not held does nothing.
	Release(b Block)
}

// Block is n identifiers from First on, towards Dst. It may hold more than
// was asked for.
type Block struct {
	First uint16
	N     int
	Dst   netip.Addr // zero: all destinations
}

// Contains tells whether id lies in the block.
func (b Block) Contains(id uint16) bool {
	return int(id) >= int(b.First) && int(id) < int(b.First)+b.N
}
