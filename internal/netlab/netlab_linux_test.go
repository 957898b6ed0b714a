package netlab_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
)

// udp returns a UDP datagram without checksum over IPv4, with one over IPv6.
func udp(src, dst netip.Addr, ttl uint8, sport, dport uint16) []byte {
	u := binary.BigEndian.AppendUint16(nil, sport)
	u = binary.BigEndian.AppendUint16(u, dport)
	u = append(u, 0, 8, 0, 0)
	if src.Is4() {
		h := make([]byte, 20)
		h[0], h[8], h[9], h[5] = 0x45, ttl, 17, 7
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		return append(h, u...)
	}
	h := make([]byte, 40)
	h[0], h[5], h[6], h[7] = 0x60, 8, 17, ttl
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	sum := uint32(17 + 8)
	for b := append(h[8:40:40], u...); len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(u[6:], ^uint16(sum))
	return append(h, u...)
}

func outerSource(d []byte) netip.Addr {
	if d[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(d[12:16]))
	}
	return netip.AddrFrom16([16]byte(d[8:24]))
}

// answersFrom returns where ICMP errors that arrived with time set came from.
func answersFrom(ps []netlab.Packet) []netip.Addr {
	var from []netip.Addr
	for _, p := range ps {
		v4 := p.Data[0]>>4 == 4 && p.Data[9] == 1 && (p.Data[20] == 11 || p.Data[20] == 3)
		v6 := p.Data[0]>>4 == 6 && p.Data[6] == 58 && (p.Data[40] == 3 || p.Data[40] == 1)
		if !p.Outgoing && (v4 || v6) {
			from = append(from, outerSource(p.Data))
		}
	}
	return from
}

func TestAnswersReachTheSiteThatTheTopologySays(t *testing.T) {
	n := netlab.NewTwoSites(t)
	for _, f := range []struct {
		name        string
		src, target netip.Addr
		hops        [5]netip.Addr
	}{
		{"IPv4", n.Anycast4, n.Target4, n.Hops4},
		{"IPv6", n.Anycast6, n.Target6, n.Hops6},
	} {
		t.Run(f.name, func(t *testing.T) {
			atA, atB := n.A.Capture(), n.B.Capture()
			defer atA.Stop()
			defer atB.Stop()
			start := time.Now()
			for ttl := uint8(1); ttl <= 5; ttl++ {
				require.NoError(t, n.A.Inject(udp(f.src, f.target, ttl, 61440, 33434)))
			}
			ps, ok := atB.Wait(5*time.Second, func(ps []netlab.Packet) bool { return len(answersFrom(ps)) >= 3 })
			require.True(t, ok, "%v", answersFrom(ps))
			require.Equal(t, f.hops[2:], answersFrom(ps))
			ps, ok = atA.Wait(5*time.Second, func(ps []netlab.Packet) bool { return len(answersFrom(ps)) >= 2 })
			require.True(t, ok)
			require.Equal(t, f.hops[:2], answersFrom(ps))
			for _, p := range ps {
				if len(answersFrom([]netlab.Packet{p})) == 0 {
					continue // what hosts say to find neighbours
				}
				require.WithinRange(t, p.Time, start, time.Now())
			}
		})
	}
}

func TestOwnAddressesReachEveryHost(t *testing.T) {
	n := netlab.NewTwoSites(t)
	port := netip.AddrPortFrom(netip.IPv6Unspecified(), 4242)
	for _, to := range n.Routers() {
		to.ListenTCP(port)
	}
	for _, from := range []*netlab.Host{n.A, n.B} {
		for i, hops := range [][5]netip.Addr{n.Hops4, n.Hops6} {
			for _, hop := range hops {
				require.NoError(t, from.Do(func() error {
					c, err := net.DialTimeout("tcp", netip.AddrPortFrom(hop, 4242).String(), 5*time.Second)
					if err == nil {
						err = c.Close()
					}
					return err
				}), "from %s to %s (%d)", from.Name, hop, i)
			}
		}
	}
}

func TestSilentRouterForwards(t *testing.T) {
	n := netlab.NewTwoSites(t)
	restore := n.R2.Silence()
	for _, f := range []struct {
		src, target netip.Addr
		hops        [5]netip.Addr
	}{{n.Anycast4, n.Target4, n.Hops4}, {n.Anycast6, n.Target6, n.Hops6}} {
		atA, atB := n.A.Capture(), n.B.Capture()
		for ttl := uint8(1); ttl <= 3; ttl++ {
			require.NoError(t, n.A.Inject(udp(f.src, f.target, ttl, 61440, 33434)))
		}
		_, ok := atB.Wait(5*time.Second, func(ps []netlab.Packet) bool { return len(answersFrom(ps)) == 1 })
		require.True(t, ok)
		require.Equal(t, f.hops[2:3], answersFrom(atB.Stop()))
		require.Equal(t, f.hops[:1], answersFrom(atA.Stop()))
	}
	restore()
	atA := n.A.Capture()
	require.NoError(t, n.A.Inject(udp(n.Anycast4, n.Target4, 2, 61440, 33434)))
	_, ok := atA.Wait(5*time.Second, func(ps []netlab.Packet) bool { return len(answersFrom(ps)) == 1 })
	require.True(t, ok)
}

func TestCutLinkIsMended(t *testing.T) {
	n := netlab.NewTwoSites(t)
	for _, ends := range [][2]*netlab.Host{{n.R3, n.R4}, {n.R4, n.R3}, {n.A, n.R1}, {n.R1, n.A}, {n.B, n.R3}} {
		atA, atB := n.A.Capture(), n.B.Capture()
		mend := ends[0].Cut(ends[1])
		for _, f := range []struct{ src, target netip.Addr }{{n.Anycast4, n.Target4}, {n.Anycast6, n.Target6}} {
			err := n.A.Inject(udp(f.src, f.target, 5, 61440, 33434))
			if ends[0] == n.A {
				require.ErrorIs(t, err, unix.ENETUNREACH)
			} else {
				require.NoError(t, err)
			}
		}
		mend()
		// Nothing was kept until now.
		for _, f := range []struct {
			src, target netip.Addr
			hops        [5]netip.Addr
		}{{n.Anycast4, n.Target4, n.Hops4}, {n.Anycast6, n.Target6, n.Hops6}} {
			for ttl := uint8(1); ttl <= 5; ttl++ {
				require.NoError(t, n.A.Inject(udp(f.src, f.target, ttl, 61440, 33434)))
			}
			ps, ok := atB.Wait(5*time.Second, func(ps []netlab.Packet) bool {
				from := answersFrom(ps)
				return len(from) >= 3 && slices.Equal(f.hops[2:], from[len(from)-3:])
			})
			require.True(t, ok, "%s -- %s: %v", ends[0].Name, ends[1].Name, answersFrom(ps))
		}
		ps, ok := atA.Wait(5*time.Second, func(ps []netlab.Packet) bool { return len(answersFrom(ps)) == 4 })
		require.True(t, ok)
		require.Equal(t, append(n.Hops4[:2:2], n.Hops6[:2]...), answersFrom(ps))
		atA.Stop()
		atB.Stop()
	}
}

func TestInjectedNonsenseArrivesAsItIs(t *testing.T) {
	lab := netlab.New(t)
	a, b := lab.Host("a"), lab.Host("b")
	lab.Link(a, b)
	c := b.Capture()
	nonsense := [][]byte{{0x45}, {0x00, 0x01, 0x02}, {0x6f, 0xff}, make([]byte, 1000)}
	require.NoError(t, a.InjectTo(b, nonsense...))
	var got [][]byte
	_, ok := c.Wait(5*time.Second, func(ps []netlab.Packet) bool {
		got = got[:0]
		for _, p := range ps {
			if !p.Outgoing && (len(p.Data) < 40 || p.Data[0] != 0x60) {
				got = append(got, p.Data)
			}
		}
		return len(got) == len(nonsense)
	})
	require.True(t, ok, "%x", got)
	require.Equal(t, nonsense, got)
	require.Error(t, a.InjectTo(a, []byte{1}))
	require.Error(t, a.Inject([]byte{0x45}))
}

func TestDoLeavesTheNamespace(t *testing.T) {
	a := netlab.New(t).Host("a")
	before, err := os.Readlink("/proc/thread-self/ns/net")
	require.NoError(t, err)
	require.NoError(t, a.Do(func() error {
		inside, err := os.Readlink("/proc/thread-self/ns/net")
		require.NotEqual(t, before, inside)
		return err
	}))
	after, err := os.Readlink("/proc/thread-self/ns/net")
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestEchoUDP(t *testing.T) {
	n := netlab.NewTwoSites(t)
	n.Target.EchoUDP(netip.AddrPortFrom(n.Target4, 7))
	require.NoError(t, n.A.Do(func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(n.Target4, 7).String())
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = c.Write([]byte("hello"))
		require.NoError(t, err)
		buf := make([]byte, 10)
		k, err := c.Read(buf)
		require.Equal(t, "hello", string(buf[:k]))
		return err
	}))
}
