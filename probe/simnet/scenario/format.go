package scenario

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// Format writes a scenario as text, such that [Parse] makes the same one of it.
// What has its default is left out. The error is a [*simnet.Error] for what no
// text can say: a host's Services, text that is not UTF-8, a number that is not
// finite, a word that does not exist.
func Format(s *simnet.Scenario) ([]byte, error) {
	f := formatter{schema: schema{}}
	n, err := f.value(reflect.ValueOf(s).Elem())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return apart(b.Bytes()), nil
}

// apart puts a blank line before each list of the scenario.
func apart(b []byte) []byte {
	var out []byte
	for line := range bytes.Lines(b) {
		if len(out) > 0 && line[0] >= 'a' && line[0] <= 'z' && bytes.HasSuffix(line, []byte(":\n")) {
			out = append(out, '\n')
		}
		out = append(out, line...)
	}
	return out
}

// formatter makes YAML of Go values.
type formatter struct {
	schema schema
	path   path
}

func (f *formatter) fail(format string, args ...any) error {
	return &simnet.Error{Where: f.path.String(), Reason: fmt.Sprintf(format, args...)}
}

func (f *formatter) value(v reflect.Value) (*yaml.Node, error) {
	switch t := v.Type(); {
	case t.Kind() == reflect.Pointer:
		return f.value(v.Elem())
	case isScalar(t):
		return f.scalar(v)
	case t.Kind() == reflect.Slice:
		return f.list(v)
	}
	return f.mapping(v)
}

func (f *formatter) list(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if isScalar(v.Type().Elem()) {
		n.Style = yaml.FlowStyle
	}
	for i := range v.Len() {
		f.path = append(f.path, step{index: i})
		c, err := f.value(v.Index(i))
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, c)
		f.path = f.path[:len(f.path)-1]
	}
	return n, nil
}

func (f *formatter) mapping(v reflect.Value) (*yaml.Node, error) {
	shape := f.schema.shape(v.Type())
	for _, k := range shape.mute {
		if !isDefault(v.FieldByIndex(k.index)) {
			f.path = append(f.path, step{key: k.key})
			return nil, f.fail("set, but has no text form")
		}
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range shape.keys {
		c := v.FieldByIndex(k.index)
		if isDefault(c) {
			continue
		}
		f.path = append(f.path, step{key: k.key})
		node, err := f.value(c)
		if err != nil {
			return nil, err
		}
		f.path = f.path[:len(f.path)-1]
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: k.key}, node)
	}
	switch {
	case len(n.Content) == 0:
		n.Style = yaml.FlowStyle
	case len(n.Content) == 2 && n.Content[0].Value == short[v.Type()]:
		return n.Content[1], nil
	}
	return n, nil
}

func isDefault(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	if v.Kind() != reflect.Struct || isScalar(v.Type()) {
		return v.IsZero()
	}
	for i := range v.NumField() {
		if !isDefault(v.Field(i)) {
			return false
		}
	}
	return true
}

func (f *formatter) scalar(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.ScalarNode}
	t := v.Type()
	if t.Kind() == reflect.String {
		n.Tag, n.Value = "!!str", v.String()
		if !utf8.ValidString(n.Value) {
			return nil, f.fail("%.80q, want UTF-8", n.Value)
		}
		n.Style = style(n.Value)
		return n, nil
	}
	if t == durationType {
		n.Value = duration(time.Duration(v.Int()))
		return n, nil
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return nil, f.fail("%v", err)
		}
		n.Value = string(b)
		return n, nil
	}
	switch {
	case t.Kind() == reflect.Bool:
		n.Value = strconv.FormatBool(v.Bool())
	case t.Kind() == reflect.Float64:
		if !finite(v.Float()) {
			return nil, f.fail("%v, want a number", v.Float())
		}
		n.Value = strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case v.CanUint():
		n.Value = strconv.FormatUint(v.Uint(), 10)
	default:
		n.Value = strconv.FormatInt(v.Int(), 10)
	}
	return n, nil
}

// duration is d.String without the zeros at its end: 1m instead of 1m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// style chooses how a text is written: lines as they are, where the package can
// do so, and escapes for what does not show.
func style(s string) yaml.Style {
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			return yaml.DoubleQuotedStyle
		}
	}
	switch {
	case !strings.Contains(s, "\n"):
		return 0
	case s == "\n", strings.HasSuffix(s, "\n\n"): // a blank line after it would join in
		return yaml.DoubleQuotedStyle
	}
	return yaml.LiteralStyle
}
