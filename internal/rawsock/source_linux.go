package rawsock

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Source implements [probe.Port]: the configured source of dst's family, else
// the one that the kernel chooses. For an unspecified dst that is the one of
// the default route, else any address of this host, loopback last.
func (p *Port) Source(dst netip.Addr) (netip.Addr, error) {
	p.sourceMu.Lock()
	defer p.sourceMu.Unlock()
	if p.closed.Load() {
		return netip.Addr{}, errClosed
	}
	if !dst.IsValid() {
		return netip.Addr{}, fmt.Errorf("%w: no destination given", probe.ErrNoSource)
	}
	dst = dst.Unmap().WithZone("")
	f := family(dst)
	if a := p.sources[f]; a.IsValid() {
		return a, nil
	}
	if p.routers[f] < 0 {
		return netip.Addr{}, fmt.Errorf("%w: this host has no %s", probe.ErrNoSource, names[f])
	}
	if dst.IsUnspecified() {
		return p.generalSource(f)
	}
	a, err := p.route(f, dst)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w towards %v: %w", probe.ErrNoSource, dst, err)
	}
	return a, nil
}

// Far destinations of no host: nothing is ever sent to them.
var far = [2]netip.Addr{
	v4: netip.AddrFrom4([4]byte{192, 0, 2, 254}),
	v6: netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 4: 0xff, 5: 0xff, 15: 0xfe}),
}

func (p *Port) generalSource(f int) (netip.Addr, error) {
	a, err := p.route(f, far[f])
	if err == nil {
		return a, nil
	}
	var addrs []net.Addr
	err = p.ns.do(func() (err error) {
		addrs, err = net.InterfaceAddrs()
		return err
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", probe.ErrNoSource, err)
	}
	var loopback netip.Addr
	for _, n := range addrs {
		prefix, err := netip.ParsePrefix(n.String())
		a := prefix.Addr()
		switch {
		case err != nil || family(a) != f || a.IsLinkLocalUnicast():
		case a.IsLoopback():
			loopback = a
		default:
			return a, nil
		}
	}
	if !loopback.IsValid() {
		return netip.Addr{}, fmt.Errorf("%w: no %s address on any interface", probe.ErrNoSource, names[f])
	}
	return loopback, nil
}

// route asks the kernel for the source towards dst by connecting a UDP socket,
// which sends nothing.
func (p *Port) route(f int, dst netip.Addr) (netip.Addr, error) {
	const anyPort = 9
	fd := p.routers[f]
	if err := disconnect(fd); err != nil {
		return netip.Addr{}, err
	}
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: anyPort, Addr: dst.As16()}
	if f == v4 {
		to = &unix.SockaddrInet4{Port: anyPort, Addr: dst.As4()}
	}
	if err := unix.Connect(fd, to); err != nil {
		return netip.Addr{}, err
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{}, err
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr), nil
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr), nil
	}
	return netip.Addr{}, unix.EAFNOSUPPORT
}

// disconnect makes a socket forget its last destination and source.
func disconnect(fd int) error {
	// package unix has no sockaddr of family AF_UNSPEC.
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unix.SizeofSockaddrInet4)
	if errno != 0 {
		return errno
	}
	return nil
}
