package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// TestDemonstration runs what a newcomer runs first.
func TestDemonstration(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), nil, &stdout, &stderr), stderr.String())
	require.Empty(t, stderr.String())
	out := stdout.String()
	require.True(t, strings.HasPrefix(out, `SIMULATED network "two-site": nothing here leaves this process.`), out)
	for _, s := range []string{" -I", " -T", "-> Sent by a. Answers landed: from hops 1 to 2 at a, from hops 3 to 5 at b.\n"} {
		require.Contains(t, out, s)
	}
}

func TestScenarios(t *testing.T) {
	for _, tt := range []struct {
		args, stdout string
	}{
		{"--scenario two-site a target.example -q 1", "1  r1.example (198.18.0.2) a  4.000 ms\n"},
		{"a 203.0.113.10 -n -q 1 -I", "5  203.0.113.10 b  42.000 ms\n"},
		{"b 203.0.113.10 -n -q 1", "-> Sent by b. Answers landed: from hops 1 to 3 at b.\n"},
		{"--scenario silent a 203.0.113.10 -n -m 2 -w 0.01", "-> Sent by a. No site caught an answer.\n"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Zero(t, run(t.Context(), strings.Fields(tt.args), &stdout, &stderr), stderr.String())
			require.Contains(t, stdout.String(), "SIMULATED")
			require.Contains(t, stdout.String(), tt.stdout)
		})
	}
}

// TestScenarioFile runs a scenario of the user's, which expects nothing.
func TestScenarioFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
sites: [{name: here, addresses: [192.0.2.1]}]
hosts: [{name: there, addresses: [203.0.113.10]}]
links: [here --1ms-- r --1ms-- there]
`), 0o600))
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"--scenario", file}, &stdout, &stderr), stderr.String())
	require.Equal(t, 3, strings.Count(stdout.String(), "2  203.0.113.10 (203.0.113.10) here  4.000 ms  4.000 ms  4.000 ms\n"), stdout.String())

	require.NoError(t, os.WriteFile(file, []byte("links:\n  - draw: a -- r\n    dealy: 5ms\n"), 0o600))
	for _, args := range [][]string{{"--scenario", file}, {"--serve", "--scenario", file}} {
		stderr.Reset()
		require.Equal(t, 1, run(t.Context(), args, &stdout, &stderr))
		require.Contains(t, stderr.String(), file+":3: links[0].dealy: ")
	}
	stderr.Reset()
	require.Equal(t, 1, run(t.Context(), []string{"--scenario", "no-such"}, &stdout, &stderr))
	for _, name := range append(scenario.Names(), "no-such") {
		require.Contains(t, stderr.String(), name)
	}
}

// TestServedScenario reaches a simulated fleet over gRPC.
func TestServedScenario(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	var stderr bytes.Buffer
	done := make(chan int)
	go func() { done <- run(ctx, []string{"--serve", "--port", "0", "--scenario", "two-site"}, w, &stderr) }()
	out := make([]byte, 4096)
	n, err := r.Read(out)
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(out[:n]), "\n")
	addr, ok := strings.CutPrefix(line, "serving on ")
	require.True(t, ok, line)

	client, err := grpctransport.NewClient(grpctransport.ClientConfig{Addr: addr})
	require.NoError(t, err)
	code, text, err := client.UserRequest(ctx, "volta a target.example -q 1")
	require.NoError(t, err)
	require.Equal(t, 200, code, text)
	require.Contains(t, text, "5  target.example (203.0.113.10) b  42.000 ms")
	require.NoError(t, client.Close())
	stop()
	require.Zero(t, <-done)
	require.NoError(t, w.Close())
}
