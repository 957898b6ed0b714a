//go:build !linux

package tun

import (
	"fmt"
	"runtime"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// Device does nothing on this operating system: Open never returns one.
type Device struct{}

// Open returns an error that is [ErrUnsupported].
func Open(*simnet.Network, Config) (*Device, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

// Name returns nothing.
func (*Device) Name() string { return "" }

// Dropped returns 0.
func (*Device) Dropped() uint64 { return 0 }

// Close does nothing.
func (*Device) Close() error { return nil }
