package probetest_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// A type whose destinations answer in their own way starts from the ordinary
// answers, or leaves them out.
func ExampleDirectAnswers() {
	p := &probe.Probe{ID: 10000, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.7"), DstPort: 80, TTL: 9}
	datagram, err := tcp.Prober{}.Build(nil, p)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range probetest.DirectAnswers(datagram) {
		var a probe.Answer
		fmt.Println((tcp.Prober{}).Match(d, &a), a.Kind, "from", a.From)
	}
	// Output:
	// true syn-ack from 198.51.100.7
	// true reset from 198.51.100.7
}

func TestExampleType(t *testing.T) { probetest.Run(t, openHTTPS, httpsOptions) }

func TestDirectAnswersToTCP(t *testing.T) {
	p := &probe.Probe{ID: 10000, Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::7"), DstPort: 80, TTL: 9}
	datagram, err := tcp.Prober{}.Build(nil, p)
	require.NoError(t, err)
	// A probe of data is one that only a reset answers (RFC 9293 section 3.5.2).
	for _, c := range []struct {
		flags    packet.TCPFlags
		payload  string
		seq, ack uint32
		answer   packet.TCPFlags
	}{
		{packet.SYN, "", 0, 1001, packet.RST | packet.ACK},
		{packet.SYN, "hello", 0, 1006, packet.RST | packet.ACK},
		{packet.PSH, "hello", 0, 1005, packet.RST | packet.ACK},
		{packet.ACK, "hello", 2000, 0, packet.RST},
		{packet.SYN | packet.ACK, "", 2000, 0, packet.RST},
	} {
		h := packet.TCP{SrcPort: 1, DstPort: 2, Seq: 1000, Ack: 2000, Flags: c.flags}
		segment, err := h.Append(nil)
		require.NoError(t, err)
		d := append(append(datagram[:40:40], segment...), c.payload...)
		d[5] = byte(len(d) - 40)
		answers := probetest.DirectAnswers(d)
		require.Len(t, answers, map[bool]int{true: 2, false: 1}[c.flags == packet.SYN])
		last := answers[len(answers)-1]
		got, _, err := packet.ParseTCP(last[40:])
		require.NoError(t, err)
		require.Equal(t, []any{c.answer, c.seq, c.ack, uint16(2), uint16(1)}, []any{got.Flags, got.Seq, got.Ack, got.SrcPort, got.DstPort})
		require.Zero(t, packet.PseudoHeader(p.Dst, p.Src, probe.TCP, len(last)-40).Add(last[40:]).Checksum())
	}
}

func TestDirectAnswersToWhatNobodyAnswers(t *testing.T) {
	p := &probe.Probe{ID: 10000, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.7"), DstPort: 80, TTL: 9}
	datagram, err := udp.Prober{}.Build(nil, p)
	require.NoError(t, err)
	other := append([]byte(nil), datagram...)
	other[9] = 132
	for _, d := range [][]byte{nil, {0x45}, datagram[:25], other} {
		require.Empty(t, probetest.DirectAnswers(d))
	}
}
