package volta_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// wireTest is what options make of the probes.
type wireTest struct {
	options string
	check   func(t *testing.T, p wireProbe)
}

var wireTests = []wireTest{
	{"", func(t *testing.T, p wireProbe) {
		require.EqualValues(t, 33434, p.dport)
		require.Zero(t, p.tos)
		require.False(t, p.df)
		require.Equal(t, map[bool]int{false: 60, true: 80}[p.v6], p.size)
	}},
	{"-I", func(t *testing.T, p wireProbe) { require.Contains(t, []uint8{1, 58}, p.protocol) }},
	{"-T -p 8080", func(t *testing.T, p wireProbe) { require.EqualValues(t, 8080, p.dport) }},
	{"-U", func(t *testing.T, p wireProbe) { require.EqualValues(t, 53, p.dport) }},
	{"-p 40000", func(t *testing.T, p wireProbe) { require.EqualValues(t, 40000, p.dport) }},
	{"-t 2", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x02, p.tos) }},
	{"-t 1", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x00, p.tos) }},
	{"-t 16", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x10, p.tos) }},
	{"-t 16 -I", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x10, p.tos) }},
	{"-t 16 -T -p 81", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x10, p.tos) }},
	{"-F", func(t *testing.T, p wireProbe) { require.Equal(t, !p.v6, p.df) }},
	{"-f 3", func(t *testing.T, p wireProbe) { require.GreaterOrEqual(t, p.ttl, uint8(3)) }},
	{"777", func(t *testing.T, p wireProbe) { require.Equal(t, 777, p.size) }},
}

// TestOnTheSimulatedWire looks at every probe of a trace as the first router
// gets it.
func TestOnTheSimulatedWire(t *testing.T) {
	var seen [][]byte
	see := func(s simnet.Sighting) {
		if s.Node == "r1" && s.From == "a" {
			seen = append(seen, append([]byte(nil), s.Datagram...))
		}
	}
	for _, tt := range wireTests {
		for target := range simulatedHops {
			t.Run(fmt.Sprintf("%s %v", tt.options, target), func(t *testing.T) {
				seen = nil
				simulated(t, simulatedTwoSites(), see, nil, func(t *testing.T, f *fleet) {
					f.measure(t, fmt.Sprintf("volta a %s %s", target, tt.options))
				})
				requireWire(t, tt, target, seen)
			})
		}
	}
	t.Run("flows", func(t *testing.T) {
		seen = nil
		simulated(t, simulatedTwoSites(), see, nil, func(t *testing.T, f *fleet) {
			f.measure(t, "volta a 203.0.113.10 --flows 3")
		})
		flows := map[string]bool{}
		for _, b := range seen {
			p, ok := readProbe(t, b)
			require.True(t, ok)
			flows[p.flow] = true
		}
		require.Len(t, flows, 3)
	})
}

// requireWire checks the probes to target among some datagrams.
func requireWire(t *testing.T, tt wireTest, target netip.Addr, datagrams [][]byte) {
	t.Helper()
	var probes []wireProbe
	for _, b := range datagrams {
		if p, ok := readProbe(t, b); ok && p.dst == target {
			probes = append(probes, p)
		}
	}
	require.NotEmpty(t, probes)
	for _, p := range probes {
		tt.check(t, p)
		require.Equal(t, probes[0].flow, p.flow, "one flow")
		require.True(t, p.checksum, "checksum")
	}
}

// wireProbe is what a capture shows of a probe.
type wireProbe struct {
	v6, df, checksum bool
	ttl, tos         uint8
	protocol         uint8
	dport            uint16
	size             int
	dst              netip.Addr
	flow             string // the fields that routers hash
}

func readProbe(t *testing.T, b []byte) (w wireProbe, ok bool) {
	t.Helper()
	var src, dst netip.Addr
	var payload []byte
	w.size = len(b)
	if b[0]>>4 == 4 {
		ip, rest, err := packet.ParseIPv4(b)
		require.NoError(t, err)
		src, dst, payload = ip.Src, ip.Dst, rest
		w.ttl, w.tos, w.protocol, w.df = ip.TTL, ip.TOS, ip.Protocol, ip.DontFragment
	} else {
		ip, rest, err := packet.ParseIPv6(b)
		require.NoError(t, err)
		src, dst, payload = ip.Src, ip.Dst, rest
		w.v6, w.ttl, w.tos, w.protocol = true, ip.HopLimit, ip.TrafficClass, ip.NextHeader
		w.flow = fmt.Sprint(ip.FlowLabel)
	}
	pseudo := uint32(0)
	if w.protocol != probe.ICMP {
		pseudo = pseudoSum(src, dst, w.protocol, len(payload))
	}
	w.checksum = onesSum(pseudo, payload) == 0xFFFF
	if len(payload) < 8 {
		return w, false
	}
	w.dst = dst
	w.dport = uint16(payload[2])<<8 | uint16(payload[3])
	// Bytes 0-3 are the ports, or ICMP's type, code and checksum; 4-5 its identifier.
	w.flow = fmt.Sprintf("%v %v %d %s %x", dst, src, w.protocol, w.flow, payload[:4])
	if w.protocol == probe.ICMP || w.protocol == probe.ICMPv6 {
		w.flow += fmt.Sprintf("%x", payload[4:6])
	}
	return w, true
}

// onesSum is RFC 1071 written a second time, to check the first.
func onesSum(sum uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xFFFF + sum>>16
	}
	return uint16(sum)
}

func pseudoSum(src, dst netip.Addr, protocol uint8, n int) uint32 {
	return uint32(onesSum(0, src.AsSlice())) + uint32(onesSum(0, dst.AsSlice())) + uint32(protocol) + uint32(n)
}
