package rawsock

import (
	"fmt"
	"log/slog"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is the network namespace in which a port was opened. Sockets
// belong to the namespace of the thread that makes them, and Send may run on
// any thread.
type namespace struct {
	fd   int // -1 if it cannot be known
	stat unix.Stat_t
}

const threadNamespace = "/proc/thread-self/ns/net"

func openNamespace(log *slog.Logger) namespace {
	fd, err := unix.Open(threadNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		log.Debug("network namespace unknown, taking the threads' own", "error", err)
		return namespace{fd: -1}
	}
	n := namespace{fd: fd}
	if err := unix.Fstat(fd, &n.stat); err != nil {
		_ = unix.Close(fd)
		return namespace{fd: -1}
	}
	return n
}

// do runs f on a thread in the namespace.
func (n *namespace) do(f func() error) error {
	if n.fd < 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var here unix.Stat_t
	if err := unix.Stat(threadNamespace, &here); err != nil {
		return fmt.Errorf("network namespace of this thread: %w", err)
	}
	if here.Dev == n.stat.Dev && here.Ino == n.stat.Ino {
		return f()
	}
	result := make(chan error)
	go func() {
		// Never unlocked, the thread ends with this goroutine rather than
		// run others in the namespace.
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter the port's network namespace: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}

func (n *namespace) close() { closeFD(n.fd) }
