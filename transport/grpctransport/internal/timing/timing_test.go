package timing_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dchest/siphash"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport/internal/timing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server on an address of this host.
func serve(t testing.TB, addr string) *timing.Server {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil && netip.MustParseAddrPort(addr).Addr().Is6() {
		t.Skipf("no IPv6 here: %v", err)
	}
	require.NoError(t, err)
	s := timing.Serve(c)
	t.Cleanup(s.Close)
	return s
}

func dial(t testing.TB, host string, o timing.Offer) *timing.Client {
	t.Helper()
	c, err := timing.Dial(netip.MustParseAddr(host), o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// TestOneClock has both sides read the same clock, so that the four times must
// be in order, whoever took them.
func TestOneClock(t *testing.T) {
	for _, test := range []struct{ listen, dial string }{
		{"127.0.0.1:0", "127.0.0.1"},
		{"[::1]:0", "::1"},
		{"0.0.0.0:0", "127.0.0.1"},
		// The reply must come from the address that was asked, which is not
		// the one that the kernel would choose.
		{"0.0.0.0:0", "127.9.8.7"},
		{"[::]:0", "::1"},
		{"[::]:0", "127.9.8.7"},
	} {
		t.Run(test.listen+" "+test.dial, func(t *testing.T) {
			m := serve(t, test.listen).Admit()
			c := dial(t, test.dial, m.Offer())
			for range 200 {
				left := time.Now()
				mine, err := c.Exchange(t.Context())
				require.NoError(t, err)
				came := time.Now()
				theirs, ok := m.Served(mine.Exchange)
				require.True(t, ok)
				times := []time.Time{left.Round(0), mine.Sent, theirs.Received.Round(0), theirs.Sent.Round(0), mine.Received, came.Round(0)}
				for i := range times[1:] {
					require.False(t, times[i+1].Before(times[i]), "%d: %v", i, times)
				}
				_, ok = m.Served(mine.Exchange)
				require.False(t, ok, "only once")
			}
		})
	}
}

func TestOffer(t *testing.T) {
	m := serve(t, "127.0.0.1:0").Admit()
	want := m.Offer()
	got, ok := timing.DecodeOffer(want.Encode())
	require.True(t, ok)
	require.Equal(t, want, got)
	for _, bad := range [][]byte{nil, want.Encode()[1:], append(want.Encode(), 0), make([]byte, timing.OfferLen)} {
		_, ok := timing.DecodeOffer(bad)
		require.False(t, ok)
	}
}

// TestStrangers get no answer, and do not disturb those who do.
func TestStrangers(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	m, left := s.Admit(), s.Admit()
	left.Leave()
	wrongKey, wrongID := m.Offer(), m.Offer()
	wrongKey.Key[3]++
	wrongID.ID++
	c := dial(t, "127.0.0.1", m.Offer())
	for name, o := range map[string]timing.Offer{"wrong key": wrongKey, "unknown": wrongID, "gone": left.Offer()} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			asked := make(chan error)
			go func() {
				_, err := dial(t, "127.0.0.1", o).Exchange(ctx)
				asked <- err
			}()
			// What is asked later is answered, so the question was read.
			for range 3 {
				_, err := c.Exchange(t.Context())
				require.NoError(t, err)
			}
			cancel()
			require.ErrorIs(t, <-asked, context.Canceled)
		})
	}
}

// datagram is one as it looks on the wire.
func datagram(kind byte, o timing.Offer, exchange uint64) []byte {
	b := append([]byte("voltaT\x01"), kind)
	b = binary.BigEndian.AppendUint64(b, o.ID)
	b = binary.BigEndian.AppendUint64(b, exchange)
	return binary.BigEndian.AppendUint64(b, siphash.Hash(binary.LittleEndian.Uint64(o.Key[:8]), binary.LittleEndian.Uint64(o.Key[8:]), b))
}

// TestRepeated has a request come in twice: it is answered once, for a second
// answer would make one exchange of two.
func TestRepeated(t *testing.T) {
	m := serve(t, "127.0.0.1:0").Admit()
	c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), m.Offer().Port).String())
	require.NoError(t, err)
	defer c.Close()
	var b [64]byte
	var got []byte
	for _, exchange := range []uint64{7, 7, 7, 8} {
		_, err := c.Write(datagram(1, m.Offer(), exchange))
		require.NoError(t, err)
	}
	for range 2 {
		n, err := c.Read(b[:])
		require.NoError(t, err)
		got = append(got, b[:n]...)
	}
	require.Equal(t, append(datagram(2, m.Offer(), 7), datagram(2, m.Offer(), 8)...), got)
}

// TestReplayed has requests come in again when the server has told, and
// forgotten, what it knew of them.
func TestReplayed(t *testing.T) {
	m := serve(t, "127.0.0.1:0").Admit()
	c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), m.Offer().Port).String())
	require.NoError(t, err)
	defer c.Close()
	var b [64]byte
	ask := func(exchange uint64) {
		_, err := c.Write(datagram(1, m.Offer(), exchange))
		require.NoError(t, err)
	}
	for exchange := uint64(1); exchange <= 40; exchange++ {
		ask(exchange)
		_, err := c.Read(b[:])
		require.NoError(t, err)
		if exchange%2 == 0 {
			_, ok := m.Served(exchange)
			require.True(t, ok)
		}
	}
	for exchange := uint64(1); exchange <= 40; exchange++ {
		ask(exchange)
	}
	ask(41)
	n, err := c.Read(b[:])
	require.NoError(t, err)
	require.Equal(t, datagram(2, m.Offer(), 41), b[:n])
	_, ok := m.Served(1)
	require.False(t, ok)
	_, ok = m.Served(40)
	require.False(t, ok)
	_, ok = m.Served(39)
	require.True(t, ok, "nothing else has been forgotten for them")
}

// TestImpostor has a server that answers wrongly before it answers right.
func TestImpostor(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	o := timing.Offer{Port: uint16(pc.LocalAddr().(*net.UDPAddr).Port), ID: 5, Key: [16]byte{1, 2, 3}}
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		b := make([]byte, 64)
		n, from, err := pc.ReadFrom(b)
		if err != nil || n != 32 {
			return
		}
		exchange := binary.BigEndian.Uint64(b[16:])
		wrongKey, wrongID := o, o
		wrongKey.Key[0]++
		wrongID.ID++
		for _, d := range [][]byte{
			b[:n], nil, b[:5], make([]byte, 64),
			datagram(2, wrongKey, exchange), datagram(2, wrongID, exchange), datagram(2, o, exchange+1), datagram(1, o, exchange),
			datagram(2, o, exchange),
		} {
			_, _ = pc.WriteTo(d, from)
		}
	}()
	_, err = dial(t, "127.0.0.1", o).Exchange(t.Context())
	require.NoError(t, err)
	<-answers
}

// TestNobody has nothing listen where the client asks.
func TestNobody(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	o := s.Admit().Offer()
	s.Close()
	s.Close()
	c := dial(t, "127.0.0.1", o)
	_, err := c.Exchange(t.Context())
	require.Error(t, err)
	c.Close()
	c.Close()
	_, err = c.Exchange(t.Context())
	require.ErrorIs(t, err, timing.ErrClosed)
}

// FuzzServer shows a server any datagram, and then asks it something.
func FuzzServer(f *testing.F) {
	s := serve(f, "127.0.0.1:0")
	m := s.Admit()
	c := dial(f, "127.0.0.1", m.Offer())
	raw, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), m.Offer().Port).String())
	require.NoError(f, err)
	f.Cleanup(func() { raw.Close() })
	f.Add([]byte{})
	f.Add(datagram(1, m.Offer(), 0))
	f.Add(datagram(2, m.Offer(), 1))
	f.Add(append(datagram(1, m.Offer(), 1), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = raw.Write(b[:min(len(b), 1<<15)])
		x, err := c.Exchange(t.Context())
		require.NoError(t, err)
		_, ok := m.Served(x.Exchange)
		require.True(t, ok)
	})
}

func BenchmarkExchange(b *testing.B) {
	m := serve(b, "127.0.0.1:0").Admit()
	c := dial(b, "127.0.0.1", m.Offer())
	b.ReportAllocs()
	var total time.Duration
	for b.Loop() {
		mine, err := c.Exchange(b.Context())
		require.NoError(b, err)
		theirs, _ := m.Served(mine.Exchange)
		total += theirs.Received.Sub(mine.Sent) + mine.Received.Sub(theirs.Sent.Round(0))
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns-proven/op")
}
