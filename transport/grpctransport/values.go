package grpctransport

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// addrs encodes addresses into one buffer for many of them.
type addrs []byte

func (b *addrs) encode(a netip.Addr) []byte {
	n := len(*b)
	*b, _ = a.AppendBinary(*b) // has no error to return
	return (*b)[n:len(*b):len(*b)]
}

func encodeAddr(a netip.Addr) []byte { return new(addrs).encode(a) }

func encodePrefix(p netip.Prefix) []byte {
	if !p.IsValid() {
		return nil
	}
	b, _ := p.MarshalBinary() // has no error to return
	return b
}

func encodeTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func decodeTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// text makes s a string that protocol buffers carry.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func texts(in []string) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = text(s)
	}
	return out
}

func encodeLabels(in []probe.Label) []*voltadomarv1.Label {
	if len(in) == 0 {
		return nil
	}
	out := make([]*voltadomarv1.Label, len(in))
	for i, l := range in {
		out[i] = &voltadomarv1.Label{Label: l.Label, Tc: uint32(l.TC), Bottom: l.Bottom, Ttl: uint32(l.TTL)}
	}
	return out
}

// decoder converts what a peer sent and keeps the first thing wrong with it.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *decoder) uint8(field string, v uint32) uint8 {
	if v > math.MaxUint8 {
		d.fail("%s is %d: must be 0 to %d", field, v, math.MaxUint8)
	}
	return uint8(v)
}

func (d *decoder) uint16(field string, v uint32) uint16 {
	if v > math.MaxUint16 {
		d.fail("%s is %d: must be 0 to %d", field, v, math.MaxUint16)
	}
	return uint16(v)
}

func (d *decoder) int(field string, v int64) int {
	if int64(int(v)) != v {
		d.fail("%s is %d: out of range", field, v)
	}
	return int(v)
}

func (d *decoder) addr(field string, b []byte) netip.Addr {
	var a netip.Addr
	if err := a.UnmarshalBinary(b); err != nil {
		d.fail("%s is %d bytes long: an address has 0, 4, 16, or more with a zone", field, len(b))
	}
	return a
}

func (d *decoder) prefix(field string, b []byte) netip.Prefix {
	var p netip.Prefix
	if len(b) == 0 {
		return p
	}
	if err := p.UnmarshalBinary(b); err != nil || !p.IsValid() {
		d.fail("%s is %x: a prefix has 4 or 16 bytes of address and one of its length", field, b[:min(len(b), 20)])
	}
	return p
}

func (d *decoder) labels(in []*voltadomarv1.Label) []probe.Label {
	if len(in) == 0 {
		return nil
	}
	out := make([]probe.Label, len(in))
	for i, l := range in {
		out[i] = probe.Label{Label: l.GetLabel(), TC: d.uint8("tc", l.GetTc()), Bottom: l.GetBottom(), TTL: d.uint8("ttl", l.GetTtl())}
	}
	return out
}
