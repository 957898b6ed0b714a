//go:build unix

package plugins_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

var contains = strings.Contains

// A plugin whose process ends is started again, and nobody else notices.
func TestCrash(t *testing.T) {
	for name, tt := range map[string]struct {
		port uint16
		want string
	}{
		"panic":    {crash, ": exit status 2: panic: boom"},
		"segfault": {segfault, ": exit status 2: SIGSEGV: segmentation violation"},
		"exit":     {exit, ": exit status 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJournal()
			c := config(t, "faulty")
			c.Logger = j.logger()
			p, other := open(t, c), open(t, config(t, "faulty"))
			works(t, p)
			pid := p.State().PID

			_, err := p.Build(nil, probeTo(tt.port))
			require.ErrorIs(t, err, plugins.ErrCrashed)
			require.ErrorIs(t, err, probe.ErrProber)
			require.NotErrorIs(t, err, probe.ErrProbe)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "\x1b")
			works(t, other)

			j.restarted(t, 1)
			works(t, p)
			state := p.State()
			require.True(t, state.Running)
			require.NotEqual(t, pid, state.PID)
			require.Equal(t, 1, state.Restarts)
			require.ErrorIs(t, state.Err, plugins.ErrCrashed)
			require.Zero(t, other.State().Restarts)
		})
	}
}

// All calls at the time of a crash fail, and until the next start.
func TestCrashAmidCalls(t *testing.T) {
	t.Parallel()
	c := config(t, "faulty")
	c.RestartDelay = time.Hour
	p := open(t, c)
	errs := make(chan error)
	for range 4 {
		go func() {
			for {
				if _, err := p.Build(nil, probeTo(fine)); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	_, err := p.Build(nil, probeTo(crash))
	require.ErrorIs(t, err, plugins.ErrCrashed)
	for range 4 {
		require.ErrorIs(t, <-errs, plugins.ErrCrashed)
	}
	_, err = p.Build(nil, probeTo(fine))
	require.ErrorIs(t, err, plugins.ErrCrashed)
	var a probe.Answer
	require.False(t, p.Match([]byte{1}, &a))
	_, err = p.With(nil)
	require.ErrorIs(t, err, plugins.ErrCrashed)
}

func TestHang(t *testing.T) {
	t.Parallel()
	j := newJournal()
	c := config(t, "faulty")
	c.Timeout, c.Logger = 200*time.Millisecond, j.logger()
	p := open(t, c)

	// Who asks can give up before.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	began := time.Now()
	err := p.BuildAll(ctx, []probe.Probe{*probeTo(hang)}, make([]probe.Built, 1))
	require.ErrorIs(t, err, probe.ErrProber)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), 150*time.Millisecond)
	works(t, p) // the other worker still does

	_, err = p.Build(nil, probeTo(hang))
	require.ErrorIs(t, err, plugins.ErrTimeout)
	require.EqualError(t, err, "prober failed: plugin does not answer: udp: no answer to a request in 200ms")
	j.restarted(t, 1)
	works(t, p)
}

// The time that a plugin has is for each request anew.
func TestTimeoutIsOfARequest(t *testing.T) {
	t.Parallel()
	c := config(t, "udp")
	c.Timeout = 600 * time.Millisecond
	p := open(t, c)
	for began := time.Now(); time.Since(began) < 5*c.Timeout/4; {
		works(t, p)
	}
	require.Zero(t, p.State().Restarts)
}

// A plugin that answers late, when nobody waits any more, did nothing wrong.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "faulty"))
	cause := errors.New("the user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	err := p.BuildAll(ctx, []probe.Probe{*probeTo(late)}, make([]probe.Built, 1))
	require.ErrorIs(t, err, probe.ErrProber)
	require.ErrorIs(t, err, cause)
	for range 300 { // longer than that takes
		works(t, p)
	}
	_, err = p.Build(nil, probeTo(late))
	require.NoError(t, err)
	require.Zero(t, p.State().Restarts)
}

// What a plugin builds for a probe is an error of that probe alone, if it is
// not what was asked for.
func TestWrongDatagrams(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "faulty"))
	wrong := map[uint16]string{
		spoof:     "wrong datagram: source 192.0.2.2, want 192.0.2.1",
		elsewhere: "wrong datagram: destination 198.51.100.2, want 198.51.100.1",
		another:   "wrong datagram: identification 0x0008, want 0x0007",
		nothing:   "probe cannot be built: the prober built nothing, and gave no reason",
		shrink:    "probe cannot be built: the prober built nothing, and gave no reason",
		grow:      "probe cannot be built: the prober built 3060 bytes, want 1500 at most where no size is asked for",
	}
	var ps []probe.Probe
	for port := range wrong {
		ps = append(ps, *probeTo(fine), *probeTo(port))
	}
	out := make([]probe.Built, len(ps))
	require.NoError(t, p.BuildAll(t.Context(), ps, out))
	for i := range ps {
		if ps[i].DstPort == fine {
			require.NoError(t, out[i].Err)
			continue
		}
		require.ErrorIs(t, out[i].Err, probe.ErrProbe)
		require.NotErrorIs(t, out[i].Err, probe.ErrProber)
		require.ErrorContains(t, out[i].Err, wrong[ps[i].DstPort])
		require.Nil(t, out[i].Data)
	}
	require.ErrorIs(t, func() error { _, err := p.Build(nil, probeTo(spoof)); return err }(), plugins.ErrDatagram)
	require.Zero(t, p.State().Restarts)
}

// A plugin that breaks the contract is killed and started again.
func TestBrokenContract(t *testing.T) {
	build := func(p *plugins.Plugin) error { _, err := p.Build(nil, probeTo(fine)); return err }
	match := func(p *plugins.Plugin) error {
		b, err := udp.Prober{}.Build(nil, probeTo(fine))
		if err != nil {
			return err
		}
		return p.MatchAll(context.Background(), probetest.DirectAnswers(b)[:1], make([]probe.Matched, 1))
	}
	set := func(p *plugins.Plugin) error { _, err := p.With(nil); return err }
	for session, tt := range map[string]struct {
		ask  func(p *plugins.Plugin) error
		want error
		text string
	}{
		"no answer":  {build, plugins.ErrTimeout, "raw: no answer to a request in 300ms"},
		"ends":       {build, plugins.ErrProtocol, "raw: it ended the session and did not exit"},
		"error":      {build, plugins.ErrCrashed, "raw: the session ended: out of luck"},
		"unasked":    {build, plugins.ErrProtocol, "raw: an answer to request 2, which is not open"},
		"empty":      {build, plugins.ErrProtocol, "raw: another answer than that to a build"},
		"checked":    {match, plugins.ErrProtocol, "raw: another answer than that to a match"},
		"built":      {build, plugins.ErrProtocol, "raw: malformed message: 0 datagrams for 1 probes"},
		"built more": {build, plugins.ErrProtocol, "raw: malformed message: 2 datagrams for 1 probes"},
		"built past": {build, plugins.ErrProtocol, "raw: malformed message: the lengths are of more bytes than there are"},
		"oversized":  {build, plugins.ErrProtocol, "received message larger than max"},
		"garbage":    {build, plugins.ErrProtocol, "cannot parse invalid wire-format data"},
		"flood":      {build, plugins.ErrProtocol, "raw: an answer to request 1099511627776, which is not open"},
		"matched":    {match, plugins.ErrProtocol, "raw: malformed message: an answer to datagram 1"},
		"matched ID": {match, plugins.ErrProtocol, "raw: malformed message: identifier 0"},
		"bits":       {match, plugins.ErrProtocol, "raw: malformed message: 65 bits of a tag"},
		"matched/2":  {set, plugins.ErrProtocol, "raw: another answer than that to a check"},
	} {
		t.Run(session, func(t *testing.T) {
			t.Parallel()
			j := newJournal()
			session, _, _ := strings.Cut(session, "/")
			c := config(t, "raw", "SESSION="+session)
			c.Timeout, c.Logger = 300*time.Millisecond, j.logger()
			p := open(t, c)
			err := tt.ask(p)
			require.ErrorIs(t, err, tt.want)
			require.ErrorIs(t, err, probe.ErrProber)
			require.ErrorContains(t, err, tt.text)
			j.restarted(t, 1)
		})
	}
}

func TestAnswerTwice(t *testing.T) {
	t.Parallel()
	j := newJournal()
	c := config(t, "raw", "SESSION=twice")
	c.Logger = j.logger()
	p := open(t, c)
	_, err := p.Build(nil, probeTo(fine))
	require.Error(t, err)
	j.find(t, 1, func(r string) bool { return contains(r, "an answer to request 1, which is not open") })
	j.restarted(t, 1)
}

// What a plugin says of itself that it cannot do, it is not killed for.
func TestFailure(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "raw", "SESSION=failure"))
	_, err := p.Build(nil, probeTo(fine))
	require.ErrorIs(t, err, plugins.ErrFailed)
	require.EqualError(t, err, "prober failed: plugin failed: raw: no.[31m luck")
	require.True(t, p.State().Running)

	b := open(t, config(t, "batcher"))
	works(t, b)
	_, err = b.Build(nil, probeTo(99))
	require.ErrorIs(t, err, plugins.ErrFailed)
	require.ErrorContains(t, err, "the database is gone")
	works(t, b)
}

// A plugin that does not get ready is an error that says why.
func TestNotReady(t *testing.T) {
	for how, tt := range map[string]struct {
		want error
		text string
	}{
		"silent":     {plugins.ErrTimeout, ": not ready in 150ms"},
		"talking":    {plugins.ErrTimeout, ": not ready in 150ms"},
		"no accept":  {plugins.ErrTimeout, ": not ready in 150ms"},
		"no speech":  {plugins.ErrTimeout, ": not ready in 150ms"},
		"netrpc":     {plugins.ErrProtocol, `protocol "netrpc", want grpc`},
		"core":       {plugins.ErrVersion, `the handshake is of version "2", this host knows 1`},
		"no TLS":     {plugins.ErrProtocol, "no certificate"},
		"short":      {plugins.ErrProtocol, "4 fields, want 6"},
		"elsewhere":  {plugins.ErrProtocol, `it listens on "/run/other.sock", want a socket in `},
		"tcp":        {plugins.ErrProtocol, `network "tcp", want unix`},
		"no socket":  {plugins.ErrProtocol, "no such file or directory"},
		"hangs up":   {plugins.ErrProtocol, "connection"},
		"nonsense":   {plugins.ErrProtocol, "first record does not look like a TLS handshake"},
		"no service": {plugins.ErrProtocol, "unknown service voltadomar.plugin.v1.Plugin"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := config(t, "unready", "HOW="+how)
			if errors.Is(tt.want, plugins.ErrTimeout) {
				c.StartTimeout = 150 * time.Millisecond
			}
			err := refused(t, c)
			require.ErrorIs(t, err, tt.want)
			require.ErrorContains(t, err, tt.text)
		})
	}
	for session, want := range map[string]string{
		"silent":          "plugin does not answer: ",
		"no description":  "the first message is no description",
		"bad name":        `name "\x1b[31m": must be`,
		"refused session": "not today.[31m",
	} {
		t.Run(session, func(t *testing.T) {
			t.Parallel()
			c := config(t, "raw", "SESSION="+session)
			if session == "silent" {
				c.StartTimeout = 150 * time.Millisecond
			}
			require.ErrorContains(t, refused(t, c), want)
		})
	}
	t.Run("ends", func(t *testing.T) {
		t.Parallel()
		err := refused(t, config(t, "ephemeral"))
		require.ErrorIs(t, err, plugins.ErrCrashed)
		require.ErrorContains(t, err, ": exit status 3: no configuration")
	})
	t.Run("no plugin", func(t *testing.T) {
		t.Parallel()
		err := refused(t, config(t, "unnamed"))
		require.ErrorIs(t, err, plugins.ErrCrashed)
		require.ErrorContains(t, err, `name "No Name": must be`)
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := plugins.Open(ctx, config(t, "unready", "HOW=silent"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, probe.ErrProber)
	})
}

func TestVersion(t *testing.T) {
	t.Parallel()
	err := refused(t, config(t, "version", "SPEAK=7"))
	require.ErrorIs(t, err, plugins.ErrVersion)
	require.ErrorContains(t, err, "the plugin speaks version 7, this host 1: build the plugin anew, or run another version of the agent")
}

// Junk before the handshake is no reason not to start, and its like later on no
// reason to stop.
func TestJunk(t *testing.T) {
	t.Parallel()
	j := newJournal()
	c := config(t, "unruly")
	c.Logger = j.logger()
	works(t, open(t, c))
	j.find(t, 2, func(r string) bool { return contains(r, `@message`) })

	j = newJournal()
	c = config(t, "faulty")
	c.Logger = j.logger()
	p := open(t, c)
	_, err := p.Build(nil, probeTo(print))
	require.NoError(t, err)
	j.find(t, 1, func(r string) bool { return contains(r, `stream=stdout line="on stdout .[2J"`) })
	for _, r := range j.find(t, 1, func(r string) bool { return contains(r, "stream=stderr line=\"on stderr xxx") }) {
		require.Less(t, len(r), 1400)
	}
	j.find(t, 2, func(r string) bool { return contains(r, `{\"@message\":1}`) })
	works(t, p)
}

// A plugin that prints without end has its own time wasted, nobody else's.
func TestFlood(t *testing.T) {
	t.Parallel()
	j := newJournal()
	c := config(t, "faulty")
	c.Logger = j.logger()
	p := open(t, c)
	_, err := p.Build(nil, probeTo(flood))
	require.NoError(t, err)
	for range 200 {
		works(t, p)
	}
	j.find(t, 1, func(r string) bool { return contains(r, "plugin prints too much") })
	j.mu.Lock()
	defer j.mu.Unlock()
	require.Less(t, len(j.records), 200)
}

// A plugin cannot use more memory than it may.
func TestHungry(t *testing.T) {
	if runtime.GOOS != "linux" || raceEnabled {
		t.Skip("limits are Linux's, and the race detector's need of memory has none")
	}
	t.Parallel()
	c := config(t, "faulty")
	c.Limits.Memory = 400 << 20
	p := open(t, c)
	_, err := p.Build(nil, probeTo(eat))
	require.ErrorIs(t, err, plugins.ErrCrashed)
	require.ErrorContains(t, err, "out of memory")
}

// What the plugin's file is, it has to stay.
func TestReplacedFile(t *testing.T) {
	t.Parallel()
	binary, err := os.ReadFile(config(t, "").Path)
	require.NoError(t, err)
	j := newJournal()
	c := config(t, "faulty")
	c.Path, c.Logger = filepath.Join(t.TempDir(), "plugin"), j.logger()
	require.NoError(t, os.WriteFile(c.Path, binary, 0o755))
	p := open(t, c)

	replace := func(content []byte) {
		require.NoError(t, os.WriteFile(c.Path+".new", content, 0o755))
		require.NoError(t, os.Rename(c.Path+".new", c.Path))
	}
	replace(append([]byte("#!/bin/sh\nexec evil\n"), binary...))
	works(t, p) // the one that was checked still runs
	_, err = p.Build(nil, probeTo(crash))
	require.ErrorIs(t, err, plugins.ErrCrashed)
	failures := j.find(t, 5, func(r string) bool { return contains(r, "another checksum") })
	for i, least := range []time.Duration{40, 80, 80, 80} { // each twice as long as the one before, up to the longest
		require.GreaterOrEqual(t, logged(t, failures[i+1]).Sub(logged(t, failures[i])), (least-1)*time.Millisecond)
	}
	_, err = p.Build(nil, probeTo(fine))
	require.ErrorIs(t, err, plugins.ErrChecksum)
	require.ErrorContains(t, err, ", want "+checksum(binary))
	require.False(t, p.State().Running)
	require.GreaterOrEqual(t, p.State().Restarts, 2)

	require.NoError(t, os.Remove(c.Path))
	j.find(t, 1, func(r string) bool { return contains(r, "no such file") })
	replace(binary)
	j.restarted(t, 1)
	works(t, p)
}

// logged returns when a record was.
func logged(t *testing.T, record string) time.Time {
	t.Helper()
	text, _, _ := strings.Cut(strings.TrimPrefix(record, "time="), " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	return at
}

// A type is the same for as long as it is open.
func TestChangedDescription(t *testing.T) {
	t.Parallel()
	j := newJournal()
	c := config(t, "raw", "SESSION=changing")
	c.Logger = j.logger()
	p := open(t, c)
	help := p.Help()
	_, err := p.Build(nil, probeTo(fine))
	require.ErrorIs(t, err, plugins.ErrCrashed)
	j.find(t, 1, func(r string) bool { return contains(r, "the plugin described itself otherwise before") })
	require.Equal(t, help, p.Help())
	_, err = p.Build(nil, probeTo(fine))
	require.ErrorIs(t, err, plugins.ErrProtocol)
}
