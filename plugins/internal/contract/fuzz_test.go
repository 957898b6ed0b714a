package contract_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// FuzzFromPlugin reads what a plugin may send, whatever that is.
func FuzzFromPlugin(f *testing.F) {
	ps := []probe.Probe{aProbe(false), aProbe(true), aProbe(false)}
	ps[2].Size = 100
	tags := contract.AppendTags(nil, ps, udpProtocol)
	var all []byte
	var lengths []uint32
	var answers [][]byte
	for i := range ps {
		b, err := udp.Prober{}.Build(nil, &ps[i])
		require.NoError(f, err)
		all, lengths = append(all, b...), append(lengths, uint32(len(b)))
		answers = append(answers, probetest.DirectAnswers(b)...)
	}
	description, err := contract.Describe(talkative{udp.Prober{}, "dns"}, udpProtocol)
	require.NoError(f, err)
	matched := &pluginv1.Matched{}
	contract.AppendMatched(matched, 1, &probe.Answer{ID: 7, TagBits: 64, Values: []probe.Value{{Name: "site", Text: "fra1"}}})
	for _, m := range []*pluginv1.ToHost{
		{Request: 1, Message: &pluginv1.ToHost_Built{Built: contract.Built(all, lengths, nil)}},
		{Request: 1, Message: &pluginv1.ToHost_Built{Built: contract.Built(nil, make([]uint32, 3), map[int]error{1: probe.ErrProbe})}},
		{Request: 2, Message: &pluginv1.ToHost_Matched{Matched: matched}},
		{Message: &pluginv1.ToHost_Description{Description: description}},
		{Request: 3, Message: &pluginv1.ToHost_Checked{Checked: &pluginv1.Checked{Wrong: contract.Wrong(&probe.OptionError{Name: "x"})}}},
		{Request: 4, Message: &pluginv1.ToHost_Failure{Failure: "no"}},
	} {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pluginv1.ToHost
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		out := make([]probe.Built, len(ps))
		if m.GetBuilt() != nil && contract.ReadBuilt(m.GetBuilt(), contract.Sort{Protocol: udpProtocol}, ps, tags, out) == nil {
			for i, built := range out {
				if built.Err != nil {
					require.ErrorIs(t, built.Err, probe.ErrProbe)
					require.Empty(t, built.Data)
					continue
				}
				require.Equal(t, probe.Built{Data: built.Data}, judge(t, udpProtocol, ps[i], built.Data))
			}
		}
		if m.GetMatched() != nil {
			_ = contract.ReadMatched(m.GetMatched(), len(answers), func(i int, said *contract.Said) {
				require.NotZero(t, said.ID)
				require.LessOrEqual(t, said.TagBits, uint8(64))
				require.Equal(t, said.Values, probe.CleanValues(slices.Clone(said.Values)))
				var a probe.Answer
				if contract.Judge(answers[i], udpProtocol, &a) == contract.Direct {
					_, err := contract.Complete(&a, answers[i], said)
					require.NoError(t, err)
					require.Equal(t, probe.UDPReply, a.Kind)
				}
			})
		}
		if d, err := contract.ReadDescription(m.GetDescription()); err == nil {
			require.NoError(t, d.Check())
		}
		_ = contract.ReadWrong(m.GetChecked(), nil)
	})
}

// FuzzJudge reads what may be captured: what the host alone says of it agrees
// with the built-in prober.
func FuzzJudge(f *testing.F) {
	for _, typ := range types {
		for p := range variants {
			if b, err := typ.Build(nil, &p); err == nil && len(b) < 100 {
				f.Add(b, uint8(typ.protocol))
				for _, d := range probetest.DirectAnswers(b) {
					f.Add(d, uint8(typ.protocol))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, d []byte, protocol uint8) {
		sort := pluginv1.Protocol(1 + protocol%3)
		var a probe.Answer
		verdict := contract.Judge(d, sort, &a)
		for _, typ := range types {
			var want probe.Answer
			if typ.protocol != sort || !typ.Match(d, &want) {
				continue
			}
			require.NotEqual(t, contract.NoAnswer, verdict)
			require.Equal(t, want.Kind.Direct(), verdict == contract.Direct)
			if verdict == contract.Direct {
				_, err := contract.Complete(&a, d, &contract.Said{ID: want.ID, Tag: want.Tag, TagBits: want.TagBits})
				require.NoError(t, err)
				if typ.Name() == "data" && sort == udpProtocol {
					continue // which takes whatever comes
				}
			}
			require.Equal(t, want, a)
		}
	})
}
