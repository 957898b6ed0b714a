package rawsock

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Port is a [probe.Port] on this host's network, or that of the network
// namespace in which it was opened. Who may call its methods at the same time
// is said at [probe.Port]; Dropped and Mark any goroutine may call at any time.
type Port struct {
	log     *slog.Logger
	sources [2]netip.Addr // configured, by family; invalid if none
	ns      namespace
	closed  atomic.Bool

	sendMu     sync.Mutex  // held by Send; Close waits for it
	senders    [2]*sender  // by family, nil without IPv6
	departures *departures // nil if they cannot be watched
	chunks     uint64      // sent so far
	held       holder

	done    chan struct{}  // closed by Close
	resting sync.WaitGroup // what ends the watch over departures

	stamping stamping

	receiveMu sync.Mutex // held by Receive; Close waits for it
	taps      []*tap
	wake      int // eventfd that ends a waiting Receive
	poll      []unix.PollFd
	turn      int // the tap to be read first next time
	local     localCache

	sourceMu sync.Mutex // guards the use of routers
	routers  [2]int     // UDP sockets that ask the kernel for sources; -1 if none

	dropMu  sync.Mutex // guards the packet sockets' counters and dropped
	dropped uint64
}

var (
	_ probe.Port    = (*Port)(nil)
	_ probe.Dropper = (*Port)(nil)
	_ probe.Marker  = (*Port)(nil)
)

// Address families as indices.
const (
	v4 = iota
	v6
)

func family(a netip.Addr) int {
	if a.Is4() || a.Is4In6() {
		return v4
	}
	return v6
}

var (
	domains = [2]int{v4: unix.AF_INET, v6: unix.AF_INET6}
	names   = [2]string{v4: "IPv4", v6: "IPv6"}
)

// Open opens a port. It needs the capability CAP_NET_RAW; without it the error
// is [probe.ErrPermission]. A source that is not an address of this host, or a
// second one of a family, is an error that names it. A host without IPv6 gives
// a port without it. It takes some 30 ms, until the kernel stamps packets.
func Open(c Config) (_ *Port, err error) {
	p := &Port{log: c.Logger, done: make(chan struct{}), stamping: stamping{fd: -1}, wake: -1, routers: [2]int{-1, -1}}
	p.local.check = [2]int{-1, -1}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			_ = p.Close()
		}
	}()
	p.ns = openNamespace(p.log)
	p.held.port = p
	if p.stamping, err = openStamping(); err != nil {
		return nil, err
	}
	if p.departures, err = openDepartures(); errors.Is(err, probe.ErrPermission) {
		return nil, err
	} else if err != nil {
		p.log.Warn("departures cannot be watched, transmit times are the drivers'", "error", err)
	}
	// Before the first capture, so that all that is captured has a time.
	if err := p.stamping.await(); err != nil {
		p.log.Warn("the kernel may not stamp the first packets", "error", err)
	}
	for f := range domains {
		if err := p.openFamily(f); err != nil {
			return nil, err
		}
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	for _, t := range p.taps {
		p.poll = append(p.poll, unix.PollFd{Fd: int32(t.fd), Events: unix.POLLIN})
	}
	p.poll = append(p.poll, unix.PollFd{Fd: int32(p.wake), Events: unix.POLLIN})
	if err := p.configure(c.Sources); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Port) openFamily(f int) error {
	s, err := openSender(f, p.departures)
	if f == v6 && errors.Is(err, unix.EAFNOSUPPORT) {
		p.log.Debug("this host has no IPv6")
		return nil
	}
	if err != nil {
		return err
	}
	p.senders[f] = s
	t, err := openTap(f)
	if err != nil {
		return err
	}
	p.taps = append(p.taps, t)
	if p.local.check[f], err = rawSocket(f); err != nil {
		return err
	}
	p.routers[f], err = unix.Socket(domains[f], unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		p.routers[f] = -1
		return fmt.Errorf("open %s UDP socket: %w", names[f], err)
	}
	return nil
}

// errSource says that a configured source address cannot be used.
var errSource = errors.New("unusable source address")

func (p *Port) configure(sources []netip.Addr) error {
	for _, a := range sources {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
			return fmt.Errorf("%w %v: want a unicast IPv4 or IPv6 address of this host", errSource, a)
		}
		f := family(a)
		if p.sources[f].IsValid() {
			return fmt.Errorf("%w %v: %v is the %s source already, want one per family", errSource, a, p.sources[f], names[f])
		}
		if p.senders[f] == nil {
			return fmt.Errorf("%w %v: this host has no %s", errSource, a, names[f])
		}
		// The binding also makes the kernel route by this source, where its
		// rules say so.
		if err := bindRaw(p.senders[f].fd, a); err != nil {
			return fmt.Errorf("%w %v: want an address of this host: %w", errSource, a, err)
		}
		p.sources[f] = a
	}
	return nil
}

// Dropped returns how many datagrams that passed the filter the kernel dropped
// because Receive was too slow, since Open.
func (p *Port) Dropped() uint64 {
	p.dropMu.Lock()
	defer p.dropMu.Unlock()
	if !p.closed.Load() {
		p.count()
	}
	return p.dropped
}

// Mark implements [probe.Marker]. It is not misled by a flood, under which there
// is always something that waits.
func (p *Port) Mark() (done func() bool) {
	p.dropMu.Lock()
	defer p.dropMu.Unlock()
	if p.closed.Load() {
		return func() bool { return true }
	}
	p.count()
	goals := make([]uint64, len(p.taps))
	for i, t := range p.taps {
		goals[i] = t.queued
	}
	return func() bool {
		for i, t := range p.taps {
			if t.handled.Load() < goals[i] {
				return p.closed.Load()
			}
		}
		return true
	}
}

// count adds what the kernel counted since the last time.
func (p *Port) count() {
	for _, t := range p.taps {
		if s, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			p.dropped += uint64(s.Drops)
			t.queued += uint64(s.Packets - s.Drops) // Packets includes Drops
		}
	}
}

// Close implements [probe.Port]. It may be called again.
func (p *Port) Close() error {
	p.dropMu.Lock()
	if p.closed.Load() {
		p.dropMu.Unlock()
		return nil
	}
	p.count()
	p.closed.Store(true)
	p.dropMu.Unlock()
	close(p.done)
	defer p.resting.Wait()

	if p.wake >= 0 {
		one := [8]byte{1}
		_, _ = unix.Write(p.wake, one[:])
	}

	p.receiveMu.Lock()
	defer p.receiveMu.Unlock()
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	p.sourceMu.Lock()
	defer p.sourceMu.Unlock()

	// The kernel takes its time to close a packet socket, for one as much as
	// for several at once.
	var packets sync.WaitGroup
	defer packets.Wait()
	for _, t := range p.taps {
		packets.Go(func() { closeFD(t.fd) })
	}
	packets.Go(func() { closeFD(p.stamping.fd) })
	if p.departures != nil {
		packets.Go(p.departures.close)
	}
	for f, s := range p.senders {
		if s != nil {
			closeFD(s.fd)
		}
		closeFD(p.local.check[f])
		closeFD(p.routers[f])
	}
	p.held.close()
	p.ns.close()
	closeFD(p.wake)
	return nil
}

// closeFD closes a descriptor unless it is negative. Descriptors of these
// kinds have nothing to flush, so an error would tell nothing.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

var errClosed = fmt.Errorf("raw-socket port: %w", net.ErrClosed)

// rawSocket opens a socket that sends whole IP datagrams.
func rawSocket(f int) (int, error) {
	fd, err := unix.Socket(domains[f], unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return -1, openError("open "+names[f]+" raw socket", err)
	}
	// It would receive protocol 255.
	if err := dropAll(fd); err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("filter of %s raw socket: %w", names[f], err)
	}
	return fd, nil
}

// openError names what failed, and the missing capability if it is that.
func openError(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w: %w", what, probe.ErrPermission, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// enlarge makes a socket buffer as large as this process may, up to size.
func enlarge(fd, force, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}
