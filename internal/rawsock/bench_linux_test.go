package rawsock_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/internal/rawsock"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// pair is two hosts on one link and a port on the first.
func pair(t testing.TB) (a, b *netlab.Host, p *rawsock.Port, src, dst netip.Addr) {
	lab := netlab.New(t)
	a, b = lab.Host("a"), lab.Host("b")
	link := netlab.IfAddrs{A: netip.MustParsePrefix("198.18.0.1/24"), B: netip.MustParsePrefix("198.18.0.2/24")}
	link6 := netlab.IfAddrs{A: netip.MustParsePrefix("2001:db8::1/64"), B: netip.MustParsePrefix("2001:db8::2/64")}
	lab.Link(a, b, link, link6)
	return a, b, open(t, a), link.A.Addr(), link.B.Addr()
}

func repeat(d []byte, n int) []probe.Outgoing {
	ds := make([]probe.Outgoing, n)
	for i := range ds {
		ds[i].Data = d
	}
	return ds
}

func TestSendDoesNotAllocate(t *testing.T) {
	_, _, p, src, dst := pair(t)
	src6, dst6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	ds := append(repeat(udpProbe(src, dst, 1, 61440, 32), 100), repeat(udpProbe(src6, dst6, 1, 61441, 32), 100)...)
	require.Zero(t, testing.AllocsPerRun(20, func() {
		require.NoError(t, p.Send(ds))
	}))
	for _, d := range ds {
		require.NoError(t, d.Err)
	}
}

func TestReceiveDoesNotAllocate(t *testing.T) {
	a, b, p, src, dst := pair(t)
	answer := ip(dst, src, protoICMP, 60, 1, icmpError(11, udpProbe(src, dst, 1, 61440, 32)))
	in := make([]probe.Incoming, 64)
	var answers [][]byte
	for range len(in) {
		answers = append(answers, answer)
	}
	const runs = 20
	for range runs + 1 {
		require.NoError(t, b.InjectTo(a, answers...))
	}
	require.Zero(t, testing.AllocsPerRun(runs, func() {
		for n := 0; n < len(in); {
			k, err := p.Receive(in[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}))
}

func BenchmarkSend(b *testing.B) {
	for _, mode := range []struct {
		name   string
		stamps bool
		batch  int
	}{
		{"stamped/batch=64", true, 64}, {"stamped/batch=1", true, 1},
		{"unstamped/batch=64", false, 64}, {"unstamped/batch=1", false, 1},
	} {
		b.Run(mode.name, func(b *testing.B) {
			_, peer, p, src, dst := pair(b)
			peer.Silence()
			if !mode.stamps {
				rawsock.WithoutDepartures(p)
				rawsock.WithoutDrivers(p)
			}
			ds := make([]probe.Outgoing, mode.batch)
			for i := range ds {
				ds[i].Data = udpProbe(src, dst, 1, 61440+uint16(i), 32)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := p.Send(ds); err != nil {
					b.Fatal(err)
				}
				n += len(ds)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "packets/s")
			want := probe.UserStamp
			if mode.stamps {
				want = probe.KernelStamp
			}
			for _, d := range ds {
				require.NoError(b, d.Err)
				require.Equal(b, want, d.Stamp)
			}
		})
	}
}

func BenchmarkReceive(b *testing.B) {
	a, peer, p, src, dst := pair(b)
	answer := ip(dst, src, protoICMP, 60, 1, icmpError(11, udpProbe(src, dst, 1, 61440, 32)))
	waiting := slices.Repeat([][]byte{answer}, 1024)
	in := make([]probe.Incoming, 64)
	b.ReportAllocs()
	total := 0
	for b.Loop() {
		b.StopTimer()
		require.NoError(b, peer.InjectTo(a, waiting...))
		b.StartTimer()
		for n := 0; n < len(waiting); {
			k, err := p.Receive(in)
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
		total += len(waiting)
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "packets/s")
}

// BenchmarkForeignTraffic shows what a port costs the other programs on its
// host, for each packet that they send and for each that comes in, with no
// probes and while there are some.
func BenchmarkForeignTraffic(b *testing.B) {
	src, dst := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2")
	for _, port := range []string{"none", "idle", "watching"} {
		for _, out := range []bool{true, false} {
			b.Run(fmt.Sprintf("port=%s/out=%t", port, out), func(b *testing.B) {
				lab := netlab.New(b)
				x, y := lab.Host("x"), lab.Host("y")
				lab.Link(x, y, netlab.IfAddrs{A: netip.PrefixFrom(src, 24), B: netip.PrefixFrom(dst, 24)})
				host := x
				if !out {
					host = y
				}
				if port != "none" {
					p := open(b, host)
					if port == "watching" {
						require.NoError(b, rawsock.Watch(p))
					}
				}
				var c net.Conn
				require.NoError(b, x.Do(func() (err error) {
					c, err = net.Dial("udp", "198.18.0.2:9")
					return err
				}))
				defer c.Close()
				y.Silence()
				payload := make([]byte, 1000)
				for b.Loop() {
					_, _ = c.Write(payload)
				}
			})
		}
	}
}
