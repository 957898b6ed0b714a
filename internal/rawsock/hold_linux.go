package rawsock

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	// maxStray bounds how many ports outside the flows' range are held at
	// once. Classic probes use one each; the ports of the latest ones stay
	// held.
	maxStray = 512
	// maxSpare bounds how many sockets are made at once.
	maxSpare = 64
)

// holder keeps source ports of probes from other programs, by protocol.
type holder struct {
	port  *Port
	done  [2][65536 / 64]uint64 // bit set: held, or known that it cannot be
	spare [2]spare              // sockets to be bound, by protocol as in done
	fds   []int                 // of the flows' ports
	stray []strayPort           // a ring, oldest at next when it is full
	next  int
}

// spare are unbound sockets of one protocol. To enter the port's network
// namespace may need a thread of its own, so they are made in advance: as many
// as there were before, up to maxSpare.
type spare struct {
	family int // of the sockets
	fds    []int
	made   int // so far
}

type strayPort struct {
	fd    int
	proto int
	port  uint16
}

// hold sees to it that the source port of a UDP or TCP header is held. The
// error is EADDRINUSE if another program has it. A port that cannot be held
// for another reason may be used all the same.
func (h *holder) hold(protocol uint8, transport []byte) error {
	var proto int
	switch protocol {
	case probe.UDP:
		proto = unix.IPPROTO_UDP
	case probe.TCP:
		proto = unix.IPPROTO_TCP
	default:
		return nil
	}
	if len(transport) < 2 {
		return nil
	}
	port := sourcePort(transport)
	bits, bit := h.bit(proto, port)
	if port == 0 || *bits&bit != 0 {
		return nil
	}
	return h.acquire(proto, port)
}

func (h *holder) acquire(proto int, port uint16) error {
	fd, err := h.bind(proto, port)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("source port %d of a probe belongs to another program: %w", port, err)
	}
	if err != nil {
		h.port.log.Debug("source port cannot be held", "port", port, "error", err)
	}
	bits, bit := h.bit(proto, port)
	*bits |= bit
	h.keep(strayPort{fd, proto, port})
	return nil
}

// index of a protocol in what a holder has of each.
func index(proto int) int {
	if proto == unix.IPPROTO_TCP {
		return 1
	}
	return 0
}

func (h *holder) bit(proto int, port uint16) (*uint64, uint64) {
	return &h.done[index(proto)][port/64], 1 << (port % 64)
}

// bind binds a socket to a port of all addresses of both families.
func (h *holder) bind(proto int, port uint16) (fd int, err error) {
	s := &h.spare[index(proto)]
	if len(s.fds) == 0 {
		if err := h.port.ns.do(func() error { return s.fill(proto) }); err != nil {
			return -1, err
		}
	}
	last := len(s.fds) - 1
	fd, s.fds = s.fds[last], s.fds[:last]
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(port)}
	if s.family == unix.AF_INET {
		to = &unix.SockaddrInet4{Port: int(port)}
	}
	if err := unix.Bind(fd, to); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// fill makes sockets. The error is nil if there is one at least.
func (s *spare) fill(proto int) error {
	for range min(max(s.made, 1), maxSpare) {
		fd, family, err := portSocket(proto)
		if err != nil {
			if len(s.fds) > 0 {
				break
			}
			return err
		}
		s.fds, s.family = append(s.fds, fd), family
		s.made++
	}
	return nil
}

// keep remembers what to close, and when.
func (h *holder) keep(s strayPort) {
	switch {
	case s.port >= probe.SourcePort && int(s.port) < probe.SourcePort+probe.MaxFlows:
		h.fds = append(h.fds, s.fd)
	case len(h.stray) < maxStray:
		h.stray = append(h.stray, s)
	default:
		old := &h.stray[h.next]
		closeFD(old.fd)
		bits, bit := h.bit(old.proto, old.port)
		*bits &^= bit
		*old = s
		h.next = (h.next + 1) % maxStray
	}
}

func (h *holder) close() {
	for _, fd := range h.fds {
		closeFD(fd)
	}
	for _, s := range h.stray {
		closeFD(s.fd)
	}
	for _, s := range h.spare {
		for _, fd := range s.fds {
			closeFD(fd)
		}
	}
}

// portSocket opens a socket that can be bound to a port of both families, or
// of IPv4 where there is no other.
func portSocket(proto int) (fd, family int, err error) {
	kind := unix.SOCK_DGRAM
	if proto == unix.IPPROTO_TCP {
		kind = unix.SOCK_STREAM
	}
	family = unix.AF_INET6
	fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		family = unix.AF_INET
		fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	} else if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err == nil && proto == unix.IPPROTO_UDP {
		err = dropAll(fd)
	}
	if err == nil {
		// Unlike SO_REUSEADDR this shares the port only with sockets that
		// ask for it too, of the same user.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err != nil {
		closeFD(fd)
		return -1, 0, err
	}
	return fd, family, nil
}

// dropAll makes a socket discard whatever it receives, so that nothing piles
// up unread.
func dropAll(fd int) error {
	return attach(fd, []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}})
}
