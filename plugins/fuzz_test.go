//go:build unix

package plugins_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// FuzzHandshake reads what a plugin may print.
func FuzzHandshake(f *testing.F) {
	f.Add("1|1|unix|/tmp/d/s|grpc|" + testCertificate)
	f.Add("1|1|unix|/tmp/d/s|grpc|" + testCertificate + "|true")
	f.Add("1|7|unix|/tmp/d/s|grpc|")
	f.Add("2|1|tcp|127.0.0.1:1|netrpc")
	f.Add("|||||")
	f.Fuzz(func(t *testing.T, line string) {
		again, err := plugins.Handshake(line, "/tmp/d")
		if err != nil {
			require.ErrorIs(t, err, probe.ErrProber)
			require.Less(t, len(err.Error()), 2000)
			return
		}
		require.True(t, strings.HasPrefix(again, "1|1|unix|/tmp/d/"), again)
		require.Equal(t, 1, strings.Count(again, "\n"))
		once, err := plugins.Handshake(strings.TrimSuffix(again, "\n"), "/tmp/d")
		require.NoError(t, err)
		require.Equal(t, again, once)
	})
}

// FuzzOutput logs what a plugin may print.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("hello\r\n\x1b[2J\xff\n" + strings.Repeat("x", 20_000) + "\nlast"))
	f.Add([]byte("panic: boom\n\ngoroutine 1 [running]:\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		j := newJournal()
		last := plugins.Print(j.logger(), string(b))
		require.LessOrEqual(t, len(j.records), 20)
		for _, r := range append(j.records, last) {
			require.LessOrEqual(t, len(r), 2500)
			require.NotContains(t, strings.TrimSuffix(r, "\n"), "\n")
			require.NotContains(t, r, "\x1b")
		}
	})
}

// FuzzFromHost answers what a host may ask, whatever that is: every request
// once, with what the host can read.
func FuzzFromHost(f *testing.F) {
	ps := everyIdentifier(false)[:3]
	var built []byte
	var lengths []uint32
	for i := range ps {
		b, err := udp.Carry(hello{}).Build(nil, &ps[i])
		require.NoError(f, err)
		built, lengths = append(built, b...), append(lengths, uint32(len(b)))
	}
	values := map[string]string{"word": "hi"}
	for _, m := range []*pluginv1.ToPlugin{
		{Request: 1, Message: &pluginv1.ToPlugin_Check{Check: &pluginv1.Check{Values: values}}},
		{Request: 2, Message: &pluginv1.ToPlugin_Check{Check: &pluginv1.Check{Values: map[string]string{"no": "thing"}}}},
		{Request: 3, Message: &pluginv1.ToPlugin_Build{Build: &pluginv1.Build{Values: values, Groups: contract.Groups(ps, make([]uint64, 3))}}},
		{Request: 4, Message: &pluginv1.ToPlugin_Match{Match: &pluginv1.Match{Datagrams: built, Lengths: lengths}}},
		{Request: 5},
	} {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(b)
	}
	answerers := []func(*pluginv1.ToPlugin) *pluginv1.ToHost{
		plugins.Answerer(udp.Carry(hello{})), plugins.Answerer(udp.Prober{}), plugins.Answerer(batcher{udp.Prober{}}),
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pluginv1.ToPlugin
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		for _, answer := range answerers {
			a := answer(&m)
			require.Equal(t, m.Request, a.Request)
			require.NotNil(t, a.Message)
			b, err := proto.Marshal(a)
			require.NoError(t, err)
			require.NoError(t, proto.Unmarshal(b, a))
			switch {
			case a.GetBuilt() != nil:
				ps, err := contract.AppendProbes(nil, m.GetBuild().GetGroups())
				require.NoError(t, err)
				tags := contract.AppendTags(nil, ps, pluginv1.Protocol_PROTOCOL_UDP)
				sort := contract.Sort{Protocol: pluginv1.Protocol_PROTOCOL_UDP, Port: ps0(ps)}
				require.NoError(t, contract.ReadBuilt(a.GetBuilt(), sort, ps, tags, make([]probe.Built, len(ps))))
			case a.GetMatched() != nil:
				n := len(m.GetMatch().GetLengths())
				require.NoError(t, contract.ReadMatched(a.GetMatched(), n, func(int, *contract.Said) {}))
			case a.GetFailure() != "":
				require.LessOrEqual(t, len(a.GetFailure()), 255)
			}
		}
	})
}

func ps0(ps []probe.Probe) uint16 {
	if len(ps) == 0 {
		return 0
	}
	return ps[0].DstPort
}
