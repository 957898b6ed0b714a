package grpctransport_test

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOriginalPythonClient runs a client as the original Voltadomar's is
// written: grpc.insecure_channel and a unary call.
func TestOriginalPythonClient(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import grpc").CombinedOutput(); err != nil {
		t.Skipf("python3 with grpcio is not here: %v: %s", err, out)
	}
	s, _ := serve(t, &users{command: func(_ context.Context, line string) (int, string) {
		return 200, "Traceroute by " + line + "\n 1  *\n"
	}})
	for _, test := range []struct{ command, want string }{
		{"volta node1 exämple.com -m 30", "200\nTraceroute by volta node1 exämple.com -m 30\n 1  *\n"},
		{"volta \xff", "400\ncommand: byte 6, 0xff, is not UTF-8"},
	} {
		out, err := exec.CommandContext(t.Context(), "python3", "testdata/original_client.py", s.Addr().String(), test.command).Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			t.Fatalf("python3: %v: %s", err, exit.Stderr)
		}
		require.NoError(t, err)
		require.Equal(t, test.want, string(out))
	}
}
