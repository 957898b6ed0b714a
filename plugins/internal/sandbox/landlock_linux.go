package sandbox

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock watches over, by the version of its ABI that began with it.
const (
	writing1 = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	writing2   = unix.LANDLOCK_ACCESS_FS_REFER
	writing3   = unix.LANDLOCK_ACCESS_FS_TRUNCATE
	network4   = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	signalling = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL // 6
)

// confine lets the calling thread and its children write only below dir, and
// to what is there already in /dev and /proc, as far as they are permitted.
func confine(dir string) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return errno
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: writing1}
	if abi >= 2 {
		attr.Handled_access_fs |= writing2
	}
	if abi >= 3 {
		attr.Handled_access_fs |= writing3
	}
	if abi >= 4 {
		attr.Handled_access_net = network4
	}
	if abi >= 6 {
		attr.Scoped = signalling
	}
	// A kernel takes a longer structure than it knows, if the rest is zero.
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(rules))
	for path, access := range map[string]uint64{
		dir:     attr.Handled_access_fs,
		"/dev":  unix.LANDLOCK_ACCESS_FS_WRITE_FILE,
		"/proc": unix.LANDLOCK_ACCESS_FS_WRITE_FILE,
	} {
		if err := allow(rules, path, access); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func allow(rules uintptr, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
