package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, stderr string }{
		{"--port 50051", "--port without --serve"},
		{"--cert cert.pem --key key.pem", "cert.pem"},
		{"--insecure", "--insecure without --serve"},
		{"--scenario two-site --local 127.0.0.1", "--scenario and --local exclude each other"},
		{"a", "destination is missing"},
		{"a 203.0.113.10 -m 300", "-m 300: max hops must be 1 to 255"},
		{"--serve example.com", `"example.com": --serve takes no operands`},
		{"--serve --nonsense", "unknown flag: --nonsense"},
		{"--serve --local 127.0.0.1", "--serve and --local exclude each other"},
		{"--serve --listen 127.0.0.1:0 --port 0", "--listen and --port exclude each other"},
		{"--serve --range 10000", `--range "10000": must be START-END with 1 <= START < END <= 65536`},
		{"--serve --range 0-10", `--range "0-10": must be`},
		{"--serve --range 10-10", `--range "10-10": must be`},
		{"--serve --range 20-10", `--range "20-10": must be`},
		{"--serve --range 1-65537", `--range "1-65537": must be`},
		{"--serve --range a-b", `--range "a-b": must be`},
		{"--serve --range=-5-10", `--range "-5-10": must be`},
		{"--serve --range 1-2-3", `--range "1-2-3": must be`},
		{"--serve --range 5-99999999999999999999", `--range "5-99999999999999999999": must be`},
		{"--serve --block 0", "--block 0: must be 1 to 10000, the size of --range 10000-20000"},
		{"--serve --block -1", "--block -1: must be 1 to 10000"},
		{"--serve --range 1-11 --block 11", "--block 11: must be 1 to 10, the size of --range 1-11"},
		{"--serve --block many", `"many"`},
		{"--block 0 --local 127.0.0.1", "--block 0: must be 1 to 10000"},
		{"--serve --port 65536", "--port 65536: must be 0 to 65535"},
		{"--serve --port -1", "--port -1: must be 0 to 65535"},
		{"--serve --listen 127.0.0.1", `"127.0.0.1": want host:port`},
		{"--serve --listen 127.0.0.1:65536", "65536"},
		{"--serve --listen 0.0.0.0:0", "0.0.0.0:0: refusing plain text beyond loopback"},
		{"--serve --listen [::]:0", "[::]:0: refusing plain text beyond loopback"},
		{"--serve --listen :0", ":0: refusing plain text beyond loopback"},
		{"--serve --listen 192.0.2.1:0", "192.0.2.1:0: refusing plain text beyond loopback"},
		{"--serve --ca ca.pem", "TLS needs --cert and --key"},
		{"--serve --cert /nonexistent --key /nonexistent", "/nonexistent"},
		{"--local", "--local TARGET is missing"},
		{"--local 127.0.0.1 -m 300", "-m 300: max hops must be 1 to 255"},
		{"--local=127.0.0.1 -q 1000", "-q 1000: "},
		{"--local 127.0.0.1 --serve", "--serve"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, 2, run(t.Context(), strings.Fields(tt.args), &stdout, &stderr), stderr.String())
			require.Empty(t, stdout.String())
			require.Regexp(t, `^simple-controller: `, stderr.String())
			require.Contains(t, stderr.String(), tt.stderr)
			require.True(t, strings.HasSuffix(stderr.String(), "\nTry 'simple-controller --help'.\n"))
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "-h", "--serve --help", "--local --help", "--local example.com -m 5 --help", "--help --local example.com"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Zero(t, run(t.Context(), strings.Fields(args), &stdout, &stderr))
			require.Empty(t, stderr.String())
			for _, s := range []string{"Usage: simple-controller [--scenario NAME|FILE]", "--serve", "two-site", "--local TARGET", "--listen ADDRESS", "--port PORT", "--range START-END", "--block", "--insecure", "--cert", "--ca"} {
				require.Contains(t, stdout.String(), s)
			}
			require.Contains(t, stdout.String(), volta.Usage())
		})
	}
}

// Plain text beyond loopback goes ahead if it is asked for, or if it is none.
func TestInsecure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range []string{"--listen 127.0.0.1:0", "--port 0", "--listen 0.0.0.0:0 --insecure", "--port 0 --insecure"} {
		var stdout, stderr bytes.Buffer
		require.Zero(t, run(ctx, append([]string{"--serve"}, strings.Fields(args)...), &stdout, &stderr), stderr.String())
		host := `127\.0\.0\.1|\[::1\]`
		if strings.Contains(args, "--insecure") {
			host = `0\.0\.0\.0|\[::\]`
		}
		require.Regexp(t, `^serving on (`+host+`):[1-9]\d*\n$`, stdout.String())
	}
}

// needPort skips the test if this process may not open a port.
func needPort(t *testing.T) {
	t.Helper()
	port, err := volta.OpenPort(volta.PortConfig{})
	if errors.Is(err, probe.ErrPermission) || errors.Is(err, probe.ErrUnsupported) {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 1, run(t.Context(), []string{"--local", "127.0.0.1"}, &stdout, &stderr))
		require.Equal(t, "simple-controller: "+err.Error()+"\n", stderr.String())
		t.Skipf("a local trace cannot be run here: %v", err)
	}
	require.NoError(t, err)
	require.NoError(t, port.Close())
}

func TestLocal(t *testing.T) {
	needPort(t)
	for _, args := range []string{"--local 127.0.0.1 -n", "--local=127.0.0.1 -n -I", "--range 40000-40300 --local 127.0.0.1 -n -T -p 9", "--local -n 127.0.0.1 -w 20,0,0"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Zero(t, run(t.Context(), strings.Fields(args), &stdout, &stderr), stderr.String())
			require.Empty(t, stderr.String())
			require.Regexp(t, `^Traceroute to 127\.0\.0\.1 \(127\.0\.0\.1\) from local, 3 probes, 30 hops max\n`+
				`1  127\.0\.0\.1 local(  \d+\.\d{3} ms){3}\n$`, stdout.String())
		})
	}
	t.Run("too few identifiers", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 1, run(t.Context(), strings.Fields("--range 1-11 --block 10 --local 127.0.0.1 -n"), &stdout, &stderr))
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), "90 asked for, the range 1-11 has 10")
	})
	t.Run("interrupted before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("interrupt signal received"))
		var stdout, stderr bytes.Buffer
		require.Equal(t, 1, run(ctx, []string{"--local", "127.0.0.1"}, &stdout, &stderr))
		require.Equal(t, "simple-controller: interrupt signal received\n", stderr.String())
	})
	t.Run("lost output", func(t *testing.T) {
		var stderr bytes.Buffer
		require.Equal(t, 1, run(t.Context(), []string{"--local", "127.0.0.1", "-n"}, full{}, &stderr))
		require.Equal(t, "simple-controller: no space left on device\n", stderr.String())
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
