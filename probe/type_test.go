package probe_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wiretest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// batcher is a prober of which one call is dear.
type batcher struct{ probe.Prober }

func (batcher) BuildAll(context.Context, []probe.Probe, []probe.Built) error { return nil }
func (batcher) MatchAll(context.Context, [][]byte, []probe.Matched) error    { return nil }

func TestDescribe(t *testing.T) {
	require.Equal(t, probe.Type{Name: "tcp"}, probe.Describe(tcp.Prober{}))
	require.Equal(t, probe.Type{Name: "tcp", Remote: true}, probe.Describe(batcher{tcp.Prober{}}))
	p := wiretest.Payload{}
	got := probe.Describe(udp.Carry(p))
	require.Equal(t, probe.Type{Name: "test", Help: p.Help(), Options: p.Options(), Port: 7}, got)
	require.NoError(t, got.Check())
}

func TestTypeCheck(t *testing.T) {
	option := func(o probe.Option) probe.Type { return probe.Type{Name: "dns", Options: []probe.Option{o}} }
	long := strings.Repeat("x", 256)
	for want, wrong := range map[string]probe.Type{
		`name "": must be 1 to 32`:                {},
		`name "DNS": must be`:                     {Name: "DNS"},
		`name "-dns": must be`:                    {Name: "-dns"},
		`name "4dns": must be`:                    {Name: "4dns"},
		`name "` + long[:33] + `"`:                {Name: long[:33]},
		`dns: help "\x1b[2J": must be a line`:     {Name: "dns", Help: "\x1b[2J"},
		`dns: help "a\nb"`:                        {Name: "dns", Help: "a\nb"},
		`dns: help "\xff"`:                        {Name: "dns", Help: "\xff"},
		`at most 255 bytes`:                       {Name: "dns", Help: long},
		`65 options: must be at most 64`:          {Name: "dns", Options: make([]probe.Option, 65)},
		`option "": must be`:                      option(probe.Option{}),
		`option q: there are two`:                 {Name: "dns", Options: []probe.Option{{Name: "q"}, {Name: "q"}}},
		`option q: kind 5: must be 0 to 4`:        option(probe.Option{Name: "q", Kind: 5}),
		`option q: 0 choices: must be 1 to 64`:    option(probe.Option{Name: "q", Kind: probe.ChoiceOption}),
		`option q: 1 choices: must be`:            option(probe.Option{Name: "q", Choices: []string{"a"}}),
		`option q: choice "": must be 1 to 255`:   option(probe.Option{Name: "q", Kind: probe.ChoiceOption, Choices: []string{""}}),
		`option q: default "x": must be a whole`:  option(probe.Option{Name: "q", Kind: probe.IntOption, Default: "x"}),
		`option q: default "c": must be one of a`: option(probe.Option{Name: "q", Kind: probe.ChoiceOption, Choices: []string{"a"}, Default: "c"}),
		`option q: default "\n": must be at most`: option(probe.Option{Name: "q", Default: "\n"}),
		`option q: help "\u202e": must be a line`: option(probe.Option{Name: "q", Help: "\u202e"}),
		`option q: 65 choices: must be 1 to 64`:   option(probe.Option{Name: "q", Kind: probe.ChoiceOption, Choices: make([]string, 65)}),
	} {
		err := wrong.Check()
		require.ErrorIs(t, err, probe.ErrType, want)
		require.ErrorContains(t, err, want)
		require.Less(t, len(err.Error()), 500)
	}
	right := option(probe.Option{Name: "q-1", Kind: probe.DurationOption, Default: "5ms", Help: "wie lange, z. B. für Köln"})
	require.NoError(t, right.Check())
}

func TestTypeJSON(t *testing.T) {
	want := probe.Describe(udp.Carry(wiretest.Payload{}))
	want.Options = append(want.Options, probe.Option{Name: "how", Kind: probe.ChoiceOption, Choices: []string{"a", "b"}, Default: "a"})
	b, err := json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, `{"name": "test", "help": "something to carry", "port": 7, "options": [
		{"name": "length", "kind": "int", "default": "16", "help": "of the data"},
		{"name": "how", "kind": "choice", "choices": ["a", "b"], "default": "a"}]}`, string(b))
	var got probe.Type
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, want, got)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"options": [{"kind": "float"}]}`), &got), probe.ErrType)
	_, err = json.Marshal(probe.Option{Kind: 9})
	require.ErrorIs(t, err, probe.ErrType)
}

func TestCleanValues(t *testing.T) {
	long := strings.Repeat("é", 200)
	in := []probe.Value{
		{Name: "site", Text: "fra1"}, {Name: "Site", Text: "x"}, {Name: "", Text: "x"}, {Name: strings.Repeat("a", 33)},
		{Name: "4-in", Text: "\x1b]0;gone\x07"}, {Name: "long", Text: long}, {Name: "bad", Text: "\xff\u202e"},
	}
	before := slices.Clone(in)
	require.Equal(t, []probe.Value{
		{Name: "site", Text: "fra1"}, {Name: "4-in", Text: "?]0;gone?"}, {Name: "long", Text: long[:254]}, {Name: "bad", Text: "??"},
	}, probe.CleanValues(in))
	require.Equal(t, before, in, "somebody else's")
	require.Zero(t, testing.AllocsPerRun(10, func() { probe.CleanValues(in[:1]) }))
	require.Nil(t, probe.CleanValues([]probe.Value{{Name: "?"}}))
	require.Nil(t, probe.CleanValues(nil))
	many := make([]probe.Value, 100)
	for i := range many {
		many[i] = probe.Value{Name: "n"}
	}
	require.Len(t, probe.CleanValues(many), probe.MaxValues)
}
