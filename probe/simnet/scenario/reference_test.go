package scenario_test

import (
	"encoding"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
)

// TestReference: what the reference says is true of the types, and complete.
func TestReference(t *testing.T) {
	_, err := scenario.Parse("reference.yaml", []byte(scenario.Reference()))
	require.NoError(t, err)

	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal([]byte(scenario.Reference()), &doc))
	given := map[string]bool{}
	gather(doc.Content[0], reflect.TypeFor[simnet.Scenario](), given)
	for _, key := range keys(reflect.TypeFor[simnet.Scenario](), map[reflect.Type]bool{}) {
		require.True(t, given[key], "%s is not in the reference", key)
	}
	for _, w := range words(reflect.TypeFor[simnet.Scenario](), map[reflect.Type]bool{}) {
		require.Regexp(t, `\b`+regexp.QuoteMeta(w)+`\b`, scenario.Reference())
	}
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// under calls each with the keys of a struct and their types. They are named
// after the struct that declares them, which may be embedded in several.
func under(t reflect.Type, each func(name, key string, t reflect.Type)) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch key, option, _ := strings.Cut(f.Tag.Get("yaml"), ","); {
		case option == "inline":
			under(f.Type, each)
		case key != "-":
			each(t.Name()+"."+key, key, f.Type)
		}
	}
}

func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// keys returns all that a scenario may have, as "Link.draw".
func keys(t reflect.Type, seen map[reflect.Type]bool) []string {
	if t = elem(t); t.Kind() != reflect.Struct || isText(t) || seen[t] {
		return nil
	}
	seen[t] = true
	var all []string
	under(t, func(name, _ string, c reflect.Type) {
		all = append(append(all, name), keys(c, seen)...)
	})
	return all
}

// gather notes the keys that a text has.
func gather(n *yaml.Node, t reflect.Type, given map[string]bool) {
	t = elem(t)
	switch n.Kind {
	case yaml.SequenceNode:
		for _, c := range n.Content {
			gather(c, t, given)
		}
	case yaml.MappingNode:
		under(t, func(name, key string, c reflect.Type) {
			for i := 0; i < len(n.Content); i += 2 {
				if n.Content[i].Value == key {
					given[name] = true
					gather(n.Content[i+1], c, given)
				}
			}
		})
	}
}

// words returns all that words may be.
func words(t reflect.Type, seen map[reflect.Type]bool) []string {
	t = elem(t)
	if seen[t] {
		return nil
	}
	seen[t] = true
	var all []string
	switch {
	case isText(t) && t.Kind() == reflect.Uint8:
		v := reflect.New(t)
		for i := uint64(0); ; i++ {
			v.Elem().SetUint(i)
			b, err := v.Interface().(encoding.TextMarshaler).MarshalText()
			if err != nil {
				break
			}
			if len(b) > 0 {
				all = append(all, string(b))
			}
		}
	case t.Kind() == reflect.Struct && !isText(t):
		under(t, func(_, _ string, c reflect.Type) { all = append(all, words(c, seen)...) })
	}
	return all
}
