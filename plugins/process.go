package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin/runner"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/sandbox"
)

// process is the process as go-plugin sees it: its output is one line, the
// handshake, that has been read before, and it errs in silence.
type process struct {
	command sandbox.Command
	log     *output

	proc   *sandbox.Process // nil until it runs
	ended  chan struct{}    // closed when it has and its output was read
	stdout *io.PipeReader
	stderr *io.PipeReader

	mu     sync.Mutex // guards what follows
	killed bool       // by us, perhaps before it ran
	broken error      // what was wrong with its handshake
	// address is where it listens, empty until it said so, and again when it
	// was connected to.
	address string
}

var _ runner.Runner = (*process)(nil)

// Start implements [runner.Runner].
func (p *process) Start(context.Context) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return p.breaks(fmt.Errorf("%w: %w", ErrStart, err))
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		outR.Close()
		outW.Close()
		return p.breaks(fmt.Errorf("%w: %w", ErrStart, err))
	}
	p.command.Stdout, p.command.Stderr = outW, errW
	proc, err := sandbox.Start(&p.command)
	outW.Close()
	errW.Close()
	if err != nil {
		outR.Close()
		errR.Close()
		return p.breaks(fmt.Errorf("%w: %w", ErrStart, err))
	}

	p.mu.Lock()
	p.proc = proc
	if p.killed {
		proc.Kill()
	}
	p.mu.Unlock()
	p.ended = make(chan struct{})
	var handshake, nothing *io.PipeWriter
	p.stdout, handshake = io.Pipe()
	p.stderr, nothing = io.Pipe()
	go p.watch(outR, errR, handshake, nothing)
	return nil
}

// watch reads the output until the process has ended.
func (p *process) watch(outR, errR *os.File, handshake, nothing *io.PipeWriter) {
	defer close(p.ended)
	var wg sync.WaitGroup
	wg.Go(func() { p.readStdout(outR, handshake) })
	wg.Go(func() { p.log.readAll("stderr", errR, nil) })
	<-p.proc.Done()
	// Somebody who got away from it may still hold the other ends.
	soon := time.Now().Add(100 * time.Millisecond)
	_ = errors.Join(outR.SetReadDeadline(soon), errR.SetReadDeadline(soon))
	wg.Wait()
	outR.Close()
	errR.Close()
	handshake.Close()
	nothing.Close()
}

// readStdout passes the handshake on, and logs what else there is.
func (p *process) readStdout(r io.Reader, to io.Writer) {
	seen := false
	p.log.readAll("stdout", r, func(line string) bool {
		if seen || !looksLikeHandshake(line) {
			return false
		}
		seen = true
		h, err := parseHandshake(line)
		if err == nil {
			err = h.check(p.command.Dir)
		}
		if err != nil {
			_ = p.breaks(fmt.Errorf("%w: %s", err, p.command.Path))
			p.kill()
			return true
		}
		p.mu.Lock()
		p.address = h.address
		p.mu.Unlock()
		_, _ = io.WriteString(to, h.line()) // go-plugin reads until the end
		return true
	})
}

func (p *process) breaks(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = err
	return err
}

// kill ends the process, now or as soon as it begins.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		p.killed = true
		return
	}
	select {
	case <-p.proc.Done(): // by itself
	default:
		p.killed = true
		p.proc.Kill()
	}
}

// gone waits until the process has ended, if it ever began. It reports false
// if that takes too long.
func (p *process) gone() bool {
	if p.ended == nil {
		return true
	}
	select {
	case <-p.ended:
		return true
	case <-time.After(undying):
		return false
	}
}

// reason returns what is known to be wrong with the process, or that it ended
// by itself.
func (p *process) reason() error {
	p.mu.Lock()
	broken, killed := p.broken, p.killed
	p.mu.Unlock()
	if broken != nil {
		return broken
	}
	if p.proc == nil || killed {
		return nil
	}
	select {
	case <-p.proc.Done():
		return p.crashed()
	default:
		return nil
	}
}

// crashed says how the process ended, after which it may have left a word.
func (p *process) crashed() error {
	<-p.ended
	words := p.log.last()
	if words != "" {
		words = ": " + words
	}
	return fmt.Errorf("%w: %s: %s%s", ErrCrashed, p.command.Path, p.proc.Status(), words)
}

// dial connects to the plugin, once: a lost connection is a lost plugin.
func (p *process) dial(ctx context.Context, _ string) (net.Conn, error) {
	p.mu.Lock()
	address := p.address
	p.address = ""
	p.mu.Unlock()
	if address == "" {
		return nil, errors.New("connected before")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn, p.command.User); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Stdout implements [runner.Runner].
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr implements [runner.Runner].
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Name implements [runner.Runner].
func (p *process) Name() string { return p.command.Path }

// ID implements [runner.Runner].
func (p *process) ID() string { return "plugin" }

// Diagnose implements [runner.Runner].
func (p *process) Diagnose(context.Context) string { return "" }

// Wait implements [runner.Runner].
func (p *process) Wait(context.Context) error {
	<-p.ended
	return nil
}

// Kill implements [runner.Runner].
func (p *process) Kill(context.Context) error {
	p.kill()
	return nil
}

// PluginToHost implements [runner.Runner].
func (p *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements [runner.Runner].
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
