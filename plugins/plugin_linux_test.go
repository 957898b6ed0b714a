package plugins_test

import (
	"bufio"
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// What the plugin itself sees of its confinement.
func TestConfined(t *testing.T) {
	t.Parallel()
	c := config(t, "faulty")
	c.User = "61237"
	path, err := os.Executable()
	require.NoError(t, err)
	c.Path = path // a shell would add to the environment
	p := open(t, c)
	_, err = p.Build(nil, probeTo(look))
	require.ErrorIs(t, err, probe.ErrProbe)
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		require.ErrorContains(t, err, set+"=0000000000000000")
	}
	require.ErrorContains(t, err, "NoNewPrivs=1")
	require.ErrorContains(t, err, "raw=operation not permitted")
	require.ErrorContains(t, err, fmt.Sprintf("env=%d", 7+len(c.Env))) // the contract's and ours
	if os.Geteuid() == 0 {
		require.ErrorContains(t, err, "CapBnd=0000000000000000")
		require.ErrorContains(t, err, "Uid=61237,61237,61237,61237")
	}
	if p.State().Missing == "" {
		require.ErrorContains(t, err, "dial=false")
	}
}

// Children that a plugin started go with it.
func TestFork(t *testing.T) {
	t.Parallel()
	j := newJournal()
	c := config(t, "faulty")
	c.Logger = j.logger()
	p := open(t, c)
	if contains(p.State().Missing, "namespaces") {
		t.Skip(p.State().Missing)
	}
	_, err := p.Build(nil, probeTo(fork))
	require.NoError(t, err)
	j.find(t, 1, func(r string) bool { return contains(r, "line=child") })
	mine := c.Env[len(c.Env)-1]
	require.Greater(t, len(running(mine)), 1)
	require.NoError(t, p.Close())
	require.Empty(t, running(mine))
}

// A plugin cannot have its host talk to somebody else.
func TestAnothersSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, who has plugins of another user")
	}
	t.Parallel()
	path := filepath.Join(os.TempDir(), "another")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, os.Chmod(path, 0o777))
	err = refused(t, config(t, "unready", "HOW=symlink", "OTHER="+path))
	require.ErrorIs(t, err, plugins.ErrProtocol)
	require.ErrorContains(t, err, "the socket is of user 0, want 65534")
}

// startHost runs a host in another process, with what the thread that starts it
// may do. It is ready.
func startHost(t *testing.T, before func() error, env ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(path)
	cmd.Env = append(env, "MODE=host", "PLUGIN="+os.Getenv("PLUGIN"), "PASS="+mark(t.Name()), mark(t.Name()))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // which ends with the goroutine
		started <- cmp.Or(before(), cmd.Start())
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
	}
	require.Equal(t, "ready", lines.Text())
	return cmd
}

// Nothing is left of plugins whose host is killed, their children included.
func TestKilledHost(t *testing.T) {
	t.Parallel()
	tmp := filepath.Join(os.TempDir(), "killed")
	require.NoError(t, os.Mkdir(tmp, 0o755))
	defer os.Remove(tmp) // which fails if it is not empty
	nothing := func() error { return nil }
	cmd := startHost(t, nothing, "PLUGINS=udp,faulty,raw", "SESSION=no answer", "TMPDIR="+tmp)
	pids := running(mark(t.Name()))
	require.GreaterOrEqual(t, len(pids), 5, "host, three plugins and the child of one")
	var deaths []func(t *testing.T)
	for _, pid := range pids {
		deaths = append(deaths, death(t, pid))
	}
	require.NoError(t, cmd.Process.Kill())
	require.EqualError(t, cmd.Wait(), "signal: killed")
	for _, dead := range deaths {
		dead(t)
	}
	require.Empty(t, running(mark(t.Name())))
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Where there are no namespaces, children that left a plugin may go on, but
// nobody waits for them.
func TestForkWithoutNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be less than root")
	}
	t.Parallel()
	container := func() error { return unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0) }
	host := startHost(t, container, "PLUGINS=faulty", "THEN=close")
	for _, pid := range running(mark(t.Name())) {
		if pid != host.Process.Pid {
			dead := death(t, pid)
			require.NoError(t, unix.Kill(pid, unix.SIGKILL))
			dead(t)
		}
	}
}

// death returns how to wait for the end of somebody else's process.
func death(t *testing.T, pid int) func(t *testing.T) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	return func(t *testing.T) {
		t.Helper()
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
			if err == unix.EINTR {
				continue
			}
			require.NoError(t, err)
			require.Equal(t, 1, n, "process %d still runs", pid)
			return
		}
	}
}
