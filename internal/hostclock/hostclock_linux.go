package hostclock

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long others may keep this process from having its name:
	// none of them needs more than some system calls, unless it was stopped.
	patience, retryEvery = 2 * time.Second, time.Millisecond

	tokenLen = 32 // bytes of hexadecimal digits
)

// local are the file systems that one kernel has for itself: on others locks
// and tokens may be those of several hosts.
var local = []uint32{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
	unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, 0x2fc12fc1, // ZFS
}

func acquire() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("name of the host's clock: %w", err)
	}
	path := filepath.Join(os.TempDir(), "voltadomar-"+strconv.Itoa(os.Geteuid()))
	// Never released: the kernel does that when the process ends, however.
	token, _, err := share(path)
	if err != nil {
		return "", fmt.Errorf("name of the host's clock: %s: %w", path, err)
	}
	return nameOf(string(boot), token), nil
}

// nameOf tells others neither of the two.
func nameOf(boot, token string) string {
	sum := sha256.Sum256([]byte(strings.TrimSpace(boot) + " " + token))
	return fmt.Sprintf("host-%x", sum[:16])
}

// share returns the token in a directory, and what must stay open for the token
// to stay what it is.
func share(path string) (token string, hold holding, err error) {
	defer func() {
		if err != nil {
			hold.release()
		}
	}()
	dir, err := openDir(path)
	if err != nil {
		return "", hold, err
	}
	hold = append(hold, dir)
	// Cleaners of temporary directories leave locked ones alone, and what is
	// in them. A cleaner that is at work just now does no harm.
	_ = unix.Flock(dir, unix.LOCK_SH|unix.LOCK_NB)
	// One process at a time goes on from here, and the kernel lets the next one
	// in when it ends, wherever that is. So nobody takes a token for that of
	// the living between another's look at its lock and its writing.
	mutex, err := openFile(dir, "lock")
	if err != nil {
		return "", hold, err
	}
	defer unix.Close(mutex)
	if err := wait(mutex); err != nil {
		return "", hold, fmt.Errorf("wait for other processes: %w", err)
	}
	fd, err := openFile(dir, "clock")
	if err != nil {
		return "", hold, err
	}
	hold = append(hold, fd)
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		// Those who held the token are gone, so it goes, too.
		if err := draw(fd); err != nil {
			return "", hold, err
		}
	}
	// It does not change any more while this lock is held, whatever becomes of
	// the mutex.
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return "", hold, fmt.Errorf("lock the token: %w", err)
	}
	token, err = read(fd)
	return token, hold, err
}

// holding are descriptors.
type holding []int

func (h holding) release() {
	for _, fd := range h {
		unix.Close(fd)
	}
}

// openDir opens a directory that is this user's alone, and makes it if there is
// none.
func openDir(path string) (fd int, err error) {
	if err := unix.Mkdir(path, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, fmt.Errorf("make directory: %w", err)
	}
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open directory: %w", err)
	}
	if err := own(fd, unix.S_IFDIR); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openFile opens a file in the directory, likewise.
func openFile(dir int, name string) (fd int, err error) {
	// Opening what is no file must not block.
	fd, err = unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	if err := own(fd, unix.S_IFREG); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", name, err)
	}
	return fd, nil
}

// own checks that an open file is of a kind, and this user's alone on this
// host.
func own(fd int, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != kind:
		return errors.New("it is of another kind")
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to user %d", st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("others may use it: mode %03o", st.Mode&0o777)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("look at its file system: %w", err)
	}
	for _, kind := range local {
		if uint32(fs.Type) == kind {
			return nil
		}
	}
	return fmt.Errorf("other hosts may use it: file system %x", fs.Type)
}

// wait waits until it has locked a file for this process alone.
func wait(fd int) error {
	// Not in the kernel, where nothing would end the wait for a process that
	// was stopped.
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for deadline := time.Now().Add(patience); ; <-retry.C {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		busy := errors.Is(err, unix.EWOULDBLOCK)
		if err == nil || !busy && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			return err
		}
	}
}

// draw replaces what the file holds by a new token.
func draw(fd int) error {
	var b [tokenLen / 2]byte
	_, _ = rand.Read(b[:])
	if err := unix.Ftruncate(fd, 0); err != nil {
		return fmt.Errorf("write a token: %w", err)
	}
	if _, err := unix.Pwrite(fd, fmt.Appendf(nil, "%x", b), 0); err != nil {
		return fmt.Errorf("write a token: %w", err)
	}
	return nil
}

// read returns the token that the file holds.
func read(fd int) (string, error) {
	var b [tokenLen + 1]byte
	n, err := unix.Pread(fd, b[:], 0)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if n != tokenLen {
		return "", errors.New("somebody has written over the token")
	}
	return string(b[:n]), nil
}
