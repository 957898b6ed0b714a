package plugins

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/sandbox"
)

// Config says which plugin to open, and what it may do.
type Config struct {
	// Path is the plugin's file: an executable, or a script that begins with
	// #!. On Linux it runs from a copy in memory: what else it needs it has to
	// find otherwise than beside itself.
	Path string
	// SHA256 is the checksum that the file has to have, 64 hexadecimal digits.
	// If empty, it is what the file has when it is opened. Each time the plugin
	// starts again, the file has to have it still.
	SHA256 string
	// Env is added to the plugin's environment, which is empty but for what the
	// contract puts there. Each entry is NAME=VALUE.
	Env []string
	// User is the name or number of the user that the plugin runs as where the
	// host is root, "nobody" if empty; it cannot be root. Another host's plugins
	// run as the host's user, whatever this says.
	User string
	// Limits are what the plugin may use.
	Limits Limits
	// StartTimeout is how long the plugin may take to start, 10 s if 0.
	StartTimeout time.Duration
	// Timeout is how long the plugin may take to answer a request, 5 s if 0.
	Timeout time.Duration
	// RestartDelay is how long after its end the plugin is started again, 250 ms
	// if 0. It doubles each time, up to MaxRestartDelay, 1 minute if 0, and
	// begins anew when the plugin ran for as long as that.
	RestartDelay, MaxRestartDelay time.Duration
	// Logger gets what the plugin prints, at most 1 KiB of a line and 5 lines a
	// second after the first 20, and when it starts and ends. Nil is silence.
	Logger *slog.Logger
}

// Limits are what a plugin's process may use, on Linux. Of each, 0 is the
// default and a negative value no limit. Files it cannot write at all, and it
// leaves no core dump.
type Limits struct {
	// Memory is how much memory it may write to, in bytes, 512 MiB by default. Its
	// address space may be 4 GiB larger, for what runtimes put aside.
	Memory int64
	// OpenFiles is how many files it may have open, 256 by default.
	OpenFiles int
	// Processes is how many processes and threads its user may have when it
	// starts one more, 512 by default.
	Processes int
	// CPU is how much processor time it may use before it is killed, in whole
	// seconds; by default there is no limit.
	CPU time.Duration
}

const (
	defaultMemory    = 512 << 20
	moreAddressSpace = 4 << 30
	defaultFiles     = 256
	defaultProcesses = 512
	// maxProgram is how large a plugin's file may be, in bytes.
	maxProgram = 512 << 20
)

// settle returns the limits with defaults, where 0 is none.
func (l Limits) settle() sandbox.Limits {
	memory := max(0, cmp.Or(l.Memory, defaultMemory))
	s := sandbox.Limits{
		Memory:    memory,
		OpenFiles: max(0, cmp.Or(l.OpenFiles, defaultFiles)),
		Processes: max(0, cmp.Or(l.Processes, defaultProcesses)),
		CPU:       max(0, l.CPU),
	}
	if memory > 0 {
		s.AddressSpace = memory + moreAddressSpace
	}
	return s
}

// settle returns the configuration with defaults, and checks it.
func (c Config) settle() (Config, *sandbox.User, error) {
	sum, err := hex.DecodeString(c.SHA256)
	if c.SHA256 != "" && (err != nil || len(sum) != 32) {
		return c, nil, fmt.Errorf("%w: checksum %.80q, want 64 hexadecimal digits", ErrStart, c.SHA256)
	}
	if c.SHA256 != "" {
		c.SHA256 = hex.EncodeToString(sum) // in lower case
	}
	for _, e := range c.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || strings.Contains(e, "\x00") {
			return c, nil, fmt.Errorf("%w: environment %.80q, want NAME=VALUE", ErrStart, e)
		}
	}
	for _, d := range []time.Duration{c.StartTimeout, c.Timeout, c.RestartDelay, c.MaxRestartDelay} {
		if d < 0 {
			return c, nil, fmt.Errorf("%w: negative time %v", ErrStart, d)
		}
	}
	c.StartTimeout = cmp.Or(c.StartTimeout, 10*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.RestartDelay = cmp.Or(c.RestartDelay, 250*time.Millisecond)
	c.MaxRestartDelay = max(cmp.Or(c.MaxRestartDelay, time.Minute), c.RestartDelay)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Path, err = filepath.Abs(c.Path); err != nil {
		return c, nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	if err := Supported(); err != nil {
		return c, nil, err
	}
	if os.Geteuid() != 0 {
		return c, nil, nil
	}
	user, err := sandbox.LookupUser(cmp.Or(c.User, "nobody"))
	if err != nil {
		return c, nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	return c, user, nil
}

// Supported says why no plugin can be started here, with [ErrStart]: the host is
// root and may not become another user, as in some containers. It returns nil
// if nothing is known to be in the way.
func Supported() error {
	if err := sandbox.Supported(); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	return nil
}
