package scenario_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
)

var update = flag.Bool("update", false, "write the picture that the documentation shows")

func draw(t require.TestingT, s *simnet.Scenario) string {
	var b bytes.Buffer
	require.NoError(t, scenario.SVG(&b, s))
	return b.String()
}

// TestPicture compares with the picture of the package simnet.
func TestPicture(t *testing.T) {
	const file = "../two-site.svg"
	s, err := scenario.Named("two-site")
	require.NoError(t, err)
	got := draw(t, s)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// rect is a node or the label of a link.
type rect struct {
	X, Y, Width, Height float64
	Class, Text         string
}

// picture is what can be read from one.
type picture struct {
	width, height float64
	nodes, labels []rect
	texts         []string
}

// look reads a picture. Nodes and labels are in the group, the legend and the
// titles around it.
func look(t require.TestingT, svg string) picture {
	var p picture
	var doc struct {
		Width  float64 `xml:"width,attr"`
		Height float64 `xml:"height,attr"`
		Texts  []struct {
			X    float64 `xml:"x,attr"`
			Text string  `xml:",chardata"`
		} `xml:"text"`
		Group struct {
			Transform string `xml:"transform,attr"`
			Rects     []struct {
				Class  string  `xml:"class,attr"`
				X      float64 `xml:"x,attr"`
				Y      float64 `xml:"y,attr"`
				Width  float64 `xml:"width,attr"`
				Height float64 `xml:"height,attr"`
			} `xml:"rect"`
			Texts []string `xml:"text"`
		} `xml:"g"`
	}
	require.NoError(t, xml.Unmarshal([]byte(svg), &doc))
	p.width, p.height = doc.Width, doc.Height
	p.texts = doc.Group.Texts
	for _, line := range doc.Texts {
		p.texts = append(p.texts, line.Text)
		require.LessOrEqual(t, line.X+6.6*float64(utf8.RuneCountInString(line.Text)), p.width, "%q sticks out", line.Text)
	}
	var dx, dy float64
	_, err := fmt.Sscanf(doc.Group.Transform, "translate(%g %g)", &dx, &dy)
	require.NoError(t, err)
	for _, r := range doc.Group.Rects {
		list := &p.nodes
		if r.Class == "behind" {
			list = &p.labels
		}
		*list = append(*list, rect{X: r.X + dx, Y: r.Y + dy, Width: r.Width, Height: r.Height, Class: r.Class})
	}
	return p
}

// requireLegible checks that nothing overlaps or sticks out.
func requireLegible(t require.TestingT, svg string) picture {
	p := look(t, svg)
	all := append(p.nodes[:len(p.nodes):len(p.nodes)], p.labels...)
	for i, r := range all {
		require.True(t, r.X >= 0 && r.Y >= 0 && r.X+r.Width <= p.width && r.Y+r.Height <= p.height, "%v sticks out", r)
		for _, o := range all[:i] {
			apart := r.X >= o.X+o.Width || o.X >= r.X+r.Width || r.Y >= o.Y+o.Height || o.Y >= r.Y+r.Height
			require.True(t, apart, "%v overlaps %v", r, o)
		}
	}
	return p
}

func TestSVG(t *testing.T) {
	for _, name := range scenario.Names() {
		s, err := scenario.Named(name)
		require.NoError(t, err)
		svg := draw(t, s)
		require.Equal(t, svg, draw(t, s))
		p := requireLegible(t, svg)
		for _, site := range s.Sites {
			require.Contains(t, p.texts, site.Name)
			require.Contains(t, p.texts, site.Addresses[0].String())
		}
		require.Contains(t, p.texts, "203.0.113.10")
		require.Contains(t, p.texts, "r1")
		require.Contains(t, p.texts, "1ms")
		require.Contains(t, p.texts, s.Name)
	}
}

func TestSVGSays(t *testing.T) {
	s, err := scenario.Parse("", []byte(`
name: says
about: "a < b & \"c\" \u0001 ]]>"
sites: [{name: a}]
hosts: [{name: t, no-echo: true, silent: true, prefixes: [192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 198.18.0.0/24, 198.19.0.0/24, 2001:db8::/32]}]
routers:
  - {name: r1, ecmp: {hash: [addresses, ttl]}, errors: {rate: 2.5}, nat: {address: 198.51.100.1, outside: [r2]}}
  - {name: r2, ecmp: {hash: [addresses, ports, protocol, flow-label]}, rewrite: {bleach-ecn: true, dscp: 7}, quirks: [swap-id], filters: [{}]}
links:
  - {draw: a --3ms-- r1, loss: 0.5, mtu: 1400}
  - {draw: r1 -- r2, delay: 1500us, jitter: 1ms, duplicate: 0.25, reorder: 0.125, cost: 7}
  - {draw: t -- r2, delay: 1ms, back: {delay: 2ms, loss: 1}}
  - {draw: r3 -- r2, delay: 3ms, back: {delay: 4ms}}
  - {draw: r3 --6ms-- r4, back: {loss: 0.01}}
tunnels: [{draw: r1 -- r2 -- r3, labels: [77], hidden: true}]
changes:
  - {at: 90s, every: 1h, down: r1 -- r2}
  - {at: 5s, route: {at: r1, to: 192.0.2.0/24, via: [r2]}}
  - {at: 6s, route: {at: r1, to: 192.0.2.0/24, drop: blackhole}}
  - {at: 7s, forget: {at: r1, to: 192.0.2.0/24}}
  - {at: 8s, silence: r1}
`))
	require.NoError(t, err)
	p := requireLegible(t, draw(t, s))
	for _, text := range []string{
		"a < b & \"c\" \ufffd ]]>", "no echo", "silent", "203.0.113.0/24", "and 2 more",
		"hashes addresses, ttl", "2.5 errors/s", "NAT 198.51.100.1", "hashes flow", "bleaches ECN", "sets DSCP 7", "swap-id", "filters",
		"3ms", "loss 50%", "MTU 1400", "MPLS 77", "hidden", "1.5ms", "jitter 1ms", "twice 25%", "late 12.5%", "cost 7",
		"↑ 1ms", "↓ 2ms, loss 100%", // t is drawn below r2, and r3 to the right of it
		"→ 4ms", "← 3ms", "→ 6ms", "← 6ms, loss 1%",
		"at 1m30s and every 1h: down r1 -- r2", "at 5s: r1 routes 192.0.2.0/24 via r2", "at 6s: r1 drops what goes to 192.0.2.0/24",
		"at 7s: r1 forgets its route to 192.0.2.0/24", "at 8s: silence r1",
	} {
		require.Contains(t, p.texts, text)
	}
	kinds := map[string]int{}
	for _, n := range p.nodes {
		kinds[n.Class]++
	}
	require.Equal(t, map[string]int{"site": 1, "host": 1, "router": 4}, kinds)
}

// TestSVGWide has texts that are wider than the network.
func TestSVGWide(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, s := range []*simnet.Scenario{
		{Name: long, Links: []simnet.Link{{Draw: "a -- b"}}},
		{About: long + long, Links: []simnet.Link{{Draw: "a -- b"}}},
		{Links: []simnet.Link{{Draw: "a -- " + long}}, Changes: []simnet.Change{{Down: "a -- " + long}}},
	} {
		requireLegible(t, draw(t, s))
	}
}

// TestSVGLegible draws arbitrary networks.
func TestSVGLegible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &simnet.Scenario{Name: "any"}
		n := rapid.IntRange(2, 16).Draw(t, "nodes")
		names := make([]string, n)
		for i := range n {
			names[i] = strings.Repeat(string(rune('a'+i)), rapid.IntRange(1, 30).Draw(t, "name"))
		}
		linked, labels := map[int]bool{}, 0
		for range rapid.IntRange(1, 30).Draw(t, "links") {
			a := rapid.IntRange(0, n-1).Draw(t, "a")
			b := (a + rapid.IntRange(1, n-1).Draw(t, "b")) % n
			linked[a], linked[b] = true, true
			l := simnet.Link{Draw: names[a] + " -- " + names[b]}
			l.Delay = time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "delay"))
			if rapid.Bool().Draw(t, "back") {
				l.Back = &simnet.Properties{Loss: 0.5, Cost: 12345}
			}
			if l.Delay > 1 || l.Back != nil {
				labels++
			}
			s.Links = append(s.Links, l)
		}
		for i, name := range names {
			switch k := rapid.IntRange(0, 2).Draw(t, "kind"); {
			case k == 1 && linked[i]:
				s.Sites = append(s.Sites, simnet.Site{Host: simnet.Host{Name: name, DNS: "x.example"}})
			case k == 2:
				s.Hosts = append(s.Hosts, simnet.Host{Name: name})
			}
		}
		require.NoError(t, s.Check())
		p := requireLegible(t, draw(t, s))
		require.GreaterOrEqual(t, len(p.nodes), len(linked))
		require.Len(t, p.labels, labels)
		for _, l := range p.labels {
			require.Positive(t, l.Width)
		}
	})
}

// TestSVGCrossings: nodes are put in an order in which no links cross.
func TestSVGCrossings(t *testing.T) {
	s := &simnet.Scenario{Links: []simnet.Link{{Draw: `a -- x1 -- y1
		a -- x2
		a -- x3 -- y1
		x1 -- y2
		x2 -- y3`}}}
	var doc struct {
		Paths []struct {
			D string `xml:"d,attr"`
		} `xml:"g>path"`
	}
	require.NoError(t, xml.Unmarshal([]byte(draw(t, s)), &doc))
	require.Len(t, doc.Paths, 7)
	var ends [][4]float64
	for _, p := range doc.Paths {
		n := strings.FieldsFunc(p.D, func(r rune) bool { return strings.ContainsRune("MLC ", r) })
		var e [4]float64
		_, err := fmt.Sscan(strings.Join(append(n[:2:2], n[len(n)-2:]...), " "), &e[0], &e[1], &e[2], &e[3])
		require.NoError(t, err)
		ends = append(ends, e)
	}
	for i, e := range ends {
		for _, o := range ends[:i] {
			if e[0] == o[0] && e[2] == o[2] {
				require.GreaterOrEqual(t, (e[1]-o[1])*(e[3]-o[3]), 0.0, "%v crosses %v", e, o)
			}
		}
	}
}

func TestSVGErrors(t *testing.T) {
	var e *simnet.Error
	require.ErrorAs(t, scenario.SVG(io.Discard, &simnet.Scenario{Links: []simnet.Link{{Draw: "a"}}}), &e)
	s := &simnet.Scenario{}
	for i := range 201 {
		s.Routers = append(s.Routers, simnet.Router{Name: fmt.Sprintf("r%d", i)})
	}
	require.EqualError(t, scenario.SVG(io.Discard, s), "scenario: 201 nodes and 0 links, want at most 200 and 400 for a picture")
	s.Routers = s.Routers[:200]
	for i := range 400 {
		s.Links = append(s.Links, simnet.Link{Draw: fmt.Sprintf("r%d -- r%d", i*37%100, 100+i%7), Properties: simnet.Properties{Delay: time.Duration(i+2) * time.Microsecond}})
	}
	requireLegible(t, draw(t, s)) // the most there may be
	s.Links = append(s.Links, simnet.Link{Draw: "r0 -- r1"})
	require.EqualError(t, scenario.SVG(io.Discard, s), "scenario: 200 nodes and 401 links, want at most 200 and 400 for a picture")
	s.Links = nil
	full := errors.New("full")
	require.ErrorIs(t, scenario.SVG(writer(func([]byte) (int, error) { return 0, full }), s), full)
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
