package simnet

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// bell ends a rest before its time.
type bell struct {
	fd   int
	rung atomic.Bool
	// awake is how long before its time the engine wakes up.
	awake time.Duration
}

func newBell() (*bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	return &bell{fd: fd, awake: leastAwake}, nil
}

func (b *bell) ring() {
	if b.rung.CompareAndSwap(false, true) {
		_, _ = unix.Write(b.fd, []byte{0, 0, 0, 1, 0, 0, 0, 0})
	}
}

func (b *bell) close() { _ = unix.Close(b.fd) }

// punctual makes the calling goroutine's thread wake up as soon as it should,
// for as long as the goroutine lives: by default a kernel adds 50 µs, and more
// while others want the processor.
func punctual() {
	const nice = -20
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
}

// rest waits for d, or for less if the bell rings. Kernels wake a thread up
// late by the time that a sleeping processor needs for it, which grows with how
// long it slept: the end of the wait is passed awake.
func (b *bell) rest(d time.Duration) {
	end := time.Now().Add(d)
	for !b.rung.Load() {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		if nap := left - b.awake; nap > 0 {
			ts := unix.NsecToTimespec(int64(nap))
			if k, err := unix.Ppoll([]unix.PollFd{{Fd: int32(b.fd), Events: unix.POLLIN}}, &ts, nil); k == 0 && err == nil {
				b.learn(b.awake - time.Until(end))
			}
		}
	}
	var count [8]byte
	_, _ = unix.Read(b.fd, count[:])
	b.rung.Store(false)
}

const leastAwake, mostAwake = 50 * time.Microsecond, 500 * time.Microsecond

// learn takes note of how late the kernel was.
func (b *bell) learn(late time.Duration) {
	b.awake = min(max(2*late, b.awake-b.awake/32, leastAwake), mostAwake)
}
