package plugins

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/sandbox"
)

// checkPeer makes sure that a plugin did not have the host connect to somebody
// else's socket: who listens has to be the user that the plugin runs as.
func checkPeer(conn net.Conn, user *sandbox.User) error {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return os.NewSyscallError("getsockopt", failed)
	}
	want := uint32(os.Geteuid())
	if user != nil {
		want = user.UID
	}
	if peer.Uid != want {
		return errors.New(fmt.Sprint("the socket is of user ", peer.Uid, ", want ", want))
	}
	return nil
}
