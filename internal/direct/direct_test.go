package direct_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/direct"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

var builtin = []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}}

func probes() []*probe.Probe {
	return []*probe.Probe{
		{ID: 7, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("203.0.113.10"), DstPort: 80, TTL: 9, Flow: 255},
		{ID: 7, Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8:1::1"), DstPort: 80, TTL: 9},
	}
}

// Of what the built-in types are answered with, the facts are what they say.
func TestFactsOfDirectAnswers(t *testing.T) {
	kinds := map[probe.Kind]int{}
	for _, pr := range builtin {
		for _, p := range probes() {
			b, err := pr.Build(nil, p)
			require.NoError(t, err)
			_, ok := direct.Read(b)
			require.False(t, ok, "a probe is no answer")
			for _, d := range probetest.DirectAnswers(b) {
				var want probe.Answer
				require.True(t, pr.Match(d, &want))
				got, ok := direct.Read(d)
				if !want.Kind.Direct() {
					require.False(t, ok, "an error")
					continue
				}
				require.True(t, ok)
				want.ID, want.Tag, want.TagBits = 0, 0, 0
				require.Equal(t, want, got)
				kinds[got.Kind]++
				for n := range d {
					if cut, ok := direct.Read(d[:n]); ok {
						require.Equal(t, got, cut)
					}
				}
			}
		}
	}
	require.Equal(t, map[probe.Kind]int{probe.UDPReply: 2, probe.EchoReply: 2, probe.SYNACK: 2, probe.Reset: 2}, kinds)
}

func TestWhatIsNoDirectAnswer(t *testing.T) {
	src, dst := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.1")
	wrap := func(protocol uint8, payload []byte) []byte {
		h := packet.IPv4{TTL: 60, Protocol: protocol, Src: src, Dst: dst}
		b, err := h.Append(nil, len(payload))
		require.NoError(t, err)
		return append(b, payload...)
	}
	segment := func(flags packet.TCPFlags, port uint16) []byte {
		h := packet.TCP{SrcPort: 80, DstPort: port, Flags: flags}
		b, err := h.Append(nil)
		require.NoError(t, err)
		return b
	}
	udpTo := func(port uint16) []byte { return packet.UDP{SrcPort: 53, DstPort: port, Length: 8}.Append(nil) }
	fragment := wrap(probe.UDP, udpTo(probe.SourcePort))
	binary.BigEndian.PutUint16(fragment[6:], 1)
	_, ok := direct.Read(wrap(probe.UDP, udpTo(probe.SourcePort)))
	require.True(t, ok)
	for name, d := range map[string][]byte{
		"nothing":                 nil,
		"version 0":               make([]byte, 60),
		"a later fragment":        fragment,
		"below the ports":         wrap(probe.UDP, udpTo(probe.SourcePort-1)),
		"above the ports":         wrap(probe.UDP, udpTo(probe.SourcePort+probe.MaxFlows)),
		"half a UDP header":       wrap(probe.UDP, udpTo(probe.SourcePort)[:7]),
		"a SYN":                   wrap(probe.TCP, segment(packet.SYN, probe.SourcePort)),
		"data":                    wrap(probe.TCP, segment(packet.ACK|packet.PSH, probe.SourcePort)),
		"a SYN-ACK to elsewhere":  wrap(probe.TCP, segment(packet.SYN|packet.ACK, 443)),
		"an echo request":         wrap(probe.ICMP, packet.Echo(packet.ICMPv4Echo, probe.SourcePort, 1).Append(nil)),
		"somebody's echo reply":   wrap(probe.ICMP, packet.Echo(packet.ICMPv4EchoReply, 77, 1).Append(nil)),
		"ICMPv6 over IPv4":        wrap(probe.ICMPv6, packet.Echo(packet.ICMPv6EchoReply, probe.SourcePort, 1).Append(nil)),
		"another protocol":        wrap(132, make([]byte, 20)),
		"an echo reply of code 1": wrap(probe.ICMP, packet.ICMP{Code: 1, Rest: uint32(probe.SourcePort) << 16}.Append(nil)),
	} {
		_, ok := direct.Read(d)
		require.False(t, ok, name)
	}
}

func FuzzRead(f *testing.F) {
	for _, pr := range builtin {
		for _, p := range probes() {
			b, err := pr.Build(nil, p)
			require.NoError(f, err)
			f.Add(b)
			for _, d := range probetest.DirectAnswers(b) {
				f.Add(d)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := direct.Read(b)
		if !ok {
			return
		}
		require.True(t, a.Kind.Direct())
		require.True(t, a.From.IsValid() && a.Src.IsValid())
		require.Equal(t, a.From, a.Dst)
		require.Equal(t, a.From.Is4(), a.Src.Is4())
		require.Zero(t, a.ID)
	})
}

func TestReadAllocatesNothing(t *testing.T) {
	b, err := udp.Prober{}.Build(nil, probes()[1])
	require.NoError(t, err)
	d := probetest.DirectAnswers(b)[0]
	require.Zero(t, testing.AllocsPerRun(100, func() { direct.Read(d) }))
}
