package scenario

import (
	"encoding"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	addrType     = reflect.TypeFor[netip.Addr]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	wordType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// short are the types for which a text alone stands for this key.
var short = map[reflect.Type]string{reflect.TypeFor[simnet.Link](): "draw"}

// field is a key of a struct.
type field struct {
	key   string
	index []int
}

// shape is what a struct has: keys, and fields that have no text form.
type shape struct{ keys, mute []field }

// schema is what the types say of their keys, as far as it was asked for.
type schema map[reflect.Type]shape

// shape returns what a struct has, embedded ones included, in the order
// declared.
func (s schema) shape(t reflect.Type) shape {
	if all, known := s[t]; known {
		return all
	}
	var all shape
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			inner := s.shape(f.Type)
			all.keys = append(all.keys, under(i, inner.keys)...)
			all.mute = append(all.mute, under(i, inner.mute)...)
		case key == "-":
			all.mute = append(all.mute, field{strings.ToLower(f.Name), []int{i}})
		default:
			all.keys = append(all.keys, field{key, []int{i}})
		}
	}
	s[t] = all
	return all
}

// under returns the fields of an embedded struct, which is field i.
func under(i int, inner []field) []field {
	var all []field
	for _, f := range inner {
		all = append(all, field{f.key, append([]int{i}, f.index...)})
	}
	return all
}

func (s schema) keys(t reflect.Type) string {
	var keys []string
	for _, f := range s.shape(t).keys {
		keys = append(keys, f.key)
	}
	return strings.Join(keys, ", ")
}

// isScalar tells whether values of type t are written as a single word or text.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer:
		return false
	case reflect.Struct:
		return t == addrType || t == prefixType || reflect.PointerTo(t).Implements(wordType)
	}
	return true
}

// want says in words what values of type t look like.
func (s schema) want(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration such as 5ms"
	case t == addrType:
		return "an address such as 192.0.2.1 or 2001:db8::1"
	case t == prefixType:
		return "a prefix such as 192.0.2.0/24 or 2001:db8::/32"
	case reflect.PointerTo(t).Implements(wordType):
		return "a single value"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.want(t.Elem())
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "a mapping with keys of " + s.keys(t)
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0 to " + highest[t.Kind()]
	}
	return "a whole number"
}

var highest = map[reflect.Kind]string{
	reflect.Uint8: "255", reflect.Uint16: "65535", reflect.Uint32: "4294967295", reflect.Uint64: "18446744073709551615",
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
