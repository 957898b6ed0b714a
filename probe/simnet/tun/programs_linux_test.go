package tun_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/tun"
)

// slack is how much later than the scenario says an answer may come: programs
// take times in user space, when a busy computer gets round to it. None may be
// early; of the probes of a hop the best of some runs must keep to it.
const (
	slack = 5 * time.Millisecond
	runs  = 20
)

// line has links of 10 to 80 ms. Round trips are sums of both ways.
func line() *simnet.Scenario {
	return &simnet.Scenario{
		Sites: []simnet.Site{{Host: simnet.Host{Name: "a", Addresses: addrs("192.0.2.1", "2001:db8:ff::1")}}},
		Hosts: []simnet.Host{{Name: "target", Addresses: []netip.Addr{target4, target6}, TCP: simnet.Ports{Open: []simnet.PortRange{{First: 80, Last: 80}}}}},
		Links: []simnet.Link{{Draw: "a --10ms-- r1 --20ms-- r2 --40ms-- r3"}, {Draw: "r3 --80ms-- target"}},
	}
}

// want is a hop as the scenario says.
type want struct {
	addr string
	rtt  time.Duration
}

var (
	hops4 = []want{{"198.18.0.2", 20 * time.Millisecond}, {"198.18.1.2", 60 * time.Millisecond}, {"198.18.2.2", 140 * time.Millisecond}, {"203.0.113.10", 300 * time.Millisecond}}
	hops6 = []want{{"2001:db8::2", 20 * time.Millisecond}, {"2001:db8:1::2", 60 * time.Millisecond}, {"2001:db8:2::2", 140 * time.Millisecond}, {"2001:db8:fe::10", 300 * time.Millisecond}}
)

// run runs a program in a host's namespace and returns what it prints.
func run(t *testing.T, h *netlab.Host, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// The thread that starts the process must live as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, h.Do(cmd.Start))
	require.NoError(t, cmd.Wait(), out.String())
	return out.String()
}

// hop is a line such as " 1  198.18.0.2  10.061 ms  10.075 ms  10.069 ms".
var hop = regexp.MustCompile(`(?m)^ *(\d+)  ([0-9a-f.:]+)((?:  \d+\.\d+ ms)+)(.*)$`)

// requireHops runs a program until its delays are those of the scenario. The
// hops must always be.
func requireHops(t *testing.T, h *netlab.Host, hops []want, program string, args ...string) {
	t.Helper()
	best := make([]time.Duration, len(hops))
	for range runs {
		text := run(t, h, program, args...)
		found := hop.FindAllStringSubmatch(text, -1)
		require.Len(t, found, len(hops), text)
		late := false
		for i, m := range found {
			require.Equal(t, strconv.Itoa(i+1), m[1], text)
			require.Equal(t, hops[i].addr, m[2], text)
			require.Contains(t, []string{"", " [closed]", " [open]"}, m[4], text)
			rtt := least(t, m[3])
			require.GreaterOrEqual(t, rtt, hops[i].rtt, text)
			if best[i] == 0 || rtt < best[i] {
				best[i] = rtt
			}
			late = late || best[i] > hops[i].rtt+slack
		}
		if !late {
			return
		}
	}
	require.Failf(t, "late", "best of %d runs %v, want at most %v more than %v", runs, best, slack, hops)
}

var number = regexp.MustCompile(`\d+(\.\d+)?`)

// least returns the least of the milliseconds in a text.
func least(t *testing.T, text string) time.Duration {
	t.Helper()
	best := time.Hour
	for _, s := range number.FindAllString(text, -1) {
		ms, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		best = min(best, time.Duration(ms*float64(time.Millisecond)))
	}
	return best
}

func TestTraceroute(t *testing.T) {
	t.Parallel()
	h := netlab.New(t).Host("a")
	attach(t, h, start(t, line(), nil), tun.Config{Site: "a"})
	for _, tt := range []struct {
		options string
		hops    []want
	}{{"", hops4}, {"", hops6}, {"-I", hops6}, {"-T", hops4}, {"-T -p 81", hops6}, {"-N 1 -q 1", hops4}} {
		t.Run(tt.options+" "+tt.hops[3].addr, func(t *testing.T) {
			requireHops(t, h, tt.hops, "traceroute", append(strings.Fields("-n -w 5 "+tt.options), tt.hops[3].addr)...)
		})
	}
}

// traceroute(8) reads the label stacks in the errors of a tunnel.
func TestTracerouteShowsLabels(t *testing.T) {
	t.Parallel()
	s := line()
	s.Tunnels = []simnet.Tunnel{{Draw: "r1 -- r2 -- r3", Labels: []uint32{16001}, Inner: []uint32{17}}}
	h := netlab.New(t).Host("a")
	attach(t, h, start(t, s, nil), tun.Config{Site: "a"})
	for _, hops := range [][]want{hops4, hops6} {
		require.Contains(t, run(t, h, "traceroute", "-n", "-e", "-q", "1", "-m", "2", "-w", "5", hops[3].addr),
			"\n 2  "+hops[1].addr+" <MPLS:L=16001,E=0,S=0,T=1/L=17,E=0,S=1,T=1>  ")
	}
}

func TestScamper(t *testing.T) {
	t.Parallel()
	h := netlab.New(t).Host("a")
	attach(t, h, start(t, line(), nil), tun.Config{Site: "a"})
	for method, hops := range map[string][]want{"udp-paris": hops4, "icmp-paris": hops6} {
		t.Run(method, func(t *testing.T) {
			requireHops(t, h, hops, "scamper", "-I", fmt.Sprintf("trace -P %s %s", method, hops[3].addr))
		})
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	h := netlab.New(t).Host("a")
	attach(t, h, start(t, line(), nil), tun.Config{Site: "a"})
	for _, hops := range [][]want{hops4, hops6} {
		t.Run(hops[3].addr, func(t *testing.T) {
			best := time.Hour
			for range runs {
				text := run(t, h, "ping", "-n", "-c", "2", "-i", "0.2", hops[3].addr)
				for _, m := range regexp.MustCompile(`bytes from (\S+): .*(?:ttl|hlim)=(\d+) time=(\S+) ms`).FindAllStringSubmatch(text, -1) {
					require.Equal(t, []string{hops[3].addr, "61"}, m[1:3], text)
					best = min(best, least(t, m[3]))
				}
				if best <= hops[3].rtt+slack {
					break
				}
			}
			require.GreaterOrEqual(t, best, hops[3].rtt)
			require.LessOrEqual(t, best, hops[3].rtt+slack)
		})
	}
}
