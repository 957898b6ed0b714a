package contract_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

const (
	udpProtocol  = pluginv1.Protocol_PROTOCOL_UDP
	tcpProtocol  = pluginv1.Protocol_PROTOCOL_TCP
	icmpProtocol = pluginv1.Protocol_PROTOCOL_ICMP
)

// data is a payload of some bytes.
type data string

func (data) Name() string { return "data" }

func (d data) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) { return append(b, d...), nil }

func (data) ReadAnswer([]byte, *probe.Answer) bool { return true }

// types are measurement types by name, with what they are sent with.
var types = map[string]struct {
	probe.Prober
	protocol pluginv1.Protocol
}{
	"udp":          {udp.Prober{}, udpProtocol},
	"tcp":          {tcp.Prober{}, tcpProtocol},
	"icmp":         {icmp.Prober{}, icmpProtocol},
	"udp carrier":  {udp.Carry(data("question")), udpProtocol},
	"icmp carrier": {icmp.Carry(data("question")), icmpProtocol},
}

func aProbe(v6 bool) probe.Probe {
	p := probe.Probe{
		ID: 0x1234, Key: probe.Key{1, 2, 3}, DstPort: 33434, Flow: 9, TTL: 7, TOS: 0xB8,
		Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.2"),
	}
	if v6 {
		p.Src, p.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::2")
	}
	return p
}

// judge returns what comes of a datagram that is built for a probe.
func judge(t testing.TB, protocol pluginv1.Protocol, p probe.Probe, datagram []byte) probe.Built {
	t.Helper()
	ps, out := []probe.Probe{p}, make([]probe.Built, 1)
	tags := contract.AppendTags(nil, ps, protocol)
	m := contract.Built(datagram, []uint32{uint32(len(datagram))}, nil)
	require.NoError(t, contract.ReadBuilt(m, contract.Sort{Protocol: protocol}, ps, tags, out))
	return out[0]
}

// variants are probes of all sorts that the built-in types can build.
func variants(yield func(p probe.Probe) bool) {
	for _, v6 := range []bool{false, true} {
		for _, edit := range []func(p *probe.Probe){
			func(*probe.Probe) {},
			func(p *probe.Probe) { p.ID = 1 },
			func(p *probe.Probe) { p.ID = 0xFFFF },
			func(p *probe.Probe) { p.Flow, p.TTL, p.TOS = 255, 255, 255 },
			func(p *probe.Probe) { p.DontFragment = true },
			func(p *probe.Probe) { p.DstPort = 1 },
			func(p *probe.Probe) { p.Mode = probe.Classic },
			func(p *probe.Probe) { p.Size = 1500 },
			func(p *probe.Probe) { p.Size = 1501 },
			func(p *probe.Probe) { p.Size = 65000 },
			func(p *probe.Probe) { p.Size = 30 },
			func(p *probe.Probe) { p.Size = 39 },
			func(p *probe.Probe) { p.Size = 40 },
			func(p *probe.Probe) { p.Size = 60 },
			func(p *probe.Probe) { p.Size = 61 },
		} {
			p := aProbe(v6)
			edit(&p)
			if !yield(p) {
				return
			}
		}
		// Tags that end in zeros, which zeros may follow.
		for id := uint16(1); id < 2000; id++ {
			p := aProbe(v6)
			p.ID = id
			if uint8(p.Tag(probe.UDP)) != 0 {
				continue
			}
			if p.Size = 100; !yield(p) {
				return
			}
		}
	}
}

func TestWhatIsRightIsTaken(t *testing.T) {
	for name, typ := range types {
		built := 0
		for p := range variants {
			b, err := typ.Build(nil, &p)
			if err != nil {
				continue
			}
			got := judge(t, typ.protocol, p, b)
			require.NoError(t, got.Err, "%s: %+v", name, p)
			require.Equal(t, b, got.Data)
			built++
		}
		require.Greater(t, built, 10, name)
	}
}

// A probe without a port goes to that of the type.
func TestPortOfTheType(t *testing.T) {
	p := aProbe(false)
	p.DstPort = 53
	b, err := udp.Prober{}.Build(nil, &p)
	require.NoError(t, err)
	p.DstPort = 0
	ps, out := []probe.Probe{p}, make([]probe.Built, 1)
	tags := contract.AppendTags(nil, ps, udpProtocol)
	m := contract.Built(b, []uint32{uint32(len(b))}, nil)
	require.NoError(t, contract.ReadBuilt(m, contract.Sort{Protocol: udpProtocol, Port: 53}, ps, tags, out))
	require.NoError(t, out[0].Err)
	require.NoError(t, contract.ReadBuilt(m, contract.Sort{Protocol: udpProtocol}, ps, tags, out))
	require.EqualError(t, out[0].Err, "probe cannot be built: wrong datagram: destination port 53, want 0")
}

// free are the bits of a datagram that are the type's own: TCP's ECN, window,
// urgent pointer, acknowledgement and options, its identification over IPv4,
// and what carriers carry. The fix-up is never right once it is changed.
func free(b []byte, typ string, bit int) bool {
	at := bit / 8
	header := 20
	if b[0]>>4 == 6 {
		header = 40
	}
	switch typ {
	case "tcp":
		ecn := bit == (header+12)*8 || at == header+13 && bit%8 >= 6
		return ecn || header == 20 && (at == 4 || at == 5) || at >= header+8 && at < header+12 || at >= header+14 && at < header+16 || at >= header+18
	case "udp carrier":
		return at >= header+8 && at < header+16
	case "icmp carrier", "icmp":
		return at >= header+18
	}
	return at >= header+20 // behind the identity of udp
}

// Whichever bit of a datagram is changed, with checksums right or wrong, it is
// noticed unless it is the type's to choose.
func TestEveryBitIsLookedAt(t *testing.T) {
	for name, typ := range types {
		for _, v6 := range []bool{false, true} {
			p := aProbe(v6)
			good, err := typ.Build(nil, &p)
			require.NoError(t, err)
			for i := range len(good) * 8 {
				b := slices.Clone(good)
				b[i/8] ^= 1 << (i % 8)
				got := judge(t, typ.protocol, p, b)
				require.ErrorIs(t, got.Err, probe.ErrProbe, "%s: bit %d of byte %d", name, i%8, i/8)
				require.ErrorIs(t, got.Err, contract.ErrDatagram)
				require.NotErrorIs(t, got.Err, probe.ErrProber)
				require.Nil(t, got.Data)

				mend(b, name, v6)
				got = judge(t, typ.protocol, p, b)
				if !free(good, name, i) && !slices.Equal(b, good) {
					require.ErrorIs(t, got.Err, contract.ErrDatagram, "%s: bit %d of byte %d, with good checksums", name, i%8, i/8)
				}
			}
		}
	}
}

// mend makes the checksums of a datagram of a type right: in TCP the checksum
// itself, elsewhere, where that has a meaning, the fix-up.
func mend(b []byte, typ string, v6 bool) {
	header, sum, protocol := 20, packet.Sum(0), types[typ].protocol
	if v6 {
		header = 40
		number := map[pluginv1.Protocol]uint8{udpProtocol: probe.UDP, tcpProtocol: probe.TCP, icmpProtocol: probe.ICMPv6}[protocol]
		sum = packet.PseudoHeader(netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), number, len(b)-header)
	} else {
		mendIP(b)
		number := map[pluginv1.Protocol]uint8{udpProtocol: probe.UDP, tcpProtocol: probe.TCP}[protocol]
		if number != 0 {
			sum = packet.PseudoHeader(netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), number, len(b)-header)
		}
	}
	t := b[header:]
	at := map[pluginv1.Protocol]int{udpProtocol: 6, tcpProtocol: 16, icmpProtocol: 2}[protocol]
	checksum, fixup := t[at:at+2], t[8:10]
	want := binary.BigEndian.Uint16(checksum)
	binary.BigEndian.PutUint16(checksum, 0)
	if protocol == tcpProtocol {
		binary.BigEndian.PutUint16(checksum, sum.Add(t).Checksum())
		return
	}
	if typ == "udp carrier" {
		fixup = t[len(t)-probe.IdentityLen:]
	}
	binary.BigEndian.PutUint16(fixup, 0)
	binary.BigEndian.PutUint16(fixup, sum.Add(t).Fixup(want))
	binary.BigEndian.PutUint16(checksum, want)
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	other4, other6 := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8:bad::9")
	for _, tt := range []struct {
		typ  string
		v6   bool
		do   func(p *probe.Probe) // what is built instead
		want string
	}{
		{"udp", false, func(p *probe.Probe) { p.Src = other4 }, "source 203.0.113.9, want 192.0.2.1"},
		{"udp", true, func(p *probe.Probe) { p.Src = other6 }, "source 2001:db8:bad::9, want 2001:db8::1"},
		{"udp", false, func(p *probe.Probe) { p.Dst = other4 }, "destination 203.0.113.9, want 198.51.100.2"},
		{"tcp", true, func(p *probe.Probe) { p.Dst = other6 }, "destination 2001:db8:bad::9, want 2001:db8:1::2"},
		{"udp", false, func(p *probe.Probe) { p.ID++ }, "identification 0x1235, want 0x1234"},
		{"udp", true, func(p *probe.Probe) { p.ID++ }, "UDP checksum 0x1235, want 0x1234"},
		{"udp", false, func(p *probe.Probe) { p.Key[0]++ }, "UDP checksum 0x"},
		{"udp", true, func(p *probe.Probe) { p.Key[0]++ }, "end of the payload "},
		{"tcp", false, func(p *probe.Probe) { p.ID++ }, "sequence number 0x1235"},
		{"tcp", false, func(p *probe.Probe) { p.Key[0]++ }, "sequence number 0x1234"},
		{"icmp", false, func(p *probe.Probe) { p.ID++ }, "identification 0x"},
		{"icmp", true, func(p *probe.Probe) { p.ID++ }, "echo sequence number 4661, want 4660"},
		{"icmp", true, func(p *probe.Probe) { p.Key[0]++ }, "tag at byte 2 of the payload 0x"},
		{"icmp", false, func(p *probe.Probe) { p.Flow++ }, "ICMP checksum 0xf00a, want 0xf009"},
		{"udp", false, func(p *probe.Probe) { p.TTL++ }, "TTL 8, want 7"},
		{"udp", true, func(p *probe.Probe) { p.TTL++ }, "hop limit 8, want 7"},
		{"udp", false, func(p *probe.Probe) { p.TOS++ }, "TOS 0xb9, want 0xb8"},
		{"udp", true, func(p *probe.Probe) { p.TOS++ }, "traffic class 0xb9, want 0xb8"},
		{"udp", false, func(p *probe.Probe) { p.Flow++ }, "source port 61450, want 61449"},
		{"udp", true, func(p *probe.Probe) { p.Flow++ }, "flow label 61450, want 61449"},
		{"udp", false, func(p *probe.Probe) { p.DstPort++ }, "destination port 33435, want 33434"},
		{"tcp", false, func(p *probe.Probe) { p.DstPort++ }, "destination port 33435, want 33434"},
		{"tcp", false, func(p *probe.Probe) { p.Flow++ }, "source port 61450, want 61449"},
		{"udp", false, func(p *probe.Probe) { p.DontFragment = true }, "flags and fragment offset 0x4000, want 0x0000"},
		{"udp", false, func(p *probe.Probe) { p.Size = 1501 }, "size 1501, want 1500 at most"},
	} {
		asked := aProbe(tt.v6)
		p := asked
		tt.do(&p)
		b, err := types[tt.typ].Build(nil, &p)
		require.NoError(t, err)
		require.ErrorContains(t, judge(t, types[tt.typ].protocol, asked, b).Err, "wrong datagram: "+tt.want)
	}

	for _, tt := range []struct {
		typ  string
		v6   bool
		do   func(b []byte) []byte
		want string
	}{
		{"udp", false, func([]byte) []byte { return []byte{0x45} }, "size 1, want 20 bytes at least"},
		{"udp", true, func(b []byte) []byte { return b[:39] }, "size 39, want 40 bytes at least"},
		{"udp", false, func(b []byte) []byte { b[0] = 0x46; return b }, "first byte 0x46, want 0x45: IPv4 without options"},
		{"udp", false, func(b []byte) []byte { return append(b, 0) }, "total length 60, want 61"},
		{"udp", false, func(b []byte) []byte { b[11]++; return b }, "IPv4 header checksum 0x"},
		{"udp", false, func(b []byte) []byte { b[9] = 6; mendIP(b); return b }, "protocol 6, want 17"},
		{"udp", true, func(b []byte) []byte { b[6] = 43; return b }, "next header 43, want 17"},
		{"udp", true, func(b []byte) []byte { b[0] = 0x40; return b }, "version 4, want 6"},
		{"udp", true, func(b []byte) []byte { return b[:50] }, "payload length 40, want 10"},
		{"udp", false, func(b []byte) []byte { return cut(b, 27) }, "length of the IP payload 7, want 8 bytes at least"},
		{"tcp", false, func(b []byte) []byte { return cut(b, 39) }, "length of the IP payload 19, want 20 bytes at least"},
		{"icmp", false, func(b []byte) []byte { return cut(b, 37) }, "length of the IP payload 17, want 18 bytes at least"},
		{"udp", false, func(b []byte) []byte { b[59]++; return b }, "checksum of the IP payload a wrong one"},
		{"udp", false, func(b []byte) []byte { b[25]--; b[29]++; return b }, "UDP length 39, want 40"},
		{"tcp", false, func(b []byte) []byte { b[33] = 0x12; mend(b, "tcp", false); return b }, "TCP flags 0x6012, want SYN"},
		{"tcp", false, func(b []byte) []byte { b[33] = 0x03; mend(b, "tcp", false); return b }, "TCP flags 0x6003, want SYN"},
		{"tcp", false, func(b []byte) []byte { b[32] = 0x50; mend(b, "tcp", false); return b }, "TCP header length 20, want 24: SYN probes carry no payload"},
		{"icmp", false, func(b []byte) []byte { b[20] = 13; mend(b, "icmp", false); return b }, "ICMP type and code [13 0], want [8 0]: an echo request"},
		{"icmp", true, func(b []byte) []byte { b[41] = 1; mend(b, "icmp", true); return b }, "ICMP type and code [128 1], want [128 0]"},
		{"icmp", false, func(b []byte) []byte { b[25]++; mend(b, "icmp", false); return b }, "echo identifier 61450, want 61449"},
	} {
		p := aProbe(tt.v6)
		b, err := types[tt.typ].Build(nil, &p)
		require.NoError(t, err)
		require.ErrorContains(t, judge(t, types[tt.typ].protocol, p, tt.do(b)).Err, "wrong datagram: "+tt.want)
	}
}

func mendIP(b []byte) {
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20]))
}

// cut shortens an IPv4 datagram as its header says.
func cut(b []byte, n int) []byte {
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	mendIP(b)
	return b[:n]
}

// SYN with the ECN bits is a probe for ECN (RFC 3168).
func TestECNSetup(t *testing.T) {
	p := aProbe(false)
	b, err := tcp.Prober{}.Build(nil, &p)
	require.NoError(t, err)
	b[33] |= byte(packet.ECE | packet.CWR)
	mend(b, "tcp", false)
	require.NoError(t, judge(t, tcpProtocol, p, b).Err)
}

// Whatever is built for what cannot be, it is not taken.
func TestImpossibleProbes(t *testing.T) {
	for _, edit := range []func(p *probe.Probe){
		func(p *probe.Probe) { p.ID = 0 },
		func(p *probe.Probe) { p.TTL = 0 },
		func(p *probe.Probe) { p.Mode = 2 },
		func(p *probe.Probe) { p.Src = netip.Addr{} },
		func(p *probe.Probe) { p.Dst = netip.Addr{} },
		func(p *probe.Probe) { p.Src, p.Dst = netip.Addr{}, netip.Addr{} },
		func(p *probe.Probe) { p.Src = netip.IPv4Unspecified() },
		func(p *probe.Probe) { p.Dst = netip.MustParseAddr("::ffff:198.51.100.2") },
		func(p *probe.Probe) { p.Dst = netip.MustParseAddr("2001:db8::1") },
	} {
		p := aProbe(false)
		good, err := udp.Prober{}.Build(nil, &p)
		require.NoError(t, err)
		edit(&p)
		require.ErrorContains(t, judge(t, udpProtocol, p, good).Err, "wrong datagram: probe ", "%+v", p)
	}
	p := aProbe(false)
	b, err := icmp.Prober{}.Build(nil, &p)
	require.NoError(t, err)
	p.Mode = probe.Classic
	require.ErrorContains(t, judge(t, icmpProtocol, p, b).Err, "flow mode classic, want paris")
	p = aProbe(false)
	p.Size = 61
	require.ErrorContains(t, judge(t, icmpProtocol, p, b).Err, "size 60, want 61")
}

// Zones are the host's own; no datagram has them.
func TestZones(t *testing.T) {
	p := aProbe(true)
	p.Src, p.Dst = netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	b, err := udp.Prober{}.Build(nil, &p)
	require.NoError(t, err)
	p.Src, p.Dst = p.Src.WithZone("eth0"), p.Dst.WithZone("eth0")
	require.NoError(t, judge(t, udpProtocol, p, b).Err)
}

func TestReadBuilt(t *testing.T) {
	p := aProbe(false)
	b, err := udp.Prober{}.Build(nil, &p)
	require.NoError(t, err)
	n := uint32(len(b))
	ps := []probe.Probe{p, p, p}
	tags := contract.AppendTags(nil, ps, udpProtocol)
	refused := func(indexes ...uint32) (rs []*pluginv1.Refusal) {
		for _, i := range indexes {
			rs = append(rs, &pluginv1.Refusal{Index: i, Reason: "so\x1b[31m there " + strings.Repeat("x", 300)})
		}
		return rs
	}
	out := make([]probe.Built, 3)
	m := &pluginv1.Built{Datagrams: slices.Concat(b, b), Lengths: []uint32{n, 0, n}, Refusals: refused(1)}
	require.NoError(t, contract.ReadBuilt(m, contract.Sort{Protocol: udpProtocol}, ps, tags, out))
	require.Equal(t, probe.Built{Data: b}, out[0])
	require.Equal(t, probe.Built{Data: b}, out[2])
	require.ErrorIs(t, out[1].Err, probe.ErrProbe)
	require.NotErrorIs(t, out[1].Err, contract.ErrDatagram)
	require.Contains(t, out[1].Err.Error(), "probe cannot be built: so.[31m there xxx")
	require.Less(t, len(out[1].Err.Error()), 300)
	require.Len(t, append(out[0].Data, 1), 61) // which must not reach into the next
	require.Equal(t, b, out[2].Data)

	for name, m := range map[string]*pluginv1.Built{
		"nothing":               {},
		"too few":               {Datagrams: b, Lengths: []uint32{n}},
		"too many":              {Datagrams: b, Lengths: []uint32{n, 0, 0, 0}, Refusals: refused(1, 2, 3)},
		"no reason":             {Datagrams: b, Lengths: []uint32{n, 0, 0}, Refusals: refused(1)},
		"other reasons":         {Datagrams: b, Lengths: []uint32{n, 0, 0}, Refusals: refused(2, 1)},
		"reason for what is":    {Datagrams: slices.Concat(b, b, b), Lengths: []uint32{n, n, n}, Refusals: refused(1)},
		"lengths beyond":        {Datagrams: b, Lengths: []uint32{n, n, n}},
		"lengths that overflow": {Datagrams: b, Lengths: []uint32{0xFFFFFFFF, n + 1, 0}, Refusals: refused(2)},
		"bytes left over":       {Datagrams: append(b, 1, 2, 3), Lengths: []uint32{n, 0, 0}, Refusals: refused(1, 2)},
		"nil refusal":           {Datagrams: b, Lengths: []uint32{n, 0, 0}, Refusals: []*pluginv1.Refusal{nil, nil}},
	} {
		err := contract.ReadBuilt(m, contract.Sort{Protocol: udpProtocol}, ps, tags, out)
		require.ErrorIs(t, err, contract.ErrMalformed, name)
		require.NotEmpty(t, fmt.Sprint(err))
	}
}
