package contract_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

func TestMatchedArrivesAsItIs(t *testing.T) {
	answers := map[int]probe.Answer{
		0: {ID: 1, Tag: math.MaxUint64, TagBits: 64},
		2: {ID: 0xFFFF, Tag: 0x1234, TagBits: 16, Values: []probe.Value{{Name: "site", Text: "fra1"}, {Name: "4", Text: "Köln"}}},
		3: {ID: 7},
	}
	m := &pluginv1.Matched{}
	for _, i := range []int{0, 2, 3} {
		a := answers[i]
		contract.AppendMatched(m, i, &a)
	}
	got := map[int]probe.Answer{}
	require.NoError(t, contract.ReadMatched(m, 4, func(i int, said *contract.Said) {
		got[i] = probe.Answer{ID: said.ID, Tag: said.Tag, TagBits: said.TagBits, Values: said.Values}
	}))
	require.Equal(t, answers, got)

	m = &pluginv1.Matched{Indexes: []uint32{0}, Ids: []uint32{1}, Tags: []uint64{0xABCD1234}, TagBits: []byte{16}}
	require.NoError(t, contract.ReadMatched(m, 1, func(_ int, said *contract.Said) {
		require.Equal(t, uint64(0x1234), said.Tag, "the bits that are known")
	}))
}

// An author need not know what a terminal acts on, and neither need the host
// believe that he does.
func TestValuesAreMadeFit(t *testing.T) {
	a := probe.Answer{ID: 1, Values: []probe.Value{{Name: "banner", Text: "\x1b[2J\xff" + strings.Repeat("x", 300)}, {Name: "Bad"}}}
	kept := slices.Clone(a.Values)
	m := &pluginv1.Matched{}
	contract.AppendMatched(m, 0, &a)
	require.Equal(t, kept, a.Values, "the author's own")
	require.Len(t, m.Values[0].Values, 1)
	require.Equal(t, "?[2J?xxx", m.Values[0].Values[0].Text[:8])
	require.Len(t, m.Values[0].Values[0].Text, probe.MaxValueText)

	m.Values[0].Values[0].Text = "\x1b]0;owned\x07" + strings.Repeat("é", 200)
	require.NoError(t, contract.ReadMatched(m, 1, func(_ int, said *contract.Said) {
		require.Equal(t, "?]0;owned?é", said.Values[0].Text[:12])
		require.LessOrEqual(t, len(said.Values[0].Text), probe.MaxValueText)
	}))

	none := &pluginv1.Matched{}
	contract.AppendMatched(none, 0, &probe.Answer{ID: 1, Values: []probe.Value{{Name: "Bad"}}})
	require.Empty(t, none.Values)
}

func TestMalformedMatched(t *testing.T) {
	good := func() *pluginv1.Matched {
		return &pluginv1.Matched{
			Indexes: []uint32{0, 2}, Ids: []uint32{1, 2}, Tags: []uint64{3, 4}, TagBits: []byte{64, 16},
			Values: []*pluginv1.Values{{Index: 2, Values: []*pluginv1.Value{{Name: "site", Text: "x"}}}},
		}
	}
	nobody := func(int, *contract.Said) {}
	require.NoError(t, contract.ReadMatched(good(), 3, nobody))
	for name, spoil := range map[string]func(m *pluginv1.Matched){
		"fewer IDs":         func(m *pluginv1.Matched) { m.Ids = m.Ids[:1] },
		"fewer tags":        func(m *pluginv1.Matched) { m.Tags = nil },
		"fewer bits":        func(m *pluginv1.Matched) { m.TagBits = m.TagBits[:1] },
		"index beyond":      func(m *pluginv1.Matched) { m.Indexes[1] = 3 },
		"huge index":        func(m *pluginv1.Matched) { m.Indexes[1] = math.MaxUint32 },
		"same index":        func(m *pluginv1.Matched) { m.Indexes[1], m.Values = 0, nil },
		"indexes backwards": func(m *pluginv1.Matched) { m.Indexes = []uint32{2, 0} },
		"ID 0":              func(m *pluginv1.Matched) { m.Ids[0] = 0 },
		"long ID":           func(m *pluginv1.Matched) { m.Ids[0] = 0x10000 },
		"65 bits":           func(m *pluginv1.Matched) { m.TagBits[0] = 65 },
		"values of another": func(m *pluginv1.Matched) { m.Values[0].Index = 1 },
		"no values":         func(m *pluginv1.Matched) { m.Values[0].Values = nil },
		"values of nothing": func(m *pluginv1.Matched) { m.Values = append(m.Values, nil) },
		"17 values": func(m *pluginv1.Matched) {
			m.Values[0].Values = slices.Repeat(m.Values[0].Values, probe.MaxValues+1)
		},
		"bad name":    func(m *pluginv1.Matched) { m.Values[0].Values[0].Name = "Site" },
		"no name":     func(m *pluginv1.Matched) { m.Values[0].Values[0].Name = "" },
		"long name":   func(m *pluginv1.Matched) { m.Values[0].Values[0].Name = strings.Repeat("x", 33) },
		"nil value":   func(m *pluginv1.Matched) { m.Values[0].Values[0] = nil },
		"name of ESC": func(m *pluginv1.Matched) { m.Values[0].Values[0].Name = "\x1b" },
	} {
		m := good()
		spoil(m)
		require.ErrorIs(t, contract.ReadMatched(m, 3, nobody), contract.ErrMalformed, name)
	}
}

func TestSplitDatagrams(t *testing.T) {
	var got []string
	m := &pluginv1.Match{Datagrams: []byte("abcdef"), Lengths: []uint32{1, 0, 3, 2}}
	require.NoError(t, contract.SplitDatagrams(m, func(i int, d []byte) {
		require.Equal(t, len(got), i)
		require.Equal(t, len(d), cap(d))
		got = append(got, string(d))
	}))
	require.Equal(t, []string{"a", "", "bcd", "ef"}, got)
	for _, m := range []*pluginv1.Match{
		{Datagrams: []byte("abc"), Lengths: []uint32{4}},
		{Datagrams: []byte("abc"), Lengths: []uint32{2}},
		{Datagrams: []byte("abc")},
		{Lengths: make([]uint32, contract.MaxBatch+1)},
	} {
		require.ErrorIs(t, contract.SplitDatagrams(m, func(int, []byte) {}), contract.ErrMalformed)
	}
}

// With what the plugin says of direct answers, all answers are as the type's
// own prober reads them.
func TestJudge(t *testing.T) {
	for name, typ := range types {
		for p := range variants {
			b, err := typ.Build(nil, &p)
			if err != nil || p.Size > 1500 {
				continue
			}
			for _, d := range append(probetest.DirectAnswers(b), b, nil, []byte{0x45}, []byte{0x60}) {
				var want, got probe.Answer
				matches := typ.Match(d, &want)
				verdict := contract.Judge(d, typ.protocol, &got)
				if verdict == contract.Direct {
					said := &contract.Said{ID: want.ID, Tag: want.Tag, TagBits: want.TagBits, Values: want.Values}
					if !matches {
						continue // as the plugin would say
					}
					ok, err := contract.Complete(&got, d, said)
					require.NoError(t, err)
					require.True(t, ok)
				} else {
					require.Equal(t, matches, verdict == contract.Answer, "%s: %x", name, d)
				}
				if matches {
					require.Equal(t, want, got, "%s: %x", name, d)
				}
			}
		}
	}
}

// What has no UDP header is no answer to a probe over UDP.
func TestJudgeFragments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := aProbe(v6)
		b, err := udp.Prober{}.Build(nil, &p)
		require.NoError(t, err)
		d := probetest.DirectAnswers(b)[0]
		var a probe.Answer
		require.Equal(t, contract.Direct, contract.Judge(d, udpProtocol, &a))
		if v6 {
			fragment, err := packet.AppendFragment(nil, probe.UDP, 64, false, 7)
			require.NoError(t, err)
			d = slices.Concat(d[:40], fragment, d[40:])
			d[5] += uint8(len(fragment))
			d[6] = packet.Fragment
		} else {
			d[7] = 8
		}
		require.Equal(t, contract.NoAnswer, contract.Judge(d, udpProtocol, &a))
		require.Equal(t, contract.NoAnswer, contract.Judge(d[:len(b)/2], udpProtocol, &a))
	}
}

// A plugin cannot make an answer of what is to another port, nor one to
// another probe of what says which it answers.
func TestComplete(t *testing.T) {
	p := aProbe(false)
	b, err := udp.Prober{}.Build(nil, &p)
	require.NoError(t, err)
	d := probetest.DirectAnswers(b)[0]
	for _, port := range []uint16{53, 0xEFFF, 0xF100} {
		d[22], d[23] = byte(port>>8), byte(port)
		var a probe.Answer
		require.Equal(t, contract.Direct, contract.Judge(d, udpProtocol, &a))
		ok, err := contract.Complete(&a, d, &contract.Said{ID: 9})
		require.NoError(t, err)
		require.False(t, ok, port)
		ok, err = contract.Complete(&a, d, &contract.Said{ID: port})
		require.NoError(t, err)
		require.True(t, ok, "flow mode classic")
	}
	for _, name := range []string{"tcp", "icmp", "icmp carrier"} {
		b, err := types[name].Build(nil, &p)
		require.NoError(t, err)
		d := probetest.DirectAnswers(b)[0]
		var a probe.Answer
		require.Equal(t, contract.Direct, contract.Judge(d, types[name].protocol, &a), name)
		_, err = contract.Complete(&a, d, &contract.Said{ID: p.ID + 1, TagBits: 64})
		require.ErrorIs(t, err, contract.ErrMalformed, name)
		ok, err := contract.Complete(&a, d, &contract.Said{ID: p.ID, Tag: 99, TagBits: 64, Values: []probe.Value{{Name: "x"}}})
		require.NoError(t, err)
		require.True(t, ok)
		require.True(t, a.Verified(&p.Key, p.ID), "the tag is what the datagram says")
		require.Equal(t, []probe.Value{{Name: "x"}}, a.Values)
	}
}
