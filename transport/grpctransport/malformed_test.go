package grpctransport_test

import (
	"context"
	"encoding/binary"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// raw is a codec that sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
func (raw) Name() string { return "proto" }

// field encodes a protocol buffer field of bytes.
func field(number byte, b []byte) []byte {
	return append(binary.AppendUvarint([]byte{number<<3 | 2}, uint64(len(b))), b...)
}

// badForController are what no agent may send, by what the error says of it.
func badForController(t *testing.T) map[string][]byte {
	message := func(m *voltadomarv1.AgentMessage) []byte {
		b, err := proto.Marshal(&voltadomarv1.ToController{Messages: []*voltadomarv1.AgentMessage{m}})
		require.NoError(t, err)
		return b
	}
	answers := func(a *voltadomarv1.Answer) []byte {
		return message(&voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Answers{Answers: &voltadomarv1.Answers{Answers: []*voltadomarv1.Answer{a}}}})
	}
	sent := func(s *voltadomarv1.Sent) []byte {
		return message(&voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Sent{Sent: s}})
	}
	return map[string][]byte{
		"failed to unmarshal":         {0xff, 0xff, 0xff, 0xff},
		"message larger than max":     make([]byte, 9<<20),
		"no known type":               field(1, nil),
		"answer: id is 65536":         answers(&voltadomarv1.Answer{Id: 65536}),
		"answer: dst is 5 bytes long": answers(&voltadomarv1.Answer{Dst: make([]byte, 5)}),
		"answer: ttl is 256":          answers(&voltadomarv1.Answer{Ttl: 256}),
		"tc is 1000":                  answers(&voltadomarv1.Answer{Mpls: []*voltadomarv1.Label{{Tc: 1000}}}),
		"1 ids, 2 times, 1 stamps":    sent(&voltadomarv1.Sent{Ids: []uint32{1}, Times: []int64{1, 2}, Stamps: []byte{0}}),
		"an error of probe 4000000000": sent(&voltadomarv1.Sent{
			Ids: []uint32{1}, Times: []int64{1}, Stamps: []byte{0}, Errors: []*voltadomarv1.SendError{{Index: 4_000_000_000}},
		}),
		"sent: rule is c000020021": sent(&voltadomarv1.Sent{
			Ids: []uint32{1}, Times: []int64{1}, Stamps: []byte{0}, Errors: []*voltadomarv1.SendError{{Rule: []byte{192, 0, 2, 0, 33}}},
		}),
		"sent: rule is 0a": sent(&voltadomarv1.Sent{
			Ids: []uint32{1}, Times: []int64{1}, Stamps: []byte{0}, Errors: []*voltadomarv1.SendError{{Rule: []byte{10}}},
		}),
		"hello: source is 3 bytes long": message(&voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Hello{Hello: &voltadomarv1.Hello{Sources: [][]byte{{1, 2, 3}}}}}),
	}
}

// TestMalformedFromAgent: it ends the agent's own stream with a clear error,
// after what came before it, and nothing else.
func TestMalformedFromAgent(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	goodAgent, goodController := connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()}))
	hello, err := proto.Marshal(&voltadomarv1.ToController{Messages: []*voltadomarv1.AgentMessage{
		{Message: &voltadomarv1.AgentMessage_Hello{Hello: &voltadomarv1.Hello{Agent: "bad"}}},
	}})
	require.NoError(t, err)
	for says, bytes := range badForController(t) {
		t.Run(says, func(t *testing.T) {
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			cc, err := grpc.NewClient("passthrough:///"+s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
			require.NoError(t, err)
			defer cc.Close()
			stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/voltadomar.v1.Agents/Connect")
			require.NoError(t, err)
			c, err := s.Accept(ctx)
			require.NoError(t, err)
			require.NoError(t, stream.SendMsg(hello))
			require.NoError(t, stream.SendMsg(bytes))

			m, err := c.Receive(ctx)
			require.NoError(t, err)
			require.Equal(t, &transport.Hello{Agent: "bad"}, m)
			_, err = c.Receive(ctx)
			require.ErrorIs(t, err, transport.ErrClosed)
			require.ErrorContains(t, err, says)
			require.ErrorIs(t, c.Send(ctx, &transport.Welcome{}), transport.ErrClosed)
			require.NoError(t, c.Close())

			var answer []byte
			err = stream.RecvMsg(&answer)
			require.ErrorContains(t, err, says)
		})
	}
	require.NoError(t, goodAgent.Send(within(t), &transport.Hello{Agent: "good"}))
	m, err := goodController.Receive(within(t))
	require.NoError(t, err)
	require.Equal(t, &transport.Hello{Agent: "good"}, m)
}

// badController answers every agent with given bytes.
func badController(t *testing.T, header metadata.MD, answer []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.SetHeader(header); err != nil {
			return err
		}
		if err := stream.SendMsg(answer); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	t.Cleanup(func() { g.Stop(); <-done })
	return l.Addr().String()
}

func TestMalformedFromController(t *testing.T) {
	message := func(m *voltadomarv1.ControllerMessage) []byte {
		b, err := proto.Marshal(&voltadomarv1.ToAgent{Messages: []*voltadomarv1.ControllerMessage{m}})
		require.NoError(t, err)
		return b
	}
	job := func(j *voltadomarv1.Job) []byte {
		return message(&voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Job{Job: j}})
	}
	key := make([]byte, 16)
	for says, bytes := range map[string][]byte{
		"failed to unmarshal":       {0xff, 0xff},
		"no known type":             field(1, nil),
		"job: key is 15 bytes long": job(&voltadomarv1.Job{Key: key[:15]}),
		"job: key is 17 bytes long": job(&voltadomarv1.Job{Key: append(key, 0)}),
		"job: dst_port is 70000":    job(&voltadomarv1.Job{Key: key, DstPort: 70000}),
		"job: mode is 300":          job(&voltadomarv1.Job{Key: key, Mode: 300}),
		"job: dst is 1 bytes long":  job(&voltadomarv1.Job{Key: key, Dst: []byte{1}}),
		"message larger than max":   make([]byte, 9<<20),
	} {
		t.Run(says, func(t *testing.T) {
			addr := badController(t, metadata.Pairs("voltadomar-protocol", "1"), bytes)
			c, err := newDialer(t, grpctransport.ClientConfig{Addr: addr}).Dial(within(t))
			require.NoError(t, err)
			_, err = c.Receive(within(t))
			require.ErrorIs(t, err, transport.ErrClosed)
			require.ErrorContains(t, err, says)
			require.ErrorIs(t, c.Send(t.Context(), &transport.Hello{}), transport.ErrClosed)
			require.NoError(t, c.Close())
		})
	}
}

func TestDialWhatIsNoController(t *testing.T) {
	_, err := newDialer(t, grpctransport.ClientConfig{Addr: badController(t, nil, nil)}).Dial(within(t))
	require.ErrorContains(t, err, "no controller")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := grpc.NewServer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	defer func() { g.Stop(); <-done }()
	_, err = newDialer(t, grpctransport.ClientConfig{Addr: l.Addr().String()}).Dial(within(t))
	require.ErrorContains(t, err, "unknown service voltadomar.v1.Agents")
}

func TestMalformedResult(t *testing.T) {
	event, err := proto.Marshal(&voltadomarv1.MeasureEvent{Event: &voltadomarv1.MeasureEvent_Probe{Probe: &voltadomarv1.Probe{Id: 1 << 20}}})
	require.NoError(t, err)
	c := newClient(t, grpctransport.ClientConfig{Addr: badController(t, nil, event)})
	_, err = c.Measure(within(t), nil, nil)
	var failed *grpctransport.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 500, failed.Code)
	require.ErrorContains(t, err, "probe: id is 1048576")
}
