package sandbox

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is a program that runs. Its methods are safe for concurrent use.
type Process struct {
	pid      int
	missing  missing
	finished chan struct{}
	status   unix.WaitStatus // once finished is closed

	mu     sync.Mutex // held to signal and to reap, so that no signal goes astray
	reaped bool
}

// Start runs a program. Only the start itself may take a moment; there is
// nothing to give up.
func Start(c *Command) (*Process, error) {
	if c.User == nil && os.Geteuid() == 0 {
		return nil, fmt.Errorf("%s: want a user to run as, not root", c.Path)
	}
	if c.User != nil {
		if err := os.Chown(c.Dir, int(c.User.UID), int(c.User.GID)); err != nil {
			return nil, err
		}
	}
	p := &Process{finished: make(chan struct{})}
	started := make(chan error, 1)
	go p.keep(c, started)
	if err := <-started; err != nil {
		<-p.finished
		return nil, err
	}
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.pid }

// Missing says what protections of the package this kernel, or the caller's
// lack of rights, left out; "" is none.
func (p *Process) Missing() string { return p.missing.String() }

// Done is closed when the process has ended, and its children with it where
// it has a namespace.
func (p *Process) Done() <-chan struct{} { return p.finished }

// Status says how the process ended, after Done.
func (p *Process) Status() string {
	switch {
	case p.status.Signaled():
		return fmt.Sprintf("killed by signal %d (%v)", int(p.status.Signal()), p.status.Signal())
	default:
		return fmt.Sprintf("exit status %d", p.status.ExitStatus())
	}
}

// Kill ends the process and the others of its process group, if they still
// run. It does not wait.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.kill()
	}
}

func (p *Process) kill() {
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	_ = unix.Kill(p.pid, unix.SIGKILL)
}

// keep starts the process and stays until it ends, on a thread of its own: what
// a program may do is taken from the thread that starts it, and it is killed
// when that thread ends.
func (p *Process) keep(c *Command, started chan<- error) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The main thread would not end. While it is held, another one runs.
		held := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(held)
			p.keepHere(c, started)
		}()
		<-held
		runtime.UnlockOSThread()
		return
	}
	p.keepHere(c, started)
}

func (p *Process) keepHere(c *Command, started chan<- error) {
	defer close(p.finished)
	if err := p.start(c); err != nil {
		started <- err
		return
	}
	started <- nil
	p.wait()
}

// wait returns when the process has ended and its group was killed.
func (p *Process) wait() {
	for unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kill() // the number of the group is taken as long as it is not reaped
	for {
		if _, err := unix.Wait4(p.pid, &p.status, 0, nil); err != unix.EINTR {
			break
		}
	}
	p.reaped = true
}

// way is one of the ways to start a program.
type way struct {
	namespaces uintptr // of CLONE_NEW...
	stopped    bool    // at its first instruction
	watched    bool    // not to begin once the caller has ended
}

// ways yields them, the best first.
func ways(c *Command) iter.Seq[way] {
	own := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC)
	if c.User == nil {
		own |= unix.CLONE_NEWUSER
	}
	return func(yield func(way) bool) {
		for _, watched := range []bool{true, false} {
			for _, w := range []way{{own, true, watched}, {own, false, watched}, {0, true, watched}, {0, false, watched}} {
				if !yield(w) {
					return
				}
			}
		}
	}
}

func (w way) missing() (m missing) {
	if w.namespaces == 0 {
		m = append(m, "no namespaces: it has the network, and its children may outlive it")
	}
	if !w.stopped {
		m = append(m, "no ptrace: limits began a moment after it did")
	}
	if !w.watched {
		m = append(m, "no view of this process in /proc: it may outlive it if that is killed while it starts")
	}
	return m
}

// path is where the child finds the program, as its file 3. By way of the
// calling thread's directory it finds nothing if the thread has ended: before
// the child asked to be killed when it does, which the kernel does not tell a
// child with a process namespace.
func (w way) path() string {
	if w.watched {
		return fmt.Sprintf("/proc/%d/task/%d/../../../self/fd/3", unix.Getpid(), unix.Gettid())
	}
	return "/proc/self/fd/3"
}

// start runs the program in the best way that this host allows.
func (p *Process) start(c *Command) error {
	program, err := image(c)
	if err != nil {
		return err
	}
	defer program.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	p.missing, err = restrict(c.Dir)
	if err != nil {
		return err
	}

	for w := range ways(c) {
		if p.pid, err = fork(c, w, program, null); err != nil {
			if refused(err) {
				continue
			}
			break
		}
		p.missing = append(p.missing, w.missing()...)
		return p.settle(c, w)
	}
	return fmt.Errorf("%s: %w", c.Path, err)
}

// refused tells whether a way to start may just not be allowed.
func refused(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOENT, unix.ENOSPC, unix.ENOSYS, unix.EUSERS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func fork(c *Command, w way, program, null *os.File) (int, error) {
	sys := &syscall.SysProcAttr{
		Setsid:     true,
		Pdeathsig:  unix.SIGKILL,
		Cloneflags: w.namespaces,
		Ptrace:     w.stopped,
	}
	if c.User != nil {
		sys.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID}
	}
	if w.namespaces&unix.CLONE_NEWUSER != 0 {
		uid, gid := os.Getuid(), os.Getgid()
		sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	// A script's interpreter opens the program again, so it stays open as 3.
	files := []uintptr{null.Fd(), c.Stdout.Fd(), c.Stderr.Fd(), program.Fd()}
	inherited, err := lastInherited()
	if err != nil {
		return 0, err
	}
	for len(files) <= inherited {
		files = append(files, ^uintptr(0)) // closed
	}
	attr := &syscall.ProcAttr{Dir: "/", Env: environment(c), Files: files, Sys: sys}
	if !w.stopped {
		return syscall.ForkExec(w.path(), []string{c.Path}, attr)
	}
	// A child whose parent was killed meanwhile has init for its tracer. When it
	// then reports that it finds no program, to nobody, a signal would stop it
	// for good: init does not have it go on.
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, brokenPipe(), &before); err != nil {
		return 0, err
	}
	pid, err := syscall.ForkExec(w.path(), []string{c.Path}, attr)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	if err != nil {
		return 0, err
	}
	return pid, waitStopped(pid)
}

func brokenPipe() *unix.Sigset_t {
	var set unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGPIPE - 1)
	return &set
}

// unmask has a stopped process block no signals but those that this thread does.
func unmask(pid int) error {
	const ptraceSetSigmask = 0x420b
	maskLen := uintptr(8)
	if strings.HasPrefix(runtime.GOARCH, "mips") { // which has 128 signals
		maskLen = 16
	}
	var mask unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask); err != nil {
		return fmt.Errorf("get signal mask: %w", err)
	}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, ptraceSetSigmask, uintptr(pid), maskLen, uintptr(unsafe.Pointer(&mask)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("set signal mask: %w", errno)
	}
	return nil
}

// waitStopped waits until the program is about to run its first instruction.
func waitStopped(pid int) error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case status.Stopped():
			return nil
		default:
			return fmt.Errorf("it ended before it began: signal %v", status.Signal())
		}
	}
}

// settle gives a process its limits, looks whether it is confined, and lets it
// go.
func (p *Process) settle(c *Command, w way) error {
	err := limit(p.pid, c)
	if err == nil {
		err = verify(p.pid, c, w)
	}
	if err == nil && w.stopped {
		err = unmask(p.pid)
	}
	if err == nil && w.stopped {
		err = unix.PtraceDetach(p.pid)
	}
	if err != nil {
		p.kill()
		p.wait()
		return err
	}
	return nil
}
