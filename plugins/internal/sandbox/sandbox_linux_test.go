package sandbox_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/sandbox"
)

// The test binary is also the program in the sandbox, and a host that is
// killed: MODE says which.
func TestMain(m *testing.M) {
	switch os.Getenv("MODE") {
	case "":
		if err := sandbox.Supported(); err != nil {
			fmt.Println("skipped:", err)
			return
		}
		goleak.VerifyTestMain(m)
	case "report":
		must(json.NewEncoder(os.Stdout).Encode(look()))
	case "wait":
		fmt.Println("ready")
		select {}
	case "leaver":
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"MODE=wait", quick}
		cmd.Stdout = os.Stdout
		must(cmd.Start())
	case "family":
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"MODE=wait", quick}
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		must(cmd.Start())
		fmt.Println("parent")
		select {}
	case "host":
		host()
	case "starter":
		for range 16 { // so that they have to wait for each other
			go func() {
				for {
					p := begin("wait")
					fmt.Println("started")
					p.Kill()
					<-p.Done()
				}
			}()
		}
		select {}
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// report is what a program sees of itself.
type report struct {
	Status     map[string]string
	Limits     map[int]unix.Rlimit
	Env        []string
	Args       []string
	Dir        string
	Files      []string
	Stdin      string
	Session    bool
	OOM        string
	Interfaces int
	Raw        map[string]string // what came of each sort of socket
	Elsewhere  string            // of a file in a directory that is open to all
	Inside     string            // of a file in its own directory
	Overwrite  string            // of a file that anybody may write to
	Shorten    string            // of that file
	Program    string            // of writing to its own program
	Signal     string            // of a signal to its parent's process
}

func look() report {
	r := report{
		Status: map[string]string{}, Limits: map[int]unix.Rlimit{}, Raw: map[string]string{},
		Env: os.Environ(), Args: os.Args,
	}
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		r.Status[name] = strings.TrimSpace(value)
	}
	for _, resource := range []int{unix.RLIMIT_DATA, unix.RLIMIT_AS, unix.RLIMIT_NOFILE, unix.RLIMIT_NPROC, unix.RLIMIT_CPU, unix.RLIMIT_FSIZE, unix.RLIMIT_CORE} {
		// The Go runtime raises the soft limit of open files; the hard ones are
		// what holds.
		var l unix.Rlimit
		must(unix.Getrlimit(resource, &l))
		r.Limits[resource] = l
	}
	r.Dir, err = os.Getwd()
	must(err)
	for fd := range 20 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue // which it was not started with
		}
		if to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			kind, _, _ := strings.Cut(to, ":")
			r.Files = append(r.Files, strconv.Itoa(fd)+" "+kind)
		}
	}
	in, err := io.ReadAll(os.Stdin)
	r.Stdin = fmt.Sprintf("%q %v", in, err)
	sid, err := unix.Getsid(0)
	r.Session = err == nil && sid == os.Getpid()
	oom, err := os.ReadFile("/proc/self/oom_score_adj")
	must(err)
	r.OOM = strings.TrimSpace(string(oom))
	interfaces, err := net.Interfaces()
	must(err)
	r.Interfaces = len(interfaces)
	for name, s := range map[string][3]int{
		"raw IPv4":  {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		"raw IPv6":  {unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		"HDRINCL":   {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW},
		"packet":    {unix.AF_PACKET, unix.SOCK_RAW, 0},
		"datagrams": {unix.AF_PACKET, unix.SOCK_DGRAM, 0},
	} {
		_, err := unix.Socket(s[0], s[1], s[2])
		r.Raw[name] = fmt.Sprint(err)
	}
	r.Elsewhere = create(os.Getenv("OPEN"), os.O_CREATE|os.O_EXCL)
	r.Inside = create(os.Getenv("OWN"), os.O_CREATE|os.O_EXCL)
	r.Overwrite = fmt.Sprint(truncate(os.Getenv("WRITABLE")))
	r.Shorten = reason(os.Truncate(os.Getenv("WRITABLE"), 1))
	r.Program = fmt.Sprint(truncate("/proc/self/fd/3"))
	if pid, err := strconv.Atoi(os.Getenv("HOST")); err == nil {
		r.Signal = fmt.Sprint(unix.Kill(pid, 0))
	}
	return r
}

func create(dir string, flags int) string {
	f, err := os.OpenFile(filepath.Join(dir, "made"), os.O_WRONLY|flags, 0o600)
	if err == nil {
		f.Close()
	}
	return reason(err)
}

func truncate(path string) string {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		f.Close()
	}
	return reason(err)
}

func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return fmt.Sprint(err)
}

// host runs the program that PROGRAM names in MODE INNER, tells where its own
// process is and what the sandbox lacks, and waits.
func host() {
	p := begin(os.Getenv("INNER"))
	if p.Missing() != "" {
		fmt.Println("missing:", p.Missing())
	}
	<-p.Done()
	if os.Getenv("INNER") != "report" {
		fmt.Println(p.Status())
	}
}

// begin starts the program in a mode, in a directory that the test removes.
func begin(mode string) *sandbox.Process {
	dir, err := os.MkdirTemp("", "sandbox-test")
	must(err)
	c := command(dir, mode)
	if os.Geteuid() == 0 {
		c.User, err = sandbox.LookupUser("nobody")
		must(err)
	}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	p, err := sandbox.Start(c)
	must(err)
	return p
}

// quick keeps the race detector from sleeping in the end.
const quick = "GORACE=atexit_sleep_ms=0"

func command(dir, mode string) *sandbox.Command {
	program, err := os.ReadFile("/proc/self/exe")
	must(err)
	return &sandbox.Command{
		Program: program, Path: "/opt/program",
		Env: []string{
			"MODE=" + mode, "OWN=" + dir, "OPEN=" + os.TempDir(), "WRITABLE=" + os.Getenv("WRITABLE"),
			"HOST=" + strconv.Itoa(os.Getpid()), quick,
		},
		Dir: dir,
	}
}

func unprivileged(t *testing.T) *sandbox.User {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := sandbox.LookupUser("nobody")
	require.NoError(t, err)
	return u
}

// start runs this binary in a mode and returns what comes from it.
func start(t *testing.T, mode string, edit func(c *sandbox.Command)) (*sandbox.Process, *os.File) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sandbox-test") // not t.TempDir, which others may not enter
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	c := command(dir, mode)
	c.User = unprivileged(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	c.Stdout, c.Stderr = w, os.Stderr
	if edit != nil {
		edit(c)
	}
	p, err := sandbox.Start(c)
	require.NoError(t, err)
	t.Cleanup(func() { p.Kill(); <-p.Done() })
	return p, r
}

// line waits for what a program says.
func line(t *testing.T, r *os.File) string {
	t.Helper()
	require.NoError(t, r.SetReadDeadline(time.Now().Add(10*time.Second)))
	var s []byte
	b := make([]byte, 1)
	for {
		_, err := r.Read(b)
		require.NoError(t, err, "after %q", s)
		if b[0] == '\n' {
			return string(s)
		}
		s = append(s, b[0])
	}
}

// silence waits until nobody is left that could write.
func silence(t *testing.T, r *os.File) string {
	t.Helper()
	require.NoError(t, r.SetReadDeadline(time.Now().Add(10*time.Second)))
	rest, err := io.ReadAll(r)
	require.NoError(t, err, "somebody still runs")
	return string(rest)
}

func reported(t *testing.T, r *os.File) report {
	t.Helper()
	require.NoError(t, r.SetReadDeadline(time.Now().Add(10*time.Second)))
	var got report
	require.NoError(t, json.NewDecoder(r).Decode(&got))
	return got
}

func TestConfined(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root; TestWithoutRoot tells of the rest")
	}
	// What the caller left open for its children by mistake, and a file that
	// permissions alone do not protect.
	leaked, err := unix.Dup(1)
	require.NoError(t, err)
	defer unix.Close(leaked)
	writable := filepath.Join(t.TempDir(), "writable")
	require.NoError(t, os.WriteFile(writable, []byte("kept"), 0o600))
	require.NoError(t, os.Chmod(writable, 0o666))
	t.Setenv("WRITABLE", writable)
	t.Setenv("SECRET", "of the caller")

	limits := sandbox.Limits{Memory: 3 << 30, AddressSpace: 4 << 40, OpenFiles: 99, Processes: 777, CPU: 1500 * time.Millisecond}
	p, out := start(t, "report", func(c *sandbox.Command) { c.Limits = limits })
	require.Empty(t, p.Missing())
	got := reported(t, out)
	<-p.Done()
	require.Equal(t, "exit status 0", p.Status())

	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		require.Equal(t, "0000000000000000", got.Status[set], set)
	}
	require.Equal(t, "0000000000000000", got.Status["SigBlk"], "blocked signals")
	require.Equal(t, "1", got.Status["NoNewPrivs"])
	nobody, err := sandbox.LookupUser("nobody")
	require.NoError(t, err)
	require.Equal(t, strings.Repeat(fmt.Sprintf("%d\t", nobody.UID), 4), got.Status["Uid"]+"\t")
	require.Equal(t, strings.Repeat(fmt.Sprintf("%d\t", nobody.GID), 4), got.Status["Gid"]+"\t")
	require.Empty(t, got.Status["Groups"])
	for name, err := range got.Raw {
		require.Contains(t, []string{"operation not permitted", "permission denied"}, err, name)
	}

	require.Equal(t, map[int]unix.Rlimit{
		unix.RLIMIT_DATA:   {Cur: 3 << 30, Max: 3 << 30},
		unix.RLIMIT_AS:     {Cur: 4 << 40, Max: 4 << 40},
		unix.RLIMIT_NOFILE: {Cur: 99, Max: 99},
		unix.RLIMIT_NPROC:  {Cur: 777, Max: 777},
		unix.RLIMIT_CPU:    {Cur: 2, Max: 2},
		unix.RLIMIT_FSIZE:  {},
		unix.RLIMIT_CORE:   {},
	}, got.Limits)
	require.Equal(t, "1000", got.OOM)

	require.Equal(t, []string{"/opt/program"}, got.Args)
	require.Len(t, got.Env, 7)
	require.Contains(t, got.Env, "VOLTADOMAR_PLUGIN=/opt/program")
	require.NotContains(t, strings.Join(got.Env, " "), "SECRET")
	require.Equal(t, "/", got.Dir)
	require.Equal(t, `"" <nil>`, got.Stdin)
	require.True(t, got.Session)
	require.Equal(t, []string{"0 /dev/null", "1 pipe", "2 " + kindOf(t, 2), "3 /memfd"}, got.Files)
	require.Equal(t, 1, got.Interfaces, "loopback of a network of its own")

	require.Equal(t, "permission denied", got.Elsewhere)
	require.Equal(t, "<nil>", got.Inside)
	require.Equal(t, "permission denied", got.Overwrite)
	require.Equal(t, "permission denied", got.Shorten)
	require.Contains(t, []string{"operation not permitted", "permission denied", "text file busy"}, got.Program)
	require.Equal(t, "no such process", got.Signal)
	require.NoFileExists(t, filepath.Join(os.TempDir(), "made"))
}

func kindOf(t *testing.T, fd int) string {
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	require.NoError(t, err)
	kind, _, _ := strings.Cut(to, ":")
	return kind
}

func TestStart(t *testing.T) {
	p, out := start(t, "wait", nil)
	require.Equal(t, "ready", line(t, out))
	// The caller's threads are as they were.
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	require.Contains(t, string(status), "NoNewPrivs:\t0")
	p.Kill()
	<-p.Done()
	require.Equal(t, "killed by signal 9 (killed)", p.Status())
	p.Kill()
	silence(t, out)
	require.Equal(t, unix.ESRCH, unix.Kill(p.PID(), 0))
}

func TestChildrenGoToo(t *testing.T) {
	p, out := start(t, "family", nil)
	require.ElementsMatch(t, []string{"parent", "ready"}, []string{line(t, out), line(t, out)})
	if strings.Contains(p.Missing(), "namespaces") {
		t.Skip(p.Missing())
	}
	p.Kill()
	<-p.Done()
	silence(t, out)
}

func TestScript(t *testing.T) {
	p, out := start(t, "", func(c *sandbox.Command) {
		c.Program = []byte("#!/bin/sh\nread x; echo \"$?\" \"$VOLTADOMAR_PLUGIN\"; exit 7\n")
	})
	require.Equal(t, "1 /opt/program", line(t, out))
	<-p.Done()
	require.Equal(t, "exit status 7", p.Status())
}

func TestWrongProgram(t *testing.T) {
	for name, program := range map[string]string{
		"nothing":        "",
		"text":           "hello\n",
		"no interpreter": "#!/nonexistent/interpreter\n",
	} {
		c := command(t.TempDir(), "")
		c.User = unprivileged(t)
		c.Program = []byte(program)
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		_, err := sandbox.Start(c)
		require.ErrorContains(t, err, "/opt/program: ", name)
	}
}

func TestNotRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	_, err := sandbox.Start(command(t.TempDir(), "report"))
	require.EqualError(t, err, "/opt/program: want a user to run as, not root")
}

func TestLookupUser(t *testing.T) {
	u, err := sandbox.LookupUser("61234")
	require.NoError(t, err)
	require.Equal(t, &sandbox.User{Name: "61234", UID: 61234, GID: 61234}, u)
	for name, want := range map[string]string{
		"root":        `user "root": want one that is neither root nor of root's group`,
		"0":           "want one that is neither root nor of root's group",
		"-1":          `user "-1": want the name or number of a user`,
		"no such":     `user "no such": want the name or number of a user`,
		"":            `user "": want the name or number of a user`,
		"99999999999": "want the name or number of a user",
	} {
		_, err := sandbox.LookupUser(name)
		require.ErrorContains(t, err, want)
	}
}

// asHost runs a host in another process, which may have other rights.
func asHost(t *testing.T, inner string, attr *syscall.SysProcAttr, before func(*exec.Cmd) error) (*exec.Cmd, *os.File) {
	t.Helper()
	return as(t, "host", inner, attr, before)
}

func as(t *testing.T, mode, inner string, attr *syscall.SysProcAttr, before func(*exec.Cmd) error) (*exec.Cmd, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	tmp := t.TempDir()
	require.NoError(t, os.Chmod(tmp, 0o777))
	require.NoError(t, os.Chmod(filepath.Dir(tmp), 0o755))
	binary, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	path := filepath.Join(tmp, "host")
	require.NoError(t, os.WriteFile(path, binary, 0o755))
	writable := filepath.Join(tmp, "writable")
	require.NoError(t, os.WriteFile(writable, []byte("kept"), 0o600))
	require.NoError(t, os.Chmod(writable, 0o666))
	cmd := exec.Command(path)
	cmd.Env = []string{"MODE=" + mode, "INNER=" + inner, "TMPDIR=" + tmp, "WRITABLE=" + writable, quick}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	cmd.SysProcAttr = attr
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // which ends with the goroutine, and its lack with it
		if err := before(cmd); err != nil {
			failed <- err
			return
		}
		failed <- cmd.Start()
	}()
	require.NoError(t, <-failed)
	return cmd, r
}

// inContainer takes from the calling thread what root lacks in many containers.
func inContainer(*exec.Cmd) error {
	for _, c := range []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_PTRACE} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func TestInContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be less than root")
	}
	cmd, out := asHost(t, "report", nil, inContainer)
	require.Equal(t, "missing: no namespaces: it has the network, and its children may outlive it", line(t, out))
	got := reported(t, out)
	require.NoError(t, cmd.Wait())
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		require.Equal(t, "0000000000000000", got.Status[set], set)
	}
	require.Equal(t, unix.Rlimit{}, got.Limits[unix.RLIMIT_FSIZE])
	require.Equal(t, "operation not permitted", got.Signal, "Landlock, or the other user")

	cmd, out = asHost(t, "wait", nil, inContainer)
	line(t, out)
	require.Equal(t, "ready", line(t, out))
	require.NoError(t, cmd.Process.Signal(unix.SIGKILL))
	require.ErrorContains(t, cmd.Wait(), "signal: killed")
	silence(t, out)

	// Children that stayed in its session do not outlive it.
	cmd, out = asHost(t, "leaver", nil, inContainer)
	require.Contains(t, silence(t, out), "exit status 0")
	require.NoError(t, cmd.Wait())
}

func TestHostIsKilled(t *testing.T) {
	for _, inner := range []string{"wait", "family"} {
		cmd, out := asHost(t, inner, nil, func(*exec.Cmd) error { return nil })
		for said := ""; said != "ready"; {
			said = line(t, out)
			if inner == "family" && strings.HasPrefix(said, "missing: no namespaces") {
				t.Skip(said)
			}
		}
		require.NoError(t, cmd.Process.Signal(unix.SIGKILL))
		require.ErrorContains(t, cmd.Wait(), "signal: killed")
		silence(t, out)
	}
}

// However little of a program has started when its host is killed, none is left.
func TestHostIsKilledWhileStarting(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 6 {
		cmd, out := as(t, "starter", "", nil, func(*exec.Cmd) error { return nil })
		for range rnd.IntN(20) {
			for line(t, out) != "started" {
			}
		}
		require.NoError(t, cmd.Process.Signal(unix.SIGKILL))
		require.ErrorContains(t, cmd.Wait(), "signal: killed")
		silence(t, out)
	}
}

// A host that is no root but has a capability keeps it to itself, however it
// came by it, also where the kernel lets only root make namespaces.
func TestWithoutRoot(t *testing.T) {
	nothing := func(*exec.Cmd) error { return nil }
	for name, before := range map[string]func(cmd *exec.Cmd) error{
		"no capability": nothing,
		"no namespaces": func(*exec.Cmd) error { return forbidNamespaces() },
		"ambient capability": func(cmd *exec.Cmd) error {
			cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_RAW}
			return nil
		},
		"ambient capability, no namespaces": func(cmd *exec.Cmd) error {
			cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_RAW}
			return forbidNamespaces()
		},
		"file capability": func(cmd *exec.Cmd) error { return setcap(cmd.Path, unix.CAP_NET_RAW) },
	} {
		t.Run(name, func(t *testing.T) {
			attr := &syscall.SysProcAttr{}
			if os.Geteuid() == 0 {
				attr.Credential = &syscall.Credential{Uid: 61235, Gid: 61235}
			} else if strings.Contains(name, "capability") && name != "no capability" {
				t.Skip("needs root to give a capability")
			}
			cmd, out := asHost(t, "report", attr, before)
			said := line(t, out)
			missing, lacks := strings.CutPrefix(said, "missing: ")
			if lacks {
				said = line(t, out)
			}
			if strings.Contains(name, "no namespaces") {
				require.Contains(t, missing, "no namespaces")
			}
			var got report
			require.NoError(t, json.Unmarshal([]byte(said), &got))
			require.NoError(t, cmd.Wait())
			for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
				require.Equal(t, "0000000000000000", got.Status[set], set)
			}
			require.Equal(t, "1", got.Status["NoNewPrivs"])
			for name, err := range got.Raw {
				require.Contains(t, []string{"operation not permitted", "permission denied"}, err, name)
			}
			require.Equal(t, unix.Rlimit{}, got.Limits[unix.RLIMIT_FSIZE])
			require.Equal(t, "permission denied", got.Elsewhere)
			require.Equal(t, "permission denied", got.Overwrite)
			require.Equal(t, "permission denied", got.Shorten)
			require.Equal(t, "<nil>", got.Inside)
			want := "no such process"
			if strings.Contains(missing, "namespaces") {
				want = "operation not permitted" // as Landlock has it: the user is the same
			}
			require.Equal(t, want, got.Signal)
			silence(t, out)
		})
	}
}

// setcap gives a file a capability, as setcap(8) does (version 2 of struct
// vfs_cap_data, effective).
func setcap(path string, c int) error {
	data := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	data = binary.LittleEndian.AppendUint32(data, 1<<c)
	return unix.Setxattr(path, "security.capability", append(data, make([]byte, 12)...), 0)
}

// forbidNamespaces has the kernel refuse the calling thread and its children
// user namespaces.
func forbidNamespaces() error {
	const clone = 16 // where the first argument is in seccomp's data
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: clone},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_NEWUSER, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if os.Geteuid() != 0 { // who may not filter otherwise
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
