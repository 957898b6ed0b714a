package scenario

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// The picture that the documentation shows:
//
//go:generate go test . -run TestPicture -update

const (
	nameSize = 13.0
	textSize = 11.0
	lineStep = 15.0
	// So many nodes and links still make a picture that can be read.
	maxVertices, maxEdges = 200, 400
)

// style sheet of all pictures.
const look = `
text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 11px; fill: #334155; }
.paper { fill: #ffffff; }
.title { font-size: 15px; font-weight: bold; fill: #0f172a; }
.name { font-size: 13px; font-weight: bold; fill: #0f172a; }
.note { font-style: italic; fill: #b45309; }
.on { text-anchor: middle; }
.site { fill: #dbeafe; stroke: #1d4ed8; stroke-width: 2; }
.router { fill: #f1f5f9; stroke: #475569; stroke-width: 1.5; }
.host { fill: #dcfce7; stroke: #15803d; stroke-width: 2; }
.link { fill: none; stroke: #64748b; stroke-width: 1.5; }
.tunnel { stroke: #7c3aed; stroke-width: 4; }
.behind { fill: #ffffff; }
`

// SVG draws a scenario: sites as rectangles with round corners, hosts with
// square ones, routers as pills, with their names, the addresses of sites and
// hosts, what is special about them, and the delay and other properties of each
// link. The same scenario makes the same picture.
//
// The error is that of [simnet.Scenario.Check], or of a scenario of more than
// 200 nodes or 400 links, or w's.
func SVG(w io.Writer, s *simnet.Scenario) error {
	if err := s.Check(); err != nil {
		return err
	}
	if err := drawable(s); err != nil {
		return err
	}
	p := painter{layout: arrange(newGraph(s))}
	p.paint(s)
	_, err := w.Write(p.b.Bytes())
	return err
}

// size returns the width and height of a node.
func size(v *vertex) (w, h float64) {
	w = textWidth(v.name, nameSize)
	for _, l := range append(v.lines[:len(v.lines):len(v.lines)], v.notes...) {
		w = max(w, textWidth(l, textSize))
	}
	side := 12.0
	if v.kind == router {
		side = 15
	}
	return math.Ceil(max(w+2*side, 54)), 17 + lineStep*float64(1+len(v.lines)+len(v.notes))
}

func labelSize(lines []string) (w, h float64) {
	for _, l := range lines {
		w = max(w, textWidth(l, textSize))
	}
	if len(lines) == 0 {
		return 0, 0
	}
	return math.Ceil(w) + 2*padding, lineStep * float64(len(lines))
}

// textWidth is that of the font, of which all characters are as wide; those of
// East Asian scripts may take twice the room.
func textWidth(s string, size float64) float64 {
	n := utf8.RuneCountInString(s)
	for _, r := range s {
		if r >= 0x1100 && r != '→' && r != '←' && r != '↑' && r != '↓' {
			n++
		}
	}
	return 0.61 * size * float64(n)
}

// painter writes a layout as SVG.
type painter struct {
	*layout
	b bytes.Buffer
}

func (p *painter) paint(s *simnet.Scenario) {
	name := cmp.Or(s.Name, "network")
	below := happenings(s)
	about := wrap(s.About, max(p.w, 420)-2*margin)
	head := margin + lineStep*float64(1+len(about))
	width := math.Ceil(max(p.w, textWidth(name, 15)) + 2*margin)
	for _, l := range append(about[:len(about):len(about)], below...) {
		width = max(width, math.Ceil(textWidth(l, textSize))+2*margin)
	}
	width = max(width, 300)
	foot := head + p.h + margin
	height := foot + lineStep*float64(len(below)) + 2*margin

	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" viewBox="0 0 %g %g" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&p.b, "<title>%s</title>\n<style>%s</style>\n", escape(name), look)
	fmt.Fprintf(&p.b, `<rect class="paper" width="%g" height="%g" rx="8"/>`+"\n", width, height)
	p.text("title", margin, margin+10, name)
	for i, l := range about {
		p.text("", margin, margin+12+lineStep*float64(i+1), l)
	}
	fmt.Fprintf(&p.b, `<g transform="translate(%g %g)">`+"\n", math.Round((width-p.w)/2-margin/2), head)
	p.links()
	p.nodes()
	p.b.WriteString("</g>\n")
	for i, l := range below {
		p.text("note", margin, foot+lineStep*float64(i)+6, l)
	}
	p.legend(margin, height-margin)
	p.b.WriteString("</svg>\n")
}

func (p *painter) links() {
	for i, c := range p.curves {
		class := "link"
		if len(p.edges[i].labels) > 0 {
			class += " tunnel"
		}
		if c.p[0].y == c.p[3].y || c.p[0] == c.p[1] {
			fmt.Fprintf(&p.b, `<path class="%s" d="M%g %gL%g %g"/>`+"\n", class, c.from.x, c.from.y, c.to.x, c.to.y)
			continue
		}
		fmt.Fprintf(&p.b, `<path class="%s" d="M%g %gL%g %gC%g %g %g %g %g %gL%g %g"/>`+"\n", class, c.from.x, c.from.y,
			c.p[0].x, c.p[0].y, c.p[1].x, c.p[1].y, c.p[2].x, c.p[2].y, c.p[3].x, c.p[3].y, c.to.x, c.to.y)
	}
	for _, m := range p.labels {
		if len(m.lines) == 0 {
			continue
		}
		fmt.Fprintf(&p.b, `<rect class="behind" x="%g" y="%g" width="%g" height="%g"/>`+"\n", m.left(), m.top(), m.w, m.h)
		for i, l := range m.lines {
			p.text("on", m.x, m.top()+11+lineStep*float64(i), l)
		}
	}
}

func (p *painter) nodes() {
	for i := range p.vertices {
		v := &p.vertices[i]
		p.shape(v.kind, v.box)
		y := v.top() + 21
		p.text("name on", v.x, y, v.name)
		for _, l := range v.lines {
			y += lineStep
			p.text("on", v.x, y, l)
		}
		for _, l := range v.notes {
			y += lineStep
			p.text("note on", v.x, y, l)
		}
	}
}

func (p *painter) shape(k kind, b box) {
	class, corner := "router", min(b.h/2, 17)
	switch k {
	case site:
		class, corner = "site", min(b.h/3, 8)
	case host:
		class, corner = "host", 0
	}
	fmt.Fprintf(&p.b, `<rect class="%s" x="%g" y="%g" width="%g" height="%g" rx="%g"/>`+"\n", class, b.left(), b.top(), b.w, b.h, corner)
}

// legend says what the shapes mean, of those that there are.
func (p *painter) legend(x, y float64) {
	for _, k := range []kind{site, router, host} {
		name := [...]string{site: "site", router: "router", host: "host"}[k]
		any := false
		for i := range p.vertices {
			any = any || p.vertices[i].kind == k
		}
		if !any {
			continue
		}
		p.shape(k, box{x + 11, y - 4, 22, 14})
		p.text("", x+28, y, name)
		x += 28 + textWidth(name, textSize) + 20
		x = math.Round(x)
	}
}

func (p *painter) text(class string, x, y float64, s string) {
	if class != "" {
		class = ` class="` + class + `"`
	}
	fmt.Fprintf(&p.b, `<text%s x="%g" y="%g">%s</text>`+"\n", class, x, y, escape(s))
}

// escape makes character data of any text.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a builder does not fail
	return b.String()
}

// wrap breaks a text into lines of at most that width.
func wrap(s string, width float64) []string {
	var lines []string
	for _, word := range strings.Fields(s) {
		last := len(lines) - 1
		if last >= 0 && textWidth(lines[last]+" "+word, textSize) <= width {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
