package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// The example of RFC 1071 section 3.
func TestChecksumRFC1071(t *testing.T) {
	b := []byte{0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7}
	require.Equal(t, ^uint16(0xDDF2), packet.Checksum(b))
	require.Equal(t, ^uint16(0xDDF2), packet.Sum(0).Add(b[:2]).Add16(0xF203).Add(b[4:]).Checksum())
	require.Equal(t, ^uint16(0x0100), packet.Checksum([]byte{1}), "an odd byte is the high one")
	require.Equal(t, uint16(0xFFFF), packet.Checksum(nil))
}

// The example of RFC 1624 section 4: where RFC 1141 went wrong.
func TestUpdateChecksumRFC1624(t *testing.T) {
	require.Equal(t, uint16(0x0000), packet.UpdateChecksum(0xDD2F, 0x5555, 0x3285))
}

func TestChecksumProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		b := make([]byte, 6+rnd.IntN(100))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		b[0], b[1], b[2], b[3] = 0, 0, 0, 0
		want := uint16(rnd.Uint32())
		s := packet.Sum(0).Add(b)
		binary.BigEndian.PutUint16(b[2:], s.Fixup(want))
		binary.BigEndian.PutUint16(b, want)
		require.Zero(t, packet.Checksum(b), "a word fixed up for %#x", want)

		old := binary.BigEndian.Uint16(b[4:])
		binary.BigEndian.PutUint16(b[4:], uint16(rnd.Uint32()))
		binary.BigEndian.PutUint16(b, packet.UpdateChecksum(want, old, binary.BigEndian.Uint16(b[4:])))
		require.Zero(t, packet.Checksum(b), "after an update")
	}
}

func TestUDPChecksumIsNeverZero(t *testing.T) {
	require.Equal(t, uint16(0xFFFF), packet.Sum(0xFFFF).UDPChecksum())
	require.Equal(t, uint16(1), packet.Sum(0xFFFE).UDPChecksum())
}

func TestUDP(t *testing.T) {
	h := packet.UDP{SrcPort: 1, DstPort: 0xFFFE, Length: 11, Checksum: 0x1234}
	b := h.Append(nil)
	got, payload, err := packet.ParseUDP(append(b, "helloworld"...))
	require.NoError(t, err)
	require.Equal(t, h, got)
	require.Equal(t, "hel", string(payload))
	_, payload, err = packet.ParseUDP(append(b, "he"...))
	require.NoError(t, err)
	require.Equal(t, "he", string(payload), "a length beyond the end")
	for _, length := range []byte{0, 1, 7, 8} {
		b[5] = length
		_, payload, err = packet.ParseUDP(append(b, "hello"...))
		require.NoError(t, err)
		require.Empty(t, payload, "length %d", length)
	}
	for n := range 8 {
		_, _, err = packet.ParseUDP(b[:n])
		require.ErrorIs(t, err, packet.ErrTruncated)
	}
}

func TestTCP(t *testing.T) {
	h := packet.TCP{
		SrcPort: 1, DstPort: 2, Seq: 0xFEDCBA98, Ack: 0x76543210, Flags: packet.SYN | packet.CWR,
		Window: 3, Checksum: 4, Urgent: 5, Options: append([]byte{1, 3, 3, 7}, packet.AppendMSS(nil, 1460)...),
	}
	b, err := h.Append(nil)
	require.NoError(t, err)
	got, payload, err := packet.ParseTCP(append(b, "data"...))
	require.NoError(t, err)
	require.Equal(t, h, got)
	require.Equal(t, "data", string(payload))
	mss, ok := got.MSS()
	require.True(t, ok)
	require.Equal(t, uint16(1460), mss)
	var kinds []uint8
	for kind := range got.AllOptions() {
		kinds = append(kinds, kind)
	}
	require.Equal(t, []uint8{3, 2}, kinds)

	for n := range b {
		got, _, err = packet.ParseTCP(b[:n])
		require.ErrorIs(t, err, packet.ErrTruncated)
		require.Equal(t, n >= 8, got.Seq == h.Seq, "%d bytes", n)
		require.Equal(t, n >= 20, got.Flags == h.Flags, "%d bytes", n)
	}
	b[12] = 4 << 4
	_, _, err = packet.ParseTCP(b)
	require.ErrorIs(t, err, packet.ErrMalformed)
	for _, n := range []int{3, 44} {
		kept, err := (&packet.TCP{Options: make([]byte, n)}).Append([]byte("kept"))
		require.ErrorIs(t, err, packet.ErrField)
		require.Equal(t, "kept", string(kept))
	}
}

func TestTCPOptionsMalformed(t *testing.T) {
	for _, options := range [][]byte{{2}, {2, 0, 5, 180}, {2, 1, 5, 180}, {2, 5, 5, 180}, {2, 3, 5, 0}, {0, 2, 4, 5, 180}} {
		_, ok := (&packet.TCP{Options: options}).MSS()
		require.False(t, ok, "%v", options)
	}
}

func FuzzTransport(f *testing.F) {
	h := packet.TCP{Seq: 1, Options: packet.AppendMSS(nil, 1460)}
	b, err := h.Append(nil)
	require.NoError(f, err)
	f.Add(b)
	f.Add(packet.UDP{Length: 9}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, payload, err := packet.ParseUDP(b); err == nil {
			again := append(h.Append(nil), payload...)
			require.Equal(t, b[:len(again)], again)
		}
		h, payload, err := packet.ParseTCP(b)
		n := 0
		for _, value := range h.AllOptions() {
			n += 2 + len(value)
		}
		require.LessOrEqual(t, n, len(h.Options))
		if err != nil {
			return
		}
		again, err := h.Append(nil)
		require.NoError(t, err)
		h2, payload2, err := packet.ParseTCP(append(again, payload...))
		require.NoError(t, err)
		require.Equal(t, h, h2)
		require.Equal(t, len(payload), len(payload2))
	})
}
