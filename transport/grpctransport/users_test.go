package grpctransport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
	"bitbucket.org/uwpatio/voltadomar/transport/internal/fill"
)

// users is a controller to users, made of functions.
type users struct {
	do      func(ctx context.Context, args []string, each func(result.Event)) (*result.Trace, error)
	command func(ctx context.Context, line string) (int, string)
	agents  []string
	types   map[string][]probe.Type
}

func (u *users) Do(ctx context.Context, args []string, each func(result.Event)) (*result.Trace, error) {
	return u.do(ctx, args, each)
}

func (u *users) Command(ctx context.Context, line string) (int, string) { return u.command(ctx, line) }

func (u *users) Agents() []string { return u.agents }

func (u *users) Types() map[string][]probe.Type { return u.types }

// serve joins a client with users.
func serve(t testing.TB, u *users) (*grpctransport.Server, *grpctransport.Client) {
	t.Helper()
	s := listen(t, grpctransport.ServerConfig{Users: u})
	return s, newClient(t, grpctransport.ClientConfig{Addr: s.Addr().String()})
}

// coded is an error with a code as in HTTP.
type coded struct {
	code int
	text string
}

func (c coded) Error() string   { return c.text }
func (c coded) StatusCode() int { return c.code }

func TestMeasure(t *testing.T) {
	trace := fill.New[result.Trace](t, 1)
	_, c := serve(t, &users{do: func(_ context.Context, args []string, each func(result.Event)) (*result.Trace, error) {
		require.Equal(t, []string{"node1", "example.com", "-m", "30"}, args)
		for i := range trace.Hops {
			for j := range trace.Hops[i].Probes {
				each(result.Event{Probe: &trace.Hops[i].Probes[j]})
			}
		}
		return &trace, nil
	}})
	var events []result.Event
	got, err := c.Measure(within(t), []string{"node1", "example.com", "-m", "30"}, func(e result.Event) { events = append(events, e) })
	require.NoError(t, err)
	require.Equal(t, &trace, got)
	var want []result.Event
	for i := range trace.Hops {
		for j := range trace.Hops[i].Probes {
			want = append(want, result.Event{Probe: &trace.Hops[i].Probes[j]})
		}
	}
	require.Equal(t, append(want, result.Event{Trace: &trace}), events)

	got, err = c.Measure(within(t), []string{"node1", "example.com", "-m", "30"}, nil)
	require.NoError(t, err)
	require.Equal(t, &trace, got)
}

func TestMeasureErrors(t *testing.T) {
	partial := &result.Trace{Target: "example.com", Partial: "agent lost", Destination: netip.MustParseAddr("192.0.2.1")}
	for _, test := range []struct {
		name    string
		err     error
		code    int
		message string
		status  codes.Code
	}{
		{"bad request", coded{400, "-m 300: must be 1 to 255"}, 400, "-m 300: must be 1 to 255", codes.InvalidArgument},
		{"unknown agent", coded{404, "unknown agent"}, 404, "unknown agent", codes.NotFound},
		{"too many", coded{429, "too many"}, 429, "too many", codes.ResourceExhausted},
		{"fault", coded{500, "fault"}, 500, "fault", codes.Internal},
		{"agent lost", coded{503, "agent lost"}, 503, "agent lost", codes.Unavailable},
		{"wrapped", errors.Join(coded{404, "x"}), 404, "x", codes.NotFound},
		{"a code with no gRPC counterpart", coded{418, "teapot"}, 418, "teapot", codes.Unknown},
		{"no code", errors.New("broken"), 500, "broken", codes.Internal},
		{"a code that is none", coded{7, "seven"}, 500, "seven", codes.Internal},
		{"not UTF-8", coded{400, "byte \xff"}, 400, "byte \uFFFD", codes.InvalidArgument},
		{"a long message", coded{400, strings.Repeat("é", 1<<20)}, 400, strings.Repeat("é", 512) + "...", codes.InvalidArgument},
	} {
		for _, trace := range []*result.Trace{nil, partial} {
			t.Run(test.name, func(t *testing.T) {
				_, c := serve(t, &users{do: func(context.Context, []string, func(result.Event)) (*result.Trace, error) {
					return trace, test.err
				}})
				got, err := c.Measure(within(t), nil, nil)
				require.Equal(t, trace, got)
				var failed *grpctransport.Error
				require.ErrorAs(t, err, &failed)
				require.Equal(t, test.code, failed.Code)
				require.Equal(t, test.code, failed.StatusCode())
				require.Equal(t, test.message, failed.Message)
				require.Equal(t, test.status, status.Code(failed.Err))
			})
		}
	}
}

func TestMeasureWithoutResult(t *testing.T) {
	_, c := serve(t, &users{do: func(context.Context, []string, func(result.Event)) (*result.Trace, error) { return nil, nil }})
	_, err := c.Measure(within(t), nil, nil)
	require.ErrorContains(t, err, "no result")
}

func TestMeasureArgumentsOfTheClient(t *testing.T) {
	_, c := serve(t, &users{})
	var failed *grpctransport.Error
	_, err := c.Measure(within(t), []string{"node1", "\xff"}, nil)
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 400, failed.Code)
	_, err = c.Measure(within(t), []string{strings.Repeat("x", 5<<20)}, nil)
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 400, failed.Code)
}

func TestLeavingUserCancels(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	u := &users{
		do: func(ctx context.Context, _ []string, _ func(result.Event)) (*result.Trace, error) {
			close(began)
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
		command: func(ctx context.Context, _ string) (int, string) {
			close(began)
			<-ctx.Done()
			ended <- ctx.Err()
			return 503, ""
		},
	}
	for name, call := range map[string]func(context.Context, *grpctransport.Client) error{
		"measure": func(ctx context.Context, c *grpctransport.Client) error {
			_, err := c.Measure(ctx, nil, nil)
			return err
		},
		"user request": func(ctx context.Context, c *grpctransport.Client) error {
			_, _, err := c.UserRequest(ctx, "volta")
			return err
		},
	} {
		for _, how := range []string{"cancel", "close"} {
			t.Run(name+" "+how, func(t *testing.T) {
				began = make(chan struct{})
				_, c := serve(t, u)
				ctx, cancel := context.WithCancel(within(t))
				failed := make(chan error, 1)
				go func() { failed <- call(ctx, c) }()
				<-began
				if how == "close" {
					require.NoError(t, c.Close())
					require.Error(t, <-failed)
				} else {
					cancel()
					require.ErrorIs(t, <-failed, context.Canceled)
				}
				cancel()
				require.ErrorIs(t, <-ended, context.Canceled)
			})
		}
	}
}

// TestSlowUser has a user who reads nothing until the measurement is over: it
// must not wait.
func TestSlowUser(t *testing.T) {
	const n = 20_000
	ran := make(chan struct{})
	p := fill.New[result.Probe](t, 1)
	_, c := serve(t, &users{do: func(_ context.Context, _ []string, each func(result.Event)) (*result.Trace, error) {
		defer close(ran)
		for range n {
			each(result.Event{Probe: &p})
		}
		return &result.Trace{Target: "x"}, nil
	}})
	seen := 0
	_, err := c.Measure(within(t), nil, func(result.Event) {
		if seen++; seen == 1 {
			<-ran
		}
	})
	require.NoError(t, err)
	require.Equal(t, n+1, seen)
}

// TestUserWhoNeverReads has the events stop at their limit.
func TestUserWhoNeverReads(t *testing.T) {
	p := fill.New[result.Probe](t, 1)
	stopped := make(chan struct{})
	_, c := serve(t, &users{do: func(ctx context.Context, _ []string, each func(result.Event)) (*result.Trace, error) {
		defer close(stopped)
		for ctx.Err() == nil {
			each(result.Event{Probe: &p})
		}
		return nil, ctx.Err()
	}})
	_, err := c.Measure(within(t), nil, func(result.Event) { <-stopped })
	var failed *grpctransport.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 503, failed.Code)
	require.ErrorContains(t, err, "waiting to be read")
}

func TestTypes(t *testing.T) {
	want := map[string][]probe.Type{"a": {fill.New[probe.Type](t, 1), {Name: "udp"}}, "b": {fill.New[probe.Type](t, 2)}, "c": nil}
	_, c := serve(t, &users{types: want})
	got, err := c.Types(within(t))
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, c = serve(t, &users{})
	got, err = c.Types(within(t))
	require.NoError(t, err)
	require.Empty(t, got)
	s := listen(t, grpctransport.ServerConfig{})
	_, err = newClient(t, grpctransport.ClientConfig{Addr: s.Addr().String()}).Types(within(t))
	var failed *grpctransport.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 501, failed.Code)
}

func TestAgents(t *testing.T) {
	_, c := serve(t, &users{agents: []string{"a", "b"}})
	agents, err := c.Agents(within(t))
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, agents)
}

func TestNoUsers(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	_, err := newClient(t, grpctransport.ClientConfig{Addr: s.Addr().String()}).Agents(within(t))
	var failed *grpctransport.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 501, failed.Code)
}

func TestUserRequest(t *testing.T) {
	_, c := serve(t, &users{command: func(_ context.Context, line string) (int, string) {
		if len(line) > 100 {
			return 400, "long"
		}
		return 200, "ran " + line + " \xff"
	}})
	code, output, err := c.UserRequest(within(t), "volta node1 example.com")
	require.NoError(t, err)
	require.Equal(t, 200, code)
	require.Equal(t, "ran volta node1 example.com \uFFFD", output)

	code, output, err = c.UserRequest(within(t), strings.Repeat("x", 1<<20))
	require.NoError(t, err)
	require.Equal(t, 400, code, "a long command reaches its handler")
	require.Equal(t, "long", output)

	code, output, err = c.UserRequest(within(t), "volta \xff")
	require.NoError(t, err)
	require.Equal(t, 400, code)
	require.Equal(t, "command: byte 6, 0xff, is not UTF-8", output)

	_, _, err = c.UserRequest(within(t), strings.Repeat("x", 9<<20))
	var failed *grpctransport.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 400, failed.Code)
}

// original returns the messages of the original Voltadomar, as its own proto
// file declares them.
func original(t *testing.T) (request, response protoreflect.MessageDescriptor) {
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(number), Type: kind.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("anycast.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Request"), Field: []*descriptorpb.FieldDescriptorProto{
				field("command", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING),
			}},
			{Name: proto.String("Response"), Field: []*descriptorpb.FieldDescriptorProto{
				field("code", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32),
				field("output", 2, descriptorpb.FieldDescriptorProto_TYPE_STRING),
			}},
		},
	}, nil)
	require.NoError(t, err)
	return file.Messages().ByName("Request"), file.Messages().ByName("Response")
}

func TestOriginalClient(t *testing.T) {
	s, _ := serve(t, &users{command: func(_ context.Context, line string) (int, string) {
		return 404, "Traceroute\n" + line
	}})
	cc, err := grpc.NewClient("passthrough:///"+s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer cc.Close()
	requestType, responseType := original(t)
	request, response := dynamicpb.NewMessage(requestType), dynamicpb.NewMessage(responseType)
	request.Set(requestType.Fields().ByName("command"), protoreflect.ValueOfString("volta node1 exämple.com"))
	require.NoError(t, cc.Invoke(within(t), "/AnycastService/UserRequest", request, response))
	require.EqualValues(t, 404, response.Get(responseType.Fields().ByName("code")).Int())
	require.Equal(t, "Traceroute\nvolta node1 exämple.com", response.Get(responseType.Fields().ByName("output")).String())
}

// TestServerCloseWithSilentPeers: peers that connected and say nothing do not
// keep the server from ending.
func TestServerCloseWithSilentPeers(t *testing.T) {
	p := newPKI(t)
	for name, server := range map[string]*tls.Config{"plain": nil, "TLS": p.server(false)} {
		t.Run(name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			s := listen(t, grpctransport.ServerConfig{TLS: server, Users: &users{}})
			silent, err := net.Dial("tcp", s.Addr().String())
			require.NoError(t, err)
			defer silent.Close()
			// Who comes later is served, so the silent one was accepted.
			cfg := grpctransport.ClientConfig{Addr: s.Addr().String()}
			if server != nil {
				cfg.TLS = p.client(false)
			}
			c := newClient(t, cfg)
			_, err = c.Agents(within(t))
			require.NoError(t, err)
			require.NoError(t, c.Close())
			require.NoError(t, s.Close())
			goleak.VerifyNone(t, leaks)
		})
	}
}

// TestServerCloseEndsMeasurements: Close is bounded although a measurement goes on.
func TestServerCloseEndsMeasurements(t *testing.T) {
	began := make(chan struct{})
	s, c := serve(t, &users{do: func(ctx context.Context, _ []string, _ func(result.Event)) (*result.Trace, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	failed := make(chan error, 1)
	go func() {
		_, err := c.Measure(within(t), nil, nil)
		failed <- err
	}()
	<-began
	start := time.Now()
	require.NoError(t, s.Close())
	require.Less(t, time.Since(start), patience)
	var e *grpctransport.Error
	require.ErrorAs(t, <-failed, &e)
	require.Equal(t, 503, e.Code)
	require.NoError(t, s.Close())
}
