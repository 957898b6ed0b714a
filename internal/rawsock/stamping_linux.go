package rawsock

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// A kernel that stamps within this time is waited for. It takes a
	// millisecond, but most of a second where nothing is left of the processor.
	stampingWait = 3 * time.Second
	// The switch may be about to be turned off, because of a program that no
	// longer wants it on, before it is turned on for us. After this time that
	// is over.
	stampingGrace = 20 * time.Millisecond
	stampingRetry = 200 * time.Microsecond

	loopback = 1 // its index in every network namespace
)

var errUnstamped = errors.New("the kernel does not stamp packets")

// stamping is a socket that makes the kernel stamp packets. That is a switch
// for the whole kernel, which takes a moment to turn; packets before that have
// no time of their own.
type stamping struct {
	fd    int
	since time.Time
}

func openStamping() (stamping, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return stamping{fd: -1}, openError("open packet socket", err)
	}
	if err := receiveStamps(fd); err != nil {
		closeFD(fd)
		return stamping{fd: -1}, err
	}
	return stamping{fd, time.Now()}, nil
}

// await waits until the kernel stamps packets. It sends itself some over
// loopback, in a protocol that no program speaks. Afterwards the socket
// receives nothing.
func (s stamping) await() error {
	defer dropAll(s.fd) //nolint:errcheck // what it then receives is bounded all the same
	self := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_802_EX1), Ifindex: loopback, Halen: 6}
	if err := unix.Bind(s.fd, self); err != nil {
		return fmt.Errorf("bind packet socket to loopback: %w", err)
	}
	for off := false; time.Since(s.since) < stampingWait; time.Sleep(stampingRetry) {
		err := unix.Sendto(s.fd, []byte("stamped?"), 0, self)
		if errors.Is(err, unix.ENETDOWN) {
			// Then nobody can see it, and time has to do.
			time.Sleep(stampingGrace - time.Since(s.since))
			return fmt.Errorf("loopback: %w", err)
		}
		if err != nil {
			return fmt.Errorf("send over loopback: %w", err)
		}
		on := s.stamped()
		if on && (off || time.Since(s.since) > stampingGrace) {
			return nil
		}
		off = off || !on
	}
	return errUnstamped
}

// stamped tells whether one of the packets that come in soon has a stamp.
func (s stamping) stamped() bool {
	ts := unix.NsecToTimespec(int64(stampingRetry))
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, &ts, nil)
	var c control
	for {
		ms := []mmsghdr{{}}
		ms[0].hdr.Control = (*byte)(unsafe.Pointer(&c))
		ms[0].hdr.SetControllen(controlLen)
		if n, err := recvmmsg(s.fd, ms, 0); err != nil || n == 0 {
			return false
		}
		for kind, data := range c.all(int(ms[0].hdr.Controllen)) {
			if kind == (cmsgKind{unix.SOL_SOCKET, unix.SCM_TIMESTAMPING}) {
				if _, ok := kernelTime(data); ok {
					return true
				}
			}
		}
	}
}
