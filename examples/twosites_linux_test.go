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
	"bitbucket.org/uwpatio/voltadomar/internal/tracetest"
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

// siteFleet is the two-site network with a host for the controller, which only
// the sites have a link to, and the processes on them.
type siteFleet struct {
	*netlab.TwoSites
	t          *testing.T
	control    *netlab.Host
	controller *process
	agents     map[string]*process // by site
	tmp        map[string]string   // their temporary directories
	toB        string              // where b finds the controller
}

// twoSites is a fleet without its processes.
func twoSites(t *testing.T, clocks bool) (lab *netlab.TwoSites, control *netlab.Host) {
	t.Helper()
	f := twoSiteFleet(t, clocks)
	return f.TwoSites, f.control
}

// twoSiteFleet starts a fleet with an agent at each site.
func twoSiteFleet(t *testing.T, clocks bool) *siteFleet {
	t.Helper()
	f := newSiteFleet(t)
	if clocks == oneClock {
		f.tmp["b"] = f.tmp["a"]
	}
	f.join("a")
	f.join("b")
	return f
}

// newSiteFleet starts a fleet without agents.
func newSiteFleet(t *testing.T) *siteFleet {
	t.Helper()
	f := &siteFleet{TwoSites: netlab.NewTwoSites(t), t: t, agents: map[string]*process{}, toB: controllerFromB}
	f.tmp = map[string]string{"a": t.TempDir(), "b": t.TempDir()}
	f.control = f.Host("control")
	f.Link(f.control, f.A, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.1/30"), B: netip.MustParsePrefix("198.51.100.2/30")})
	f.Link(f.control, f.B, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.5/30"), B: netip.MustParsePrefix("198.51.100.6/30")})
	f.controller, _ = startController(t, f.control, "--port", "50051", "--insecure")
	return f
}

// join starts the agent of a site and waits until the controller has it.
func (f *siteFleet) join(site string) {
	f.t.Helper()
	host, controller := f.A, controllerFromA
	if site == "b" {
		host, controller = f.B, f.toB
	}
	f.agents[site] = startWith(f.t, host, []string{"TMPDIR=" + f.tmp[site]}, "simple-agent", "-i", site, "-c", controller, "--insecure",
		"--source", f.Anycast4.String(), "--source", f.Anycast6.String())
	f.await(site, true)
}

// await waits until the controller has an agent, or has it no more.
func (f *siteFleet) await(site string, connected bool) {
	f.t.Helper()
	want := 0
	if connected {
		want = 1
	}
	f.controller.until(&f.controller.stderr, fmt.Sprintf("%s connected: %v", site, connected), func(text string) bool {
		came := strings.Count(text, `agent connected" agent=`+site+"\n")
		return came-strings.Count(text, `agent disconnected" agent=`+site+" ") == want
	})
}

// begin starts a measurement from a.
func (f *siteFleet) begin(line string) *process {
	f.t.Helper()
	return start(f.t, f.control, "simple-client", append(strings.Fields("-c 127.0.0.1:50051 --json a"), strings.Fields(line)...)...)
}

// trace returns what a client printed, and its exit status.
func (f *siteFleet) trace(client *process) (*result.Trace, int) {
	f.t.Helper()
	status := client.wait(patience)
	var trace result.Trace
	require.NoError(f.t, json.Unmarshal([]byte(client.stdout.String()), &trace), client.stderr.String())
	tracetest.RequireAccount(f.t, &trace)
	return &trace, status
}

// measure runs a measurement from a.
func (f *siteFleet) measure(line string) *result.Trace {
	f.t.Helper()
	client := f.begin(line)
	trace, status := f.trace(client)
	require.Zero(f.t, status, client.stderr.String())
	return trace
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
	f := twoSiteFleet(t, ownClocks)
	b := f.agents["b"]
	measure := func() *result.Trace { return f.measure(f.Target4.String() + " -n -m 5 -w 1.5") }
	require.Equal(t, 15, measure().Account.Answered)
	missed := []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 9}}

	b.freeze()
	trace := measure()
	require.Equal(t, missed, trace.Account.Unanswered, trace.Text())
	require.Equal(t, result.Unresponsive, trace.Account.Gaps[0].Kind)
	require.Contains(t, trace.Text(), "agent b was unresponsive from ")

	b.thaw()
	trace = measure()
	require.Equal(t, 15, trace.Account.Answered, trace.Text())

	b.signal(syscall.SIGKILL)
	f.await("b", false)
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
