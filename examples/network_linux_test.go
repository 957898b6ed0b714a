package examples_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
)

// devices returns the names of a host's devices but its loopback.
func devices(t *testing.T, host *netlab.Host) (names []string) {
	t.Helper()
	require.NoError(t, host.Do(func() error {
		all, err := net.Interfaces()
		for _, i := range all {
			if i.Flags&net.FlagLoopback == 0 {
				names = append(names, i.Name)
			}
		}
		return err
	}))
	return names
}

// A host that becomes a site traces over the simulated network, by our own
// program and by others.
func TestNetwork(t *testing.T) {
	host := netlab.New(t).Host("a")
	network := start(t, host, "simple-network", "--site", "a", "--device", "net-a")
	network.await(&network.stdout, `Interrupt to end\.\n`, 1)
	require.Contains(t, network.stdout.String(), `SIMULATED network "two-site": device net-a is its site a`)
	require.Equal(t, []string{"net-a"}, devices(t, host))

	hops := []string{"198.18.0.2", "198.18.1.2", "198.18.2.2", "198.18.3.2", "203.0.113.10"}
	status, stdout, stderr := run(t, host, "simple-controller", "--local", "203.0.113.10", "-n", "-q", "1")
	require.Zero(t, status, stderr)
	text := lines(t, stdout)
	require.Len(t, text, 6)
	for i, hop := range hops {
		require.Regexp(t, fmt.Sprintf(`^%d  %s local  \d+\.\d{3} ms$`, i+1, strings.ReplaceAll(hop, ".", `\.`)), text[i+1])
	}
	t.Run("traceroute", func(t *testing.T) {
		path, err := exec.LookPath("traceroute")
		if err != nil {
			t.Skip("traceroute is not installed")
		}
		var out []byte
		require.NoError(t, host.Do(func() (err error) {
			out, err = exec.Command(path, "-n", "-q", "1", "203.0.113.10").Output()
			return err
		}))
		text := lines(t, string(out))
		require.Len(t, text, 6)
		for i, hop := range hops {
			require.Regexp(t, fmt.Sprintf(`^ %d  %s  \d+\.\d+ ms$`, i+1, strings.ReplaceAll(hop, ".", `\.`)), text[i+1])
		}
	})

	t.Run("taken", func(t *testing.T) {
		status, stdout, stderr := run(t, host, "simple-network", "--site", "b", "--device", "net-a")
		require.Equal(t, 1, status)
		require.Empty(t, stdout)
		require.Equal(t, "simple-network: device name \"net-a\": taken\n", stderr)
	})
	require.True(t, network.running())
}

func TestSignalToNetwork(t *testing.T) {
	host := netlab.New(t).Host("a")
	for _, end := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(end.String(), func(t *testing.T) {
			network := start(t, host, "simple-network", "--route", "0.0.0.0/0", "--route", "::/0")
			network.await(&network.stdout, `device sim0 is its site a`, 1)
			network.await(&network.stdout, `Interrupt to end\.\n`, 1)
			network.signal(end)
			if status := network.wait(promptly); end != syscall.SIGKILL {
				require.Zero(t, status)
				require.Empty(t, network.stderr.String())
			}
			require.Empty(t, devices(t, host), "nothing stays behind")
		})
	}
}
