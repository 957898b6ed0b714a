package timing

import (
	"bytes"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	oobLen     = 256
	stampFlags = unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE
	// stampWait is how long the stamp of what was sent is waited for. It is
	// there at once unless the datagram waits in a queue.
	stampWait = 2 * time.Millisecond
	// After patience datagrams without a stamp (an interface that makes none)
	// only each retryEvery-th one's is waited for.
	patience, retryEvery = 4, 64
)

// kernel asks the kernel for the times of a socket's datagrams.
type kernel struct {
	raw    syscall.RawConn // nil: it cannot say
	silent int             // datagrams in a row without a stamp
	buf    [512]byte       // the headers of what was sent, and itself
	oob    [oobLen]byte
}

func newKernel(c *net.UDPConn) *kernel {
	raw, err := c.SyscallConn()
	if err != nil {
		return &kernel{}
	}
	var stamps error
	err = raw.Control(func(fd uintptr) {
		stamps = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stampFlags)
		// A host of several addresses must answer from the one that was asked.
		// Of these only the one of the socket's family succeeds, or both.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	if err != nil || stamps != nil {
		raw = nil
	}
	return &kernel{raw: raw}
}

// received returns when the kernel says that a datagram came in, and the
// ancillary data with which to answer it.
func (k *kernel) received(oob []byte) (stamp time.Time, local []byte) {
	for kind, data := range messages(oob) {
		switch kind {
		case [2]int32{unix.SOL_SOCKET, unix.SCM_TIMESTAMPING}:
			stamp = software(data)
		case [2]int32{unix.SOL_IP, unix.IP_PKTINFO}:
			if len(data) >= unix.SizeofInet4Pktinfo && local == nil {
				info := *(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
				info.Ifindex = 0 // the route decides
				local = unix.PktInfo4(&info)
			}
		case [2]int32{unix.SOL_IPV6, unix.IPV6_PKTINFO}:
			if len(data) >= unix.SizeofInet6Pktinfo {
				info := *(*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
				if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
					info.Ifindex = 0
				}
				local = unix.PktInfo6(&info)
			}
		}
	}
	return stamp, local
}

// forget drops the stamps of what was sent before.
func (k *kernel) forget() {
	for k.raw != nil {
		if _, _, ok := k.departed(); !ok {
			return
		}
	}
}

// sent returns when the kernel says that b left. It comes with a copy of what
// left, headers and all: numbers, its other way of telling, go wrong when
// sending fails.
func (k *kernel) sent(b []byte) time.Time {
	if k.raw == nil {
		return time.Time{}
	}
	k.silent++
	patient := k.silent <= patience || k.silent%retryEvery == 0
	for deadline := time.Now().Add(stampWait); ; {
		data, stamp, ok := k.departed()
		switch {
		case ok && bytes.HasSuffix(data, b):
			k.silent = 0
			return stamp
		case ok:
		case !patient || !k.wait(time.Until(deadline)):
			return time.Time{}
		}
	}
}

// departed takes a stamp out of the socket's error queue, if there is one.
func (k *kernel) departed() (data []byte, stamp time.Time, ok bool) {
	_ = k.raw.Control(func(fd uintptr) {
		n, oobn, _, _, err := unix.Recvmsg(int(fd), k.buf[:], k.oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		ok, data = true, k.buf[:n]
		for kind, c := range messages(k.oob[:oobn]) {
			if kind == [2]int32{unix.SOL_SOCKET, unix.SCM_TIMESTAMPING} {
				stamp = software(c)
			}
		}
	})
	return data, stamp, ok
}

// wait waits for the error queue. It tells whether there may be something.
func (k *kernel) wait(limit time.Duration) (more bool) {
	if limit <= 0 {
		return false
	}
	_ = k.raw.Control(func(fd uintptr) {
		ts := unix.NsecToTimespec(int64(limit))
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Ppoll(fds, &ts, nil)
		more = n > 0 && fds[0].Revents&unix.POLLNVAL == 0 || err == unix.EINTR
	})
	return more
}

// messages yields the ancillary data of a datagram by level and type.
func messages(oob []byte) func(yield func([2]int32, []byte) bool) {
	return func(yield func([2]int32, []byte) bool) {
		for len(oob) > 0 {
			h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
			if err != nil || !yield([2]int32{h.Level, h.Type}, data) {
				return
			}
			oob = rest
		}
	}
}

// software returns the software stamp in SCM_TIMESTAMPING data, or a zero time.
func software(data []byte) time.Time {
	if len(data) < int(unsafe.Sizeof([3]unix.Timespec{})) {
		return time.Time{}
	}
	ts := *(*unix.Timespec)(unsafe.Pointer(&data[0]))
	if sec, nsec := ts.Unix(); sec != 0 || nsec != 0 {
		return time.Unix(sec, nsec)
	}
	return time.Time{}
}
