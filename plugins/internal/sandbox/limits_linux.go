package sandbox

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// limit sets the limits of a process that runs as c says. Nobody else than its
// own user may do so without CAP_SYS_RESOURCE; of that user, the kernel asks
// for the real identity alone, which the calling thread takes for a moment.
func limit(pid int, c *Command) error {
	if c.User == nil {
		return setLimits(pid, &c.Limits)
	}
	uid, gid := os.Getuid(), os.Getgid()
	err := setReal(int(c.User.UID), int(c.User.GID))
	if err == nil {
		err = setLimits(pid, &c.Limits)
	}
	return errors.Join(err, setReal(uid, gid))
}

func setLimits(pid int, limits *Limits) error {
	for _, l := range []struct {
		name     string
		resource int
		value    int64
		fixed    bool
	}{
		{"memory", unix.RLIMIT_DATA, limits.Memory, false},
		{"address space", unix.RLIMIT_AS, limits.AddressSpace, false},
		{"open files", unix.RLIMIT_NOFILE, int64(limits.OpenFiles), false},
		{"processes", unix.RLIMIT_NPROC, int64(limits.Processes), false},
		{"processor time", unix.RLIMIT_CPU, int64((limits.CPU + time.Second - 1) / time.Second), false},
		{"file size", unix.RLIMIT_FSIZE, 0, true},
		{"core size", unix.RLIMIT_CORE, 0, true},
	} {
		if l.value == 0 && !l.fixed {
			continue
		}
		var now unix.Rlimit
		if err := unix.Prlimit(pid, l.resource, nil, &now); err != nil {
			return fmt.Errorf("limit of %s: %w", l.name, err)
		}
		value := min(uint64(l.value), now.Max) // only root may raise it
		if err := unix.Prlimit(pid, l.resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
			return fmt.Errorf("limit of %s: %w", l.name, err)
		}
	}
	return sacrifice(pid)
}

// sacrifice makes a process the first to go where memory runs out. Not every
// host lets its processes say so.
func sacrifice(pid int) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), os.O_WRONLY, 0)
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("1000")
	return err
}

// setReal sets the real user and group of the calling thread alone, and leaves
// the effective ones as they are.
func setReal(uid, gid int) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), same, same); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), same, same); errno != 0 {
		return errno
	}
	return nil
}
