package scenario

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxMemory bounds the lists of a scenario, in bytes: aliases let a short
	// text stand for very long ones.
	maxMemory = 256 << 20
	// maxWord bounds what is not free text, in bytes.
	maxWord = 100
)

// decoder fills Go values with what a text says. It is strict: what it does
// not know is an error.
type decoder struct {
	text   *text
	schema schema
	path   path
	memory uintptr // taken by lists so far
}

// path leads to a value, as "links[2].delay" does.
type path []step

// step is a key, or the index of a list.
type step struct {
	key   string
	index int
}

func (p path) String() string {
	var b strings.Builder
	for _, s := range p {
		switch {
		case s.key == "":
			fmt.Fprintf(&b, "[%d]", s.index)
		case b.Len() > 0:
			b.WriteString("." + s.key)
		default:
			b.WriteString(s.key)
		}
	}
	return b.String()
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) error {
	return &Error{File: d.text.file, Line: n.Line, Where: d.path.String(), Reason: fmt.Sprintf(format, args...)}
}

// value decodes n into v.
func (d *decoder) value(n *yaml.Node, v reflect.Value) error {
	n = resolve(n)
	t := v.Type()
	if n.Style&yaml.TaggedStyle != 0 {
		return d.fail(n, "tag %.40q, want none", n.Tag)
	}
	if key := short[t]; key != "" && n.Kind == yaml.ScalarNode && !isNull(n) {
		return d.field(n, n, v, key)
	}
	switch {
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return d.value(n, v.Elem())
	case isScalar(t) && n.Kind == yaml.ScalarNode && !isNull(n):
		return d.scalar(n, v)
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		return d.list(n, v)
	case t.Kind() == reflect.Struct && !isScalar(t) && n.Kind == yaml.MappingNode:
		return d.mapping(n, v)
	}
	return d.fail(n, "%s, want %s", describe(n), d.schema.want(t))
}

func (d *decoder) list(n *yaml.Node, v reflect.Value) error {
	if len(n.Content) == 0 {
		return nil // as if it were not given
	}
	d.memory += uintptr(len(n.Content)) * max(v.Type().Elem().Size(), 16)
	if d.memory > maxMemory {
		return d.fail(n, "the lists up to here take more than %d bytes", maxMemory)
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		d.path = append(d.path, step{index: i})
		if err := d.value(c, v.Index(i)); err != nil {
			return err
		}
		d.path = d.path[:len(d.path)-1]
	}
	return nil
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value) error {
	var seen map[string]int // line by key
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := resolve(n.Content[i]), n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Style&yaml.TaggedStyle != 0 {
			return d.fail(n.Content[i], "%s as key, want one of %s", describe(k), d.schema.keys(v.Type()))
		}
		if line, twice := seen[k.Value]; twice {
			d.path = append(d.path, step{key: printable(k.Value)})
			return d.fail(n.Content[i], "given twice, first on line %d", line)
		}
		if seen == nil {
			seen = map[string]int{}
		}
		seen[k.Value] = n.Content[i].Line
		if err := d.field(n.Content[i], c, v, k.Value); err != nil {
			return err
		}
	}
	return nil
}

// field decodes n into the field of struct v with that key, which stands at k.
func (d *decoder) field(k, n *yaml.Node, v reflect.Value, key string) error {
	for _, f := range d.schema.shape(v.Type()).keys {
		if f.key != key {
			continue
		}
		d.path = append(d.path, step{key: key})
		if err := d.value(n, v.FieldByIndex(f.index)); err != nil {
			return err
		}
		d.path = d.path[:len(d.path)-1]
		return nil
	}
	d.path = append(d.path, step{key: printable(key)})
	return d.fail(k, "unknown key, want one of %s", d.schema.keys(v.Type()))
}

// scalar decodes a single value. What it means depends on the type alone, not
// on whether it is quoted.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value) error {
	s, t := n.Value, v.Type()
	if t.Kind() == reflect.String {
		v.SetString(s)
		return nil
	}
	if len(s) > maxWord {
		return d.fail(n, "%s, want %s", describe(n), d.schema.want(t))
	}
	if t != addrType && t != prefixType && t != durationType {
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(s)); err != nil {
				return d.fail(n, "%v", err)
			}
			return nil
		}
	}
	if err := assign(s, v); err != nil {
		return d.fail(n, "%q, want %s", s, d.schema.want(t))
	}
	return nil
}

func assign(s string, v reflect.Value) (err error) {
	switch t := v.Type(); {
	case t == durationType:
		var d time.Duration
		d, err = time.ParseDuration(s)
		v.SetInt(int64(d))
	case t == addrType:
		var a netip.Addr
		a, err = netip.ParseAddr(s)
		v.Set(reflect.ValueOf(a))
	case t == prefixType:
		var p netip.Prefix
		p, err = netip.ParsePrefix(s)
		v.Set(reflect.ValueOf(p))
	case t.Kind() == reflect.Bool:
		v.SetBool(s == "true")
		if s != "true" && s != "false" {
			err = strconv.ErrSyntax
		}
	case t.Kind() == reflect.Float64:
		var f float64
		if f, err = strconv.ParseFloat(s, 64); err == nil && !finite(f) {
			err = strconv.ErrRange
		}
		v.SetFloat(f)
	case v.CanUint():
		var u uint64
		u, err = strconv.ParseUint(s, 10, t.Bits())
		v.SetUint(u)
	default:
		var i int64
		i, err = strconv.ParseInt(s, 10, t.Bits())
		v.SetInt(i)
	}
	return err
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe names a value for an error.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case isNull(n):
		return "nothing"
	case len(n.Value) > maxWord:
		return fmt.Sprintf("%q and so on, %d bytes", cut(n.Value, 40), len(n.Value))
	}
	return strconv.Quote(n.Value)
}

// printable returns a key as part of a path.
func printable(key string) string {
	q := strconv.Quote(cut(key, 40))
	if key != "" && len(key) <= 40 && q == `"`+key+`"` && !strings.ContainsAny(key, " .[]") {
		return key
	}
	return q
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
