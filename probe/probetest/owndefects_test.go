package probetest_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
)

// spoiledOwn is a whoami of which some methods are replaced.
type spoiledOwn struct {
	whoami
	match    func(datagram []byte, a *probe.Answer) bool
	buildAll func(ctx context.Context, ps []probe.Probe, out []probe.Built) error
	matchAll func(ctx context.Context, datagrams [][]byte, out []probe.Matched) error
	list     func() []probe.Option
	with     func(values map[string]string) (probe.Prober, error)
	help     func() string
	port     func() uint16
}

func (s *spoiledOwn) Match(datagram []byte, a *probe.Answer) bool {
	if s.match == nil {
		return s.whoami.Match(datagram, a)
	}
	return s.match(datagram, a)
}

func (s *spoiledOwn) BuildAll(ctx context.Context, ps []probe.Probe, out []probe.Built) error {
	if s.buildAll == nil {
		return s.whoami.BuildAll(ctx, ps, out)
	}
	return s.buildAll(ctx, ps, out)
}

func (s *spoiledOwn) MatchAll(ctx context.Context, datagrams [][]byte, out []probe.Matched) error {
	if s.matchAll == nil {
		return s.whoami.MatchAll(ctx, datagrams, out)
	}
	return s.matchAll(ctx, datagrams, out)
}

func (s *spoiledOwn) Options() []probe.Option {
	if s.list == nil {
		return s.whoami.Options()
	}
	return s.list()
}

func (s *spoiledOwn) With(values map[string]string) (probe.Prober, error) {
	if s.with == nil {
		return s.whoami.With(values)
	}
	return s.with(values)
}

func (s *spoiledOwn) Help() string {
	if s.help == nil {
		return s.whoami.Help()
	}
	return s.help()
}

func (s *spoiledOwn) DefaultPort() uint16 {
	if s.port == nil {
		return s.whoami.DefaultPort()
	}
	return s.port()
}

// say changes the values of an answer.
func say(edit func(values []probe.Value) []probe.Value) func(*spoiledOwn) {
	return func(s *spoiledOwn) {
		s.match = func(d []byte, a *probe.Answer) bool {
			ok := s.whoami.Match(d, a)
			if ok && a.Kind.Direct() {
				a.Values = edit(a.Values)
			}
			return ok
		}
	}
}

// list changes the first option.
func list(edit func(o *probe.Option)) func(*spoiledOwn) {
	return func(s *spoiledOwn) {
		s.list = func() []probe.Option {
			os := s.whoami.Options()
			edit(&os[0])
			return os
		}
	}
}

var ownDefects = []struct {
	name  string
	spoil func(s *spoiledOwn)
	want  string // a part of the message
}{
	{name: "values of an ICMP error", want: "from direct answers alone", spoil: func(s *spoiledOwn) {
		s.match = func(d []byte, a *probe.Answer) bool {
			ok := s.whoami.Match(d, a)
			a.Values = []probe.Value{{Name: "type"}}
			return ok
		}
	}},
	{name: "too many values", want: "fit to be shown", spoil: say(func([]probe.Value) []probe.Value { return make([]probe.Value, 17) })},
	{name: "a value without a name", want: "fit to be shown", spoil: say(func([]probe.Value) []probe.Value { return []probe.Value{{Text: "x"}} })},
	{name: "a long value", want: "fit to be shown", spoil: say(func([]probe.Value) []probe.Value {
		return []probe.Value{{Name: "x", Text: strings.Repeat("x", 256)}}
	})},
	{name: "a value that is no text", want: "fit to be shown", spoil: say(func([]probe.Value) []probe.Value {
		return []probe.Value{{Name: "x", Text: "\xff"}}
	})},
	{name: "a value that moves the cursor", want: "fit to be shown", spoil: say(func([]probe.Value) []probe.Value {
		return []probe.Value{{Name: "x", Text: "\x1b[2J"}}
	})},

	{name: "a value out of the datagram itself", want: "changed with the bytes it was read from", spoil: func(s *spoiledOwn) {
		s.match = func(d []byte, a *probe.Answer) bool {
			ok := s.whoami.Match(d, a)
			if at := len(d) - len("amsterdam"); ok && string(d[at:]) == "amsterdam" {
				a.Values[0].Text = unsafe.String(&d[at], len("amsterdam"))
			}
			return ok
		}
	}},

	{name: "a batch builds what one call refuses", want: "no error", spoil: func(s *spoiledOwn) {
		s.buildAll = func(_ context.Context, ps []probe.Probe, out []probe.Built) error {
			for i, p := range ps {
				p.ID, p.TTL, p.Size = max(p.ID, 1), max(p.TTL, 1), 0
				out[i].Data, out[i].Err = s.Build(nil, &p)
			}
			return nil
		}
	}},
	{name: "a batch refuses what one call builds", want: "Build builds it", spoil: func(s *spoiledOwn) {
		s.buildAll = func(_ context.Context, _ []probe.Probe, out []probe.Built) error {
			for i := range out {
				out[i] = probe.Built{Err: probe.ErrProbe}
			}
			return nil
		}
	}},
	{name: "a batch fails for one wrong probe", want: "BuildAll of", spoil: func(s *spoiledOwn) {
		s.buildAll = func(_ context.Context, ps []probe.Probe, out []probe.Built) error {
			for i := range ps {
				if out[i].Data, out[i].Err = s.Build(nil, &ps[i]); out[i].Err != nil {
					return probe.ErrProber
				}
			}
			return nil
		}
	}},
	{name: "a batch with another error than ErrProbe", want: "want an error that is probe.ErrProbe", spoil: func(s *spoiledOwn) {
		s.buildAll = func(_ context.Context, ps []probe.Probe, out []probe.Built) error {
			for i := range ps {
				if out[i].Data, out[i].Err = s.Build(nil, &ps[i]); out[i].Err != nil {
					out[i].Err = errors.New("no")
				}
			}
			return nil
		}
	}},
	{name: "a batch in one buffer", want: "changed when it built the next ones", spoil: func(s *spoiledOwn) {
		arena := make([]byte, 0, 1<<16)
		s.buildAll = func(_ context.Context, ps []probe.Probe, out []probe.Built) error {
			arena = arena[:0]
			for i := range ps {
				at := len(arena)
				arena, out[i].Err = s.Build(arena, &ps[i])
				out[i].Data = arena[at:]
			}
			return nil
		}
	}},
	{name: "a batch changes the probes", want: "BuildAll changed the probes", spoil: func(s *spoiledOwn) {
		s.buildAll = func(ctx context.Context, ps []probe.Probe, out []probe.Built) error {
			err := s.whoami.BuildAll(ctx, ps, out)
			for i := range ps {
				ps[i].Flow++
			}
			return err
		}
	}},
	{name: "a batch without the key", want: "built by BuildAll", spoil: func(s *spoiledOwn) {
		s.buildAll = func(_ context.Context, ps []probe.Probe, out []probe.Built) error {
			for i, p := range ps {
				p.Key = probe.Key{}
				out[i].Data, out[i].Err = s.Build(nil, &p)
			}
			return nil
		}
	}},
	{name: "an empty batch panics", want: "panics", spoil: func(s *spoiledOwn) {
		s.matchAll = func(ctx context.Context, ds [][]byte, out []probe.Matched) error {
			_ = ds[0]
			return s.whoami.MatchAll(ctx, ds, out)
		}
	}},
	{name: "one batch at a time", want: "TTL is", spoil: func(s *spoiledOwn) {
		var mu sync.Mutex
		var now []probe.Probe
		busy := 0
		s.buildAll = func(ctx context.Context, ps []probe.Probe, out []probe.Built) error {
			mu.Lock()
			busy++
			now = slices.Clone(ps)
			if busy > 1 {
				for i := range now {
					now[i].TTL ^= 8
				}
			}
			mu.Unlock()
			for range 100 {
				runtime.Gosched()
			}
			mu.Lock()
			defer mu.Unlock()
			busy--
			return s.whoami.BuildAll(ctx, now[:len(ps)], out)
		}
	}},
	{name: "a batch fails for what is no answer", want: "MatchAll of", spoil: func(s *spoiledOwn) {
		s.matchAll = func(_ context.Context, ds [][]byte, out []probe.Matched) error {
			for i, d := range ds {
				if out[i].OK = s.whoami.Match(d, &out[i].Answer); !out[i].OK {
					return probe.ErrProber
				}
			}
			return nil
		}
	}},
	{name: "a batch in the wrong order", want: "MatchAll says", spoil: func(s *spoiledOwn) {
		s.matchAll = func(_ context.Context, ds [][]byte, out []probe.Matched) error {
			n := len(ds) - 1
			for i, d := range ds {
				out[n-i].OK = s.whoami.Match(d, &out[n-i].Answer)
			}
			return nil
		}
	}},
	{name: "a batch that reads less", want: "MatchAll reads", spoil: func(s *spoiledOwn) {
		s.matchAll = func(ctx context.Context, ds [][]byte, out []probe.Matched) error {
			err := s.whoami.MatchAll(ctx, ds, out)
			for i := range out {
				out[i].Answer.QuotedTTL = 0
			}
			return err
		}
	}},
	{name: "a batch that changes datagrams", want: "MatchAll changed a datagram", spoil: func(s *spoiledOwn) {
		s.matchAll = func(ctx context.Context, ds [][]byte, out []probe.Matched) error {
			copies := make([][]byte, len(ds))
			for i, d := range ds {
				copies[i] = bytes.Clone(d)
				if len(d) > 0 {
					d[0] = 0
				}
			}
			err := s.whoami.MatchAll(ctx, copies, out)
			return err
		}
	}},
	{name: "a batch with an error of its own", want: "want an error that is probe.ErrProber", spoil: func(s *spoiledOwn) {
		s.matchAll = func(ctx context.Context, ds [][]byte, out []probe.Matched) error {
			if ctx.Err() != nil {
				return errors.New("no time")
			}
			return s.whoami.MatchAll(ctx, ds, out)
		}
	}},

	{name: "options that change", want: "and then", spoil: func(s *spoiledOwn) {
		n := 0
		s.list = func() []probe.Option { n++; return s.whoami.Options()[n%2:] }
	}},
	{name: "an option of two words", want: "option \"my colour\"", spoil: list(func(o *probe.Option) { o.Name = "my colour" })},
	{name: "two options of one name", want: "there are two", spoil: list(func(o *probe.Option) { o.Name = "wait" })},
	{name: "an option of no kind", want: "kind 77", spoil: list(func(o *probe.Option) { o.Kind = 77 })},
	{name: "no choices", want: "0 choices", spoil: list(func(o *probe.Option) { o.Choices = nil })},
	{name: "two lines of help of an option", want: "must be a line", spoil: list(func(o *probe.Option) { o.Help = "a\nb" })},
	{name: "a default that cannot be set", want: "default \"green\"", spoil: list(func(o *probe.Option) { o.Default = "green" })},
	{name: "refuses no options", want: "With of map[]", spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			if len(v) == 0 {
				return nil, &probe.OptionError{Want: "something"}
			}
			return s.whoami.With(v)
		}
	}},
	{name: "refuses a choice", want: `With of map["colour":"blue"]`, spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			if v["colour"] == "blue" {
				return nil, &probe.OptionError{Name: "colour", Value: "blue", Want: "must be red"}
			}
			return s.whoami.With(v)
		}
	}},
	{name: "takes any option", want: "want a *probe.OptionError", spoil: func(s *spoiledOwn) {
		s.with = func(map[string]string) (probe.Prober, error) { return whoami{}, nil }
	}},
	{name: "takes any value", want: `With of wait="no such value"`, spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			return s.whoami.With(without(v, "wait"))
		}
	}},
	{name: "takes an option that there is not", want: "With of no-such-option", spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			return s.whoami.With(without(v, "no-such-option"))
		}
	}},
	{name: "an option error about nothing", want: "the error is about", spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			pr, err := s.whoami.With(v)
			if err != nil {
				err = &probe.OptionError{}
			}
			return pr, err
		}
	}},
	{name: "another type with options", want: "want one called", spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			pr, err := s.whoami.With(v)
			return &spoiled{Prober: pr, name: func() string { return "whoami-with" }}, err
		}
	}},
	{name: "options that change the probe's identity", want: "with options", spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			pr, err := s.whoami.With(v)
			other := &spoiled{Prober: pr}
			ask(func(p *probe.Probe) { p.Key[0]++ })(other)
			return other, err
		}
	}},
	{name: "options that change the prober", want: "changed the prober", spoil: func(s *spoiledOwn) {
		s.with = func(v map[string]string) (probe.Prober, error) {
			pr, err := s.whoami.With(v)
			if err == nil {
				s.whoami = pr.(whoami)
			}
			return pr, err
		}
	}},
	{name: "a help that changes", want: "and then", spoil: func(s *spoiledOwn) {
		n := 0
		s.help = func() string { n++; return strings.Repeat("x", n) }
	}},
	{name: "two lines of help", want: "must be a line", spoil: func(s *spoiledOwn) { s.help = func() string { return "a\nb" } }},
	{name: "another port than its own", want: "destination port is 7777", spoil: func(s *spoiledOwn) { s.port = func() uint16 { return 7776 } }},
	{name: "no help", want: "want a line of text", spoil: func(s *spoiledOwn) { s.help = func() string { return "" } }},
}

func without(values map[string]string, name string) map[string]string {
	values = maps.Clone(values)
	delete(values, name)
	return values
}

// portly has a port where there are none.
type portly struct{ icmp.Prober }

func (portly) DefaultPort() uint16 { return 7 }

func TestPortWithoutPortsFails(t *testing.T) {
	got := verdict(t, func(testing.TB) probe.Prober { return portly{} }, probetest.Options{Samples: quick})
	require.Contains(t, got, "want 0: protocol 1 has no ports")
}

// A batch that goes on for ever is not waited for.
func TestEndlessBatchFails(t *testing.T) {
	probetest.SetPatience(20 * time.Millisecond)
	defer probetest.SetPatience(10 * time.Second)
	release, ended := make(chan struct{}), make(chan struct{})
	got := verdict(t, func(testing.TB) probe.Prober {
		s := &spoiledOwn{}
		s.matchAll = func(ctx context.Context, ds [][]byte, out []probe.Matched) error {
			if ctx.Err() != nil {
				defer close(ended)
				<-release
			}
			return s.whoami.MatchAll(ctx, ds, out)
		}
		return s
	}, whoamiOptions)
	close(release)
	<-ended
	require.Contains(t, got, "goes on after")
}

func TestBrokenOwnTypesFail(t *testing.T) {
	for _, d := range ownDefects {
		t.Run(d.name, func(t *testing.T) {
			o := whoamiOptions
			o.Samples = quick
			got := verdict(t, func(testing.TB) probe.Prober {
				s := &spoiledOwn{}
				d.spoil(s)
				return s
			}, o)
			require.Contains(t, got, d.want)
		})
	}
}
