package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/tun"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, stderr string }{
		{"two-site", `"two-site": takes no operands`},
		{"--nonsense", "unknown flag: --nonsense"},
		{"--route 192.0.2.1", `--route "192.0.2.1": must be a prefix such as 192.0.2.0/24`},
		{"--site c", `--site: unknown node: "c", want one of the sites a, b`},
		{"--site target", `--site: unknown node: "target", want one of the sites a, b`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, 2, run(t.Context(), strings.Fields(tt.args), &stdout, &stderr), stderr.String())
			require.Empty(t, stdout.String())
			require.Regexp(t, `^simple-network: `, stderr.String())
			require.Contains(t, stderr.String(), tt.stderr)
			require.True(t, strings.HasSuffix(stderr.String(), "\nTry 'simple-network --help'.\n"))
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "-h", "--site c --help"} {
		var stdout, stderr bytes.Buffer
		require.Zero(t, run(t.Context(), strings.Fields(args), &stdout, &stderr))
		require.Empty(t, stderr.String())
		for _, s := range append(scenario.Names(), "Usage: simple-network", "CAP_NET_ADMIN", "--site SITE", "--device NAME", "--route PREFIX") {
			require.Contains(t, stdout.String(), s)
		}
	}
}

func TestScenario(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	require.NoError(t, os.WriteFile(empty, []byte("hosts: [{name: h}]\n"), 0o600))
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("sites:\n  - nam: a\n"), 0o600))
	for _, tt := range []struct {
		file   string
		status int
		stderr string
	}{
		{"no-such", 1, "no-such"},
		{bad, 1, "bad.yaml:2"},
		{empty, 2, "want one of the sites"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, tt.status, run(t.Context(), []string{"--scenario", tt.file}, &stdout, &stderr), stderr.String())
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), tt.stderr)
	}
}

// Without privileges or a Linux kernel there is no device, and the program says
// so. With them see the tests in namespaces.
func TestDevice(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may make devices")
	}
	var stdout, stderr bytes.Buffer
	require.Equal(t, 1, run(t.Context(), nil, &stdout, &stderr))
	require.Empty(t, stdout.String())
	require.Regexp(t, "^simple-network: ("+tun.ErrPermission.Error()+"|"+tun.ErrUnsupported.Error()+"): ", stderr.String())
}

func TestAdvice(t *testing.T) {
	for _, name := range scenario.Names() {
		s, err := scenario.Named(name)
		require.NoError(t, err)
		require.Contains(t, advise(s, s.Sites[0].Name), "traceroute -n ", name)
	}
	s, err := scenario.Named("two-site")
	require.NoError(t, err)
	text := advise(s, "a")
	require.Contains(t, text, "traceroute -n 203.0.113.10\n")
	require.Contains(t, text, "traceroute -n -s 192.0.2.1 203.0.113.10\n")
	require.Contains(t, text, "traceroute -n -s 2001:db8:ff::1 2001:db8:fe::10\n")
	require.Contains(t, text, "lands at another one than a")
	s.Sites = s.Sites[:1]
	require.NotContains(t, advise(s, "a"), "share")
	require.Empty(t, advise(&simnet.Scenario{}, "a"))
}
