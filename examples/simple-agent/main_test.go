package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, stderr string }{
		{"", "-i ID is missing"},
		{"-i node1", "-c CONTROLLER is missing"},
		{"-c localhost:1", "-i ID is missing"},
		{"-i node1 -c localhost:1 example.com", `"example.com": takes no operands`},
		{"-i node1 -c localhost:1 --nonsense", "unknown flag: --nonsense"},
		{"-i node1 -c localhost", `"localhost": want host:port`},
		{"-i node1 -c localhost:1 --source somewhere", `--source "somewhere": must be an IP address`},
		{"-i node1 -c localhost:1 --source 192.0.2.300", `--source "192.0.2.300": must be an IP address`},
		{"-i node1 -c localhost:1 --source 192.0.2.0/24", `--source "192.0.2.0/24": must be an IP address`},
		{"-i node1 -c 192.0.2.1:50051", "192.0.2.1:50051: refusing plain text beyond loopback"},
		{"-i node1 -c localhost:1 -c controller.example.com:50051", "controller.example.com:50051: refusing plain text beyond loopback"},
		{"-i node1 -c localhost:1 --ca /nonexistent", "/nonexistent"},
		{"-i node1 -c localhost:1 --plugin=", `--plugin "": must be PATH or PATH,sha256=HEX`},
		{"-i node1 -c localhost:1 --plugin ,sha256=" + strings.Repeat("0", 64), `: must be PATH or PATH,sha256=HEX`},
		{"-i node1 -c localhost:1 --plugin ./dns,sha256=abc", `--plugin "./dns,sha256=abc": "abc": a checksum must be 64 hexadecimal digits`},
	} {
		t.Run(tt.args, func(t *testing.T) { requireWrong(t, tt.args, tt.stderr) })
	}
}

func requireWrong(t *testing.T, args, reason string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	require.Equal(t, 2, run(t.Context(), strings.Fields(args), &stdout, &stderr), stderr.String())
	require.Empty(t, stdout.String())
	require.Regexp(t, `^simple-agent: `, stderr.String())
	require.Contains(t, stderr.String(), reason)
	require.True(t, strings.HasSuffix(stderr.String(), "\nTry 'simple-agent --help'.\n"))
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "-h", "-i node1 --help", "node1 --help"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Zero(t, run(t.Context(), strings.Fields(args), &stdout, &stderr))
			require.Empty(t, stderr.String())
			for _, s := range []string{"Usage: simple-agent -i ID -c CONTROLLER", "CAP_NET_RAW", "--source ADDRESS", "--insecure", "--plugin PATH[,sha256=HEX]", "--ca"} {
				require.Contains(t, stdout.String(), s)
			}
		})
	}
}

// Without privileges or a Linux kernel there is no port, and the agent says so.
func TestPort(t *testing.T) {
	port, err := volta.OpenPort(volta.PortConfig{})
	if errors.Is(err, probe.ErrPermission) || errors.Is(err, probe.ErrUnsupported) {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 1, run(t.Context(), []string{"-i", "node1", "-c", "localhost:1"}, &stdout, &stderr))
		require.Contains(t, stderr.String(), err.Error())
		return
	}
	require.NoError(t, err)
	require.NoError(t, port.Close())

	requireWrong(t, "-i no/node -c localhost:1", "no/node: an agent's id must be")
	for args, reason := range map[string]string{
		"--source 192.0.2.77":                   "192.0.2.77",
		"--source 127.0.0.1 --source 127.0.0.2": "127.0.0.2",
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 1, run(t.Context(), strings.Fields("-i node1 -c localhost:1 "+args), &stdout, &stderr))
		require.Contains(t, stderr.String(), "simple-agent: ")
		require.Contains(t, stderr.String(), "unusable source address "+reason)
	}
}

// An agent that cannot have a plugin that it was told to load does not start.
func TestPluginThatDoesNotStart(t *testing.T) {
	if err := plugins.Supported(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte("no program"), 0o755))
	for _, tt := range []struct{ plugin, stderr string }{
		{filepath.Join(dir, "missing"), "simple-agent: plugin " + filepath.Join(dir, "missing") + ": "},
		{text, "simple-agent: plugin " + text + ": "},
		{text + ",sha256=" + strings.Repeat("0", 64), "checksum"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 1, run(t.Context(), []string{"-i", "node1", "-c", "localhost:1", "--plugin", tt.plugin}, &stdout, &stderr))
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), tt.stderr)
	}
}
