package examples_test

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/internal/sitetest"
	"bitbucket.org/uwpatio/voltadomar/plugins"
)

// TestPluginOverTwoSites has a plugin at a alone. What the target answers lands
// at b.
func TestPluginOverTwoSites(t *testing.T) {
	if err := plugins.Supported(); err != nil {
		t.Skip(err)
	}
	lab := netlab.NewTwoSites(t)
	control := lab.Host("control")
	lab.Link(control, lab.A, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.1/30"), B: netip.MustParsePrefix("198.51.100.2/30")})
	lab.Link(control, lab.B, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.5/30"), B: netip.MustParsePrefix("198.51.100.6/30")})
	for _, target := range []netip.Addr{lab.Target4, lab.Target6} {
		lab.Target.ServeUDP(netip.AddrPortFrom(target, sitetest.Port), sitetest.Server("fra1"))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	binary, err := os.ReadFile(self)
	require.NoError(t, err)
	checked := fmt.Sprintf("%s,sha256=%x", self, sha256.Sum256(binary))

	controller, _ := startController(t, control, "--port", "50051", "--insecure")
	sources := []string{"--insecure", "--source", lab.Anycast4.String(), "--source", lab.Anycast6.String()}
	agent := startAgent(t, lab.A, controller, "a", controllerFromA, append(sources, "--plugin", checked)...)
	startAgent(t, lab.B, controller, "b", controllerFromB, sources...)
	plugin := agent.await(&agent.stderr, `plugin runs.* pid=(\d+)`, 1)[1]

	client := func(args ...string) (status int, stdout, stderr string) {
		return run(t, control, "simple-client", append([]string{"-c", "127.0.0.1:50051"}, args...)...)
	}
	status, stdout, _ := client("--types")
	require.Zero(t, status)
	require.Contains(t, stdout, "site  at a\n    asks for the name of a site (port 5353)\n    -o greeting=none|hello|hi (none): how answers begin\n")
	require.Contains(t, stdout, "udp  at a, b\n")

	for target, hops := range map[netip.Addr][5]netip.Addr{lab.Target4: lab.Hops4, lab.Target6: lab.Hops6} {
		for _, options := range []string{"", "-o greeting=hello"} {
			status, stdout, stderr := client(append([]string{"a", target.String(), "-n", "-P", "site"}, strings.Fields(options)...)...)
			require.Zero(t, status, stderr)
			t.Log("\n" + stdout)
			for i, receiver := range []string{"a", "a", "b", "b", "b [site=fra1]"} {
				require.Contains(t, stdout, fmt.Sprintf("\n%d  %s %s  ", i+1, hops[i], receiver))
			}
			require.NotContains(t, stdout, "*")
			require.NotContains(t, stdout, "answers not shown")
		}
	}
	status, _, stderr := client("b", lab.Target4.String(), "-P", "site")
	require.Equal(t, 1, status)
	require.Contains(t, stderr, `agent "b" has no prober "site": it has udp, icmp, tcp; agent a has site`)

	// Nothing is left of a plugin whose agent ends, however that comes about.
	require.DirExists(t, "/proc/"+plugin)
	agent.signal(syscall.SIGTERM)
	require.Zero(t, agent.wait(2*promptly))
	require.NoDirExists(t, "/proc/"+plugin)
}

// Two types of one name cannot be told apart: the agent does not start, and
// leaves no plugin behind.
func TestPluginTwice(t *testing.T) {
	if err := plugins.Supported(); err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	p := start(t, nil, "simple-agent", "-i", "a", "-c", "localhost:1", "--plugin", self, "--plugin", self)
	plugin := p.await(&p.stderr, `plugin runs.* pid=(\d+)`, 2)[1]
	require.Equal(t, 1, p.wait(patience))
	require.Contains(t, p.stderr.String(), "simple-agent: plugin "+self+": its measurement type is called site, as another one is\n")
	require.NoDirExists(t, "/proc/"+plugin)
}
