package rawsock

import (
	"iter"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	stampFlags = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE |
		unix.SOF_TIMESTAMPING_OPT_TSONLY
	stampBuffer = 4 << 20
	// maxUnread stamps may wait in the error queue until somebody needs one.
	maxUnread = 8 * chunkLen
)

// driverStamps are the times at which drivers gave a raw socket's datagrams to
// the hardware. The kernel puts them into the socket's error queue, each with
// the number of its datagram.
type driverStamps struct {
	fd     int
	family int
	unable bool   // the kernel makes none
	on     bool   // it makes some
	next   uint32 // number of the next datagram
	unread int

	msgs [chunkLen]mmsghdr
	ctls [chunkLen]control
}

func (s *driverStamps) init(fd, f int) {
	s.fd, s.family = fd, f
	enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, stampBuffer)
	for i := range s.msgs {
		s.msgs[i].hdr.Control = (*byte)(unsafe.Pointer(&s.ctls[i]))
	}
	s.start()
}

// start makes the kernel stamp and count from 0.
func (s *driverStamps) start() {
	if s.unable {
		return
	}
	s.next, s.on = 0, true
	for _, flags := range []int{stampFlags, stampFlags | unix.SOF_TIMESTAMPING_OPT_ID} {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags) != nil {
			s.on, s.unable = false, true
			return
		}
	}
}

// stop makes the kernel stamp no more.
func (s *driverStamps) stop() {
	s.on = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 0) != nil
}

// sent says that n datagrams were sent and returns the first one's number.
func (s *driverStamps) sent(n int) uint32 {
	if !s.on {
		return 0
	}
	first := s.next
	s.next += uint32(n)
	s.unread += n
	return first
}

// all yields the numbers and times that are in the error queue, which is empty
// afterwards.
func (s *driverStamps) all() iter.Seq2[uint32, time.Time] {
	return func(yield func(uint32, time.Time) bool) {
		s.unread = 0
		for n := len(s.msgs); n == len(s.msgs); {
			for i := range s.msgs {
				s.msgs[i].hdr.SetControllen(controlLen)
			}
			var err error
			if n, err = recvmmsg(s.fd, s.msgs[:], unix.MSG_ERRQUEUE); err != nil {
				return
			}
			for i := range n {
				if number, at, ok := s.read(i); ok && !yield(number, at) {
					return
				}
			}
		}
	}
}

// read reads one message of the error queue.
func (s *driverStamps) read(i int) (number uint32, at time.Time, ok bool) {
	var stamped, numbered bool
	for kind, data := range s.ctls[i].all(int(s.msgs[i].hdr.Controllen)) {
		switch {
		case kind == (cmsgKind{unix.SOL_SOCKET, unix.SCM_TIMESTAMPING}):
			at, stamped = kernelTime(data)
		case kind == extendedError[s.family] && len(data) >= int(unsafe.Sizeof(unix.SockExtendedErr{})):
			e := (*unix.SockExtendedErr)(unsafe.Pointer(&data[0]))
			number, numbered = e.Data, e.Origin == unix.SO_EE_ORIGIN_TIMESTAMPING
		}
	}
	return number, at, stamped && numbered
}

var extendedError = [2]cmsgKind{
	v4: {unix.SOL_IP, unix.IP_RECVERR},
	v6: {unix.SOL_IPV6, unix.IPV6_RECVERR},
}
