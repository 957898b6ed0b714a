//go:build !linux

package sandbox

import (
	"os"
	"os/exec"
)

// Process is a program that runs. Its methods are safe for concurrent use.
type Process struct {
	cmd      *exec.Cmd
	finished chan struct{}
}

// Start runs a program.
func Start(c *Command) (*Process, error) {
	cmd := exec.Command(c.Path)
	cmd.Args = []string{c.Path}
	cmd.Env = environment(c)
	cmd.Dir = root
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	cmd.SysProcAttr = attributes
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, finished: make(chan struct{})}
	go func() {
		defer close(p.finished)
		_ = cmd.Wait() // Status tells
	}()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Missing says what protections of the package this system leaves out.
func (p *Process) Missing() string {
	return missing{"no sandbox on this operating system: it has the rights of the agent"}.String()
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.finished }

// Status says how the process ended, after Done.
func (p *Process) Status() string { return p.cmd.ProcessState.String() }

// Kill ends the process if it still runs. It does not wait.
func (p *Process) Kill() {
	killGroup(p.cmd.Process.Pid)
	_ = p.cmd.Process.Signal(os.Kill)
}
