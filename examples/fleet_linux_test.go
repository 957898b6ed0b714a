// Package examples_test runs the example programs as processes.
package examples_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/result"
)

func TestFleet(t *testing.T) {
	needPort(t)
	controller, addr := startController(t, nil, "--port", "0", "--range", "30000-30100", "--block", "10")
	startAgent(t, nil, controller, "here", addr)

	t.Run("text", func(t *testing.T) {
		status, stdout, stderr := run(t, nil, "simple-client", "-c", addr, "here", "127.0.0.1", "-n", "-q", "2")
		require.Zero(t, status)
		require.Empty(t, stderr)
		text := lines(t, stdout)
		require.Len(t, text, 2)
		require.Equal(t, "Traceroute to 127.0.0.1 (127.0.0.1) from here, 2 probes, 30 hops max", text[0])
		require.Regexp(t, `^1  127\.0\.0\.1 here  \d+\.\d{3} ms  \d+\.\d{3} ms$`, text[1])
	})
	t.Run("json", func(t *testing.T) {
		status, stdout, stderr := run(t, nil, "simple-client", "-c", addr, "--json", "here", "127.0.0.1", "-n", "-I", "-t", "2")
		require.Zero(t, status)
		require.Empty(t, stderr)
		var trace result.Trace
		require.NoError(t, json.Unmarshal([]byte(stdout), &trace))
		require.Equal(t, "here", trace.Source)
		require.Equal(t, netip.MustParseAddr("127.0.0.1"), trace.Destination)
		require.Equal(t, "icmp", trace.Prober)
		require.EqualValues(t, 2, trace.TOS)
		require.True(t, trace.Reached)
		require.Len(t, trace.Hops, 1)
		require.Len(t, trace.Hops[0].Probes, 3)
		for _, p := range trace.Hops[0].Probes {
			require.Equal(t, result.Matched, p.Verdict)
			require.GreaterOrEqual(t, p.ID, uint16(30000), "the controller's range")
			require.Less(t, p.ID, uint16(30100), "the controller's range")
			require.True(t, p.OneClock)
		}
	})
	for name, tt := range map[string]struct {
		args   []string
		stderr string
	}{
		"unknown agent":       {[]string{"nobody", "127.0.0.1"}, `unknown agent "nobody": connected are [here]`},
		"more than the range": {[]string{"here", "127.0.0.1", "-m", "11", "-q", "10"}, "110 asked for, the range 30000-30100 has 100"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, format := range [][]string{nil, {"--json"}} {
				status, stdout, stderr := run(t, nil, "simple-client", append(append([]string{"-c", addr}, format...), tt.args...)...)
				require.Equal(t, 1, status)
				require.Empty(t, stdout)
				require.Contains(t, stderr, "simple-client: ")
				require.Contains(t, stderr, tt.stderr)
			}
		})
	}
	t.Run("second agent of an id", func(t *testing.T) {
		status, _, stderr := run(t, nil, "simple-agent", "-i", "here", "-c", addr)
		require.Equal(t, 1, status)
		require.Contains(t, stderr, `an agent with id "here" is connected already`)
		status, _, _ = run(t, nil, "simple-client", "-c", addr, "here", "127.0.0.1", "-n")
		require.Zero(t, status, "the first one works on")
	})
}

// An agent that can share its clock's name with nobody works without.
func TestAgentWithoutTemporaryDirectory(t *testing.T) {
	needPort(t)
	controller, addr := startController(t, nil, "--port", "0")
	for id, tt := range map[string]struct{ tmp, name string }{"a": {t.TempDir(), "^host-"}, "b": {"/dev/null", "^process-"}} {
		agent := startAgentWith(t, nil, []string{"TMPDIR=" + tt.tmp}, controller, id, addr)
		status, stdout, stderr := run(t, nil, "simple-client", "-c", addr, "--json", id, "127.0.0.1", "-n")
		require.Zero(t, status, stderr)
		var trace result.Trace
		require.NoError(t, json.Unmarshal([]byte(stdout), &trace))
		require.True(t, trace.Hops[0].Probes[0].OneClock)
		require.Regexp(t, tt.name, trace.Clocks[id].Name)
		agent.signal(syscall.SIGTERM)
		agent.wait(promptly)
	}
}

// An agent that several controllers share works for each.
func TestTwoControllersShareAnAgent(t *testing.T) {
	needPort(t)
	one, addr1 := startController(t, nil, "--port", "0", "--range", "20000-30000")
	two, addr2 := startController(t, nil, "--port", "0", "--range", "30000-40000")
	startAgent(t, nil, one, "here", addr1, "-c", addr2)
	two.await(&two.stderr, `agent connected" agent=here`, 1)
	for _, addr := range []string{addr1, addr2} {
		status, _, stderr := run(t, nil, "simple-client", "-c", addr, "here", "127.0.0.1", "-n")
		require.Zero(t, status, stderr)
	}
}

// A controller that died or was stopped comes back, and its agent with it.
func TestAgentReconnects(t *testing.T) {
	needPort(t)
	for _, end := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(end.String(), func(t *testing.T) {
			controller, addr := startController(t, nil, "--port", "0")
			agent := startAgent(t, nil, controller, "here", addr)
			agent.await(&agent.stderr, `msg=connected`, 1)
			controller.signal(end)
			controller.wait(promptly)
			agent.await(&agent.stderr, `trying again`, 1)

			controller, _ = startController(t, nil, "--listen", addr)
			controller.await(&controller.stderr, `agent connected" agent=here`, 1)
			status, _, stderr := run(t, nil, "simple-client", "-c", addr, "here", "127.0.0.1", "-n")
			require.Zero(t, status, stderr)
			require.True(t, agent.running())
		})
	}
}

var endings = []os.Signal{syscall.SIGINT, syscall.SIGTERM}

// bySignal runs f with every signal that ends a program.
func bySignal(t *testing.T, f func(t *testing.T, end os.Signal)) {
	for _, end := range endings {
		t.Run(end.String(), func(t *testing.T) { f(t, end) })
	}
}

// silence calls trace with a target on loopback that swallows what it gets, and
// options that make a trace to it last a minute. It returns as soon as the
// first probe of the trace has come in.
func silence(t *testing.T, trace func(target string, options ...string)) {
	t.Helper()
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = sink.Close() })
	trace("127.0.0.1", "-n", "-m", "1", "-w", "60", "-p", fmt.Sprint(sink.LocalAddr().(*net.UDPAddr).Port))
	require.NoError(t, sink.SetReadDeadline(time.Now().Add(patience)))
	_, err = sink.Read(make([]byte, 1500))
	require.NoError(t, err, "no probe came")
}

// measuring runs a fleet with a measurement that does not end by itself.
func measuring(t *testing.T) (controller, agent, client *process, addr string) {
	t.Helper()
	needPort(t)
	controller, addr = startController(t, nil, "--port", "0")
	agent = startAgent(t, nil, controller, "here", addr)
	silence(t, func(target string, options ...string) {
		client = start(t, nil, "simple-client", append([]string{"-c", addr, "here", target}, options...)...)
	})
	return controller, agent, client, addr
}

func TestSignalToController(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		bySignal(t, func(t *testing.T, end os.Signal) {
			controller, _ := startController(t, nil, "--port", "0")
			controller.signal(end)
			require.Zero(t, controller.wait(promptly))
			require.Empty(t, controller.stderr.String())
		})
	})
	t.Run("peer that says nothing", func(t *testing.T) {
		controller, addr := startController(t, nil, "--port", "0")
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		controller.signal(syscall.SIGTERM)
		require.Zero(t, controller.wait(promptly))
	})
	t.Run("measuring", func(t *testing.T) {
		bySignal(t, func(t *testing.T, end os.Signal) {
			controller, agent, client, _ := measuring(t)
			controller.signal(end)
			require.Zero(t, controller.wait(promptly))
			require.Equal(t, 1, client.wait(promptly))
			require.Equal(t, "simple-client: controller stopped\n", client.stderr.String())
			require.Contains(t, client.stdout.String(), "\n1  *  *  *\n# partial: controller stopped\n")
			agent.await(&agent.stderr, `trying again`, 1)
		})
	})
	for _, frozen := range []string{"agent", "client", "both"} {
		t.Run("frozen "+frozen, func(t *testing.T) {
			controller, agent, client, _ := measuring(t)
			if frozen != "client" {
				agent.freeze()
			}
			if frozen != "agent" {
				client.freeze()
			}
			controller.signal(syscall.SIGTERM)
			require.Zero(t, controller.wait(promptly))
		})
	}
}

func TestSignalToAgent(t *testing.T) {
	t.Run("controller not reached", func(t *testing.T) {
		needPort(t)
		bySignal(t, func(t *testing.T, end os.Signal) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, l.Close())
			agent := start(t, nil, "simple-agent", "-i", "here", "-c", l.Addr().String())
			agent.await(&agent.stderr, `trying again`, 2)
			agent.signal(end)
			require.Zero(t, agent.wait(promptly))
		})
	})
	t.Run("measuring", func(t *testing.T) {
		bySignal(t, func(t *testing.T, end os.Signal) {
			controller, agent, client, _ := measuring(t)
			agent.signal(end)
			require.Zero(t, agent.wait(promptly))
			require.Equal(t, 1, client.wait(promptly))
			require.Contains(t, client.stderr.String(), `agent "here" disconnected`)
			require.Contains(t, client.stdout.String(), "\n1  *  *  *\n# partial: ")
			controller.await(&controller.stderr, `agent disconnected" agent=here`, 1)
			require.True(t, controller.running())
		})
	})
	t.Run("frozen controller", func(t *testing.T) {
		controller, agent, _, _ := measuring(t)
		controller.freeze()
		agent.signal(syscall.SIGTERM)
		require.Zero(t, agent.wait(promptly))
	})
}

func TestSignalToClient(t *testing.T) {
	t.Run("measuring", func(t *testing.T) {
		bySignal(t, func(t *testing.T, end os.Signal) {
			_, _, client, addr := measuring(t)
			client.signal(end)
			require.Equal(t, 1, client.wait(promptly))
			require.Equal(t, "simple-client: "+end.String()+" signal received\n", client.stderr.String())
			status, _, stderr := run(t, nil, "simple-client", "-c", addr, "here", "127.0.0.1", "-n")
			require.Zero(t, status, stderr)
		})
	})
	t.Run("frozen controller", func(t *testing.T) {
		controller, _, client, _ := measuring(t)
		controller.freeze()
		client.signal(syscall.SIGTERM)
		require.Equal(t, 1, client.wait(promptly))
	})
}

func TestSignalToLocal(t *testing.T) {
	needPort(t)
	bySignal(t, func(t *testing.T, end os.Signal) {
		var local *process
		silence(t, func(target string, options ...string) {
			local = start(t, nil, "simple-controller", append([]string{"--local", target}, options...)...)
		})
		local.signal(end)
		require.Equal(t, 1, local.wait(promptly))
		require.Equal(t, "simple-controller: "+end.String()+" signal received\n", local.stderr.String())
		require.Contains(t, local.stdout.String(), "Traceroute to 127.0.0.1 (127.0.0.1) from local, 3 probes, 1 hops max\n1  *  *  *\n")
	})
}

func TestListenWhereAnotherListens(t *testing.T) {
	_, addr := startController(t, nil, "--port", "0")
	status, stdout, stderr := run(t, nil, "simple-controller", "--serve", "--listen", addr)
	require.Equal(t, 1, status)
	require.Empty(t, stdout)
	require.Contains(t, stderr, addr)
}
