package scenario_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	dscp := uint8(0)
	want := &simnet.Scenario{
		Name: "all", About: "Two lines\nof text.\n", Seed: 18446744073709551615,
		Sites: []simnet.Site{{Host: simnet.Host{
			Name:      "a",
			Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:ff::1")},
			Prefixes:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			Stack:     simnet.Stack{TTL: 128, Delay: 1500 * time.Microsecond},
			NoEcho:    true,
			UDP:       simnet.Ports{Open: []simnet.PortRange{{First: 53, Last: 53}, {First: 1000, Last: 2000}}, Rest: simnet.Filtered},
		}}},
		Routers: []simnet.Router{{
			Name: "r1", Rewrite: simnet.Rewrite{DSCP: &dscp}, ECMP: simnet.ECMP{Hash: []simnet.Field{simnet.FieldTTL, simnet.FieldFlowLabel}},
			Stack: simnet.Stack{Errors: simnet.RateLimit{Rate: 0.5, Burst: 2}},
		}},
		Links: []simnet.Link{
			{Draw: "a -- r1"},
			{Draw: "r1 --5ms-- r2\nr2 -- r3\n", Properties: simnet.Properties{Loss: 0.25}, Back: &simnet.Properties{}},
		},
	}
	got, err := scenario.ParseUnchecked("all.yaml", []byte(`# A comment.
name: all
about: |
  Two lines
  of text.
seed: 18446744073709551615
sites:
  - name: a
    addresses: [192.0.2.1, 2001:db8:ff::1]
    prefixes:
      - 198.51.100.0/24
    ttl: "128" # quotes do not matter
    answer-delay: 1.5ms
    no-echo: true
    udp: &ports {open: [53, 1000-2000], rest: filtered}
hosts: []
routers:
  - name: r1
    rewrite: {dscp: 0}
    ecmp: {hash: [ttl, flow-label]}
    errors:
      rate: 0.5
      burst: 2
links:
  - a -- r1
  - draw: |
      r1 --5ms-- r2
      r2 -- r3
    loss: 0.25
    back: {}
`))
	require.NoError(t, err)
	require.Equal(t, want, got)

	// Aliases, a byte order mark, carriage returns.
	got, err = scenario.ParseUnchecked("", []byte("\ufeffhosts:\r\n  - {name: a, udp: &p {open: [1]}, tcp: *p}\r\n"))
	require.NoError(t, err)
	require.Equal(t, []simnet.PortRange{{First: 1, Last: 1}}, got.Hosts[0].TCP.Open)
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "x.yaml: empty, want a scenario"},
		{"# nothing\n", "x.yaml: empty, want a scenario"},
		{"---\n", "x.yaml:2: nothing, want a mapping with keys of name, about, seed, sites, "},
		{"two-site", `x.yaml:1: "two-site", want a mapping with keys of name, about, `},
		{"- name: a\n", "x.yaml:1: a list, want a mapping with keys of name, "},
		{"name: a\n---\nname: b\n", "x.yaml:2: a second document begins, want one"},
		{"name: a\n...\n", ""},
		{"%TAG ! tag:x,2000:\n---\nname: a\n", "x.yaml:1: a YAML directive, want none"},
		{"name: a\nabout: \xff\xfe\n", "x.yaml:2: not UTF-8"},
		{"name: a\nabout: \"\x01\"\n", "x.yaml:2: not YAML: control characters are not allowed"},

		{"name: a\nlinks:\n  - dealy: 5ms\n", "x.yaml:3: links[0].dealy: unknown key, want one of draw, prefixes, delay, jitter, loss, "},
		{"links:\n  - a -- b\n  - draw: b -- c\n\n    delay: 5\n", `x.yaml:5: links[1].delay: "5", want a duration such as 5ms`},
		{"links:\n  - draw: b -- c\n    delay:\n", "x.yaml:3: links[0].delay: nothing, want a duration such as 5ms"},
		{"links:\n  - draw: b -- c\n    delay: [1ms]\n", "x.yaml:3: links[0].delay: a list, want a duration such as 5ms"},
		{"links:\n  -\n", "x.yaml:2: links[0]: nothing, want a mapping with keys of draw, "},
		{"links: a -- b\n", `x.yaml:1: links: "a -- b", want a list`},
		{"hosts:\n  - a\n", `x.yaml:2: hosts[0]: "a", want a mapping with keys of name, addresses, `},
		{"name: a\nname: b\n", "x.yaml:2: name: given twice, first on line 1"},
		{"hosts:\n- name: a\n  ttl: 1\n  name: b\n", "x.yaml:4: hosts[0].name: given twice, first on line 2"},
		{"hosts:\n- {name: ~}\n", "x.yaml:2: hosts[0].name: nothing, want a text"},
		{"hosts: [{addresses: [192.0.2.1, 192.0.2]}]", `x.yaml:1: hosts[0].addresses[1]: "192.0.2", want an address such as 192.0.2.1 or 2001:db8::1`},
		{"hosts: [{prefixes: [192.0.2.1]}]", `x.yaml:1: hosts[0].prefixes[0]: "192.0.2.1", want a prefix such as 192.0.2.0/24 or 2001:db8::/32`},
		{"hosts: [{ttl: 256}]", `x.yaml:1: hosts[0].ttl: "256", want a whole number from 0 to 255`},
		{"hosts: [{ttl: 0x10}]", `x.yaml:1: hosts[0].ttl: "0x10", want a whole number from 0 to 255`},
		{"hosts: [{quote: 0x10}]", `x.yaml:1: hosts[0].quote: "0x10", want a whole number`},
		{"hosts: [{quote: 1.5}]", `x.yaml:1: hosts[0].quote: "1.5", want a whole number`},
		{"hosts: [{no-echo: yes}]", `x.yaml:1: hosts[0].no-echo: "yes", want true or false`},
		{"hosts: [{errors: {rate: .nan}}]", `x.yaml:1: hosts[0].errors.rate: ".nan", want a number`},
		{"hosts: [{errors: {rate: NaN}}]", `x.yaml:1: hosts[0].errors.rate: "NaN", want a number`},
		{"hosts: [{errors: {rate: 1e999}}]", `x.yaml:1: hosts[0].errors.rate: "1e999", want a number`},
		{"hosts: [{udp: {open: [80-53]}}]", `x.yaml:1: hosts[0].udp.open[0]: "80-53", want a port, 1 to 65535, or a range such as 33434-33534`},
		{"hosts: [{udp: {open: [{}]}}]", "x.yaml:1: hosts[0].udp.open[0]: a mapping, want a single value"},
		{"hosts: [{udp: {rest: shut}}]", `x.yaml:1: hosts[0].udp.rest: "shut", want one of closed, open, filtered`},
		{"hosts: [{ttl: !!int 5}]", `x.yaml:1: hosts[0].ttl: tag "!!int", want none`},
		{"hosts: [{!!str ttl: 5}]", `x.yaml:1: hosts[0]: "ttl" as key, want one of name, `},
		{"hosts: [{[a]: 5}]", "x.yaml:1: hosts[0]: a list as key, want one of name, "},
		{"hosts:\n- <<: {name: a}\n", `x.yaml:2: hosts[0].<<: unknown key, want one of name, `},
		{"hosts: [{services: {}}]", "x.yaml:1: hosts[0].services: unknown key, want one of name, "},
		{"\"a b\\n\": 1\n", `x.yaml:1: "a b\n": unknown key, want one of name, `},
		{strings.Repeat("k", 99) + ": 1\n", `x.yaml:1: "` + strings.Repeat("k", 40) + `": unknown key, want one of name, `},
		{"seed: " + strings.Repeat("9", 999), `x.yaml:1: seed: "` + strings.Repeat("9", 40) + `" and so on, 999 bytes, want a whole number from 0 to 18446744073709551615`},
		{"hosts: &h [*h]\n", "x.yaml:1: hosts[0]: a list, want a mapping with keys of name, "},

		{"name: x\nlinks: *foo\nseed: 3\n", "x.yaml:2: not YAML: unknown anchor 'foo' referenced"},
		{"name: x\nlinks: [a,b\nfoo: 3\nbar: 4\n", "x.yaml:2: not YAML: did not find expected ',' or ']'"},
		{"name: x\nlinks: [a,b]]\nfoo: 3\nbar: 4\n", "x.yaml:2: not YAML: did not find expected key"},
		{"name: x\nlinks: \"abc\nfoo: 3\nbar: 4\n", "x.yaml:2: not YAML: found unexpected end of stream"},
		{"name: x\nlinks:\n  - a -- b\n bad: 1\nfoo: 3\n", "x.yaml:4: not YAML: did not find expected key"},
		{"name: x\nx:\n  a: 1\n  b: 2\n  - c\n  d: 3\n", "x.yaml:5: not YAML: did not find expected key"},
		{"name: x\n\nlinks: a: b\n", "x.yaml:3: not YAML: mapping values are not allowed in this context"},
		{"name: 'it's'\nseed: 2\n", "x.yaml:1: not YAML: did not find expected key"},
		{"x: [::1]\n", "x.yaml:1: not YAML: did not find expected node content; within [] and {} an address that begins with a colon needs quotes, \"::/0\""},
		{"name: x\nroutes:\n- {at: r, to: ::/0}\n", "x.yaml:3: not YAML: did not find expected node content; within [] and {} an address"},
		{"name: x\n\tseed: 1\n", "x.yaml:2: not YAML: found a tab character that violates indentation"},
		{strings.Repeat("[", 20000), "x.yaml:1: not YAML: exceeded max depth of 10000"},
	} {
		_, err := scenario.ParseUnchecked("x.yaml", []byte(tt.text))
		if tt.want == "" {
			require.NoError(t, err, tt.text)
			continue
		}
		require.ErrorContains(t, err, tt.want, "%.200s", tt.text)
		require.True(t, strings.HasPrefix(err.Error(), tt.want), "%q begins with %q", err, tt.want)
		var e *scenario.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "x.yaml", e.File)
	}
}

// TestParseBounds gives texts that would take a lot of memory.
func TestParseBounds(t *testing.T) {
	many := "hosts: [" + strings.Repeat("{},", 1<<20) + "]"
	// 3,000 lists of 3,000 rules each.
	bomb := "hosts:\n- firewall: &rules [" + strings.Repeat("{},", 3000) + "]\n" + strings.Repeat("- firewall: *rules\n", 3000)
	for want, text := range map[string]string{
		"x.yaml: more than 16777216 bytes":       strings.Repeat("#", 16<<20+1),
		"x.yaml:1: more than 1048576 values":     many,
		" take more than 268435456 bytes":        bomb,
		"x.yaml:1: name: a mapping, want a text": "name: " + strings.Repeat("{a: ", 9000) + strings.Repeat("}", 9000),
	} {
		_, err := scenario.ParseUnchecked("x.yaml", []byte(text))
		require.ErrorContains(t, err, want)
	}
}

// TestCheckErrors has the network itself be wrong.
func TestCheckErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"links:\n  - a -- b\n  - draw: b -- c\n    loss: 2\n", "x.yaml:4: links[1].loss: "},
		{"links:\n  - a -- b\n  - b - c\n", "x.yaml:3: links[1].draw: "},
		{"links:\n- a -- b\n- draw: b -- c\n  back:\n    # far too long\n    delay: 24h\n", "x.yaml:6: links[1].back.delay: "},
		{"hosts:\n- addresses: [192.0.2.1]\n", "x.yaml:2: hosts[0].name: "},
		{"links:\n- draw: a -- b -- c\n  prefixes:\n  # on the next line\n  - 192.0.2.0/30\n", "x.yaml:3: links[0].prefixes: "},
		{"routers:\n- name: r\n  filters: &f\n  - action: drop\n  - code: 1\nsites:\n- name: s\n  firewall: *f\n", "x.yaml:5: sites[0].firewall[1].code: "},
	} {
		_, err := scenario.Parse("x.yaml", []byte(tt.text))
		require.ErrorContains(t, err, tt.want)
		var e *simnet.Error
		require.ErrorAs(t, err, &e)
		require.Contains(t, tt.want, e.Where)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.yaml")
	require.NoError(t, os.WriteFile(file, []byte("name: mine\nsites: [{name: a}]\nlinks: [a -- r]\n"), 0o600))
	s, err := scenario.Load(file)
	require.NoError(t, err)
	require.Equal(t, "mine", s.Name)

	_, err = scenario.Load(filepath.Join(dir, "none.yaml"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "none.yaml: no such scenario or file, want one of ")
	require.ErrorContains(t, err, "two-site")
	_, err = scenario.Load(dir)
	var e *scenario.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, dir, e.File)
	require.False(t, errors.Is(err, fs.ErrNotExist))

	require.NoError(t, os.WriteFile(file, []byte("name: [\n"), 0o600))
	_, err = scenario.Load(file)
	require.ErrorContains(t, err, "mine.yaml:1: not YAML: ")

	require.NoError(t, os.Truncate(file, 16<<20+1))
	_, err = scenario.Load(file)
	require.ErrorContains(t, err, "mine.yaml: more than 16777216 bytes")

	_, err = scenario.Named("nowhere")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "nowhere: no such scenario, want one of "+strings.Join(scenario.Names(), ", "))
}

func TestNamed(t *testing.T) {
	require.Contains(t, scenario.Names(), "two-site")
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for _, name := range scenario.Names() {
		s, err := scenario.Load(name)
		require.NoError(t, err)
		require.Equal(t, name, s.Name)
		require.Contains(t, string(doc), "//   - "+name+": ")
		require.NotEmpty(t, s.About)
		require.NotEmpty(t, s.Expect)
		again, err := scenario.Named(name)
		require.NoError(t, err)
		require.Equal(t, s, again)
		require.NotSame(t, s, again)
		text, err := scenario.Text(name)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "#"), "%s begins with a drawing", name)
	}
}

// TestDoc parses the example in the package's documentation.
func TestDoc(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(doc), "//\tname: detour\n")
	require.True(t, found)
	var text strings.Builder
	text.WriteString("name: detour\n")
	for line := range strings.Lines(rest) {
		line, ok := strings.CutPrefix(line, "//\t")
		if !ok {
			break
		}
		text.WriteString(line)
	}
	s, err := scenario.Parse("detour.yaml", []byte(text.String()))
	require.NoError(t, err)
	require.Len(t, s.Routes, 1)
	_, err = scenario.Parse("detour.yaml", []byte(strings.Replace(text.String(), "links:\n", "links:\n  - {draw: r2 -- r4, dealy: 5ms}\n", 1)))
	require.ErrorContains(t, err, "detour.yaml:10: links[0].dealy: unknown key, want one of draw, prefixes, delay, ")
}
