package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxSize is how long a text may be, in bytes.
	maxSize = 16 << 20
	// maxValues bounds what the YAML package makes of a text: every value
	// takes it a few hundred bytes.
	maxValues = 1 << 20
)

// text is a YAML document.
type text struct {
	file string
	root *yaml.Node
}

// read reads the single document of a text.
func read(file string, b []byte) (*text, error) {
	if err := plausible(file, b); err != nil {
		return nil, err
	}
	doc, more, err := document(b)
	switch {
	case err != nil:
		line, text := culprit(b, err)
		reason := "not YAML: " + lineOf.ReplaceAllString(err.Error(), "")
		if colon.Match(text) {
			reason += `; within [] and {} an address that begins with a colon needs quotes, "::/0"`
		}
		return nil, &Error{File: file, Line: line, Reason: reason}
	case doc == nil:
		return nil, &Error{File: file, Reason: "empty, want a scenario"}
	case more > 0:
		return nil, &Error{File: file, Line: more, Reason: "a second document begins, want one"}
	}
	return &text{file: file, root: doc.Content[0]}, nil
}

// plausible refuses what the YAML package would stumble over, or take too much
// time or memory for.
func plausible(file string, b []byte) error {
	if len(b) > maxSize {
		return &Error{File: file, Reason: fmt.Sprintf("more than %d bytes", maxSize)}
	}
	values, n := 0, 0
	for line := range bytes.Lines(b) {
		n++
		if !utf8.Valid(line) {
			return &Error{File: file, Line: n, Reason: "not UTF-8"}
		}
		if line[0] == '%' {
			return &Error{File: file, Line: n, Reason: "a YAML directive, want none"}
		}
		for i, c := range line {
			switch {
			case c == ',', c == '[', c == '{', c == '\n', c == '\r':
				values++
			case c == ' ' && i > 0 && (line[i-1] == '-' || line[i-1] == '?' || line[i-1] == ':'):
				values++
			}
		}
		if values > maxValues {
			return &Error{File: file, Line: n, Reason: fmt.Sprintf("more than %d values", maxValues)}
		}
	}
	return nil
}

// document returns the first document of b, nil if there is none, and the line
// on which another one begins, 0 if there is none.
func document(b []byte) (doc *yaml.Node, more int, err error) {
	// The package panics on events that it does not expect.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(b))
	var first, second yaml.Node
	if err := d.Decode(&first); errors.Is(err, io.EOF) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	if err := d.Decode(&second); errors.Is(err, io.EOF) {
		return &first, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	return &first, max(second.Line, 1), nil
}

var (
	lineOf = regexp.MustCompile(`^yaml: (line (\d+): )?`)
	colon  = regexp.MustCompile(`[[{,:]\s*::`)
)

// culprit returns the line with which b stops being YAML, and its number. The package's own
// numbers lack one for some errors, and for others they are of the beginning
// of what surrounds the error; so this looks for the longest beginning of b
// that is YAML.
func culprit(b []byte, err error) (number int, text []byte) {
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	given := 1
	if m := lineOf.FindStringSubmatch(err.Error()); m[2] != "" {
		given, _ = strconv.Atoi(m[2])
	}
	from := reached(lines)
	size := 0
	for _, l := range lines[:from] {
		size += len(l)
	}
	for n, effort := from, 4*maxSize; n > 0 && effort > size; n-- {
		effort -= size
		size -= len(lines[n-1])
		if _, _, err := document(b[:size]); err == nil {
			return n, lines[n-1]
		}
	}
	n := min(given, len(lines))
	return n, lines[n-1]
}

// reached returns how many lines are read before the error shows.
func reached(lines [][]byte) int {
	r := &lineReader{lines: lines}
	defer func() { _ = recover() }() // as in document
	d := yaml.NewDecoder(r)
	var n yaml.Node
	for d.Decode(&n) == nil {
	}
	return r.given
}

// lineReader gives a line at a time.
type lineReader struct {
	lines [][]byte
	given int
	rest  []byte
}

func (r *lineReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.given == len(r.lines) {
			return 0, io.EOF
		}
		r.rest = r.lines[r.given]
		r.given++
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// line returns the line of the value to which a path such as "links[2].delay"
// leads, or of the innermost thing around it that the text has.
func (t *text) line(where string) int {
	n, line := t.root, t.root.Line
	for where != "" {
		n = resolve(n)
		if rest, ok := strings.CutPrefix(where, "["); ok {
			number, rest, _ := strings.Cut(rest, "]")
			i, err := strconv.Atoi(number)
			if err != nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
				return line
			}
			n, where = n.Content[i], rest
			line = n.Line
			continue
		}
		where = strings.TrimPrefix(where, ".")
		end := strings.IndexAny(where, ".[")
		if end < 0 {
			end = len(where)
		}
		key := child(n, where[:end])
		if key == nil {
			return line
		}
		n, where, line = key.value, where[end:], key.line
	}
	return line
}

type pair struct {
	line  int
	value *yaml.Node
}

// child returns the value of a key.
func child(n *yaml.Node, key string) *pair {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := resolve(n.Content[i]); k.Kind == yaml.ScalarNode && k.Value == key {
			return &pair{n.Content[i].Line, n.Content[i+1]}
		}
	}
	return nil
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
