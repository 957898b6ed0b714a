package icmp_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wiretest"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
)

// payloads are of all sorts that could be taken for something else.
func payloads() map[string]wiretest.Payload {
	all := map[string]wiretest.Payload{
		"nothing":   {},
		"zeros":     {Data: make([]byte, 33)},
		"imitation": {Data: append(make([]byte, 12), "behind it"...), Imitate: true},
	}
	for _, n := range []int{1, 2, 7, 9, 10, 11, 12, 13, 60, 201} {
		all[fmt.Sprintf("%d bytes", n)] = wiretest.Payload{Data: bytes.Repeat([]byte{0xA5}, n)}
	}
	return all
}

func TestCarryConformance(t *testing.T) {
	for _, name := range []string{"nothing", "imitation", "7 bytes", "201 bytes"} {
		t.Run(name, func(t *testing.T) {
			p := payloads()[name]
			least := 20 + 8 + len(p.Data) + probe.IdentityLen
			o := probetest.Options{Sizes4: [2]int{least, 65000}, Sizes6: [2]int{least + 20, 65000}, Samples: 150}
			probetest.Run(t, func(testing.TB) probe.Prober { return icmp.Carry(p) }, o)
		})
	}
}

// Every agent knows the errors that a carried probe causes, with the type or
// without.
func TestCarriedErrorsAreKnownToAll(t *testing.T) {
	for name, payload := range payloads() {
		t.Run(name, func(t *testing.T) {
			families(t, func(t *testing.T, v6 bool) {
				p := wiretest.Probe(v6)
				b := wiretest.Build(t, icmp.Carry(payload), p)
				for _, tt := range []struct {
					quote []byte
					bits  uint8
				}{{b, 64}, {b[:wiretest.HeaderLen(v6)+8], map[bool]uint8{false: 16, true: 0}[v6]}} {
					d := wiretest.TimeExceeded(t, p, tt.quote, wiretest.LabelsExtension(t))
					for _, pr := range []probe.Prober{icmp.Prober{}, icmp.Carry(wiretest.Payload{})} {
						var a probe.Answer
						require.True(t, pr.Match(d, &a))
						require.Equal(t, p.ID, a.ID)
						require.Equal(t, tt.bits, a.TagBits)
						require.Equal(t, tt.bits > 0, a.Verified(&wiretest.Key, p.ID))
						require.Equal(t, wiretest.Labels, a.MPLS)
					}
				}
			})
		})
	}
}

// How much of a quote there is decides what is known, never what is wrong.
func TestCarriedQuoteOfAnyLength(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		b := wiretest.Build(t, icmp.Carry(wiretest.Payload{Data: bytes.Repeat([]byte{0xA5}, 30)}), p)
		for n := wiretest.HeaderLen(v6) + 8; n < len(b); n++ {
			for _, ext := range [][]byte{nil, wiretest.LabelsExtension(t)} {
				var a probe.Answer
				require.True(t, icmp.Prober{}.Match(wiretest.TimeExceeded(t, p, b[:n], ext), &a), n)
				if n >= wiretest.HeaderLen(v6)+24 && !v6 {
					require.True(t, a.Verified(&wiretest.Key, p.ID), n)
				}
				require.False(t, a.Verified(&wiretest.Other, a.ID), n)
			}
		}
	})
}

func TestCarryRefuses(t *testing.T) {
	p := wiretest.Probe(false)
	p.Size = 47
	_, err := icmp.Carry(wiretest.Payload{}).Build(nil, p)
	require.NoError(t, err)
	_, err = icmp.Carry(wiretest.Payload{Data: make([]byte, 8)}).Build([]byte("kept"), p)
	require.ErrorIs(t, err, probe.ErrProbe)
	require.ErrorContains(t, err, "size 47, want 48 to 65000 bytes")
	p.Size = 0
	for want, pr := range map[string]wiretest.Broken{
		"size 65040":                 {Append: func(b []byte) ([]byte, error) { return append(b, make([]byte, 65000)...), nil }},
		"took away":                  {Append: func([]byte) ([]byte, error) { return nil, nil }},
		"probe cannot be built: odd": {Append: func(b []byte) ([]byte, error) { return b, errors.New("odd") }},
		"prober failed":              {Append: func(b []byte) ([]byte, error) { return b, probe.ErrProber }},
	} {
		b, err := icmp.Carry(pr).Build([]byte("kept"), p)
		require.ErrorContains(t, err, want)
		require.Equal(t, "kept", string(b))
		require.Equal(t, want == "prober failed", errors.Is(err, probe.ErrProber))
		require.Equal(t, want != "prober failed", errors.Is(err, probe.ErrProbe))
	}
}

func TestCarryHandsOn(t *testing.T) {
	pr := icmp.Carry(wiretest.Payload{})
	require.Equal(t, "test", pr.Name())
	require.Equal(t, "something to carry", pr.(probe.Describer).Help())
	set, err := pr.(probe.Optioner).With(map[string]string{"length": "40"})
	require.NoError(t, err)
	require.Equal(t, pr.(probe.Optioner).Options(), set.(probe.Optioner).Options())
	require.Len(t, wiretest.Build(t, set, wiretest.Probe(false)), 20+8+40+12)
	require.Len(t, wiretest.Build(t, pr, wiretest.Probe(false)), 20+8+12)
	_, err = pr.(probe.Optioner).With(map[string]string{"length": "-1"})
	require.ErrorIs(t, err, probe.ErrOption)
	plain := icmp.Carry(wiretest.Broken{})
	_, ok := plain.(probe.Optioner)
	require.False(t, ok)
	require.Equal(t, "the payload broken", plain.(probe.Describer).Help())
	require.Zero(t, pr.(probe.Porter).DefaultPort())
}

func FuzzCarry(f *testing.F) {
	probetest.Fuzz(f, func(testing.TB) probe.Prober { return icmp.Carry(wiretest.Payload{Data: make([]byte, 20)}) }, probetest.Options{})
}

func BenchmarkCarry(b *testing.B) {
	p, pr := wiretest.Probe(false), icmp.Carry(wiretest.Payload{Data: make([]byte, 20)})
	buf := wiretest.Build(b, pr, p)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = pr.Build(buf[:0], p)
	}
}

// The reply to a carried request is its own prober's alone.
func TestRepliesAreNotTakenForOthers(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		for size := wiretest.HeaderLen(v6) + 18; size < 120; size++ {
			p.Size = size
			var a probe.Answer
			echo := reply(t, p, wiretest.Build(t, icmp.Prober{}, p))
			require.True(t, icmp.Prober{}.Match(echo, &a), size)
			require.True(t, a.Verified(&wiretest.Key, p.ID), size)
			require.False(t, icmp.Carry(wiretest.Payload{}).Match(echo, &a), size)
			require.Zero(t, a)
		}
		p.Size = 0
		for name, payload := range payloads() {
			var a probe.Answer
			echo := reply(t, p, wiretest.Build(t, icmp.Carry(payload), p))
			require.False(t, icmp.Prober{}.Match(echo, &a), name)
			require.Zero(t, a)
			require.True(t, icmp.Carry(payload).Match(echo, &a), name)
			require.True(t, a.Verified(&wiretest.Key, p.ID), name)
			require.True(t, icmp.Carry(payload).Match(wiretest.SetWord(echo, wiretest.HeaderLen(v6)+2, 0x1111), &a), name)
			require.Zero(t, a.TagBits, "a damaged answer proves nothing")
		}
	})
}
