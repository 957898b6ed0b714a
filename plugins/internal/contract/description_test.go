package contract_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// talkative is a type that says all it can.
type talkative struct {
	probe.Prober
	name string
}

func (p talkative) Name() string { return p.name }

func (talkative) Help() string { return "asks who is there" }

func (talkative) DefaultPort() uint16 { return 53 }

func (talkative) Options() []probe.Option {
	return []probe.Option{
		{Name: "text", Default: "a", Help: "anything"},
		{Name: "int", Kind: probe.IntOption, Default: "-5"},
		{Name: "bool", Kind: probe.BoolOption},
		{Name: "duration", Kind: probe.DurationOption, Default: "5ms"},
		{Name: "choice", Kind: probe.ChoiceOption, Choices: []string{"x", "y"}, Default: "y"},
	}
}

func (p talkative) With(map[string]string) (probe.Prober, error) { return p, nil }

func TestDescription(t *testing.T) {
	for _, pr := range []probe.Prober{talkative{udp.Prober{}, "dns-1"}, tcp.Prober{}} {
		m, err := contract.Describe(pr, udpProtocol)
		require.NoError(t, err)
		got, err := contract.ReadDescription(m)
		require.NoError(t, err)
		want := probe.Describe(pr)
		want.Remote = true
		require.Equal(t, want, got.Type)
		require.Equal(t, udpProtocol, got.Protocol)
		again, err := contract.ReadDescription(m)
		require.NoError(t, err)
		require.NoError(t, got.Same(again))
		again.Options = append(again.Options, probe.Option{Name: "new"})
		require.ErrorIs(t, got.Same(again), contract.ErrMalformed)
	}
	_, err := contract.Describe(talkative{udp.Prober{}, "DNS"}, udpProtocol)
	require.ErrorIs(t, err, probe.ErrType)
}

func TestMalformedDescription(t *testing.T) {
	for name, spoil := range map[string]func(m *pluginv1.Description){
		"no name":       func(m *pluginv1.Description) { m.Name = "" },
		"name":          func(m *pluginv1.Description) { m.Name = "\x1b[2J" },
		"help":          func(m *pluginv1.Description) { m.Help = "two\nlines" },
		"protocol 0":    func(m *pluginv1.Description) { m.Protocol = 0 },
		"protocol 4":    func(m *pluginv1.Description) { m.Protocol = 4 },
		"protocol -1":   func(m *pluginv1.Description) { m.Protocol = -1 },
		"port":          func(m *pluginv1.Description) { m.Port = 65536 },
		"kind":          func(m *pluginv1.Description) { m.Options[0].Kind = 5 },
		"kind 256":      func(m *pluginv1.Description) { m.Options[0].Kind = 256 },
		"kind -256":     func(m *pluginv1.Description) { m.Options[0].Kind = -256 },
		"no option":     func(m *pluginv1.Description) { m.Options[0] = nil },
		"two options":   func(m *pluginv1.Description) { m.Options[1] = m.Options[0] },
		"too many":      func(m *pluginv1.Description) { m.Options = make([]*pluginv1.Option, 65) },
		"default":       func(m *pluginv1.Description) { m.Options[1].Default = "x" },
		"long default":  func(m *pluginv1.Description) { m.Options[0].Default = strings.Repeat("x", 256) },
		"no choices":    func(m *pluginv1.Description) { m.Options[4].Choices = nil },
		"other choices": func(m *pluginv1.Description) { m.Options[0].Choices = []string{"x"} },
	} {
		m, err := contract.Describe(talkative{udp.Prober{}, "dns"}, udpProtocol)
		require.NoError(t, err)
		spoil(m)
		_, err = contract.ReadDescription(m)
		require.ErrorIs(t, err, contract.ErrMalformed, name)
		require.Less(t, len(err.Error()), 600)
		require.NotContains(t, err.Error(), "\x1b")
	}
	_, err := contract.ReadDescription(nil)
	require.ErrorIs(t, err, contract.ErrMalformed)
}

func TestWrongValues(t *testing.T) {
	values := map[string]string{"text": "what\nnow"}
	wrong := &probe.OptionError{Name: "text", Value: "what\nnow", Want: "must be a line"}
	m := &pluginv1.Checked{Wrong: contract.Wrong(wrong)}
	require.Equal(t, wrong, contract.ReadWrong(m, values))
	require.NoError(t, contract.ReadWrong(&pluginv1.Checked{}, values))

	m = &pluginv1.Checked{Wrong: contract.Wrong(errors.New("cannot"))}
	require.EqualError(t, contract.ReadWrong(m, values), `option "": "": cannot`)
	m = &pluginv1.Checked{Wrong: &pluginv1.OptionError{Name: "\x1b", Value: "\x1b", Want: "\x1b" + strings.Repeat("x", 300)}}
	err := contract.ReadWrong(m, values)
	require.ErrorIs(t, err, probe.ErrOption)
	require.NotContains(t, err.Error(), "\x1b")
	require.Less(t, len(err.Error()), 300)
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"Köln":                                   "Köln",
		"a\tb\r\nc":                              "a.b..c",
		"\x1b[31m\u009b\u202e":                   ".[31m..",
		"\xff\xfe":                               "..",
		strings.Repeat("é", 200):                 strings.Repeat("é", 127),
		"\x80\x80" + strings.Repeat("\x80", 400): "",
	} {
		if strings.HasPrefix(in, "\x80") {
			require.LessOrEqual(t, len(contract.Line(in, 255)), 255)
			continue
		}
		require.Equal(t, want, contract.Line(in, 255))
	}
}
