package transporttest

import (
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/internal/fill"
)

// toController and toAgent return one message of every type, made anew: every
// field set, and every field zero.
func toController(f *fixture, seed int) []transport.Message {
	return []transport.Message{
		new(fill.New[transport.Hello](f, seed)), &transport.Hello{},
		new(fill.New[transport.Sent](f, seed)), &transport.Sent{},
		new(fill.New[transport.Failed](f, seed)), &transport.Failed{},
		new(fill.New[transport.Answers](f, seed)), &transport.Answers{},
		new(fill.New[transport.Status](f, seed)), &transport.Status{},
		new(fill.New[transport.Timing](f, seed)), &transport.Timing{},
		new(fill.New[transport.Watching](f, seed)), &transport.Watching{},
		new(fill.New[transport.Unread](f, seed)), &transport.Unread{},
		new(fill.New[transport.Readings](f, seed)), &transport.Readings{},
	}
}

func toAgent(f *fixture, seed int) []transport.Message {
	return []transport.Message{
		new(fill.New[transport.Welcome](f, seed)), &transport.Welcome{},
		new(fill.New[transport.Refused](f, seed)), &transport.Refused{},
		new(fill.New[transport.Job](f, seed)), &transport.Job{},
		new(fill.New[transport.Ask](f, seed)), &transport.Ask{},
		new(fill.New[transport.Cancel](f, seed)), &transport.Cancel{},
		new(fill.New[transport.Check](f, seed)), &transport.Check{},
		new(fill.New[transport.Watch](f, seed)), &transport.Watch{},
		new(fill.New[transport.Unwatch](f, seed)), &transport.Unwatch{},
		new(fill.New[transport.Read](f, seed)), &transport.Read{},
	}
}

// types: every message arrives whole, with every field.
func types(f *fixture) {
	agent, controller := f.connect()
	for seed := range 3 {
		for _, dir := range []struct {
			from, to transport.Conn
			make     func(*fixture, int) []transport.Message
		}{{agent, controller, toController}, {controller, agent, toAgent}} {
			want := dir.make(f, 1000*seed)
			for i, m := range dir.make(f, 1000*seed) {
				require.NoError(f, dir.from.Send(f.ctx, m), "Send of %T", m)
				got, err := dir.to.Receive(f.ctx)
				require.NoError(f, err, "Receive of %T", m)
				require.Equal(f, normal(want[i]), normal(got))
			}
		}
	}
}

// largeMessages: a message of several hundred kilobytes is still one message.
func largeMessages(f *fixture) {
	agent, controller := f.connect()
	up := &transport.Answers{Dropped: 1}
	for i := range 5000 {
		up.Answers = append(up.Answers, probe.Answer{
			ID: uint16(i), Tag: uint64(i), TagBits: 64, Protocol: probe.UDP, Kind: probe.TimeExceeded,
			Dst: netip.MustParseAddr("2001:db8::1"), Src: netip.MustParseAddr("2001:db8::2"), From: netip.MustParseAddr("2001:db8::3"),
			Time: time.Unix(1_800_000_000, int64(i)).UTC(),
		})
	}
	down := &transport.Refused{Code: 400, Reason: strings.Repeat("long ", 100_000)}
	for _, dir := range []struct {
		from, to transport.Conn
		m        transport.Message
	}{{agent, controller, up}, {controller, agent, down}} {
		sent := make(chan error, 1)
		go func() { sent <- dir.from.Send(f.ctx, dir.m) }()
		got, err := dir.to.Receive(f.ctx)
		require.NoError(f, err)
		require.NoError(f, <-sent)
		require.True(f, reflect.DeepEqual(normal(dir.m), normal(got)), "a large %T came back changed", dir.m)
	}
}

// normal returns a copy of m in which equal times are the same value and no
// entries are no slice, whatever a transport made of them.
func normal(m transport.Message) any {
	v := reflect.New(reflect.TypeOf(m).Elem()).Elem()
	v.Set(reflect.ValueOf(m).Elem())
	normalise(v)
	return v.Interface()
}

func normalise(v reflect.Value) {
	if at, ok := v.Interface().(time.Time); ok {
		if !at.IsZero() {
			v.Set(reflect.ValueOf(time.Unix(0, at.UnixNano()).UTC()))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		switch v.Type() {
		case reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix]():
			return
		}
		for i := range v.NumField() {
			normalise(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
			return
		}
		copied := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(copied, v)
		v.Set(copied)
		for i := range v.Len() {
			normalise(v.Index(i))
		}
	}
}
