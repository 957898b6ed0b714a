package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// verify reads from the kernel whether a process is confined, as long as it
// has not run: whatever the way it was started, it shall not run otherwise.
func verify(pid int, c *Command, w way) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	want := map[string]string{
		"NoNewPrivs": "1",
		"CapInh":     "0000000000000000",
		"CapPrm":     "0000000000000000",
		"CapEff":     "0000000000000000",
		"CapAmb":     "0000000000000000",
	}
	if c.User != nil {
		uid, gid := strconv.Itoa(int(c.User.UID)), strconv.Itoa(int(c.User.GID))
		want["Uid"] = strings.Join([]string{uid, uid, uid, uid}, "\t")
		want["Gid"] = strings.Join([]string{gid, gid, gid, gid}, "\t")
		want["Groups"] = ""
		want["CapBnd"] = "0000000000000000"
	}
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		if w, ok := want[name]; ok && w != value {
			return fmt.Errorf("process not confined: %s is %q, want %q", name, value, w)
		}
		delete(want, name)
	}
	delete(want, "CapAmb") // before Linux 4.3
	for name := range want {
		return fmt.Errorf("process not confined: the kernel does not tell its %s", name)
	}
	if !w.stopped {
		return nil
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if errors.Is(err, os.ErrPermission) {
		return nil // of another user, without CAP_SYS_PTRACE
	}
	if err != nil {
		return err
	}
	if len(open) != 4 {
		return fmt.Errorf("process not confined: it has %d open files, want 4", len(open))
	}
	return nil
}

// image returns a sealed copy of the program in memory.
func image(c *Command) (*os.File, error) {
	fd, err := unix.MemfdCreate("plugin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3 they all can run
		fd, err = unix.MemfdCreate("plugin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("file in memory that can run: %w", err)
	}
	f := os.NewFile(uintptr(fd), c.Path)
	if _, err := f.Write(c.Program); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("seals of a file in memory: %w", err)
	}
	return f, nil
}
