package examples_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/internal/sitetest"
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	promptly = 2 * time.Second  // what may pass between a signal and the end
	patience = 20 * time.Second // how long to wait for what must happen
)

// The test binary is also a plugin.
func TestMain(m *testing.M) {
	if os.Getenv("VOLTADOMAR_PLUGIN_COOKIE") != "" {
		plugins.Serve(sitetest.Prober())
		return
	}
	code := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// programs builds all example programs into one directory, with the race
// detector if the tests have it.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "voltadomar-examples-")
	if err != nil {
		return "", err
	}
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	out, err := exec.Command("go", append(args, "./simple-controller", "./simple-agent", "./simple-client", "./simple-network")...).CombinedOutput()
	if err != nil {
		err = errors.Join(err, errors.New(string(out)), os.RemoveAll(dir))
	}
	return dir, err
})

// process is a running program.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	done           chan struct{} // closed when it has ended
}

// start runs a program until the test ends, in the namespace of host unless
// that is nil.
func start(t *testing.T, host *netlab.Host, program string, args ...string) *process {
	t.Helper()
	return startWith(t, host, nil, program, args...)
}

// startWith is start with more in the program's environment.
func startWith(t *testing.T, host *netlab.Host, env []string, program string, args ...string) *process {
	t.Helper()
	dir, err := programs()
	require.NoError(t, err)
	p := &process{t: t, cmd: exec.Command(filepath.Join(dir, program), args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	// The race detector otherwise adds a second to the end of every program.
	p.cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	// Even a test that panics leaves nothing behind. The signal comes when the
	// thread that started the process ends, so that thread waits for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		var err error
		if host == nil {
			err = p.cmd.Start()
		} else {
			err = host.Do(p.cmd.Start)
		}
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s %q: %v\n%s%s", program, args, p.cmd.ProcessState, p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// run runs a program to its end and returns its exit status.
func run(t *testing.T, host *netlab.Host, program string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	p := start(t, host, program, args...)
	status = p.wait(patience)
	return status, p.stdout.String(), p.stderr.String()
}

// wait returns the exit status, -1 where a signal killed the process.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		require.Fail(p.t, "does not end", "%v within %v", p.cmd.Args, limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// freeze stops the process without ending it: a peer that is there and does
// not answer. It returns when none of its threads runs any more.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WSTOPPED, nil)
	}
	require.NoError(p.t, err)
}

// thaw undoes freeze.
func (p *process) thaw() { p.signal(syscall.SIGCONT) }

// running tells whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// await waits until the process has written something that matches, n times,
// and returns the last match with its groups.
func (p *process) await(o *output, pattern string, n int) []string {
	p.t.Helper()
	var found [][]string
	re := regexp.MustCompile(pattern)
	p.until(o, fmt.Sprintf("%q %d times", pattern, n), func(text string) bool {
		found = re.FindAllStringSubmatch(text, n)
		return len(found) == n
	})
	return found[n-1]
}

// until waits until what the process has written is enough.
func (p *process) until(o *output, what string, enough func(text string) bool) {
	p.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		text, changed := o.watch()
		if enough(text) {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			text, _ := o.watch()
			require.True(p.t, enough(text), "%v ended without writing %s", p.cmd.Args, what)
			return
		case <-timer.C:
			require.Fail(p.t, "does not write", "%v: %s", p.cmd.Args, what)
		}
	}
}

// output is what a process wrote. It may be read while that goes on.
type output struct {
	mu      sync.Mutex // guards all below
	text    bytes.Buffer
	changed chan struct{} // closed at the next write; nil if nobody watches
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.text.Write(b)
}

func (o *output) watch() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.text.String(), o.changed
}

func (o *output) String() string {
	text, _ := o.watch()
	return text
}

// startController runs a controller and returns where it listens.
func startController(t *testing.T, host *netlab.Host, args ...string) (p *process, addr string) {
	t.Helper()
	p = start(t, host, "simple-controller", append([]string{"--serve"}, args...)...)
	return p, p.await(&p.stdout, `(?m)^serving on (\S+)$`, 1)[1]
}

// startAgent runs an agent and waits until the controller has it.
func startAgent(t *testing.T, host *netlab.Host, controller *process, id, addr string, args ...string) *process {
	t.Helper()
	return startAgentWith(t, host, nil, controller, id, addr, args...)
}

// startAgentWith is startAgent with more in the agent's environment.
func startAgentWith(t *testing.T, host *netlab.Host, env []string, controller *process, id, addr string, args ...string) *process {
	t.Helper()
	p := startWith(t, host, env, "simple-agent", append([]string{"-i", id, "-c", addr}, args...)...)
	controller.await(&controller.stderr, `agent connected" agent=`+regexp.QuoteMeta(id)+`\n`, 1)
	return p
}

// needPort skips the test if this process may not open a port.
func needPort(t *testing.T) {
	t.Helper()
	port, err := volta.OpenPort(volta.PortConfig{})
	if errors.Is(err, probe.ErrPermission) {
		t.Skipf("agents need CAP_NET_RAW: %v", err)
	}
	require.NoError(t, err)
	require.NoError(t, port.Close())
}

// lines splits a text that ends in a newline.
func lines(t *testing.T, s string) []string {
	t.Helper()
	rest, ok := strings.CutSuffix(s, "\n")
	require.True(t, ok, "%q", s)
	return strings.Split(rest, "\n")
}
