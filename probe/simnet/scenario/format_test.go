package scenario_test

import (
	"encoding"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
)

func TestFormat(t *testing.T) {
	code := uint8(0)
	text, err := scenario.Format(&simnet.Scenario{
		Name: "null", About: "Line one\nline two\n", Seed: 7,
		Sites: []simnet.Site{{Host: simnet.Host{
			Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
			TCP:      simnet.Ports{Open: []simnet.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8080}}},
			Firewall: []simnet.Rule{{Action: simnet.ActionReject, Code: &code}},
			Stack:    simnet.Stack{Delay: time.Hour, TTL: 9},
		}}},
		Hosts: []simnet.Host{},
		Links: []simnet.Link{
			{Draw: "a -- r1"},
			{Draw: "r1 -- r2\nr2 -- r3\n", Properties: simnet.Properties{Delay: 90 * time.Second, Loss: 0.1}, Back: &simnet.Properties{}},
		},
	})
	require.NoError(t, err)
	require.Equal(t, `name: "null"
about: |
  Line one
  line two
seed: 7

sites:
  - name: a
    addresses: [192.0.2.1, '2001:db8::1']
    tcp:
      open: [80, 8000-8080]
    firewall:
      - action: reject
        code: 0
    ttl: 9
    answer-delay: 1h

links:
  - a -- r1
  - draw: |
      r1 -- r2
      r2 -- r3
    delay: 1m30s
    loss: 0.1
    back: {}
`, string(text))
}

func TestFormatErrors(t *testing.T) {
	for want, s := range map[string]*simnet.Scenario{
		`scenario: about: "\xff", want UTF-8`:                    {About: "\xff"},
		"scenario: sites[0].services: set, but has no text form": {Sites: []simnet.Site{{Host: simnet.Host{Services: map[uint16]func([]byte) []byte{53: nil}}}}},
		"scenario: links[0].loss: NaN, want a number":            {Links: []simnet.Link{{Properties: simnet.Properties{Loss: math.NaN()}}}},
		"scenario: routers[0].quirks[1]: value 99, want 0 to 3":  {Routers: []simnet.Router{{Stack: simnet.Stack{Quirks: []simnet.Quirk{0, 99}}}}},
		"scenario: routers[0].errors.rate: +Inf, want a number":  {Routers: []simnet.Router{{Stack: simnet.Stack{Errors: simnet.RateLimit{Rate: math.Inf(1)}}}}},
	} {
		_, err := scenario.Format(s)
		require.EqualError(t, err, want)
		var e *simnet.Error
		require.ErrorAs(t, err, &e)
	}
}

// TestRoundTrip formats and parses arbitrary scenarios.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := new(simnet.Scenario)
		fill(t, reflect.ValueOf(s).Elem())
		requireRoundTrip(t, s)
	})
}

// TestRoundTripText has texts of which YAML might make something else.
func TestRoundTripText(t *testing.T) {
	parts := []string{"", "a", " ", "\n", "\t", "\r", "#", ": ", "- ", "\u0085", "\u2028", "\ufeff", "\x00", "é", "🦉", "~", "'", "\"", "|", "%", "---", "..."}
	for _, a := range parts {
		for _, b := range parts {
			for _, c := range parts {
				text := a + b + c
				requireRoundTrip(t, &simnet.Scenario{About: text, Links: []simnet.Link{{Draw: text, Properties: simnet.Properties{Cost: 1}}}})
			}
		}
	}
}

func requireRoundTrip(t require.TestingT, s *simnet.Scenario) {
	text, err := scenario.Format(s)
	require.NoError(t, err)
	again, err := scenario.ParseUnchecked("again.yaml", text)
	require.NoError(t, err, "%s", text)
	require.Equal(t, s, again, "%s", text)
}

// fill draws a value of any type that scenarios have.
func fill(t *rapid.T, v reflect.Value) {
	if rapid.IntRange(0, 2).Draw(t, "default") == 0 && v.Kind() != reflect.Struct {
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = addr(t)
		return
	case *netip.Prefix:
		a := addr(t)
		*p = netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		return
	case *simnet.PortRange:
		first := rapid.Uint16().Draw(t, "first")
		*p = simnet.PortRange{First: first, Last: rapid.Uint16Range(max(first, 1), math.MaxUint16).Draw(t, "last")}
		return
	case encoding.TextMarshaler:
		v.SetUint(uint64(rapid.IntRange(0, 10).Draw(t, "word")))
		if _, err := p.MarshalText(); err != nil {
			v.SetUint(0)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("yaml") != "-" {
				fill(t, v.Field(i))
			}
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 3).Draw(t, "length"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i))
			}
			// An address or prefix that is none has no text form.
			if c := v.Index(n - 1); c.Type() == reflect.TypeFor[netip.Addr]() || c.Type() == reflect.TypeFor[netip.Prefix]() {
				fillAll(v)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.String:
		v.SetString(text().Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int"))
	default:
		v.SetUint(rapid.Uint64Max(1<<v.Type().Bits()-1).Draw(t, "uint"))
	}
}

func fillAll(v reflect.Value) {
	for i := range v.Len() {
		switch p := v.Index(i).Addr().Interface().(type) {
		case *netip.Addr:
			if !p.IsValid() {
				*p = netip.IPv6Loopback()
			}
		case *netip.Prefix:
			if !p.IsValid() {
				*p = netip.MustParsePrefix("::/0")
			}
		}
	}
}

func addr(t *rapid.T) netip.Addr {
	b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr")
	if b[0]%2 == 0 {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b))
}

// text are texts of which YAML may think something else.
func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"~", "null", "true", "5", "1e3", "0x1", "<<", "- a", "a: b", "a #b", "#", "'", `"`, "|", "&a", "*a", "!a", "%A", "@", "`", "[a", "{a", "?", "---", "...", "2001-01-01", "::1", "=", ""}),
		rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", " ", "\n", "\r", "\t", "#", ": ", "- ", "\u0085", "\u2028", "\ufeff", "\x00", "é", "🦉", "---", `\`, `"`})).Draw(t, "parts"), "")
		}),
	)
}

// FuzzParse: nothing makes the parser or the check panic, and what can be
// parsed survives being written and read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(scenario.Reference()))
	for _, name := range scenario.Names() {
		text, err := scenario.Text(name)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := scenario.ParseUnchecked("fuzz.yaml", text)
		if err != nil {
			var e *scenario.Error
			require.ErrorAs(t, err, &e)
			require.NotEmpty(t, e.Reason)
			return
		}
		requireRoundTrip(t, s)
		if _, err := scenario.Parse("fuzz.yaml", text); err != nil {
			var e *simnet.Error
			require.ErrorAs(t, err, &e)
		}
	})
}

// TestGenerated: what a generator made can be kept as a file.
func TestGenerated(t *testing.T) {
	s, err := simnet.Generate(simnet.Size{Sites: 10, Routers: 100, Targets: 5000, Seed: 1})
	require.NoError(t, err)
	text, err := scenario.Format(s)
	require.NoError(t, err)
	require.Less(t, len(text), 200*5000, "a hundred thousand targets fit into a file")
	again, err := scenario.Parse("generated.yaml", text)
	require.NoError(t, err)
	require.Equal(t, s, again)
}
