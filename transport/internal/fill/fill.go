// Package fill makes test values of any struct in which every field, however
// deep, is set: a conversion that forgets one is found out.
package fill

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"strconv"
	"testing"
	"time"
)

// entries is how many entries slices and maps get.
const entries = 2

// New returns a T in which every field holds a value other than its zero and
// other than its neighbours'. Different seeds give different values.
func New[T any](t testing.TB, seed int) T {
	t.Helper()
	var v T
	f := filler{t: t, n: seed}
	f.set(reflect.ValueOf(&v).Elem())
	return v
}

type filler struct {
	t testing.TB
	n int
}

func (f *filler) set(v reflect.Value) {
	f.t.Helper()
	f.n++
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(f.addr()))
		return
	case netip.Prefix:
		a := f.addr()
		v.Set(reflect.ValueOf(netip.PrefixFrom(a, f.n%a.BitLen()+1)))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1_800_000_000+int64(f.n), int64(f.n)*1001).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		// All bits matter, the high ones too.
		max := uint64(1)<<(v.Type().Bits()-1)<<1 - 1
		v.SetUint(max - uint64(f.n)%(max/2))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(int64(f.n)%100 + 1)
		if v.Type().Bits() == 64 {
			v.SetInt(1<<33 + int64(f.n))
		}
	case reflect.Float64, reflect.Float32:
		v.SetFloat(float64(f.n) + 0.5)
	case reflect.String:
		v.SetString("text " + strconv.Itoa(f.n) + " \u00e9")
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				f.t.Fatalf("cannot fill %v: field %s is not exported", v.Type(), v.Type().Field(i).Name)
			}
			f.set(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.set(v.Elem())
	case reflect.Array:
		for i := range v.Len() {
			f.set(v.Index(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), entries, entries))
		for i := range entries {
			f.set(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range entries {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.set(key)
			f.set(elem)
			v.SetMapIndex(key, elem)
		}
	default:
		f.t.Fatalf("cannot fill a %v", v.Type())
	}
}

func (f *filler) addr() netip.Addr {
	if f.n%2 == 0 {
		b := [4]byte{198, 18, byte(f.n >> 8), byte(f.n)}
		return netip.AddrFrom4(b)
	}
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(b[12:], uint32(f.n))
	return netip.AddrFrom16(b)
}
