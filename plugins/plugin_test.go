//go:build unix

package plugins_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

func TestDescribed(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "hello"))
	want := probe.Describe(udp.Carry(hello{}))
	want.Remote = true
	require.Equal(t, want, probe.Describe(p))
	p.Options()[0].Name = "changed"
	require.Equal(t, want, probe.Describe(p))
	require.Equal(t, "a plugin that does not say what it measures", open(t, config(t, "tcp")).Help())
}

func TestOptions(t *testing.T) {
	t.Parallel()
	j := newJournal()
	c := config(t, "hello")
	c.Logger = j.logger()
	p := open(t, c)
	set := func(values map[string]string) (probe.Prober, error) { return p.With(values) }

	for _, tt := range []struct {
		values map[string]string
		want   probe.OptionError
	}{
		{map[string]string{"loud": "true"}, probe.OptionError{Name: "loud", Value: "true", Want: "must be one of word, times"}},
		{map[string]string{"times": "x"}, probe.OptionError{Name: "times", Value: "x", Want: "must be a whole number"}},
		{map[string]string{"times": "10"}, probe.OptionError{Name: "times", Value: "10", Want: "must be 1 to 9"}},
		{map[string]string{"word": "\xff"}, probe.OptionError{Name: "word", Value: "\xff", Want: "must be text of at most 255 bytes"}},
		{map[string]string{"word": strings.Repeat("x", 256)}, probe.OptionError{Name: "word", Value: strings.Repeat("x", 256), Want: "must be text of at most 255 bytes"}},
	} {
		_, err := set(tt.values)
		require.Equal(t, &tt.want, err)
	}

	values := map[string]string{"word": "hi ", "times": "3"}
	loud, err := set(values)
	require.NoError(t, err)
	values["word"] = "changed"
	inprocess, err := hello{}.With(map[string]string{"word": "hi ", "times": "3"})
	require.NoError(t, err)
	again := func() {
		t.Helper()
		want, err := udp.Carry(inprocess).Build(nil, probeTo(7))
		require.NoError(t, err)
		got, err := loud.Build(nil, probeTo(0))
		require.NoError(t, err)
		require.Equal(t, want, got)
		var a probe.Answer
		require.True(t, loud.Match(probetest.DirectAnswers(got)[0], &a))
		require.Equal(t, []probe.Value{{Name: "heard", Text: "hi hi hi "}}, a.Values)
		require.True(t, a.Verified(&probeTo(0).Key, 7))
		plain, err := p.Build(nil, probeTo(7))
		require.NoError(t, err)
		require.Contains(t, string(plain), "hello")
	}
	again()
	kill(t, p)
	j.restarted(t, 1)
	again() // as it was set

	// Values may bring another port with them.
	ported, err := set(map[string]string{"word": "port"})
	require.NoError(t, err)
	require.Equal(t, uint16(1234), ported.(probe.Porter).DefaultPort())
	require.Equal(t, uint16(7), p.DefaultPort())
	b, err := ported.Build(nil, probeTo(0))
	require.NoError(t, err)
	require.Equal(t, []byte{1234 >> 8, 1234 & 0xFF}, b[22:24])

	none := open(t, config(t, "udp"))
	plain, err := none.With(nil)
	require.NoError(t, err)
	works(t, plain)
	_, err = none.With(map[string]string{"a": "b"})
	require.EqualError(t, err, `option "a": "b": there are no options`)
}

// What is to another port than probes come from, a plugin cannot make an answer.
func TestOtherPorts(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "greedy"))
	b, err := udp.Prober{}.Build(nil, probeTo(fine))
	require.NoError(t, err)
	mine := probetest.DirectAnswers(b)[0]
	other := bytes.Clone(mine)
	other[22], other[23] = 0, 53
	out := make([]probe.Matched, 3)
	require.NoError(t, p.MatchAll(t.Context(), [][]byte{other, mine, other}, out))
	require.Zero(t, out[0])
	require.True(t, out[1].OK)
	require.Zero(t, out[2])
}

// kill kills a plugin's process as somebody else might.
func kill(t *testing.T, p *plugins.Plugin) {
	t.Helper()
	process, err := os.FindProcess(p.State().PID)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
}

// More settings than a plugin keeps do it no harm.
func TestManySettings(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "hello"))
	var settings []map[string]string
	for i := range 200 {
		word := fmt.Sprint("w", i)
		settings = append(settings, map[string]string{"word": word})
		set, err := p.With(settings[i])
		require.NoError(t, err)
		b, err := set.Build(nil, probeTo(7))
		require.NoError(t, err)
		require.Contains(t, string(b), word)
	}
	kept, err := plugins.Kept(udp.Carry(hello{}), settings)
	require.NoError(t, err)
	require.LessOrEqual(t, kept, 64)
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	p := open(t, config(t, "udp"))
	var wg sync.WaitGroup
	errs := make(chan error, 20)
	for i := range cap(errs) {
		wg.Go(func() {
			ps := sweep(1500, i%2 == 0, i%3 == 0)
			for k := range ps {
				ps[k].Key[5] = byte(i)
			}
			built, matched := make([]probe.Built, len(ps)), make([]probe.Matched, len(ps))
			answers := make([][]byte, len(ps))
			err := p.BuildAll(context.Background(), ps, built)
			for k := range built {
				if err == nil {
					err = built[k].Err
				}
				if err == nil {
					answers[k] = probetest.DirectAnswers(built[k].Data)[0]
				}
			}
			if err == nil {
				err = p.MatchAll(context.Background(), answers, matched)
			}
			for k := range matched {
				if a := &matched[k].Answer; err == nil && (!matched[k].OK || !a.Verified(&ps[k].Key, ps[k].ID)) {
					err = fmt.Errorf("probe %d of %d: %+v", k, i, *a)
				}
			}
			errs <- err
		})
	}
	wg.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	p, err := plugins.Open(t.Context(), config(t, "faulty"))
	require.NoError(t, err)
	hung := make(chan error)
	go func() {
		_, err := p.Build(nil, probeTo(hang))
		hung <- err
	}()
	for len(hung) == 0 && p.State().Running {
		closed := make(chan error)
		for range 3 {
			go func() { closed <- p.Close() }()
		}
		for range 3 {
			require.NoError(t, <-closed)
		}
	}
	require.ErrorIs(t, <-hung, plugins.ErrClosed)
	require.NoError(t, p.Close())
	require.False(t, p.State().Running)
	_, err = p.Build(nil, probeTo(fine))
	require.ErrorIs(t, err, plugins.ErrClosed)
	require.EqualError(t, err, "prober failed: plugin is closed: udp")
	_, err = p.With(nil)
	require.ErrorIs(t, err, plugins.ErrClosed)

	// Neither does it start again if it was about to.
	c := config(t, "faulty")
	c.RestartDelay = time.Hour
	p, err = plugins.Open(t.Context(), c)
	require.NoError(t, err)
	_, err = p.Build(nil, probeTo(crash))
	require.ErrorIs(t, err, plugins.ErrCrashed)
	require.NoError(t, p.Close())
}

func TestWrongConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte("hello\n"), 0o644))
	script := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("hello\n"), 0o755))
	good := config(nil, "udp")
	for _, tt := range []struct {
		edit func(c *plugins.Config)
		want error
		text string
	}{
		{func(c *plugins.Config) { c.Path = filepath.Join(dir, "none") }, plugins.ErrStart, "no such file or directory"},
		{func(c *plugins.Config) { c.Path = dir }, plugins.ErrStart, dir + " is no file"},
		{func(c *plugins.Config) { c.Path = text }, plugins.ErrStart, text + " is not executable"},
		{func(c *plugins.Config) { c.Path = script }, plugins.ErrStart, script + ": exec format error"},
		{func(c *plugins.Config) { c.SHA256 = "abc" }, plugins.ErrStart, `checksum "abc", want 64 hexadecimal digits`},
		{func(c *plugins.Config) { c.SHA256 = strings.Repeat("0", 63) + "x" }, plugins.ErrStart, "want 64 hexadecimal digits"},
		{func(c *plugins.Config) { c.SHA256 = strings.Repeat("0", 64) }, plugins.ErrChecksum, "want 0000000000"},
		{func(c *plugins.Config) { c.Timeout = -1 }, plugins.ErrStart, "negative time -1ns"},
		{func(c *plugins.Config) { c.Env = []string{"HOME"} }, plugins.ErrStart, `environment "HOME", want NAME=VALUE`},
		{func(c *plugins.Config) { c.Env = []string{"A=\x00"} }, plugins.ErrStart, `environment "A=\x00", want NAME=VALUE`},
	} {
		c := good
		tt.edit(&c)
		_, err := plugins.Open(t.Context(), c)
		require.ErrorIs(t, err, tt.want)
		require.ErrorIs(t, err, probe.ErrProber)
		require.ErrorContains(t, err, tt.text)
	}
	if os.Geteuid() == 0 {
		for _, user := range []string{"root", "0", "no such user"} {
			c := good
			c.User = user
			_, err := plugins.Open(t.Context(), c)
			require.ErrorIs(t, err, plugins.ErrStart)
			require.ErrorContains(t, err, ": want ")
		}
	}
	binary, err := os.ReadFile(good.Path)
	require.NoError(t, err)
	c := config(t, "udp")
	c.SHA256 = strings.ToUpper(checksum(binary))
	works(t, open(t, c))

	// An executable runs as a script does.
	c = config(t, "udp")
	c.Path, err = os.Executable()
	require.NoError(t, err)
	works(t, open(t, c))
}

// What killed hosts left is removed, but not what others still use.
func TestSweep(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	make := func(name string, at time.Time) string {
		dir := filepath.Join(os.TempDir(), name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		require.NoError(t, os.WriteFile(filepath.Join(dir, "plugin1"), nil, 0o600))
		require.NoError(t, os.Chtimes(dir, at, at))
		return dir
	}
	left, young, foreign := make("voltadomar-plugin-1", long), make("voltadomar-plugin-2", time.Now()), make("plugin-dir3", long)
	used := make("voltadomar-plugin-4", long)
	lock, err := os.Open(used)
	require.NoError(t, err)
	defer lock.Close()
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	link := filepath.Join(os.TempDir(), "voltadomar-plugin-5")
	require.NoError(t, os.Symlink(foreign, link))
	defer os.Remove(link)
	times := []unix.Timeval{unix.NsecToTimeval(long.UnixNano()), unix.NsecToTimeval(long.UnixNano())}
	require.NoError(t, unix.Lutimes(link, times))

	open(t, config(t, "udp"))
	require.NoDirExists(t, left)
	for _, dir := range []string{young, foreign, used, link} {
		require.FileExists(t, filepath.Join(dir, "plugin1"))
	}
}

// Who runs a plugin by hand learns what it is for.
func TestByHand(t *testing.T) {
	t.Parallel()
	run := func(mode string) (string, error) {
		path, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(path)
		cmd.Env = []string{"MODE=" + mode}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err = cmd.Run()
		require.Empty(t, stdout.String())
		return stderr.String(), err
	}
	path, err := os.Executable()
	require.NoError(t, err)
	binary, err := os.ReadFile(path)
	require.NoError(t, err)
	text, err := run("hello")
	require.EqualError(t, err, "exit status 1")
	require.Equal(t, fmt.Sprintf(`This is the measurement type "hello", a plugin that agents run.
greets whoever is there

Give an agent the option
  --plugin %s,sha256=%s
and measure from it with
  -P hello [-o NAME=VALUE]...

Options:
  word=STRING  what to say (default hello)
  times=INT  how often, 1 to 9 (default 1)
`, path, checksum(binary)), text)
	text, err = run("unnamed")
	require.EqualError(t, err, "exit status 1")
	require.Equal(t, "wrong measurement type: name \"No Name\": must be 1 to 32 lower-case letters, digits or '-', a letter first\n", text)
	text, err = run("hopeless")
	require.EqualError(t, err, "exit status 1")
	require.Contains(t, text, "hopeless: it builds no probe from which its IP protocol could be seen, and has no method Protocol() uint8 that says it: ")

	p := open(t, config(t, "declared"))
	require.Equal(t, "hopeless", p.Name())
	_, err = p.Build(nil, probeTo(fine))
	require.EqualError(t, err, "probe cannot be built: not now")
}
