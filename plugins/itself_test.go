//go:build unix

package plugins_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
)

// byItself runs a plugin as nothing but the contract says, and connects to it,
// or has a stranger connect.
func byItself(t *testing.T, mode string, strange bool) (*grpc.ClientConn, *exec.Cmd) {
	t.Helper()
	cert, pem, err := plugins.Certificate()
	require.NoError(t, err)
	if strange {
		cert, _, err = plugins.Certificate()
		require.NoError(t, err)
	}
	dir, err := os.MkdirTemp("", "by-itself")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	cmd := exec.Command(config(nil, mode).Path)
	cmd.Env = []string{
		"MODE=" + mode, "VOLTADOMAR_PLUGIN_COOKIE=d6b9e1f2-probe", "PLUGIN_PROTOCOL_VERSIONS=2,1",
		"PLUGIN_UNIX_SOCKET_DIR=" + dir, "PLUGIN_CLIENT_CERT=" + pem,
	}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	fields := strings.Split(strings.TrimSpace(line), "|")
	require.Len(t, fields, 6)
	require.Equal(t, []string{"1", "1", "unix"}, fields[:3])
	require.Equal(t, "grpc", fields[4])
	der, err := base64.RawStdEncoding.DecodeString(fields[5])
	require.NoError(t, err)
	theirs, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(theirs)
	conn, err := grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return net.Dial("unix", fields[3]) }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: "localhost"})))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn, cmd
}

func session(t *testing.T, conn *grpc.ClientConn) (pluginv1.Plugin_SessionClient, context.CancelFunc) {
	t.Helper()
	ctx, hangUp := context.WithCancel(t.Context())
	t.Cleanup(hangUp)
	stream, err := pluginv1.NewPluginClient(conn).Session(ctx)
	require.NoError(t, err)
	return stream, hangUp
}

// A plugin that nobody confines ends with its host all the same.
func TestServeEndsWithTheHost(t *testing.T) {
	t.Parallel()
	conn, cmd := byItself(t, "udp", false)
	stream, hangUp := session(t, conn)
	m, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, "udp", m.GetDescription().GetName())
	second, _ := session(t, conn)
	_, err = second.Recv()
	require.ErrorContains(t, err, "there is a session already")
	hangUp()
	require.NoError(t, cmd.Wait())
}

// A plugin takes no host but the one that started it.
func TestServeRefusesStrangers(t *testing.T) {
	t.Parallel()
	conn, _ := byItself(t, "udp", true)
	stream, err := pluginv1.NewPluginClient(conn).Session(t.Context())
	if err == nil {
		_, err = stream.Recv()
	}
	require.Equal(t, codes.Unavailable, status.Code(err), err)
}
