package packet_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"bitbucket.org/uwpatio/voltadomar/probe/internal/wiretest"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

const (
	protoICMP   = 1
	protoICMPv6 = 58
)

func object(t testing.TB, i packet.InterfaceInfo) packet.Object {
	t.Helper()
	payload, ctype, err := i.Append(nil)
	require.NoError(t, err)
	return packet.Object{Class: packet.ClassInterfaceInfo, CType: ctype, Payload: payload}
}

func extension(t testing.TB, objects ...packet.Object) []byte {
	t.Helper()
	b, err := packet.AppendExtension(nil, objects...)
	require.NoError(t, err)
	return b
}

var (
	labels = []packet.MPLSLabel{{Label: 0xABCDE, TC: 5, TTL: 1}, {Label: 3, Bottom: true, TTL: 254}}
	stack  = packet.Object{Class: packet.ClassMPLS, CType: 1, Payload: labels[1].Append(labels[0].Append(nil))}
)

func TestEcho(t *testing.T) {
	b := append(packet.Echo(packet.ICMPv4Echo, 0x1234, 0x5678).Append(nil), "hi"...)
	sum := packet.Checksum(b)
	b[2], b[3] = byte(sum>>8), byte(sum)
	m, err := icmp.ParseMessage(protoICMP, b)
	require.NoError(t, err)
	require.Equal(t, &icmp.Echo{ID: 0x1234, Seq: 0x5678, Data: []byte("hi")}, m.Body)
	h, body, err := packet.ParseICMP(b)
	require.NoError(t, err)
	require.Equal(t, []any{packet.ICMPv4Echo, uint16(0x1234), uint16(0x5678), sum, "hi"}, []any{h.Type, h.ID(), h.Seq(), h.Checksum, string(body)})
	for n := range 8 {
		_, _, err := packet.ParseICMP(b[:n])
		require.ErrorIs(t, err, packet.ErrTruncated)
	}
}

// What we write golang.org/x/net reads, with all extensions.
func TestErrorReadByXNet(t *testing.T) {
	for _, size := range []int{0, 28, 127, 128, 129, 500} {
		quote := bytes.Repeat([]byte{0x45}, size)
		info4 := packet.InterfaceInfo{Role: packet.OutgoingInterface, HasIndex: true, Index: 15, Addr: a4, Name: []byte("en101"), HasMTU: true, MTU: 8192}
		info6 := packet.InterfaceInfo{HasIndex: true, Index: 7, Addr: a6}
		ext4, ext6 := extension(t, stack, object(t, info4)), extension(t, stack, object(t, info6))
		xlabels := &icmp.MPLSLabelStack{Class: 1, Type: 1, Labels: []icmp.MPLSLabel{
			{Label: 0xABCDE, TC: 5, TTL: 1}, {Label: 3, S: true, TTL: 254},
		}}

		b, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: packet.ICMPv4TimeExceeded, Code: 1, Quote: quote, Extension: ext4})
		require.NoError(t, err)
		require.Zero(t, packet.Checksum(b))
		m, err := icmp.ParseMessage(protoICMP, b)
		require.NoError(t, err)
		require.Equal(t, []any{ipv4.ICMPTypeTimeExceeded, 1}, []any{m.Type, m.Code})
		body := m.Body.(*icmp.TimeExceeded)
		require.Equal(t, quote, body.Data[:size])
		require.Equal(t, []icmp.Extension{xlabels, &icmp.InterfaceInfo{
			Class: 2, Type: 0x8F,
			Interface: &net.Interface{Index: 15, Name: "en101", MTU: 8192},
			Addr:      &net.IPAddr{IP: net.IP(a4.AsSlice())},
		}}, body.Extensions)

		b, err = packet.AppendICMPv6Error(nil, packet.ICMPError{Type: packet.ICMPv6Unreachable, Code: 4, Quote: quote, Extension: ext6}, a6, b6)
		require.NoError(t, err)
		require.Zero(t, packet.PseudoHeader(a6, b6, protoICMPv6, len(b)).Add(b).Checksum())
		m, err = icmp.ParseMessage(protoICMPv6, b)
		require.NoError(t, err)
		require.Equal(t, []any{ipv6.ICMPTypeDestinationUnreachable, 4}, []any{m.Type, m.Code})
		body6 := m.Body.(*icmp.DstUnreach)
		require.Equal(t, quote, body6.Data[:size])
		require.Equal(t, []icmp.Extension{xlabels, &icmp.InterfaceInfo{
			Class: 2, Type: 0x0C, Interface: &net.Interface{Index: 7}, Addr: &net.IPAddr{IP: net.IP(a6.AsSlice())},
		}}, body6.Extensions)
	}
}

// What golang.org/x/net writes we read, with all extensions.
func TestErrorWrittenByXNet(t *testing.T) {
	exts := []icmp.Extension{
		&icmp.MPLSLabelStack{Class: 1, Type: 1, Labels: []icmp.MPLSLabel{
			{Label: 0xABCDE, TC: 5, TTL: 1}, {Label: 3, S: true, TTL: 254},
		}},
		&icmp.InterfaceInfo{
			Class: 2, Type: 0x8F,
			Interface: &net.Interface{Index: 15, Name: "en101", MTU: 8192},
			Addr:      &net.IPAddr{IP: net.IP(a4.AsSlice())},
		},
	}
	check := func(e packet.ICMPError, quote []byte, addr bool) {
		require.Equal(t, quote, e.Quote[:len(quote)])
		objects := slices.Collect(packet.Objects(e.Extension))
		require.Len(t, objects, 2)
		require.Equal(t, labels, slices.Collect(packet.MPLSLabels(objects[0].Payload)))
		info, err := packet.ParseInterfaceInfo(objects[1])
		require.NoError(t, err)
		want := packet.InterfaceInfo{Role: packet.OutgoingInterface, HasIndex: true, Index: 15, Name: []byte("en101"), HasMTU: true, MTU: 8192}
		if addr {
			want.Addr = a4
		}
		require.Equal(t, want, info)
	}
	for _, size := range []int{28, 127, 128, 129, 500} {
		quote := bytes.Repeat([]byte{0x45}, size)
		b, err := (&icmp.Message{Type: ipv4.ICMPTypeTimeExceeded, Body: &icmp.TimeExceeded{Data: quote, Extensions: exts}}).Marshal(nil)
		require.NoError(t, err)
		e, err := packet.ParseICMPv4Error(b)
		require.NoError(t, err)
		check(e, quote, true)

		b, err = (&icmp.Message{Type: ipv4.ICMPTypeParameterProblem, Body: &icmp.ParamProb{Pointer: 20, Data: quote, Extensions: exts}}).Marshal(nil)
		require.NoError(t, err)
		e, err = packet.ParseICMPv4Error(b)
		require.NoError(t, err)
		require.Equal(t, uint32(20), e.Pointer)
		check(e, quote, true)

		exts[1].(*icmp.InterfaceInfo).Type = 0x8B // without an address of this family
		b, err = (&icmp.Message{Type: ipv6.ICMPTypeTimeExceeded, Body: &icmp.TimeExceeded{Data: quote, Extensions: exts}}).Marshal(icmp.IPv6PseudoHeader(a6.AsSlice(), b6.AsSlice()))
		require.NoError(t, err)
		e, err = packet.ParseICMPv6Error(b)
		require.NoError(t, err)
		check(e, quote, false)
		exts[1].(*icmp.InterfaceInfo).Type = 0x8F

		b, err = (&icmp.Message{Type: ipv6.ICMPTypePacketTooBig, Body: &icmp.PacketTooBig{MTU: 70000, Data: quote}}).Marshal(icmp.IPv6PseudoHeader(a6.AsSlice(), b6.AsSlice()))
		require.NoError(t, err)
		e, err = packet.ParseICMPv6Error(b)
		require.NoError(t, err)
		require.Equal(t, packet.ICMPError{Type: 2, MTU: 70000, Quote: quote}, e)
		again, err := packet.AppendICMPv6Error(nil, e, a6, b6)
		require.NoError(t, err)
		require.Equal(t, b, again)
	}
}

// Where the extension structure is looked for.
func TestExtensionPlace(t *testing.T) {
	ext := extension(t, stack)
	noSum := bytes.Clone(ext)
	noSum[2], noSum[3] = 0, 0
	badSum := bytes.Clone(ext)
	badSum[2] ^= 1
	version1 := bytes.Clone(ext)
	version1[0] = 1 << 4
	message := func(length byte, quote int, ext []byte) []byte {
		return append(append([]byte{11, 0, 0, 0, 0, length, 0, 0}, bytes.Repeat([]byte{0x45}, quote)...), ext...)
	}
	cases := []struct {
		name  string
		msg   []byte
		quote int
		ext   bool
	}{
		{"compliant", message(32, 128, ext), 128, true},
		{"compliant, no checksum", message(32, 128, noSum), 128, true},
		{"compliant, bad checksum", message(32, 128, badSum), 128 + len(ext), false},
		{"another version", message(32, 128, version1), 128 + len(ext), false},
		{"long quote", message(50, 200, ext), 200, true},
		{"quote under 128", message(7, 28, ext), 28, true},
		{"legacy", message(0, 128, ext), 128, true},
		{"legacy, no checksum", message(0, 128, noSum), 128 + len(ext), false},
		{"legacy, long quote", message(0, 200, ext), 200 + len(ext), false},
		{"length beyond the end", message(255, 128, ext), 128, true},
		{"length at the end", message(35, 128, ext), 128, true},
		{"length wrong", message(3, 128, ext), 128, true},
		{"no extension", message(0, 28, nil), 28, false},
		{"length but no extension", message(7, 28, nil), 28, false},
		{"header of an extension cut", message(32, 128, ext[:3]), 131, false},
		{"empty", message(0, 0, nil), 0, false},
	}
	for _, c := range cases {
		e, err := packet.ParseICMPv4Error(c.msg)
		require.NoError(t, err, c.name)
		require.Len(t, e.Quote, c.quote, c.name)
		require.Equal(t, c.ext, e.Extension != nil, c.name)
		if c.ext {
			require.Equal(t, labels, slices.Collect(packet.MPLSLabels(slices.Collect(packet.Objects(e.Extension))[0].Payload)), c.name)
		}
	}
	v6 := append(append([]byte{3, 0, 0, 0, 17, 0, 0, 0}, make([]byte, 136)...), ext...)
	e, err := packet.ParseICMPv6Error(v6)
	require.NoError(t, err)
	require.Len(t, e.Quote, 136)
	require.NotNil(t, e.Extension)
}

func TestObjectsMalformed(t *testing.T) {
	count := func(b ...byte) int { return len(slices.Collect(packet.Objects(b))) }
	require.Zero(t, count())
	require.Zero(t, count(0x20, 0, 0))
	require.Zero(t, count(0x20, 0, 0, 0))
	require.Zero(t, count(0x20, 0, 0, 0, 0, 0, 1, 1), "length 0")
	require.Zero(t, count(0x20, 0, 0, 0, 0, 3, 1, 1), "length 3")
	require.Zero(t, count(0x20, 0, 0, 0, 0, 5, 1, 1), "beyond the end")
	require.Equal(t, 1, count(0x20, 0, 0, 0, 0, 4, 1, 1, 0, 9, 1, 1))
	require.Empty(t, slices.Collect(packet.MPLSLabels([]byte{1, 2, 3})))
}

func TestErrorRefuses(t *testing.T) {
	for typ := range 256 {
		_, err4 := packet.ParseICMPv4Error([]byte{byte(typ), 0, 0, 0, 0, 0, 0, 0})
		_, err6 := packet.ParseICMPv6Error([]byte{byte(typ), 0, 0, 0, 0, 0, 0, 0})
		require.Equal(t, typ != 3 && typ != 11 && typ != 12, err4 != nil)
		require.Equal(t, typ < 1 || typ > 4, err6 != nil)
		_, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: uint8(typ)})
		require.Equal(t, err4 != nil, err != nil)
		_, err = packet.AppendICMPv6Error(nil, packet.ICMPError{Type: uint8(typ)}, a6, b6)
		require.Equal(t, err6 != nil, err != nil)
	}
	ext := extension(t, stack)
	for text, e := range map[string]packet.ICMPError{
		"MTU 65536":           {Type: 3, Code: 4, MTU: 65536},
		"pointer 256":         {Type: 12, Pointer: 256},
		"quote of 1021 bytes": {Type: 11, Quote: make([]byte, 1021), Extension: ext},
	} {
		b, err := packet.AppendICMPv4Error([]byte("kept"), e)
		require.ErrorIs(t, err, packet.ErrField)
		require.ErrorContains(t, err, text)
		require.Equal(t, "kept", string(b))
	}
	for text, e := range map[string]packet.ICMPError{
		"extension in ICMPv6 type 2": {Type: 2, Extension: ext},
		"quote of 2041 bytes":        {Type: 3, Quote: make([]byte, 2041), Extension: ext},
	} {
		b, err := packet.AppendICMPv6Error([]byte("kept"), e, a6, b6)
		require.ErrorIs(t, err, packet.ErrField)
		require.ErrorContains(t, err, text)
		require.Equal(t, "kept", string(b))
	}
	b, err := packet.AppendExtension([]byte("kept"), stack, packet.Object{Payload: make([]byte, 65532)})
	require.ErrorIs(t, err, packet.ErrField)
	require.Equal(t, "kept", string(b))
}

func TestInterfaceInfo(t *testing.T) {
	for _, i := range []packet.InterfaceInfo{
		{},
		{Role: packet.NextHop, Addr: a6},
		{Role: packet.IncomingComponent, Name: []byte("abc")},
		{Name: []byte(strings.Repeat("n", 63)), HasMTU: true},
		{Role: packet.OutgoingInterface, HasIndex: true, Index: 1 << 31, Addr: a4, Name: []byte("eth0"), HasMTU: true, MTU: 9000},
	} {
		o := object(t, i)
		got, err := packet.ParseInterfaceInfo(o)
		require.NoError(t, err)
		require.Equal(t, i, got)
		for n := range o.Payload {
			_, err := packet.ParseInterfaceInfo(packet.Object{CType: o.CType, Payload: o.Payload[:n]})
			require.ErrorIs(t, err, packet.ErrTruncated)
		}
	}
	for _, o := range []packet.Object{
		{CType: 4, Payload: []byte{0, 3, 0, 0, 1, 2, 3, 4}},
		{CType: 2, Payload: []byte{0, 0, 0, 0}},
		{CType: 2, Payload: []byte{5, 0, 0, 0, 0}},
		{CType: 2, Payload: append([]byte{68}, make([]byte, 67)...)},
	} {
		_, err := packet.ParseInterfaceInfo(o)
		require.ErrorIs(t, err, packet.ErrMalformed)
	}
	for _, i := range []packet.InterfaceInfo{{Role: 4}, {Name: make([]byte, 64)}} {
		_, _, err := i.Append(nil)
		require.ErrorIs(t, err, packet.ErrField)
	}
}

// Datagrams that a kernel sent, checked against golang.org/x/net where that
// reads them too.
func TestKernel(t *testing.T) {
	type fields struct {
		protocol, ttl uint8
		icmpType      uint8
		quote         int // bytes, 0 if it is no error
		quotedTTL     uint8
		quotedHeaders int // options or extension headers of the quote, in bytes
		mtu, pointer  uint32
	}
	cases := map[string]fields{
		"ipv4-udp-time-exceeded":         {1, 64, 11, 60, 1, 0, 0, 0},
		"ipv4-udp-port-unreachable":      {1, 63, 3, 60, 8, 0, 0, 0},
		"ipv4-icmp-time-exceeded":        {1, 64, 11, 60, 1, 0, 0, 0},
		"ipv4-icmp-echo-reply":           {1, 63, 0, 0, 0, 0, 0, 0},
		"ipv4-tcp-time-exceeded":         {1, 64, 11, 44, 1, 0, 0, 0},
		"ipv4-udp-too-big":               {1, 64, 3, 548, 7, 0, 1300, 0},
		"ipv4-udp-long-time-exceeded":    {1, 64, 11, 548, 1, 0, 0, 0},
		"ipv4-udp-options-time-exceeded": {1, 64, 11, 72, 1, 12, 0, 0},
		"ipv6-udp-time-exceeded":         {58, 64, 3, 80, 1, 0, 0, 0},
		"ipv6-udp-port-unreachable":      {58, 63, 1, 80, 8, 0, 0, 0},
		"ipv6-icmp-time-exceeded":        {58, 64, 3, 80, 1, 0, 0, 0},
		"ipv6-icmp-echo-reply":           {58, 63, 129, 0, 0, 0, 0, 0},
		"ipv6-tcp-time-exceeded":         {58, 64, 3, 64, 1, 0, 0, 0},
		"ipv6-udp-too-big":               {58, 64, 2, 1232, 7, 0, 1300, 0},
		"ipv6-udp-long-time-exceeded":    {58, 64, 3, 1232, 1, 0, 0, 0},
		"ipv6-udp-options-time-exceeded": {58, 64, 3, 88, 1, 8, 0, 0},
		"ipv6-icmp-next-header":          {58, 63, 4, 88, 8, 8, 0, 40},
		"ipv6-udp-option-problem":        {58, 63, 4, 88, 8, 8, 0, 42},
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			d := wiretest.Kernel(t, name)
			var got fields
			var msg []byte
			if strings.HasPrefix(name, "ipv4") {
				h, payload, err := packet.ParseIPv4(d)
				require.NoError(t, err)
				xh, err := ipv4.ParseHeader(d)
				require.NoError(t, err)
				require.Equal(t, []any{xh.ID, xh.TOS, xh.TTL, xh.Checksum, xh.Src.String(), xh.TotalLen},
					[]any{int(h.ID), int(h.TOS), int(h.TTL), int(h.Checksum), h.Src.String(), len(d)})
				require.Zero(t, packet.Checksum(d[:20+len(h.Options)]))
				require.Zero(t, packet.Checksum(payload))
				got.protocol, got.ttl, msg = h.Protocol, h.TTL, payload
			} else {
				h, payload, err := packet.ParseIPv6(d)
				require.NoError(t, err)
				xh, err := ipv6.ParseHeader(d)
				require.NoError(t, err)
				require.Equal(t, []any{xh.TrafficClass, xh.FlowLabel, xh.HopLimit, xh.Src.String(), xh.PayloadLen + 40},
					[]any{int(h.TrafficClass), int(h.FlowLabel), int(h.HopLimit), h.Src.String(), len(d)})
				require.Zero(t, packet.PseudoHeader(h.Src, h.Dst, h.Protocol, len(payload)).Add(payload).Checksum())
				got.protocol, got.ttl, msg = h.Protocol, h.HopLimit, payload
			}
			got.icmpType = msg[0]
			if want.quote == 0 {
				require.Equal(t, want, got)
				return
			}
			var e packet.ICMPError
			var err error
			if got.protocol == protoICMP {
				e, err = packet.ParseICMPv4Error(msg)
			} else {
				e, err = packet.ParseICMPv6Error(msg)
			}
			require.NoError(t, err)
			require.Nil(t, e.Extension)
			got.quote, got.mtu, got.pointer = len(e.Quote), e.MTU, e.Pointer
			if got.protocol == protoICMP {
				q, _, err := packet.ParseIPv4(e.Quote)
				require.NoError(t, err)
				require.Equal(t, []netip.Addr{wiretest.Src4, wiretest.Dst4}, []netip.Addr{q.Src, q.Dst})
				require.Equal(t, len(e.Quote) < int(q.TotalLen), q.Truncated)
				got.quotedTTL, got.quotedHeaders = q.TTL, len(q.Options)
			} else {
				q, _, err := packet.ParseIPv6(e.Quote)
				require.NoError(t, err)
				require.Equal(t, []netip.Addr{wiretest.Src6, wiretest.Dst6}, []netip.Addr{q.Src, q.Dst})
				require.Equal(t, len(e.Quote) < 40+int(q.PayloadLen), q.Truncated)
				got.quotedTTL, got.quotedHeaders = q.HopLimit, len(q.Extensions)
			}
			require.Equal(t, want, got)
		})
	}
}

func TestAllocations(t *testing.T) {
	ext := extension(t, object(t, packet.InterfaceInfo{HasIndex: true, Name: []byte("eth0"), Addr: a6}), stack)
	quote, err := (&packet.IPv4{Src: a4, Dst: b4, Protocol: 6}).Append(nil, 24)
	require.NoError(t, err)
	tcp := packet.TCP{Options: packet.AppendMSS(nil, 1460)}
	quote, err = tcp.Append(quote)
	require.NoError(t, err)
	e := packet.ICMPError{Type: 11, Quote: quote, Extension: ext}
	e6 := packet.ICMPError{Type: 3, Quote: quote, Extension: ext}
	h4, h6 := packet.IPv4{Src: a4, Dst: b4}, packet.IPv6{Src: a6, Dst: b6}
	var extBuf, infoBuf [256]byte
	b := make([]byte, 0, 2048)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		info := packet.InterfaceInfo{HasIndex: true, Addr: a6}
		payload, ctype, _ := info.Append(infoBuf[:0])
		packet.AppendExtension(extBuf[:0], stack, packet.Object{Class: 2, CType: ctype, Payload: payload})
		b, _ = h4.Append(b[:0], 100)
		b, _ = packet.AppendICMPv4Error(b, e)
		b, _ = h6.Append(b, 100)
		b, _ = packet.AppendICMPv6Error(b, e6, a6, b6)
		b = packet.UDP{}.Append(b)
		b, _ = tcp.Append(b)
	}), "building")

	d, err := h4.Append(nil, 8+128+len(ext))
	require.NoError(t, err)
	d, err = packet.AppendICMPv4Error(d, e)
	require.NoError(t, err)
	seen := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		seen = 0
		_, payload, _ := packet.ParseIPv4(d)
		e, _ := packet.ParseICMPv4Error(payload)
		q, segment, _ := packet.ParseIPv4(e.Quote)
		h, _, _ := packet.ParseTCP(segment)
		if _, ok := h.MSS(); ok && q.Src == a4 {
			seen++
		}
		for o := range packet.Objects(e.Extension) {
			if o.Class == packet.ClassMPLS {
				for range packet.MPLSLabels(o.Payload) {
					seen++
				}
			} else if _, err := packet.ParseInterfaceInfo(o); err == nil {
				seen++
			}
		}
		packet.ParseIPv6(payload)
		packet.ParseTCP(payload[:3])
		packet.ParseICMPv6Error(payload)
	}), "reading")
	require.Equal(t, 4, seen)
}

func FuzzICMPv4Error(f *testing.F) {
	b, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: 12, Pointer: 8, Quote: make([]byte, 130), Extension: extension(f, stack)})
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:140])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := packet.ParseICMPv4Error(b)
		if err != nil {
			return
		}
		readObjects(e.Extension)
		again, err := packet.AppendICMPv4Error(nil, e)
		if err != nil {
			require.Greater(t, len(e.Quote), 1020)
			return
		}
		require.Zero(t, packet.Checksum(again))
		e2, err := packet.ParseICMPv4Error(again)
		require.NoError(t, err)
		requireSameError(t, e, e2)
	})
}

func FuzzICMPv6Error(f *testing.F) {
	b, err := packet.AppendICMPv6Error(nil, packet.ICMPError{Type: 3, Quote: make([]byte, 130), Extension: extension(f, stack)}, a6, b6)
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:140])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := packet.ParseICMPv6Error(b)
		if err != nil {
			return
		}
		readObjects(e.Extension)
		again, err := packet.AppendICMPv6Error(nil, e, a6, b6)
		if err != nil {
			require.Greater(t, len(e.Quote), 2040)
			return
		}
		require.Zero(t, packet.PseudoHeader(a6, b6, protoICMPv6, len(again)).Add(again).Checksum())
		e2, err := packet.ParseICMPv6Error(again)
		require.NoError(t, err)
		requireSameError(t, e, e2)
	})
}

// requireSameError compares an error with itself read back. The quote is
// padded before an extension, and a quote without one is left as it was.
func requireSameError(t *testing.T, e, e2 packet.ICMPError) {
	require.True(t, bytes.HasPrefix(e2.Quote, e.Quote))
	if e.Extension == nil {
		require.Len(t, e2.Quote, len(e.Quote))
	}
	require.Equal(t, e.Extension, e2.Extension)
	e.Quote, e2.Quote = nil, nil
	require.Equal(t, e, e2)
}

func readObjects(ext []byte) {
	for o := range packet.Objects(ext) {
		for range packet.MPLSLabels(o.Payload) {
		}
		packet.ParseInterfaceInfo(o)
	}
}

func FuzzObjects(f *testing.F) {
	f.Add(extension(f, stack))
	f.Add(extension(f, object(f, packet.InterfaceInfo{HasIndex: true, Index: 3, Addr: a4, Name: []byte("eth0"), HasMTU: true, MTU: 1500})))
	f.Fuzz(func(t *testing.T, b []byte) {
		for o := range packet.Objects(b) {
			var again []byte
			for l := range packet.MPLSLabels(o.Payload) {
				again = l.Append(again)
			}
			require.Equal(t, len(o.Payload)/4*4, len(again))
			require.True(t, bytes.Equal(o.Payload[:len(again)], again))
			i, err := packet.ParseInterfaceInfo(o)
			if err != nil {
				continue
			}
			payload, ctype, err := i.Append(nil)
			require.NoError(t, err)
			i2, err := packet.ParseInterfaceInfo(packet.Object{CType: ctype, Payload: payload})
			require.NoError(t, err)
			if len(i.Name) == 0 { // a name of padding alone is none
				i.Name = nil
			}
			require.Equal(t, i, i2)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	d := wiretest.Kernel(b, "ipv4-udp-time-exceeded")
	b.ReportAllocs()
	for b.Loop() {
		_, payload, _ := packet.ParseIPv4(d)
		e, _ := packet.ParseICMPv4Error(payload)
		_, datagram, _ := packet.ParseIPv4(e.Quote)
		packet.ParseUDP(datagram)
	}
}

func BenchmarkChecksum1500(b *testing.B) {
	d := make([]byte, 1500)
	b.SetBytes(1500)
	b.ReportAllocs()
	for b.Loop() {
		packet.Checksum(d)
	}
}
