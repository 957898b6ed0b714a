package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// users answers every measurement with the same.
type users struct {
	args  chan []string
	trace *result.Trace
	err   error
	types map[string][]probe.Type
}

func (u *users) Do(_ context.Context, args []string, _ func(result.Event)) (*result.Trace, error) {
	u.args <- args
	return u.trace, u.err
}
func (*users) Command(context.Context, string) (int, string) { return 200, "" }
func (*users) Agents() []string                              { return nil }
func (u *users) Types() map[string][]probe.Type              { return u.types }

// serve returns the address of a controller that answers with trace and err.
func serve(t *testing.T, trace *result.Trace, err error) (addr string, args <-chan []string) {
	t.Helper()
	u := &users{args: make(chan []string, 2), trace: trace, err: err}
	s, listenErr := grpctransport.Listen(grpctransport.ServerConfig{Addr: "127.0.0.1:0", Users: u})
	require.NoError(t, listenErr)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.Addr().String(), u.args
}

// sample has a probe with all that JSON could lose.
func sample() *result.Trace {
	rtt := 1234567 * time.Nanosecond
	sent := time.Date(2024, 5, 1, 12, 0, 0, 123456789, time.UTC)
	target := netip.MustParseAddr("203.0.113.10")
	return &result.Trace{
		Target: "example.com", Destination: target, Source: "node1", Prober: "udp", Port: 33434, Flow: "paris", Flows: 1,
		FirstTTL: 1, MaxTTL: 30, Queries: 1, Started: sent, Ended: sent.Add(time.Second), Reached: true,
		Clocks: map[string]result.Clock{"node1": {Name: "one"}, "node2": {Name: "two"}},
		Counts: result.Counts{Sent: 1, Matched: 1},
		Hops: []result.Hop{{TTL: 1, Probes: []result.Probe{{
			ID: 10000, TTL: 1, Destination: target, Sent: sent, SentStamp: "kernel",
			Verdict: result.Matched, Receiver: "node2", Addr: target, Received: sent.Add(rtt), RecvStamp: "kernel",
			RTT: &rtt, Kind: "port-unreachable", ICMPType: 3, ICMPCode: 3, ReplyTTL: 64, QuotedTTL: 1,
		}}}},
	}
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, stderr string }{
		{"", "source and destination are missing"},
		{"node1", "the destination is missing"},
		{"node1 example.com -m 300", "-m 300: max hops must be 1 to 255"},
		{"node1 example.com -q 0", "-q 0: "},
		{"node1 example.com -w -1", "-w -1: "},
		{"node1 example.com -t 999", "-t 999: "},
		{"node1 example.com -A", "-A"},
		{"node1 example.com --json", "--json: unknown option"},
		{"--types node1", `"node1": --types takes no operands`},
		{"no/node example.com", "no/node: an agent's id must be"},
		{"--nonsense node1 example.com", "unknown flag: --nonsense"},
		{"-c", "flag needs an argument"},
		{"-c localhost node1 example.com", `"localhost": want host:port`},
		{"-c 192.0.2.1:50051 node1 example.com", "192.0.2.1:50051: refusing plain text beyond loopback"},
		{"-c [2001:db8::1]:50051 node1 example.com", "[2001:db8::1]:50051: refusing plain text beyond loopback"},
		{"--ca /nonexistent node1 example.com", "/nonexistent"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, 2, run(t.Context(), strings.Fields(tt.args), &stdout, &stderr))
			require.Empty(t, stdout.String())
			require.Regexp(t, `^simple-client: `, stderr.String())
			require.Contains(t, stderr.String(), tt.stderr)
			require.True(t, strings.HasSuffix(stderr.String(), "\nTry 'simple-client --help'.\n"))
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "-h", "--json --help", "node1 example.com --help", "--help node1"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Zero(t, run(t.Context(), strings.Fields(args), &stdout, &stderr))
			require.Empty(t, stderr.String())
			for _, s := range []string{"Usage: simple-client", "--controller", "--insecure", "--json", "--types", "--ca", volta.Usage()} {
				require.Contains(t, stdout.String(), s)
			}
		})
	}
}

func TestTypes(t *testing.T) {
	dns := probe.Type{Name: "dns", Help: "asks a server\x1b[2J for its name", Port: 53, Remote: true, Options: []probe.Option{
		{Name: "query", Kind: probe.ChoiceOption, Choices: []string{"id.server", "nsid"}, Default: "nsid", Help: "what is asked"},
		{Name: "name", Kind: probe.StringOption}, {Name: "edns", Kind: probe.BoolOption, Default: "true"},
		{Name: "wait", Kind: probe.DurationOption, Default: "5ms"}, {Name: "strange", Kind: 9},
	}}
	older := dns
	older.Options = nil
	all := map[string][]probe.Type{"b": {{Name: "udp"}, dns}, "a": {{Name: "udp"}}, "c": {dns, older}, "none": nil}
	for _, tt := range []struct {
		types map[string][]probe.Type
		want  string
	}{
		{nil, "no agent is connected\n"},
		{all, `dns  at b, c
    asks a server?[2J for its name (port 53)
    -o query=id.server|nsid (nsid): what is asked
    -o name=STRING
    -o edns=true|false (true)
    -o wait=DURATION (5ms)
    -o strange=
dns  at c
    asks a server?[2J for its name (port 53)
udp  at a, b
`},
	} {
		s, err := grpctransport.Listen(grpctransport.ServerConfig{Addr: "127.0.0.1:0", Users: &users{types: tt.types}})
		require.NoError(t, err)
		var stdout, stderr bytes.Buffer
		require.Zero(t, run(t.Context(), []string{"-c", s.Addr().String(), "--types"}, &stdout, &stderr), stderr.String())
		require.Equal(t, tt.want, stdout.String())
		require.NoError(t, s.Close())
	}
	dns.Options = dns.Options[:4]
	want := map[string][]probe.Type{"a": {dns}}
	s, err := grpctransport.Listen(grpctransport.ServerConfig{Addr: "127.0.0.1:0", Users: &users{types: want}})
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"-c", s.Addr().String(), "--json", "--types"}, &stdout, &stderr), stderr.String())
	var got map[string][]probe.Type
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &got))
	require.Equal(t, want, got)
	require.NoError(t, s.Close())
	require.Equal(t, 1, run(t.Context(), []string{"-c", s.Addr().String(), "--types"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "simple-client: controller ")
}

func TestResult(t *testing.T) {
	partial := sample()
	partial.Partial, partial.Reached = "agent node1 disconnected", false
	for name, tt := range map[string]struct {
		trace  *result.Trace
		err    error
		status int
		stderr string
	}{
		"success": {sample(), nil, 0, ""},
		"partial": {partial, &volta.Error{Code: 503, Reason: `agent "node1" disconnected`}, 1, "simple-client: agent \"node1\" disconnected\n"},
		"refused": {nil, &volta.Error{Code: 404, Reason: `unknown agent "node1"`}, 1, "simple-client: unknown agent \"node1\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, args := serve(t, tt.trace, tt.err)
			var stdout, stderr bytes.Buffer
			require.Equal(t, tt.status, run(t.Context(), []string{"-c", addr, "node1", "example.com", "-m", "5", "-I"}, &stdout, &stderr))
			require.Equal(t, []string{"node1", "example.com", "-m", "5", "-I"}, <-args)
			require.Equal(t, tt.stderr, stderr.String())
			if tt.trace == nil {
				require.Empty(t, stdout.String())
			} else {
				require.Equal(t, tt.trace.Text()+"\n", stdout.String())
			}

			stdout.Reset()
			stderr.Reset()
			require.Equal(t, tt.status, run(t.Context(), []string{"-c", addr, "--json", "node1", "example.com"}, &stdout, &stderr))
			require.Equal(t, tt.stderr, stderr.String())
			if tt.trace == nil {
				require.Empty(t, stdout.String())
				return
			}
			var got result.Trace
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &got))
			require.Equal(t, tt.trace, &got)
		})
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	addr := l.Addr().String()
	var stdout, stderr bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-c", addr, "node1", "example.com"}, &stdout, &stderr))
	require.Empty(t, stdout.String())
	require.Contains(t, stderr.String(), "simple-client: controller "+addr+": ")
}

func TestInterrupted(t *testing.T) {
	why := errors.New("interrupt signal received")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	addr, _ := serve(t, sample(), nil)
	var stdout, stderr bytes.Buffer
	require.Equal(t, 1, run(ctx, []string{"-c", addr, "node1", "example.com"}, &stdout, &stderr))
	require.Empty(t, stdout.String())
	require.Equal(t, "simple-client: interrupt signal received\n", stderr.String())
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestLostOutputIsAFailure(t *testing.T) {
	addr, _ := serve(t, sample(), nil)
	var stderr bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-c", addr, "node1", "example.com"}, full{}, &stderr))
	require.Equal(t, "simple-client: no space left on device\n", stderr.String())
}
