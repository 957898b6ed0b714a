package probe

import "errors"

var (
	// ErrNoSource says that a port has no address of the family asked for.
	ErrNoSource = errors.New("no source address")
	// ErrPermission says that opening a port needs CAP_NET_RAW.
	ErrPermission = errors.New("raw sockets need CAP_NET_RAW")
	// ErrUnsupported says that this operating system has no port.
	ErrUnsupported = errors.New("no raw-socket port on this operating system")
	// ErrProbe says that a probe cannot be built as asked.
	ErrProbe = errors.New("probe cannot be built")
)
