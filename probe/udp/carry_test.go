package udp_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/internal/wiretest"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
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
			probetest.Run(t, func(testing.TB) probe.Prober { return udp.Carry(p) }, o)
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
				b := wiretest.Build(t, udp.Carry(payload), p)
				for _, tt := range []struct {
					quote []byte
					bits  uint8
				}{{b, 64}, {b[:wiretest.HeaderLen(v6)+8], map[bool]uint8{false: 16, true: 0}[v6]}} {
					d := wiretest.TimeExceeded(t, p, tt.quote, wiretest.LabelsExtension(t))
					for _, pr := range []probe.Prober{udp.Prober{}, udp.Carry(wiretest.Payload{})} {
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
		b := wiretest.Build(t, udp.Carry(wiretest.Payload{Data: bytes.Repeat([]byte{0xA5}, 30), Imitate: true}), p)
		for n := wiretest.HeaderLen(v6) + 8; n < len(b); n++ {
			for _, ext := range [][]byte{nil, wiretest.LabelsExtension(t)} {
				var a probe.Answer
				require.True(t, udp.Prober{}.Match(wiretest.TimeExceeded(t, p, b[:n], ext), &a), n)
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
	_, err := udp.Carry(wiretest.Payload{}).Build(nil, p)
	require.NoError(t, err)
	_, err = udp.Carry(wiretest.Payload{Data: make([]byte, 8)}).Build([]byte("kept"), p)
	require.ErrorIs(t, err, probe.ErrProbe)
	require.ErrorContains(t, err, "size 47, want 48 to 65000 bytes")
	p.Size = 0
	for want, pr := range map[string]wiretest.Broken{
		"size 65040":                 {Append: func(b []byte) ([]byte, error) { return append(b, make([]byte, 65000)...), nil }},
		"took away":                  {Append: func([]byte) ([]byte, error) { return nil, nil }},
		"probe cannot be built: odd": {Append: func(b []byte) ([]byte, error) { return b, errors.New("odd") }},
		"prober failed":              {Append: func(b []byte) ([]byte, error) { return b, probe.ErrProber }},
	} {
		b, err := udp.Carry(pr).Build([]byte("kept"), p)
		require.ErrorContains(t, err, want)
		require.Equal(t, "kept", string(b))
		require.Equal(t, want == "prober failed", errors.Is(err, probe.ErrProber))
		require.Equal(t, want != "prober failed", errors.Is(err, probe.ErrProbe))
	}
}

func TestCarryHandsOn(t *testing.T) {
	pr := udp.Carry(wiretest.Payload{})
	require.Equal(t, "test", pr.Name())
	require.Equal(t, "something to carry", pr.(probe.Describer).Help())
	set, err := pr.(probe.Optioner).With(map[string]string{"length": "40"})
	require.NoError(t, err)
	require.Equal(t, pr.(probe.Optioner).Options(), set.(probe.Optioner).Options())
	require.Len(t, wiretest.Build(t, set, wiretest.Probe(false)), 20+8+40+12)
	require.Len(t, wiretest.Build(t, pr, wiretest.Probe(false)), 20+8+12)
	_, err = pr.(probe.Optioner).With(map[string]string{"length": "-1"})
	require.ErrorIs(t, err, probe.ErrOption)
	plain := udp.Carry(wiretest.Broken{})
	_, ok := plain.(probe.Optioner)
	require.False(t, ok)
	require.Equal(t, "the payload broken", plain.(probe.Describer).Help())
	require.EqualValues(t, 7, pr.(probe.Porter).DefaultPort())
	require.EqualValues(t, 33434, plain.(probe.Porter).DefaultPort())
	for given, want := range map[uint16]uint16{0: 7, 53: 53} {
		p := wiretest.Probe(false)
		p.DstPort = given
		require.Equal(t, want, wiretest.Word(wiretest.Build(t, pr, p), 22))
	}
}

func FuzzCarry(f *testing.F) {
	probetest.Fuzz(f, func(testing.TB) probe.Prober { return udp.Carry(wiretest.Payload{Data: make([]byte, 20)}) }, probetest.Options{})
}

func BenchmarkCarry(b *testing.B) {
	p, pr := wiretest.Probe(false), udp.Carry(wiretest.Payload{Data: make([]byte, 20)})
	buf := wiretest.Build(b, pr, p)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = pr.Build(buf[:0], p)
	}
}

// The direct answer of a carried probe is its own prober's alone, whatever it
// looks like, and the other way round.
func TestRepliesAreNotTakenForOthers(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		ours := wiretest.Build(t, udp.Prober{}, p)
		var a probe.Answer
		for _, d := range probetest.DirectAnswers(ours)[:1] {
			require.True(t, udp.Prober{}.Match(d, &a))
		}
		for name, payload := range payloads() {
			if name == "nothing" { // the same words at the same place
				continue
			}
			echo := probetest.DirectAnswers(wiretest.Build(t, udp.Carry(payload), p))[0]
			require.False(t, udp.Prober{}.Match(echo, &a), name)
			require.Zero(t, a)
			require.True(t, udp.Carry(payload).Match(echo, &a), name)
			require.True(t, a.Verified(&wiretest.Key, p.ID), name)
		}
		// Whatever else a server says to our ports.
		for i := range 2000 {
			payload := bytes.Repeat([]byte{byte(i), byte(i >> 8), 0x31}, 20)
			h := packet.UDP{SrcPort: 53, DstPort: p.Port(), Length: uint16(8 + len(payload)), Checksum: 0x1234}
			d := wiretest.Wrap(t, p.Dst, p.Src, probe.UDP, append(h.Append(nil), payload...))
			require.False(t, udp.Prober{}.Match(d, &a), i)
		}
	})
}

// A long answer comes in fragments; the first one says enough.
func TestReplyInFragments(t *testing.T) {
	p := wiretest.Probe(false)
	p.Size = 3000
	d := probetest.DirectAnswers(wiretest.Build(t, udp.Prober{}, p))[0]
	first := wiretest.SetWord(wiretest.SetWord(d, 6, 0x2000), 2, 1500)[:1500]
	var a probe.Answer
	require.True(t, udp.Prober{}.Match(first, &a))
	require.True(t, a.Verified(&wiretest.Key, p.ID))
	require.False(t, udp.Prober{}.Match(wiretest.SetWord(first, 26, 0x7777), &a))
}

// A NAT changed the checksum, and the quote shows it so.
func TestCarriedChecksumRewritten(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		p := wiretest.Probe(v6)
		for name, payload := range payloads() {
			b := wiretest.Build(t, udp.Carry(payload), p)
			for _, checksum := range []uint16{0, 0x7777} {
				var a probe.Answer
				d := wiretest.TimeExceeded(t, p, wiretest.SetWord(b, wiretest.HeaderLen(v6)+6, checksum), nil)
				require.True(t, udp.Prober{}.Match(d, &a), name)
				require.True(t, a.Verified(&wiretest.Key, p.ID), name)
			}
		}
	})
}
