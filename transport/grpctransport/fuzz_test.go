package grpctransport

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/internal/fill"
)

// FuzzFromAgent and FuzzFromController: whatever a peer sends is an error or a
// message that comes through another trip unchanged.
func FuzzFromAgent(f *testing.F) {
	for _, m := range []transport.Message{
		new(fill.New[transport.Hello](f, 1)), new(fill.New[transport.Sent](f, 2)),
		new(fill.New[transport.Failed](f, 3)), new(fill.New[transport.Answers](f, 4)), new(fill.New[transport.Status](f, 5)),
		new(fill.New[transport.Watching](f, 6)), new(fill.New[transport.Unread](f, 7)), new(fill.New[transport.Readings](f, 8)),
		new(fill.New[transport.Timing](f, 9)),
	} {
		seed(f, m, encodeAgent)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m voltadomarv1.AgentMessage
		if proto.Unmarshal(data, &m) == nil {
			again(t, &m, decodeAgent, encodeAgent)
		}
	})
}

func FuzzFromController(f *testing.F) {
	for _, m := range []transport.Message{
		new(fill.New[transport.Welcome](f, 1)), new(fill.New[transport.Refused](f, 2)), new(fill.New[transport.Job](f, 3)),
		new(fill.New[transport.Ask](f, 4)), new(fill.New[transport.Cancel](f, 5)), new(fill.New[transport.Check](f, 6)),
		new(fill.New[transport.Watch](f, 7)), new(fill.New[transport.Unwatch](f, 8)), new(fill.New[transport.Read](f, 9)),
	} {
		seed(f, m, encodeController)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m voltadomarv1.ControllerMessage
		if proto.Unmarshal(data, &m) == nil {
			again(t, &m, decodeController, encodeController)
		}
	})
}

func seed[O proto.Message](f *testing.F, m transport.Message, encode func(transport.Message) (O, error)) {
	o, err := encode(m)
	require.NoError(f, err)
	data, err := proto.Marshal(o)
	require.NoError(f, err)
	f.Add(data)
}

func again[O proto.Message](t *testing.T, in O, decode func(O) (transport.Message, error), encode func(transport.Message) (O, error)) {
	first, err := decode(in)
	if err != nil {
		require.Nil(t, first)
		require.NotEmpty(t, err.Error())
		return
	}
	out, err := encode(first)
	require.NoError(t, err)
	second, err := decode(out)
	require.NoError(t, err)
	require.True(t, reflect.DeepEqual(first, second), "%+v became %+v", first, second)
}

// FuzzFromServer is the same for what users get.
func FuzzFromServer(f *testing.F) {
	trace := fill.New[result.Trace](f, 1)
	for _, e := range []*voltadomarv1.MeasureEvent{
		{Event: &voltadomarv1.MeasureEvent_Trace{Trace: encodeTrace(&trace)}},
		{Event: &voltadomarv1.MeasureEvent_Probe{Probe: encodeProbe(&trace.Hops[0].Probes[0])}},
	} {
		data, err := proto.Marshal(e)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m voltadomarv1.MeasureEvent
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		e, err := decodeEvent(&m)
		if err != nil {
			return
		}
		if e.Trace != nil {
			second, err := decodeTrace(encodeTrace(e.Trace))
			require.NoError(t, err)
			require.Equal(t, e.Trace, second)
		}
		if e.Probe != nil {
			second, err := decodeProbe(encodeProbe(e.Probe))
			require.NoError(t, err)
			require.Equal(t, e.Probe, second)
		}
	})
}
