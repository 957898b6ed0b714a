package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// restrict takes from the calling thread what a program that it starts shall
// not have. Capabilities in force it keeps: they go with the change of user.
func restrict(dir string) (missing, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no_new_privs: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return nil, err
	}
	if err := confine(dir); err != nil {
		return missing{"no Landlock: it may write where its user may (" + err.Error() + ")"}, nil
	}
	return nil, nil
}

// dropCapabilities empties the bounding and the inheritable set, and with that
// the ambient one. Without CAP_SETPCAP the bounding set stays, which
// no_new_privs makes harmless.
func dropCapabilities() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err == unix.EINVAL || err == unix.EPERM {
			break // past the last one, or not allowed
		}
		if err != nil {
			return fmt.Errorf("bounding capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("inheritable capabilities: %w", err)
	}
	return nil
}

// lastInherited returns the highest file descriptor that a program started now
// would inherit, because who opened it did not say otherwise.
func lastInherited() (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	last := 0
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return 0, err
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if errors.Is(err, unix.EBADF) {
			continue // that of the directory
		}
		if err != nil {
			return 0, err
		}
		if flags&unix.FD_CLOEXEC == 0 {
			last = max(last, fd)
		}
	}
	return last, nil
}
