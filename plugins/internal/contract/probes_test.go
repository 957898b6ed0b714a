package contract_test

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// across sends probes over the wire.
func across(t testing.TB, ps []probe.Probe) ([]probe.Probe, *pluginv1.Build) {
	t.Helper()
	tags := contract.AppendTags(nil, ps, udpProtocol)
	b, err := proto.Marshal(&pluginv1.Build{Groups: contract.Groups(ps, tags)})
	require.NoError(t, err)
	var m pluginv1.Build
	require.NoError(t, proto.Unmarshal(b, &m))
	got, err := contract.AppendProbes(nil, m.Groups)
	require.NoError(t, err)
	var sent []uint64
	for _, g := range m.Groups {
		sent = append(sent, g.Tags...)
	}
	require.Equal(t, tags, sent)
	return got, &m
}

func TestProbesArriveAsTheyAre(t *testing.T) {
	got, _ := across(t, nil)
	require.Empty(t, got)
	addrs := []netip.Addr{
		{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.IPv4Unspecified(),
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1"), netip.IPv6Unspecified(),
	}
	sizes := []int{0, 60, -1, math.MinInt, math.MaxInt}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		ps := make([]probe.Probe, rnd.IntN(40))
		p := aProbe(false)
		for i := range ps {
			// Many have something in common with the one before.
			switch rnd.IntN(14) {
			case 0:
				p.Key[rnd.IntN(16)]++
			case 1:
				p.Src = addrs[rnd.IntN(len(addrs))]
			case 2, 3, 4:
				p.Dst = addrs[rnd.IntN(len(addrs))]
			case 5:
				p.DstPort = uint16(rnd.Uint32())
			case 6:
				p.Mode = probe.FlowMode(rnd.Uint32())
			case 7:
				p.TOS = uint8(rnd.Uint32())
			case 8:
				p.DontFragment = !p.DontFragment
			case 9:
				p.Size = sizes[rnd.IntN(len(sizes))]
			default:
				p.ID, p.TTL, p.Flow = uint16(rnd.Uint32()), uint8(rnd.Uint32()), uint8(rnd.Uint32())
			}
			ps[i] = p
		}
		got, _ := across(t, ps)
		require.Equal(t, len(ps), len(got))
		for i := range ps {
			require.Equal(t, ps[i], got[i])
		}
	}
}

// What a trace or a sweep has in common is sent once.
func TestProbesAreCompact(t *testing.T) {
	trace, sweep := make([]probe.Probe, 256), make([]probe.Probe, 256)
	for i := range trace {
		trace[i] = aProbe(false)
		trace[i].ID, trace[i].TTL = uint16(i+1), uint8(1+i%30)
		sweep[i] = trace[i]
		sweep[i].Dst = netip.AddrFrom4([4]byte{198, 18, 0, byte(i)})
	}
	_, m := across(t, trace)
	require.Len(t, m.Groups, 1)
	require.Less(t, proto.Size(m), 256*12+100)
	_, m = across(t, sweep)
	require.Len(t, m.Groups, 1)
	require.Less(t, proto.Size(m), 256*16+100)
}

func TestMalformedGroups(t *testing.T) {
	key, addr := make([]byte, 16), []byte{192, 0, 2, 1}
	for name, g := range map[string]*pluginv1.Group{
		"none":            nil,
		"no key":          {Src: addr, Dst: addr, Tickets: []uint32{1}},
		"long key":        {Key: make([]byte, 17), Src: addr, Dst: addr},
		"source":          {Key: key, Src: addr[:3], Dst: addr},
		"destination":     {Key: key, Src: addr, Dst: make([]byte, 5)},
		"destinations":    {Key: key, Src: addr, Dsts: make([]byte, 9), Tickets: []uint32{1, 2}},
		"of 8 bytes":      {Key: key, Src: addr, Dsts: make([]byte, 16), Tickets: []uint32{1, 2}},
		"of nobody":       {Key: key, Src: addr, Dsts: addr},
		"port":            {Key: key, Src: addr, Dst: addr, DstPort: 0x10000},
		"mode":            {Key: key, Src: addr, Dst: addr, Mode: 0x100},
		"TOS":             {Key: key, Src: addr, Dst: addr, Tos: 0x100},
		"too many probes": {Key: key, Src: addr, Dst: addr, Tickets: make([]uint32, contract.MaxBatch+1)},
	} {
		_, err := contract.AppendProbes(nil, []*pluginv1.Group{g})
		require.ErrorIs(t, err, contract.ErrMalformed, name)
	}
	half := &pluginv1.Group{Key: key, Src: addr, Dst: addr, Tickets: make([]uint32, contract.MaxBatch/2+1)}
	_, err := contract.AppendProbes(nil, []*pluginv1.Group{half, half})
	require.ErrorIs(t, err, contract.ErrMalformed)
}
