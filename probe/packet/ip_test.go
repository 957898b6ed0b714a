package packet_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

var (
	a4 = netip.MustParseAddr("192.0.2.1")
	b4 = netip.MustParseAddr("198.51.100.7")
	a6 = netip.MustParseAddr("2001:db8::1")
	b6 = netip.MustParseAddr("2001:db8::2")
)

func TestIPv4(t *testing.T) {
	h := packet.IPv4{
		TOS: 0xB9, ID: 0x1234, DontFragment: true, MoreFragments: true, FragmentOffset: 0xFFF8,
		TTL: 3, Protocol: 17, Src: a4, Dst: b4, Options: []byte{7, 7, 4, 0, 0, 0, 0, 0},
	}
	b, err := h.Append([]byte("x"), 5)
	require.NoError(t, err)
	require.Equal(t, byte('x'), b[0])
	b = append(b[1:], "hellotrailer"...)
	require.Zero(t, packet.Checksum(b[:28]))
	got, payload, err := packet.ParseIPv4(b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(payload))
	h.TotalLen, h.Checksum = 33, got.Checksum
	require.Equal(t, h, got)

	got, payload, err = packet.ParseIPv4(b[:30])
	require.NoError(t, err)
	require.Equal(t, "he", string(payload))
	require.True(t, got.Truncated)

	b[2], b[3] = 0, 19
	got, payload, err = packet.ParseIPv4(b)
	require.NoError(t, err)
	require.Equal(t, "hellotrailer", string(payload), "a total length under the header's is unknown")
	require.False(t, got.Truncated)
}

func TestIPv4Refuses(t *testing.T) {
	whole, err := (&packet.IPv4{Src: a4, Dst: b4, Options: make([]byte, 4)}).Append(nil, 0)
	require.NoError(t, err)
	for n := range whole {
		_, _, err := packet.ParseIPv4(whole[:n])
		require.ErrorIs(t, err, packet.ErrTruncated, "%d bytes", n)
	}
	whole[0] = 0x44
	_, _, err = packet.ParseIPv4(whole)
	require.ErrorIs(t, err, packet.ErrMalformed)
	whole[0] = 0x65
	_, _, err = packet.ParseIPv4(whole)
	require.ErrorIs(t, err, packet.ErrMalformed)

	cases := map[string]struct {
		h       packet.IPv4
		payload int
	}{
		"want two of IPv4":            {packet.IPv4{Src: a4, Dst: b6}, 0},
		"3 bytes of IPv4 options":     {packet.IPv4{Src: a4, Dst: b4, Options: make([]byte, 3)}, 0},
		"44 bytes of IPv4 options":    {packet.IPv4{Src: a4, Dst: b4, Options: make([]byte, 44)}, 0},
		"fragment offset 9":           {packet.IPv4{Src: a4, Dst: b4, FragmentOffset: 9}, 0},
		"65516 bytes of IPv4 payload": {packet.IPv4{Src: a4, Dst: b4}, 65516},
		"-1 bytes of IPv4 payload":    {packet.IPv4{Src: a4, Dst: b4}, -1},
	}
	for text, c := range cases {
		b, err := c.h.Append([]byte("kept"), c.payload)
		require.ErrorIs(t, err, packet.ErrField)
		require.ErrorContains(t, err, text)
		require.Equal(t, "kept", string(b))
	}
}

func TestIPv6(t *testing.T) {
	ext, err := packet.AppendOptions(nil, packet.DestinationOptions, []byte{5, 2, 0, 0})
	require.NoError(t, err)
	ext, err = packet.AppendOptions(ext, packet.Fragment, make([]byte, 7))
	require.NoError(t, err)
	require.Len(t, ext, 24)
	ext, err = packet.AppendFragment(ext, packet.Authentication, 0, true, 0xABCD)
	require.NoError(t, err)
	ext = append(ext, 58, 4, 0, 0) // an authentication header of 24 bytes
	ext = append(ext, make([]byte, 20)...)
	h := packet.IPv6{
		TrafficClass: 0xAB, FlowLabel: 0xFEDCB, NextHeader: packet.HopByHop, HopLimit: 9,
		Src: a6, Dst: b6, Extensions: ext, Protocol: 58,
	}
	b, err := h.Append(nil, 5)
	require.NoError(t, err)
	whole := append(b, "hellotrailer"...)
	got, payload, err := packet.ParseIPv6(whole)
	require.NoError(t, err)
	require.Equal(t, "hello", string(payload))
	h.PayloadLen, h.MoreFragments = uint16(len(ext)+5), true
	require.Equal(t, h, got)

	for n := 40; n < 40+len(ext); n++ {
		got, _, err := packet.ParseIPv6(whole[:n])
		require.ErrorIs(t, err, packet.ErrTruncated, "%d bytes", n)
		require.Equal(t, b6, got.Dst, "the fixed header is there")
	}
	got, payload, err = packet.ParseIPv6(whole[:len(b)+2])
	require.NoError(t, err)
	require.True(t, got.Truncated)
	require.Equal(t, "he", string(payload))
}

// The payload of a fragment other than the first starts anywhere.
func TestIPv6LaterFragment(t *testing.T) {
	ext, err := packet.AppendFragment(nil, packet.HopByHop, 1232, false, 1)
	require.NoError(t, err)
	h := packet.IPv6{NextHeader: packet.Fragment, Src: a6, Dst: b6, Extensions: ext}
	b, err := h.Append(nil, 3)
	require.NoError(t, err)
	got, payload, err := packet.ParseIPv6(append(b, 1, 2, 3))
	require.NoError(t, err)
	require.Equal(t, []any{uint16(1232), packet.HopByHop, []byte{1, 2, 3}}, []any{got.FragmentOffset, got.Protocol, payload})
}

func TestIPv6Refuses(t *testing.T) {
	whole, err := (&packet.IPv6{Src: a6, Dst: b6}).Append(nil, 0)
	require.NoError(t, err)
	for n := range whole {
		_, _, err := packet.ParseIPv6(whole[:n])
		require.ErrorIs(t, err, packet.ErrTruncated, "%d bytes", n)
	}
	whole[0] = 0x45
	_, _, err = packet.ParseIPv6(whole)
	require.ErrorIs(t, err, packet.ErrMalformed)

	cases := map[string]struct {
		h       packet.IPv6
		payload int
	}{
		"want two of IPv6":                             {packet.IPv6{Src: a6, Dst: b4}, 0},
		"flow label 0x100000":                          {packet.IPv6{Src: a6, Dst: b6, FlowLabel: 1 << 20}, 0},
		"3 bytes of IPv6 extension":                    {packet.IPv6{Src: a6, Dst: b6, Extensions: make([]byte, 3)}, 0},
		"65536 bytes of IPv6 payload":                  {packet.IPv6{Src: a6, Dst: b6}, 65536},
		"65535 bytes of IPv6 payload, want 0 to 65527": {packet.IPv6{Src: a6, Dst: b6, Extensions: make([]byte, 8)}, 65535},
	}
	for text, c := range cases {
		b, err := c.h.Append([]byte("kept"), c.payload)
		require.ErrorIs(t, err, packet.ErrField)
		require.ErrorContains(t, err, text)
		require.Equal(t, "kept", string(b))
	}
	_, err = packet.AppendFragment(nil, 17, 9, false, 0)
	require.ErrorIs(t, err, packet.ErrField)
	_, err = packet.AppendOptions(nil, 17, make([]byte, 2047))
	require.ErrorIs(t, err, packet.ErrField)
}

func TestAppendOptionsPadding(t *testing.T) {
	for n := range 30 {
		b, err := packet.AppendOptions(nil, 17, make([]byte, n))
		require.NoError(t, err)
		require.Zero(t, len(b)%8)
		require.Less(t, len(b), 2+n+8)
		require.Equal(t, len(b), (int(b[1])+1)*8)
		switch pad := b[2+n:]; len(pad) {
		case 0:
		case 1:
			require.Equal(t, []byte{0}, pad)
		default:
			require.Equal(t, []byte{1, byte(len(pad) - 2)}, pad[:2])
		}
	}
}

func FuzzIPv4(f *testing.F) {
	b, err := (&packet.IPv4{ID: 7, Src: a4, Dst: b4, Options: make([]byte, 8)}).Append(nil, 3)
	require.NoError(f, err)
	f.Add(append(b, 1, 2, 3))
	f.Add(b[:21])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := packet.ParseIPv4(b)
		if err != nil {
			return
		}
		again, err := h.Append(nil, len(payload))
		if len(payload) > 0xFFFF-packet.IPv4HeaderLen-len(h.Options) {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Zero(t, packet.Checksum(again))
		h2, payload2, err := packet.ParseIPv4(append(again, payload...))
		require.NoError(t, err)
		require.Equal(t, payload, payload2)
		h.TotalLen, h.Checksum, h.Truncated = h2.TotalLen, h2.Checksum, false
		require.Equal(t, h, h2)
	})
}

func FuzzIPv6(f *testing.F) {
	ext, err := packet.AppendFragment(nil, 17, 8, true, 1)
	require.NoError(f, err)
	b, err := (&packet.IPv6{NextHeader: packet.Fragment, Src: a6, Dst: b6, Extensions: ext}).Append(nil, 3)
	require.NoError(f, err)
	f.Add(append(b, 1, 2, 3))
	f.Add(b[:44])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := packet.ParseIPv6(b)
		if err != nil {
			return
		}
		again, err := h.Append(nil, len(payload))
		require.NoError(t, err)
		h2, payload2, err := packet.ParseIPv6(append(again, payload...))
		require.NoError(t, err)
		require.Equal(t, payload, payload2)
		h.PayloadLen, h.Truncated = h2.PayloadLen, false
		require.Equal(t, h, h2)
	})
}
