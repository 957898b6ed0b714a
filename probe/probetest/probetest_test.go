package probetest_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// recorder is a testing.TB that remembers why a check failed.
type recorder struct {
	testing.TB
	mu      sync.Mutex // guards message
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Log(...any) {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.mu.Lock()
	if r.message == "" {
		r.message = fmt.Sprintf(format, args...)
	}
	r.mu.Unlock()
	runtime.Goexit()
}

// verdict runs the suite and returns why it failed, "" if it passed.
func verdict(t *testing.T, open func(testing.TB) probe.Prober, o probetest.Options) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		probetest.Run(r, open, o)
	}()
	<-done
	return r.message
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is enough to find what is always wrong.
const quick = 48

func TestBrokenProbersFail(t *testing.T) {
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			o := d.options
			o.Samples = cmp.Or(o.Samples, quick)
			got := verdict(t, d.broken(), o)
			require.Contains(t, got, d.want)
		})
	}
}

func TestGoodProbersPass(t *testing.T) {
	for _, good := range []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}} {
		for _, samples := range []int{1, quick} {
			require.Empty(t, verdict(t, func(testing.TB) probe.Prober { return good }, probetest.Options{Samples: samples}), good.Name())
		}
	}
}

func TestOptionsThatExcludeAll(t *testing.T) {
	got := verdict(t, func(testing.TB) probe.Prober { return udp.Prober{} }, probetest.Options{NoIPv4: true, NoIPv6: true})
	require.Contains(t, got, "nothing is left to check")
}

const defectVar = "PROBETEST_DEFECT"

// TestFuzzFindsDefects runs the seeds of a fuzz test of broken probers, each
// in a process of its own.
func TestFuzzFindsDefects(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for _, name := range []string{
		"panics on a short datagram", "knows only what it built",
		"takes identifier 0", "another error than ErrProbe", "nothing beside the error", "forgets what was in the buffer",
		"wrong transport checksum", "never DF", "no identifier in the header", "a long quote", "no direct answers",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^FuzzDefective$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), defectVar+"="+name)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "the fuzz test passed:\n%s", out)
			require.Contains(t, string(out), "--- FAIL: FuzzDefective")
		})
	}
}

func FuzzDefective(f *testing.F) {
	name := os.Getenv(defectVar)
	for _, d := range defects {
		if d.name == name {
			probetest.Fuzz(f, d.broken(), d.options)
			return
		}
	}
	if name != "" {
		f.Fatalf("unknown defect %q", name)
	}
	f.Skip("only TestFuzzFindsDefects runs this, and expects it to fail")
}
