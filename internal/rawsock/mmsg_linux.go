package rawsock

import (
	"iter"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of sendmmsg(2) and recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// sendmmsg returns how many messages were sent; it does not wait. The error
// is that of the first message.
func sendmmsg(fd int, ms []mmsghdr) (int, error) {
	return mmsg(unix.SYS_SENDMMSG, fd, ms, unix.MSG_DONTWAIT)
}

// recvmmsg returns how many messages were received; it does not wait.
func recvmmsg(fd int, ms []mmsghdr, flags int) (int, error) {
	return mmsg(unix.SYS_RECVMMSG, fd, ms, flags|unix.MSG_DONTWAIT)
}

func mmsg(call uintptr, fd int, ms []mmsghdr, flags int) (int, error) {
	for {
		n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&ms[0])), uintptr(len(ms)), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// control is room for the ancillary data of one message, aligned as the
// kernel writes it: a timestamp and, on error queues, an extended error.
type control [24]uint64

const controlLen = int(unsafe.Sizeof(control{}))

// stamps is struct scm_timestamping: software, unused, hardware.
type stamps [3]unix.Timespec

// cmsgKind is what a piece of ancillary data is.
type cmsgKind struct{ level, kind int32 }

// all yields the ancillary data in the first n bytes. It is written out
// because [unix.ParseSocketControlMessage] allocates.
func (c *control) all(n int) iter.Seq2[cmsgKind, []byte] {
	return func(yield func(cmsgKind, []byte) bool) {
		buf := unsafe.Slice((*byte)(unsafe.Pointer(c)), min(n, controlLen))
		for len(buf) >= unix.SizeofCmsghdr {
			h := (*unix.Cmsghdr)(unsafe.Pointer(&buf[0]))
			head, size := unix.CmsgLen(0), int(h.Len)
			if size < head || size > len(buf) {
				return
			}
			if !yield(cmsgKind{h.Level, h.Type}, buf[head:size]) {
				return
			}
			buf = buf[min(unix.CmsgSpace(size-head), len(buf)):]
		}
	}
}

// kernelTime returns the software stamp in SCM_TIMESTAMPING data.
func kernelTime(data []byte) (time.Time, bool) {
	if len(data) < int(unsafe.Sizeof(stamps{})) {
		return time.Time{}, false
	}
	ts := (*stamps)(unsafe.Pointer(&data[0]))[0]
	sec, nsec := ts.Unix()
	return time.Unix(sec, nsec), sec != 0 || nsec != 0
}
