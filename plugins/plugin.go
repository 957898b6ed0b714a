package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/sandbox"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Plugin is a measurement type in a process of its own. It is a
// [probe.Prober], [probe.Batcher], [probe.Optioner], [probe.Describer] and
// [probe.Porter]. Its methods are safe for concurrent use.
//
// If the process ends, hangs or breaks the contract, all calls at that time
// fail, and so do others until it was started again; the errors are those of
// this package. What it builds is checked before it is returned, and so is
// what it says of answers. ICMP errors are read by the host alone, as any agent
// reads them.
type Plugin struct {
	prober
	c    Config
	user *sandbox.User
	log  *slog.Logger

	closing context.Context // ends when Close is called
	close   context.CancelFunc
	done    chan struct{} // closed when nothing is left
	stuck   error         // what is left all the same

	mu    sync.Mutex // guards what follows
	in    *instance  // nil when there is none
	state State
}

var _ interface {
	probe.Batcher
	probe.Optioner
	probe.Describer
	probe.Porter
} = (*Plugin)(nil)

// State is how a plugin does.
type State struct {
	Running bool
	PID     int // of the process, if Running
	// Restarts is how often it was started again, or that was tried.
	Restarts int
	// Err is why it last ended or did not start, nil if it never did.
	Err error
	// Next is when it will be started, if not Running.
	Next time.Time
	// Missing says, as people read it, what of its sandbox this host does not
	// allow; empty is nothing.
	Missing string
}

// Open starts a plugin. It returns when the plugin has said what it measures,
// or ctx ends. The error is one of this package's.
func Open(ctx context.Context, c Config) (*Plugin, error) {
	c, user, err := c.settle()
	if err != nil {
		return nil, err
	}
	p := &Plugin{c: c, user: user, log: c.Logger.With("plugin", c.Path), done: make(chan struct{})}
	p.p = p
	sweep()
	p.closing, p.close = context.WithCancel(context.Background())
	in, err := p.start(ctx)
	if err != nil {
		p.close()
		return nil, err
	}
	p.began(in)
	go p.supervise(in)
	return p, nil
}

// Close ends the plugin and waits until nothing of it is left. The process has
// a second to end by itself before it is killed, and then 5 seconds to die; the
// error, [ErrTimeout], says that it did not, as if the kernel held it.
func (p *Plugin) Close() error {
	p.close()
	<-p.done
	return p.stuck
}

// State returns how the plugin does at the moment.
func (p *Plugin) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// supervise owns the process: it starts another when one has ended.
func (p *Plugin) supervise(in *instance) {
	defer close(p.done)
	delay := p.c.RestartDelay
	for {
		if in != nil {
			began := time.Now()
			select {
			case <-in.done:
			case <-p.closing.Done():
			}
			err := in.end(p.closing.Err() != nil)
			p.ended(err)
			if !in.dead {
				p.stuck = fmt.Errorf("%w: process %d of %s does not die", ErrTimeout, in.proc.PID(), p.c.Path)
			}
			if time.Since(began) >= p.c.MaxRestartDelay {
				delay = p.c.RestartDelay
			}
		}
		if !p.pause(delay) {
			return
		}
		delay = min(2*delay, p.c.MaxRestartDelay)
		var err error
		if in, err = p.start(p.closing); err != nil {
			p.ended(err)
			continue
		}
		p.began(in)
	}
}

// pause waits before the plugin is started again. It reports false if it shall
// not be.
func (p *Plugin) pause(delay time.Duration) bool {
	if p.closing.Err() != nil {
		return false
	}
	p.mu.Lock()
	p.state.Next = time.Now().Add(delay)
	p.state.Restarts++
	p.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.closing.Done():
		return false
	}
}

func (p *Plugin) began(in *instance) {
	p.mu.Lock()
	p.in = in
	p.state.Running, p.state.PID, p.state.Missing, p.state.Next = true, in.proc.PID(), in.proc.Missing(), time.Time{}
	p.mu.Unlock()
	p.log.Info("plugin runs", "name", p.d.Name, "pid", in.proc.PID(), "missing", in.proc.Missing())
}

func (p *Plugin) ended(err error) {
	p.mu.Lock()
	p.in = nil
	p.state.Running, p.state.PID, p.state.Err = false, 0, err
	p.mu.Unlock()
	if p.closing.Err() == nil {
		p.log.Warn("plugin ended", "error", err)
	}
}

// current returns the running process, or why there is none.
func (p *Plugin) current() (*instance, error) {
	if p.closing.Err() != nil {
		return nil, fmt.Errorf("%w: %s", ErrClosed, p.d.Name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in == nil {
		return nil, fmt.Errorf("%w (it is started again)", p.state.Err)
	}
	return p.in, nil
}

// prober is a plugin with values of its options.
type prober struct {
	p      *Plugin
	d      *contract.Description // set once
	values map[string]string
	port   uint16
}

// Name is the plugin's measurement type.
func (pr *prober) Name() string { return pr.d.Name }

// Help is what the plugin says that it measures.
func (pr *prober) Help() string {
	if pr.d.Help == "" {
		return "a plugin that does not say what it measures"
	}
	return pr.d.Help
}

// DefaultPort is where probes go whose port is 0.
func (pr *prober) DefaultPort() uint16 { return pr.port }

// Options are those of the plugin's measurement type.
func (pr *prober) Options() []probe.Option {
	options := slices.Clone(pr.d.Options)
	for i := range options {
		options[i].Choices = slices.Clone(options[i].Choices)
	}
	return options
}

// With returns the plugin set to values, of which it keeps a copy. It is
// closed with the plugin. The error is a [*probe.OptionError], or one of this
// package's if the plugin could not be asked.
func (pr *prober) With(values map[string]string) (probe.Prober, error) {
	if _, err := probe.CheckOptions(pr.d.Options, values); err != nil {
		return nil, err
	}
	set := &prober{p: pr.p, d: pr.d, values: make(map[string]string, len(values))}
	for name, value := range values {
		if !utf8.ValidString(value) || len(value) > probe.MaxOptionValue {
			return nil, &probe.OptionError{Name: name, Value: value, Want: fmt.Sprintf("must be text of at most %d bytes", probe.MaxOptionValue)}
		}
		set.values[name] = value
	}
	if err := set.check(context.Background()); err != nil {
		return nil, err
	}
	return set, nil
}

// Build implements [probe.Prober] by way of BuildAll, which costs far less by
// the probe. The error is [probe.ErrProbe] or one of this package's.
func (pr *prober) Build(b []byte, p *probe.Probe) ([]byte, error) {
	var out [1]probe.Built
	if err := pr.BuildAll(context.Background(), []probe.Probe{*p}, out[:]); err != nil {
		return b, err
	}
	return append(b, out[0].Data...), out[0].Err
}

// Match implements [probe.Prober] by way of MatchAll. It reports false too
// where the plugin could not be asked.
func (pr *prober) Match(datagram []byte, a *probe.Answer) bool {
	var out [1]probe.Matched
	if err := pr.MatchAll(context.Background(), [][]byte{datagram}, out[:]); err != nil {
		out[0] = probe.Matched{}
	}
	*a = out[0].Answer
	return out[0].OK
}

// contextError is why a call gave up.
func contextError(ctx context.Context, name string) error {
	err := context.Cause(ctx)
	if errors.Is(err, probe.ErrProber) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", probe.ErrProber, name, err)
}
