package plugins

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
)

const (
	maxLogged  = 1024    // bytes of a line
	logBurst   = 20      // lines
	logRate    = 5       // lines a second after that
	readRate   = 1 << 20 // bytes a second, so that a flood costs the plugin's time
	readBurst  = 1 << 18
	longestRow = 16 << 10 // bytes of a line that may be a handshake
	lastWords  = 3        // lines kept for the error of a crash
)

// output logs what a plugin prints, whatever that is.
type output struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	tokens  float64
	filled  time.Time
	skipped int
	words   []string // of standard error
	final   bool     // the words say why it will crash
}

func newOutput(log *slog.Logger) *output {
	return &output{log: log, tokens: logBurst, filled: time.Now()}
}

// readAll reads until the end, or an error. Lines that take says it takes are
// not logged; nil takes none.
func (o *output) readAll(stream string, r io.Reader, take func(line string) bool) {
	lines := bufio.NewReaderSize(&slow{r: r, allowance: readBurst, filled: time.Now()}, longestRow)
	for {
		line, err := lines.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		if len(line) > 0 && (long || take == nil || !take(string(bytes.TrimRight(line, "\r\n")))) {
			o.print(stream, line)
		}
		for long { // of which the rest is left out
			_, err = lines.ReadSlice('\n')
			long = errors.Is(err, bufio.ErrBufferFull)
		}
		if err != nil {
			return
		}
	}
}

// print logs a line, unless there are too many.
func (o *output) print(stream string, b []byte) {
	line := contract.Line(strings.TrimRight(string(b[:min(len(b), maxLogged)]), "\r\n"), maxLogged)
	o.mu.Lock()
	if stream == "stderr" {
		o.keep(line)
	}
	now := time.Now()
	o.tokens = min(logBurst, o.tokens+now.Sub(o.filled).Seconds()*logRate)
	o.filled = now
	if o.tokens < 1 {
		o.skipped++
		o.mu.Unlock()
		return
	}
	o.tokens--
	skipped := o.skipped
	o.skipped = 0
	o.mu.Unlock()
	if skipped > 0 {
		o.log.Warn("plugin prints too much", "lines", skipped)
	}
	o.log.Info("plugin prints", "stream", stream, "line", line)
}

// goodbye is how a Go program begins to say why it crashes.
var goodbye = regexp.MustCompile(`^(panic|fatal error|SIG[A-Z]+): `)

// keep remembers a line as one of the last words. Go says why it crashes before
// it says where, most others say it last.
func (o *output) keep(line string) {
	switch {
	case line == "" || o.final:
		return
	case goodbye.MatchString(line):
		o.words, o.final = nil, true
	case len(o.words) == lastWords:
		o.words = append(o.words[:0], o.words[1:]...)
	}
	o.words = append(o.words, line)
}

// last returns what the plugin last had to say, for an error.
func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return contract.Line(strings.Join(o.words, " / "), 1000)
}

// slow reads at no more than readRate in the long run.
type slow struct {
	r         io.Reader
	allowance float64 // bytes that may be read at once
	filled    time.Time
}

func (s *slow) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	now := time.Now()
	s.allowance = min(readBurst, s.allowance+now.Sub(s.filled).Seconds()*readRate) - float64(n)
	s.filled = now
	if s.allowance < 0 {
		time.Sleep(time.Duration(-s.allowance / readRate * float64(time.Second)))
	}
	return n, err
}
