//go:build unix

package plugins_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// config is that of a plugin which is this binary in a mode, and of which
// nothing may be left when the test ends. Without a test it is for a process
// that a test started.
func config(t testing.TB, mode string, env ...string) plugins.Config {
	c := plugins.Config{
		Path: os.Getenv("PLUGIN"), Env: append([]string{"MODE=" + mode}, env...),
		RestartDelay: 20 * time.Millisecond, MaxRestartDelay: 80 * time.Millisecond,
	}
	if raceEnabled { // which puts terabytes of addresses aside, and sleeps in the end
		c.Limits.Memory = -1
		c.Env = append(c.Env, "GORACE=atexit_sleep_ms=0")
	}
	if t != nil {
		m := mark(fmt.Sprintf("%s/%d,", t.Name(), configs.Add(1)))
		c.Env = append(c.Env, m)
		t.Cleanup(func() { require.Empty(t, running(m)) })
	}
	return c
}

var configs atomic.Int32

// open opens a plugin for a test.
func open(t testing.TB, c plugins.Config) *plugins.Plugin {
	t.Helper()
	p, err := plugins.Open(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// refused makes sure that a plugin cannot be opened.
func refused(t *testing.T, c plugins.Config) error {
	t.Helper()
	_, err := plugins.Open(t.Context(), c)
	require.ErrorIs(t, err, probe.ErrProber)
	return err
}

func probeTo(port uint16) *probe.Probe {
	return &probe.Probe{
		ID: 7, Key: probe.Key{1, 2, 3}, DstPort: port, TTL: 5,
		Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.1"),
	}
}

// works makes sure that a plugin builds as the built-in prober does.
func works(t testing.TB, p probe.Prober) {
	t.Helper()
	want, err := udp.Prober{}.Build(nil, probeTo(fine))
	require.NoError(t, err)
	got, err := p.Build(nil, probeTo(fine))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// journal is a logger that hands out what is logged.
type journal struct {
	mu      sync.Mutex
	records []string
	added   chan struct{}
}

func newJournal() *journal { return &journal{added: make(chan struct{}, 1)} }

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	j.records = append(j.records, string(b))
	j.mu.Unlock()
	select {
	case j.added <- struct{}{}:
	default:
	}
	return len(b), nil
}

// find waits until enough of what was logged holds what is wanted.
func (j *journal) find(t testing.TB, times int, want func(record string) bool) []string {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		var found []string
		j.mu.Lock()
		for _, r := range j.records {
			if want(r) {
				found = append(found, r)
			}
		}
		all := j.records
		j.mu.Unlock()
		if len(found) >= times {
			return found
		}
		select {
		case <-j.added:
		case <-timeout:
			require.FailNow(t, "not logged", "%q", all)
		}
	}
}

// restarted waits until a plugin runs again that was started with a journal.
func (j *journal) restarted(t testing.TB, times int) {
	t.Helper()
	j.find(t, times+1, func(r string) bool { return contains(r, `msg="plugin runs"`) })
}

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
