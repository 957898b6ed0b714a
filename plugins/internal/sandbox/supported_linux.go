package sandbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Supported says why no program can be started here: the caller is root and may
// not become another user, as in a container that took root's capabilities.
func Supported() error {
	if os.Geteuid() != 0 {
		return nil
	}
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	const needed = 1<<unix.CAP_CHOWN | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL
	if data[0].Effective&needed != needed {
		return errors.New("root without CAP_CHOWN, CAP_KILL, CAP_SETGID and CAP_SETUID cannot run a program as another user: give it these, or be another user")
	}
	return nil
}
