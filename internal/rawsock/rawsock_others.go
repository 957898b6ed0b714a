//go:build !linux

package rawsock

import (
	"fmt"
	"net/netip"
	"runtime"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Port does nothing on this operating system: Open never returns one.
type Port struct{}

var _ probe.Port = (*Port)(nil)

// Open returns an error that is [probe.ErrUnsupported].
func Open(Config) (*Port, error) { return nil, unsupported() }

// Send returns an error that is [probe.ErrUnsupported].
func (*Port) Send([]probe.Outgoing) error { return unsupported() }

// Receive returns an error that is [probe.ErrUnsupported].
func (*Port) Receive([]probe.Incoming) (int, error) { return 0, unsupported() }

// Source returns an error that is [probe.ErrUnsupported].
func (*Port) Source(netip.Addr) (netip.Addr, error) { return netip.Addr{}, unsupported() }

// Dropped returns 0.
func (*Port) Dropped() uint64 { return 0 }

// Close does nothing.
func (*Port) Close() error { return nil }

func unsupported() error { return fmt.Errorf("%w: %s", probe.ErrUnsupported, runtime.GOOS) }
