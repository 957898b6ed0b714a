//go:build unix

package blockfile_test

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/examples/internal/blockfile"
)

// lines is a log whose lines come over a channel.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestFollow changes the file under a running program.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write("192.0.2.0/24 # they asked\n")
	list, err := blockfile.Open(path)
	require.NoError(t, err)
	log := make(lines, 1)
	stop := blockfile.Follow(path, list, slog.New(slog.NewTextHandler(log, nil)))
	defer stop()
	again := func(text string) string {
		write(text)
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		return <-log
	}
	blocked := func(addr string) bool {
		_, blocked := list.Lookup(netip.MustParseAddr(addr))
		return blocked
	}
	require.True(t, blocked("192.0.2.1"))
	require.Contains(t, again("198.51.100.0/24\n203.0.113.7\n"), "rules=2")
	require.False(t, blocked("192.0.2.1"))
	require.True(t, blocked("203.0.113.7"))
	said := again("192.0.2.1\nexample.com\n")
	require.Contains(t, said, "the old one holds")
	require.Contains(t, said, "line 2")
	require.Contains(t, said, "rules=2")
	require.True(t, blocked("203.0.113.7"))
	require.False(t, blocked("192.0.2.1"))
}

func TestOpen(t *testing.T) {
	list, err := blockfile.Open("")
	require.NoError(t, err)
	require.Nil(t, list)
	blockfile.Follow("", list, nil)()
	missing := filepath.Join(t.TempDir(), "missing")
	_, err = blockfile.Open(missing)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.True(t, strings.HasPrefix(err.Error(), "--blocklist: open "+missing), err.Error())
	wrong := filepath.Join(t.TempDir(), "wrong")
	require.NoError(t, os.WriteFile(wrong, []byte("192.0.2.0/33"), 0o600))
	_, err = blockfile.Open(wrong)
	require.ErrorContains(t, err, `line 1: "192.0.2.0/33": must be`)
}
