package rawsock

import "golang.org/x/sys/unix"

// WithoutStamps makes a port not ask for the kernel's transmit times.
func WithoutStamps(p *Port) {
	for _, s := range p.senders {
		if s != nil {
			s.stamped = false
			_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 0)
		}
	}
}
