package plugins

import (
	"fmt"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Why a plugin cannot be used. All are [probe.ErrProber], but for ErrDatagram.
var (
	// ErrStart says that the file cannot be read, run or put into its sandbox.
	ErrStart = fmt.Errorf("%w: plugin does not start", probe.ErrProber)
	// ErrChecksum says that the file is not the one that was asked for, or not
	// the one it was when the plugin was opened.
	ErrChecksum = fmt.Errorf("%w: plugin file has another checksum", probe.ErrProber)
	// ErrVersion says that plugin and host have no version of the contract in
	// common.
	ErrVersion = fmt.Errorf("%w: no common version of the plugin contract", probe.ErrProber)
	// ErrCrashed says that the plugin's process ended by itself.
	ErrCrashed = fmt.Errorf("%w: plugin crashed", probe.ErrProber)
	// ErrTimeout says that the plugin did not start or answer in time.
	ErrTimeout = fmt.Errorf("%w: plugin does not answer", probe.ErrProber)
	// ErrProtocol says that the plugin broke the contract: it sent what cannot
	// be read, what nobody asked for, more than it may, or what cannot be true.
	ErrProtocol = fmt.Errorf("%w: plugin breaks the contract", probe.ErrProber)
	// ErrFailed says that the plugin could not do what it was asked for, by its
	// own account. It goes on.
	ErrFailed = fmt.Errorf("%w: plugin failed", probe.ErrProber)
	// ErrClosed says that the plugin was closed.
	ErrClosed = fmt.Errorf("%w: plugin is closed", probe.ErrProber)
	// ErrDatagram says that a plugin built for a probe what was not asked for,
	// such as a datagram to somewhere else. The error of that probe is this and
	// [probe.ErrProbe].
	ErrDatagram = contract.ErrDatagram
)
