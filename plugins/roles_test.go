package plugins_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// roles are what the test binary is in another process, by MODE.
var roles = map[string]func(){
	"udp":  func() { plugins.Serve(udp.Prober{}) },
	"icmp": func() { plugins.Serve(icmp.Prober{}) },
	"tcp":  func() { plugins.Serve(tcp.Prober{}) },
}

func config(t testing.TB, mode string) plugins.Config {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	c := plugins.Config{Path: path, Env: []string{"MODE=" + mode}}
	if testing.Verbose() {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return c
}

func open(t testing.TB, c plugins.Config) *plugins.Plugin {
	t.Helper()
	p, err := plugins.Open(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}
