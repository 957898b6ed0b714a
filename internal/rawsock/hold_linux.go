package rawsock

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// maxStray bounds how many ports outside the flows' range are held at once.
// Classic probes use one each; the ports of the latest ones stay held.
const maxStray = 512

// holder keeps source ports of probes from other programs, by protocol.
type holder struct {
	port  *Port
	done  [2][65536 / 64]uint64 // bit set: held, or known that it cannot be
	fds   []int                 // of the flows' ports
	stray []strayPort           // a ring, oldest at next when it is full
	next  int
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
	fd := -1
	err := h.port.ns.do(func() (err error) {
		fd, err = bindPort(proto, port)
		return err
	})
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

func (h *holder) bit(proto int, port uint16) (*uint64, uint64) {
	i := 0
	if proto == unix.IPPROTO_TCP {
		i = 1
	}
	return &h.done[i][port/64], 1 << (port % 64)
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
}

// bindPort binds a socket to a port of all addresses of both families.
func bindPort(proto int, port uint16) (fd int, err error) {
	kind := unix.SOCK_DGRAM
	if proto == unix.IPPROTO_TCP {
		kind = unix.SOCK_STREAM
	}
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(port)}
	fd, err = unix.Socket(unix.AF_INET6, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		to = &unix.SockaddrInet4{Port: int(port)}
		fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
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
	if err == nil {
		err = unix.Bind(fd, to)
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// dropAll makes a socket discard whatever it receives, so that nothing piles
// up unread.
func dropAll(fd int) error {
	return attach(fd, []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}})
}
