package hostclock_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/internal/hostclock"
)

// What the test binary is told to do instead of testing.
const (
	role   = "VOLTADOMAR_TEST_HOSTCLOCK"
	gated  = "gated"  // ask for the name as soon as descriptor 3 ends
	parent = "parent" // have a child
	child  = "child"  // do nothing
)

// TestMain is also a process that says the clock's name and lives until its
// standard input ends.
func TestMain(m *testing.M) {
	as, ok := os.LookupEnv(role)
	if !ok {
		os.Exit(m.Run())
	}
	if as == gated {
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.NewFile(3, "gate"))
	}
	if as != child {
		name, err := hostclock.Name()
		again, _ := hostclock.Name()
		fmt.Printf("%s|%v|%v\n", name, err, again == name)
	}
	if as == parent {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env, cmd.Stdin = []string{role + "=" + child}, os.Stdin
		fmt.Println(cmd.Start())
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// process is one that holds the clock's name.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
}

func start(t testing.TB, tmp, as string, files ...*os.File) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"="+as, "TMPDIR="+tmp, "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	// Unlike one of cmd's, this pipe stays open for the child of a process that
	// has ended.
	in, stdin, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	cmd.Stdin = in
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{t, cmd, stdin, bufio.NewReader(stdout)}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	return p
}

func (p *process) line() string {
	p.t.Helper()
	s, err := p.stdout.ReadString('\n')
	require.NoError(p.t, err)
	return strings.TrimSpace(s)
}

// answer returns what the process was told.
func (p *process) answer() (name, err string) {
	p.t.Helper()
	fields := strings.Split(p.line(), "|")
	require.Len(p.t, fields, 3)
	require.Equal(p.t, "true", fields[2], "asked twice")
	return fields[0], fields[1]
}

// name returns the clock's name, which there must be.
func (p *process) name() string {
	p.t.Helper()
	name, err := p.answer()
	require.Equal(p.t, "<nil>", err)
	require.Regexp(p.t, "^host-[0-9a-f]{32}$", name)
	return name
}

// end ends the process in good order, kill does not.
func (p *process) end() {
	p.t.Helper()
	p.stdin.Close()
	require.NoError(p.t, p.cmd.Wait())
}

func (p *process) kill() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Kill())
	require.Error(p.t, p.cmd.Wait())
}

// tempDir is a temporary directory for processes, and where in it they meet.
func tempDir(t testing.TB) (tmp, dir string) {
	t.Helper()
	tmp = t.TempDir()
	dir = filepath.Join(tmp, "voltadomar-"+strconv.Itoa(os.Geteuid()))
	_, release, err := hostclock.Share(dir)
	if err != nil && strings.Contains(err.Error(), "file system") {
		t.Skip(err)
	}
	require.NoError(t, err)
	release()
	return tmp, dir
}

func TestLivesThatOverlapShareAName(t *testing.T) {
	tmp, _ := tempDir(t)
	a := start(t, tmp, "")
	name := a.name()
	b := start(t, tmp, "")
	require.Equal(t, name, b.name())
	a.end()
	c := start(t, tmp, "")
	require.Equal(t, name, c.name())
	b.kill()
	require.Equal(t, name, start(t, tmp, "").name())
}

func TestTheNextLifeHasAnotherName(t *testing.T) {
	tmp, _ := tempDir(t)
	seen := map[string]bool{}
	for i := range 4 {
		a, b := start(t, tmp, ""), start(t, tmp, "")
		name := a.name()
		require.Equal(t, name, b.name())
		require.NotContains(t, seen, name)
		seen[name] = true
		if i%2 == 0 {
			a.end()
			b.end()
		} else {
			b.kill()
			a.kill()
		}
	}
}

// A program that a process starts does not keep its name alive.
func TestChildrenHoldNothing(t *testing.T) {
	tmp, _ := tempDir(t)
	a := start(t, tmp, parent)
	name := a.name()
	require.Equal(t, "<nil>", a.line())
	a.kill() // the child lives until it gets no more input
	require.NotEqual(t, name, start(t, tmp, "").name())
}

func TestOtherTemporaryDirectoryOtherName(t *testing.T) {
	one, _ := tempDir(t)
	two, _ := tempDir(t)
	require.NotEqual(t, start(t, one, "").name(), start(t, two, "").name())
}

func TestOtherBootOtherName(t *testing.T) {
	name := hostclock.NameOf("a", "b")
	require.Equal(t, name, hostclock.NameOf("a\n", "b"))
	require.NotEqual(t, name, hostclock.NameOf("c", "b"))
	require.NotEqual(t, name, hostclock.NameOf("a", "c"))
}

// However many start at once, they have one name.
func TestManyStartAtOnce(t *testing.T) {
	tmp, dir := tempDir(t)
	for _, before := range []string{"nothing", "the token of another life"} {
		t.Run(before, func(t *testing.T) {
			if before == "nothing" {
				require.NoError(t, os.RemoveAll(dir))
			}
			gate, open, err := os.Pipe()
			require.NoError(t, err)
			defer gate.Close()
			defer open.Close()
			var all []*process
			for range 40 {
				all = append(all, start(t, tmp, gated, gate))
			}
			for _, p := range all {
				require.Equal(t, "ready", p.line())
			}
			open.Close()
			name := all[0].name()
			for _, p := range all[1:] {
				require.Equal(t, name, p.name())
			}
			for _, p := range all {
				p.end()
			}
			require.NotEqual(t, name, start(t, tmp, "").name())
		})
	}
}

// Whoever comes and goes: who is there has the same token, which was never
// that of others before.
func TestComingAndGoing(t *testing.T) {
	_, dir := tempDir(t)
	var (
		mu    sync.Mutex // guards all below
		there = map[int]string{}
		seen  = map[string]bool{}
		now   string // the token of those who are there
	)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 500 {
				token, release, err := hostclock.Share(dir)
				if !assertNo(t, err) {
					return
				}
				mu.Lock()
				if len(there) > 0 && token != now {
					t.Errorf("%s and %s at once", token, now)
				}
				if token != now && seen[token] {
					t.Errorf("%s has come back", token)
				}
				there[i], seen[token], now = token, true, token
				mu.Unlock()
				if r.IntN(3) == 0 {
					// Others may come meanwhile.
					_, again, err := hostclock.Share(dir)
					if !assertNo(t, err) {
						return
					}
					again()
				}
				mu.Lock()
				delete(there, i)
				mu.Unlock()
				release()
			}
		})
	}
	all.Wait()
	require.Greater(t, len(seen), 1, "nobody was ever alone")
}

func assertNo(t *testing.T, err error) bool {
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// What was left in the place of a token is not taken for one.
func TestGarbageIsReplaced(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 2)
	for name, garbage := range map[string]string{
		"nothing": "", "part of a token": hex[:7], "more": hex + "\n", "no token": strings.Repeat("é", 16), "much": strings.Repeat(hex, 1<<15), "an old token": hex,
	} {
		t.Run(name, func(t *testing.T) {
			_, dir := tempDir(t)
			file := filepath.Join(dir, "clock")
			require.NoError(t, os.WriteFile(file, []byte(garbage), 0o600))
			token, release, err := hostclock.Share(dir)
			require.NoError(t, err)
			defer release()
			require.Regexp(t, "^[0-9a-f]{32}$", token)
			require.NotEqual(t, garbage, token)
			again, release, err := hostclock.Share(dir)
			require.NoError(t, err)
			defer release()
			require.Equal(t, token, again)
		})
	}
}

// Who spoils the file keeps others from sharing a name, no more.
func TestSpoiltMeanwhile(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 2)
	for name, tt := range map[string]struct {
		spoil func(dir, file string) error
		fails bool
	}{
		"cut":             {func(_, file string) error { return os.Truncate(file, 0) }, true},
		"cut short":       {func(_, file string) error { return os.Truncate(file, 31) }, true},
		"written":         {func(_, file string) error { return os.WriteFile(file, []byte("something else"), 0o600) }, true},
		"another token":   {func(_, file string) error { return os.WriteFile(file, []byte(hex), 0o600) }, false},
		"removed":         {func(_, file string) error { return os.Remove(file) }, false},
		"all removed":     {func(dir, _ string) error { return os.RemoveAll(dir) }, false},
		"open to others":  {func(_, file string) error { return os.Chmod(file, 0o666) }, true}, //nolint:gosec // wrong on purpose
		"another's place": {func(dir, _ string) error { return os.Rename(dir, dir+"~") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir := tempDir(t)
			token, release, err := hostclock.Share(dir)
			require.NoError(t, err)
			defer release()
			require.NoError(t, tt.spoil(dir, filepath.Join(dir, "clock")))
			for range 2 {
				other, release, err := hostclock.Share(dir)
				require.Equal(t, tt.fails, err != nil, err)
				require.NotEqual(t, token, other)
				if err == nil {
					defer release()
				}
			}
		})
	}
}

// A place that is not this user's alone is not used.
func TestForeignPlaces(t *testing.T) {
	const nobody = 65534
	for name, tt := range map[string]struct {
		make func(t *testing.T, dir string) error
		root bool
		want string
	}{
		"no temporary directory": {make: func(_ *testing.T, dir string) error { return os.RemoveAll(filepath.Dir(dir)) }, want: "no such file"},
		"a file":                 {make: func(_ *testing.T, dir string) error { return os.WriteFile(dir, nil, 0o600) }, want: "not a directory"},
		"a link to a directory":  {make: func(t *testing.T, dir string) error { return os.Symlink(t.TempDir(), dir) }, want: "not a directory"},
		"another's directory": {root: true, want: "belongs to user 65534", make: func(_ *testing.T, dir string) error {
			return errorOf(os.Mkdir(dir, 0o700), os.Chown(dir, nobody, nobody))
		}},
		"a directory for all": {want: "mode 777", make: func(_ *testing.T, dir string) error {
			return errorOf(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) //nolint:gosec // wrong on purpose
		}},
		"a token elsewhere": {want: "too many levels of symbolic links", make: func(t *testing.T, dir string) error {
			elsewhere := filepath.Join(t.TempDir(), "file")
			return errorOf(os.WriteFile(elsewhere, nil, 0o600), os.Mkdir(dir, 0o700), os.Symlink(elsewhere, filepath.Join(dir, "clock")))
		}},
		"another's token": {root: true, want: "belongs to user 65534", make: func(_ *testing.T, dir string) error {
			file := filepath.Join(dir, "clock")
			return errorOf(os.Mkdir(dir, 0o700), os.WriteFile(file, nil, 0o600), os.Chown(file, nobody, nobody))
		}},
		"a token for all": {want: "mode 640", make: func(_ *testing.T, dir string) error {
			file := filepath.Join(dir, "clock")
			return errorOf(os.Mkdir(dir, 0o700), os.WriteFile(file, nil, 0o600), os.Chmod(file, 0o640)) //nolint:gosec // wrong on purpose
		}},
		"a pipe": {want: "another kind", make: func(_ *testing.T, dir string) error {
			return errorOf(os.Mkdir(dir, 0o700), unix.Mkfifo(filepath.Join(dir, "clock"), 0o600))
		}},
		"a directory in it": {want: "is a directory", make: func(_ *testing.T, dir string) error {
			return errorOf(os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, "clock"), 0o700))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tmp, dir := tempDir(t)
			require.NoError(t, os.RemoveAll(dir))
			err := tt.make(t, dir)
			if tt.root && errors.Is(err, os.ErrPermission) {
				t.Skipf("this process may not give files away: %v", err)
			}
			require.NoError(t, err)
			name, told := start(t, tmp, "").answer()
			require.Empty(t, name)
			require.Contains(t, told, "name of the host's clock: "+dir)
			require.Contains(t, told, tt.want)
		})
	}
}

func errorOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// File systems that other hosts may have, too, prove nothing.
func TestForeignFileSystem(t *testing.T) {
	_, release, err := hostclock.Share("/proc/self/fd")
	if err == nil {
		release()
	}
	require.ErrorContains(t, err, "other hosts may use it")
}

// A process that is stopped at the wrong time does not stop the others.
func TestStuckProcess(t *testing.T) {
	tmp, dir := tempDir(t)
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	begin := time.Now()
	name, failed := start(t, tmp, "").answer()
	require.Empty(t, name)
	require.Contains(t, failed, "wait for other processes: "+syscall.EWOULDBLOCK.Error())
	require.GreaterOrEqual(t, time.Since(begin), hostclock.Patience)

	// One that goes on in time is waited for.
	p := start(t, tmp, gated, pipeThatEnds(t))
	require.Equal(t, "ready", p.line())
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	p.name()
}

// pipeThatEnds returns a pipe that has ended.
func pipeThatEnds(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	w.Close()
	t.Cleanup(func() { r.Close() })
	return r
}

// Failures leave no descriptor open, and neither does success, but its own.
func TestDescriptors(t *testing.T) {
	tmp, dir := tempDir(t)
	count := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(all)
	}
	before := count()
	_, release, err := hostclock.Share(dir)
	require.NoError(t, err)
	require.Equal(t, before+2, count())
	require.NoError(t, os.Truncate(filepath.Join(dir, "clock"), 0))
	_, _, err = hostclock.Share(dir)
	require.ErrorContains(t, err, "written over")
	release()
	require.NoError(t, os.Chmod(filepath.Join(dir, "clock"), 0o644)) //nolint:gosec // wrong on purpose
	_, _, err = hostclock.Share(dir)
	require.Error(t, err)
	_, _, err = hostclock.Share(filepath.Join(tmp, "no", "such"))
	require.Error(t, err)
	require.Equal(t, before, count())
}
