package examples_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// Where the controller listens, as the sites see it.
const (
	controllerFromA = "198.51.100.1:50051"
	controllerFromB = "198.51.100.5:50051"
)

// Whether the agents can find out that they read the same clock: only where
// they have the same directory for temporary files.
const (
	ownClocks = false
	oneClock  = true
)

// twoSites is the two-site network with a host for the controller, which only
// the sites have a link to, and an agent process at each site.
func twoSites(t *testing.T, clocks bool) (lab *netlab.TwoSites, control *netlab.Host) {
	t.Helper()
	lab, control, _, _ = twoSiteFleet(t, clocks)
	return lab, control
}

// twoSiteFleet is twoSites with the processes of the controller and of site b.
func twoSiteFleet(t *testing.T, clocks bool) (lab *netlab.TwoSites, control *netlab.Host, controller, b *process) {
	t.Helper()
	lab = netlab.NewTwoSites(t)
	control = lab.Host("control")
	lab.Link(control, lab.A, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.1/30"), B: netip.MustParsePrefix("198.51.100.2/30")})
	lab.Link(control, lab.B, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.5/30"), B: netip.MustParsePrefix("198.51.100.6/30")})
	controller, _ = startController(t, control, "--port", "50051", "--insecure")
	sources := []string{"--insecure", "--source", lab.Anycast4.String(), "--source", lab.Anycast6.String()}
	tmpA, tmpB := t.TempDir(), t.TempDir()
	if clocks == oneClock {
		tmpB = tmpA
	}
	startAgentWith(t, lab.A, []string{"TMPDIR=" + tmpA}, controller, "a", controllerFromA, sources...)
	b = startAgentWith(t, lab.B, []string{"TMPDIR=" + tmpB}, controller, "b", controllerFromB, sources...)
	return lab, control, controller, b
}

func TestTwoSites(t *testing.T) {
	t.Run("clocks of their own, as far as they know", func(t *testing.T) { testTwoSites(t, ownClocks) })
	t.Run("one clock", func(t *testing.T) { testTwoSites(t, oneClock) })
}

func testTwoSites(t *testing.T, clocks bool) {
	lab, control := twoSites(t, clocks)
	for _, f := range []struct {
		target netip.Addr
		hops   [5]netip.Addr
	}{{lab.Target4, lab.Hops4}, {lab.Target6, lab.Hops6}} {
		t.Run(fmt.Sprint("text ", f.target), func(t *testing.T) {
			status, stdout, stderr := run(t, control, "simple-client", "-c", "127.0.0.1:50051", "a", f.target.String(), "-n")
			require.Zero(t, status)
			require.Empty(t, stderr)
			t.Log("\n" + stdout)
			requireText(t, stdout, f.target, f.hops, clocks)
		})
		for _, options := range []string{"-I", "-T -p 81", "-U -q 1", "--flows 3"} {
			t.Run(fmt.Sprint("json ", f.target, " ", options), func(t *testing.T) {
				args := append([]string{"--json", "--insecure", "-c", controllerFromA, "a", f.target.String(), "-n"}, strings.Fields(options)...)
				status, stdout, stderr := run(t, lab.A, "simple-client", args...)
				require.Zero(t, status)
				require.Empty(t, stderr)
				var trace result.Trace
				require.NoError(t, json.Unmarshal([]byte(stdout), &trace))
				requireTrace(t, &trace, f.target, f.hops, clocks)
			})
		}
	}
}

// requireText checks the output for a whole trace from a. Times of what b
// caught are those of two clocks, unless they are known to be one.
func requireText(t *testing.T, stdout string, target netip.Addr, hops [5]netip.Addr, clocks bool) {
	t.Helper()
	text := lines(t, stdout)
	if clocks == oneClock {
		require.Len(t, text, 6)
	} else {
		require.Len(t, text, 7)
		require.Regexp(t, "^# ±: sent and received by different clocks, corrected by their offset", text[6])
	}
	require.Equal(t, fmt.Sprintf("Traceroute to %[1]v (%[1]v) from a, 3 probes, 30 hops max", target), text[0])
	for i, hop := range hops {
		receiver, time := "a", `  \d+\.\d{3} ms`
		if i >= 2 {
			receiver = "b"
		}
		if i >= 2 && clocks == ownClocks {
			time = `  -?\d+\.\d{3}±\d+\.\d{3} ms`
		}
		addr := strings.ReplaceAll(hop.String(), ".", `\.`)
		require.Regexp(t, fmt.Sprintf(`^%d  %s %s(%s){3}$`, i+1, addr, receiver, time), text[i+1])
	}
}

func requireTrace(t *testing.T, trace *result.Trace, target netip.Addr, hops [5]netip.Addr, clocks bool) {
	t.Helper()
	require.Equal(t, "a", trace.Source)
	require.Equal(t, target, trace.Destination)
	require.True(t, trace.Reached)
	require.Empty(t, trace.Partial)
	require.NotEmpty(t, trace.Clocks["a"].Name)
	require.NotEmpty(t, trace.Clocks["b"].Name)
	require.Equal(t, clocks == oneClock, trace.Clocks["a"].Name == trace.Clocks["b"].Name)
	require.Len(t, trace.Hops, 5)
	for i, h := range trace.Hops {
		require.Len(t, h.Probes, trace.Queries)
		for _, p := range h.Probes {
			require.Equal(t, result.Matched, p.Verdict)
			require.Equal(t, hops[i], p.Addr)
			require.NotNil(t, p.RTT)
			require.Equal(t, map[bool]string{true: "a", false: "b"}[i < 2], p.Receiver)
			require.Equal(t, i < 2 || clocks == oneClock, p.OneClock)
			if p.OneClock {
				require.Positive(t, *p.RTT)
				require.Equal(t, p.RTT, p.Delay)
				require.Zero(t, *p.Bound)
			} else {
				// Only we know that both read this host's clock.
				require.NotNil(t, p.Delay)
				require.LessOrEqual(t, (*p.Delay - *p.RTT).Abs(), *p.Bound)
				require.Less(t, *p.Bound, time.Second)
			}
		}
	}
}

// TestReceiverTrouble has the other site's agent stop, go on, and die.
func TestReceiverTrouble(t *testing.T) {
	lab, control, controller, b := twoSiteFleet(t, ownClocks)
	measure := func() *result.Trace {
		args := strings.Fields("-c 127.0.0.1:50051 --json a " + lab.Target4.String() + " -n -m 5 -w 1.5")
		status, stdout, stderr := run(t, control, "simple-client", args...)
		require.Zero(t, status, stderr)
		var trace result.Trace
		require.NoError(t, json.Unmarshal([]byte(stdout), &trace))
		require.True(t, trace.Account.Adds())
		require.Equal(t, trace.Counts.Matched, trace.Account.Answered)
		return &trace
	}
	require.Equal(t, 15, measure().Account.Answered)
	missed := []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 9}}

	b.signal(syscall.SIGSTOP)
	trace := measure()
	require.Equal(t, missed, trace.Account.Unanswered, trace.Text())
	require.Equal(t, result.Unresponsive, trace.Account.Gaps[0].Kind)
	require.Contains(t, trace.Text(), "agent b was unresponsive from ")

	b.signal(syscall.SIGCONT)
	trace = measure()
	require.Equal(t, 15, trace.Account.Answered, trace.Text())

	b.signal(syscall.SIGKILL)
	controller.await(&controller.stderr, `agent disconnected" agent=b`, 1)
	trace = measure()
	require.Equal(t, missed, trace.Account.Unanswered, trace.Text())
	require.Equal(t, result.Disconnected, trace.Account.Gaps[0].Kind)
}

// What crosses a network in plain text must be asked for, at every side.
func TestPlainTextBeyondLoopback(t *testing.T) {
	lab, control := twoSites(t, ownClocks)
	for _, tt := range []struct {
		host    *netlab.Host
		program string
		args    []string
	}{
		{control, "simple-controller", []string{"--serve", "--listen", "198.51.100.1:0"}},
		{control, "simple-controller", []string{"--serve", "--listen", ":0"}},
		{lab.A, "simple-agent", []string{"-i", "c", "-c", controllerFromA}},
		{lab.A, "simple-client", []string{"-c", controllerFromA, "a", lab.Target4.String()}},
	} {
		status, stdout, stderr := run(t, tt.host, tt.program, tt.args...)
		require.Equal(t, 2, status)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "refusing plain text beyond loopback")
		require.Contains(t, stderr, "--insecure")
	}
}
