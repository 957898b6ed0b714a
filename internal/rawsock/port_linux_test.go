package rawsock_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/internal/rawsock"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

const limit = 5 * time.Second

// open opens a port in a host's namespace until the test ends.
func open(t testing.TB, h *netlab.Host, sources ...netip.Addr) *rawsock.Port {
	t.Helper()
	var p *rawsock.Port
	require.NoError(t, h.Do(func() (err error) {
		p, err = rawsock.Open(rawsock.Config{Sources: sources})
		return err
	}))
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// inbox keeps what a port receives.
type inbox struct{ got chan probe.Incoming }

// listen receives from p until it is closed, at the latest when t ends.
func listen(t testing.TB, p *rawsock.Port) inbox {
	in := inbox{make(chan probe.Incoming, 1024)}
	var done sync.WaitGroup
	done.Go(func() {
		ds := make([]probe.Incoming, 16)
		for {
			n, err := p.Receive(ds)
			if err != nil {
				return
			}
			for _, d := range ds[:n] {
				d.Data = bytes.Clone(d.Data)
				in.got <- d
			}
		}
	})
	t.Cleanup(func() {
		require.NoError(t, p.Close())
		done.Wait()
	})
	return in
}

func (in inbox) take(t testing.TB, n int) []probe.Incoming {
	t.Helper()
	var ds []probe.Incoming
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for len(ds) < n {
		select {
		case d := <-in.got:
			ds = append(ds, d)
		case <-timer.C:
			require.FailNow(t, "too few answers", "%d of %d", len(ds), n)
		}
	}
	return ds
}

func send(t testing.TB, p *rawsock.Port, datagrams ...[]byte) []probe.Outgoing {
	t.Helper()
	ds := make([]probe.Outgoing, len(datagrams))
	for i, d := range datagrams {
		ds[i].Data = d
	}
	require.NoError(t, p.Send(ds))
	return ds
}

// isReset recognises what the kernel says to answers of closed and open ports.
func isReset(d []byte) bool {
	at, proto := 20, d[9]
	if d[0]>>4 == 6 {
		at, proto = 40, d[6]
	}
	return proto == protoTCP && d[at+13]&flagRST != 0
}

func sources(ds []probe.Incoming) []netip.Addr {
	var as []netip.Addr
	for _, d := range ds {
		as = append(as, outerSource(d.Data))
	}
	slices.SortFunc(as, netip.Addr.Compare)
	return as
}

func sorted(as []netip.Addr) []netip.Addr {
	as = slices.Clone(as)
	slices.SortFunc(as, netip.Addr.Compare)
	return as
}

func TestAnswersLandAtTheirSites(t *testing.T) {
	n := netlab.NewTwoSites(t)
	n.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	n.Target.EchoUDP(netip.AddrPortFrom(n.Target4, 33434))
	a := open(t, n.A, n.Anycast4, n.Anycast6)
	b := open(t, n.B, n.Anycast4, n.Anycast6)
	atA, atB := listen(t, a), listen(t, b)

	for _, f := range []struct {
		name     string
		src, dst netip.Addr
		hops     [5]netip.Addr
	}{
		{"IPv4", n.Anycast4, n.Target4, n.Hops4},
		{"IPv6", n.Anycast6, n.Target6, n.Hops6},
	} {
		for _, kind := range []struct {
			name  string
			build func(ttl uint8) []byte
		}{
			{"UDP", func(ttl uint8) []byte { return udpProbe(f.src, f.dst, ttl, 61440, 32) }},
			{"echo", func(ttl uint8) []byte { return echoProbe(f.src, f.dst, ttl, 61441) }},
			{"TCP to an open port", func(ttl uint8) []byte { return tcpProbe(f.src, f.dst, ttl, 61442, 80) }},
			{"TCP to a closed port", func(ttl uint8) []byte { return tcpProbe(f.src, f.dst, ttl, 61443, 81) }},
		} {
			t.Run(f.name+" "+kind.name, func(t *testing.T) {
				onWire := n.A.Capture()
				var probes [][]byte
				for ttl := uint8(1); ttl <= 5; ttl++ {
					probes = append(probes, kind.build(ttl))
				}
				before := time.Now()
				sent := send(t, a, probes...)
				after := time.Now()
				gotA, gotB := atA.take(t, 2), atB.take(t, 3)
				require.Equal(t, sorted(f.hops[:2]), sources(gotA))
				require.Equal(t, sorted(f.hops[2:]), sources(gotB))

				var left []netlab.Packet
				for _, p := range onWire.Stop() {
					if p.Outgoing && outerSource(p.Data) == f.src && !isReset(p.Data) {
						left = append(left, p)
					}
				}
				require.Len(t, left, len(probes))
				for i, d := range sent {
					require.NoError(t, d.Err)
					require.Equal(t, probe.KernelStamp, d.Stamp)
					require.WithinRange(t, d.Time, before, after)
					if i > 0 {
						require.False(t, d.Time.Before(sent[i-1].Time))
					}
					require.Equal(t, probes[i], left[i].Data)
					require.Equal(t, left[i].Time, d.Time)
				}
				for _, d := range append(gotA, gotB...) {
					require.Equal(t, probe.KernelStamp, d.Stamp)
					require.WithinRange(t, d.Time, sent[0].Time, time.Now())
				}
			})
		}
	}
	require.Zero(t, a.Dropped())
	require.Zero(t, b.Dropped())
}

func TestClassicProbesAreCaptured(t *testing.T) {
	n := netlab.NewTwoSites(t)
	a := open(t, n.A)
	in := listen(t, a)
	classic4 := ip(n.Anycast4, n.Target4, protoUDP, 1, 10001, udp(10001, 33434, 4))
	classic6 := ip(n.Anycast6, n.Target6, protoUDP, 1, 10002, pseudo(n.Anycast6, n.Target6, protoUDP, udp(10002, 33434, 4), 6))
	send(t, a, classic4, classic6)
	require.Equal(t, sorted([]netip.Addr{n.Hops4[0], n.Hops6[0]}), sources(in.take(t, 2)))
}

func TestUnrelatedTrafficIsNotDelivered(t *testing.T) {
	n := netlab.NewTwoSites(t)
	a := open(t, n.A, n.Anycast4, n.Anycast6)
	in := listen(t, a)
	r := rand.New(rand.NewPCG(3, 4))
	var flood [][]byte
	whole := ip(n.Hops4[0], n.Anycast4, protoICMP, 60, 1, icmpError(11, udpProbe(n.Anycast4, n.Target4, 1, 50000, 32)))
	for i := range whole {
		flood = append(flood, whole[:i])
	}
	for range 5000 {
		flood = append(flood,
			ip(n.Hops4[0], n.Anycast4, protoICMP, 60, 1, echo(0, uint16(r.IntN(61440)), 1)),
			ip(n.Hops4[0], n.Anycast4, protoICMP, 60, 1, echo(8, 61440, 1)),
			ip(n.Hops6[0], n.Anycast6, protoICMPv6, 60, 0, echo(129, uint16(r.IntN(61440)), 1)),
			ip(n.Hops4[0], n.Anycast4, protoTCP, 60, 1, tcp(80, uint16(r.IntN(61440)), flagSYN|flagACK)))
		random := make([]byte, 1+r.IntN(100))
		for i := range random {
			random[i] = byte(r.Uint32())
		}
		random[0] &^= 0x80 // an address family of neither kind, or a fragile header
		if random[0]>>4 == 4 || random[0]>>4 == 6 {
			random[0] = 0
		}
		flood = append(flood, random)
	}
	require.NoError(t, n.R1.InjectTo(n.A, flood...))
	// Packets of one link arrive in order, so what comes first tells.
	send(t, a, udpProbe(n.Anycast4, n.Target4, 1, 61440, 32))
	require.Equal(t, n.Hops4[:1], sources(in.take(t, 1)))
	require.Empty(t, in.got)
	require.Zero(t, a.Dropped())
}

func TestTransitIsNotCaptured(t *testing.T) {
	n := netlab.NewTwoSites(t)
	router := open(t, n.R1)
	atRouter := listen(t, router)
	a := open(t, n.A, n.Anycast4, n.Anycast6)
	atA := listen(t, a)
	// These pass R1 on their way to A.
	send(t, a, udpProbe(n.Anycast4, n.Target4, 2, 61440, 32), udpProbe(n.Anycast6, n.Target6, 2, 61440, 32))
	require.Equal(t, sorted([]netip.Addr{n.Hops4[1], n.Hops6[1]}), sources(atA.take(t, 2)))
	// This is R1's own.
	send(t, router, udpProbe(n.Hops4[0], n.Target4, 1, 61441, 32))
	require.Equal(t, n.Hops4[1:2], sources(atRouter.take(t, 1)))
	require.Empty(t, atRouter.got)
}

func TestTwoPortsInOneNamespace(t *testing.T) {
	n := netlab.NewTwoSites(t)
	one, two := open(t, n.A, n.Anycast4), open(t, n.A, n.Anycast4)
	inOne, inTwo := listen(t, one), listen(t, two)
	for _, p := range []*rawsock.Port{one, two} {
		for _, d := range send(t, p, udpProbe(n.Anycast4, n.Target4, 1, 61440, 32), tcpProbe(n.Anycast4, n.Target4, 1, 61440, 80)) {
			require.NoError(t, d.Err)
			require.Equal(t, probe.KernelStamp, d.Stamp)
		}
	}
	// Both see all answers of the host.
	require.Len(t, inOne.take(t, 4), 4)
	require.Len(t, inTwo.take(t, 4), 4)
}

func TestRefusedDatagrams(t *testing.T) {
	n := netlab.NewTwoSites(t)
	n.A.Unreachable(netip.MustParsePrefix("198.51.100.0/24"))
	n.A.Unreachable(netip.MustParsePrefix("2001:db8:dead::/48"))
	a := open(t, n.A, n.Anycast4, n.Anycast6)
	in := listen(t, a)
	far4, far6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:dead::1")
	before := time.Now()
	sent := send(t, a,
		udpProbe(n.Anycast4, n.Target4, 1, 61440, 32),
		udpProbe(n.Anycast4, n.Target4, 1, 61440, 2000),
		udpProbe(n.Anycast4, far4, 1, 61440, 32),
		udpProbe(n.Anycast4, n.Target4, 2, 61440, 32),
		nil,
		[]byte{0x45, 0, 0},
		udpProbe(n.Anycast6, n.Target6, 1, 61440, 2000),
		udpProbe(n.Anycast6, n.Target6, 1, 61440, 32),
		udpProbe(n.Anycast6, far6, 1, 61440, 32),
		udpProbe(n.Anycast6, n.Target6, 2, 61440, 32),
		make([]byte, 100),
		udpProbe(n.Anycast4, n.Target4, 1, 61440, 32),
	)
	after := time.Now()
	want := map[int]error{
		1: unix.EMSGSIZE, 2: unix.EHOSTUNREACH, 6: unix.EMSGSIZE, 8: unix.EHOSTUNREACH,
		4: nil, 5: nil, 10: nil,
	}
	for i, d := range sent {
		require.WithinRange(t, d.Time, before, after, "datagram %d", i)
		errno, refused := want[i]
		switch {
		case !refused:
			require.NoError(t, d.Err, "datagram %d", i)
			require.Equal(t, probe.KernelStamp, d.Stamp, "datagram %d", i)
		case errno != nil:
			require.ErrorIs(t, d.Err, errno, "datagram %d", i)
		default:
			require.Error(t, d.Err, "datagram %d", i)
		}
	}
	require.Equal(t, sorted([]netip.Addr{n.Hops4[0], n.Hops4[0], n.Hops4[1], n.Hops6[0], n.Hops6[1]}), sources(in.take(t, 5)))
}

// Stamps stay with their datagrams however many were refused before.
func TestStampsAfterRefusals(t *testing.T) {
	n := netlab.NewTwoSites(t)
	a := open(t, n.A, n.Anycast4)
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		onWire := n.A.Capture()
		var ds [][]byte
		for i := range 100 {
			size := 32
			if r.IntN(5) == 0 {
				size = 1473 // one byte more than a link takes
			}
			d := udpProbe(n.Anycast4, n.Target4, 64, 61440, size)
			d[4], d[5] = 1, byte(i)
			ds = append(ds, d)
		}
		sent := send(t, a, ds...)
		stamps := map[byte]time.Time{}
		for _, p := range onWire.Stop() {
			if p.Outgoing && p.Data[9] == protoUDP {
				stamps[p.Data[5]] = p.Time
			}
		}
		for i, d := range sent {
			at, left := stamps[byte(i)]
			require.Equal(t, len(d.Data) < 1000, left)
			if !left {
				require.ErrorIs(t, d.Err, unix.EMSGSIZE)
				continue
			}
			require.NoError(t, d.Err)
			require.Equal(t, probe.KernelStamp, d.Stamp)
			require.Equal(t, at, d.Time)
		}
	}
}

func TestSourcePortsAreHeld(t *testing.T) {
	n := netlab.NewTwoSites(t)
	a := open(t, n.A, n.Anycast4)
	listenUDP := func(port string) error {
		return n.A.Do(func() error {
			c, err := net.ListenPacket("udp", port)
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}
	listenTCP := func(port string) error {
		return n.A.Do(func() error {
			c, err := net.Listen("tcp", port)
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}
	require.NoError(t, listenUDP(":61440"))
	require.NoError(t, listenTCP(":61441"))
	send(t, a, udpProbe(n.Anycast4, n.Target4, 1, 61440, 4), tcpProbe(n.Anycast4, n.Target4, 1, 61441, 80))
	for _, addr := range []string{":61440", "192.0.2.1:61440", "[::]:61440"} {
		require.ErrorIs(t, listenUDP(addr), unix.EADDRINUSE, addr)
	}
	for _, addr := range []string{":61441", "192.0.2.1:61441", "[::]:61441"} {
		require.ErrorIs(t, listenTCP(addr), unix.EADDRINUSE, addr)
	}
	require.NoError(t, listenUDP(":61442"))
	require.NoError(t, a.Close())
	require.NoError(t, listenUDP(":61440"))
	require.NoError(t, listenTCP(":61441"))
}

func TestForeignSourcePort(t *testing.T) {
	n := netlab.NewTwoSites(t)
	n.A.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 61450))
	n.A.EchoUDP(netip.AddrPortFrom(n.Anycast4, 61451))
	a := open(t, n.A, n.Anycast4)
	sent := send(t, a,
		tcpProbe(n.Anycast4, n.Target4, 1, 61450, 80),
		udpProbe(n.Anycast4, n.Target4, 1, 61451, 4),
		udpProbe(n.Anycast4, n.Target4, 1, 61452, 4))
	require.ErrorIs(t, sent[0].Err, unix.EADDRINUSE)
	require.ErrorContains(t, sent[0].Err, "61450")
	require.ErrorIs(t, sent[1].Err, unix.EADDRINUSE)
	require.NoError(t, sent[2].Err)
}

// More classic probes than ports can be held at once still go out, and the
// latest ports are the ones that are held.
func TestHeldPortsAreBounded(t *testing.T) {
	n := netlab.NewTwoSites(t)
	a := open(t, n.A, n.Anycast4)
	before := openFiles(t)
	for port := uint16(10000); port < 11100; port++ {
		for _, d := range send(t, a, udpProbe(n.Anycast4, n.Target4, 1, port, 4)) {
			require.NoError(t, d.Err)
		}
	}
	require.Less(t, openFiles(t)-before, 600)
	bind := func(port string) error {
		return n.A.Do(func() error {
			c, err := net.ListenPacket("udp", port)
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}
	require.ErrorIs(t, bind(":11099"), unix.EADDRINUSE)
	require.NoError(t, bind(":10000"))
}

// Nobody reads the sockets that hold ports, so the answers to UDP probes must
// not queue up there.
func TestHeldPortsQueueNothing(t *testing.T) {
	n := netlab.NewTwoSites(t)
	n.Target.EchoUDP(netip.AddrPortFrom(n.Target4, 7))
	a := open(t, n.A, n.UnicastA4)
	in := listen(t, a)
	for range 50 {
		send(t, a, ip(n.UnicastA4, n.Target4, protoUDP, 64, 1, udp(61440, 7, 500)))
	}
	in.take(t, 50)
	var table []byte
	require.NoError(t, n.A.Do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/udp6")
		return err
	}))
	require.Regexp(t, `:F000 0{32}:0000 07 00000000:00000000 `, string(table))
	require.NotRegexp(t, `:F000 0{32}:0000 07 00000000:0*[1-9A-F]`, string(table))
}

// A SYN-ACK is refused by the kernel that catches it, which frees the target,
// and an answer to a UDP probe is not complained about.
func TestKernelReactionsToDirectAnswers(t *testing.T) {
	n := netlab.NewTwoSites(t)
	n.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	n.Target.EchoUDP(netip.AddrPortFrom(n.Target4, 7))
	ports := []*rawsock.Port{open(t, n.A, n.Anycast4), open(t, n.B, n.Anycast4)}
	for _, p := range ports {
		// Every agent holds the ports that it sends from.
		send(t, p, udpProbe(n.Anycast4, n.Target4, 1, 61440, 4), tcpProbe(n.Anycast4, n.Target4, 1, 61441, 80))
	}
	in := listen(t, ports[1])
	in.take(t, 1)
	atTarget := n.Target.Capture()
	toEcho := ip(n.Anycast4, n.Target4, protoUDP, 64, 1, udp(61440, 7, 4))
	send(t, ports[0], toEcho, tcpProbe(n.Anycast4, n.Target4, 64, 61441, 80))
	_, ok := atTarget.Wait(limit, func(ps []netlab.Packet) bool {
		return slices.ContainsFunc(ps, func(p netlab.Packet) bool {
			return !p.Outgoing && p.Data[9] == protoTCP && p.Data[20+13]&flagRST != 0
		})
	})
	require.True(t, ok, "no RST for the SYN-ACK")
	for _, p := range atTarget.Stop() {
		require.NotEqual(t, uint8(protoICMP), p.Data[9], "port unreachable for a UDP answer")
	}
}

func TestSource(t *testing.T) {
	n := netlab.NewTwoSites(t)
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	far4 := netip.MustParseAddr("198.51.100.1")

	own := open(t, n.A)
	configured := open(t, n.A, n.Anycast6, n.Anycast4)
	bare := open(t, netlab.New(t).Host("bare"))
	lonely := netlab.New(t).Host("lonely")
	lonely.AddAddr("lo", netip.MustParsePrefix("192.0.2.7/32"))
	loopback := open(t, lonely)

	for _, test := range []struct {
		name      string
		p         *rawsock.Port
		dst, want netip.Addr
	}{
		{"the kernel's", own, n.Target4, n.UnicastA4},
		{"the kernel's, IPv6", own, n.Target6, n.UnicastA6},
		{"the kernel's, IPv4 in IPv6", own, netip.AddrFrom16(n.Target4.As16()), n.UnicastA4},
		{"the kernel's to its own", own, n.Anycast4, n.Anycast4},
		{"the kernel's in general", own, any4, n.UnicastA4},
		{"the kernel's in general, IPv6", own, any6, n.UnicastA6},
		{"configured", configured, n.Target4, n.Anycast4},
		{"configured, IPv6", configured, n.Target6, n.Anycast6},
		{"configured in general", configured, any4, n.Anycast4},
		{"configured in general, IPv6", configured, any6, n.Anycast6},
		{"an address without a route", loopback, any4, netip.MustParseAddr("192.0.2.7")},
		{"loopback", bare, any4, netip.MustParseAddr("127.0.0.1")},
		{"loopback, IPv6", bare, any6, netip.MustParseAddr("::1")},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Another destination before must not matter.
			_, _ = test.p.Source(netip.MustParseAddr("127.0.0.1"))
			got, err := test.p.Source(test.dst)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	_, err := bare.Source(far4)
	require.ErrorIs(t, err, probe.ErrNoSource)
	require.ErrorIs(t, err, unix.ENETUNREACH)
	_, err = bare.Source(netip.Addr{})
	require.ErrorIs(t, err, probe.ErrNoSource)
	_, err = bare.Source(netip.MustParseAddr("127.1.2.3"))
	require.NoError(t, err)
}

func TestNoIPv6Source(t *testing.T) {
	h := netlab.New(t).Host("a")
	h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
	h.Sysctl("net.ipv6.conf.lo.disable_ipv6", "1")
	p := open(t, h)
	_, err := p.Source(netip.IPv6Unspecified())
	require.ErrorIs(t, err, probe.ErrNoSource)
	_, err = p.Source(netip.IPv4Unspecified())
	require.NoError(t, err)
}

func TestBadSources(t *testing.T) {
	n := netlab.NewTwoSites(t)
	for name, sources := range map[string][]netip.Addr{
		"192.0.2.99":     {netip.MustParseAddr("192.0.2.99")},
		"2001:db8:ff::2": {netip.MustParseAddr("2001:db8:ff::2")},
		"0.0.0.0":        {netip.IPv4Unspecified()},
		"224.0.0.1":      {netip.MustParseAddr("224.0.0.1")},
		"invalid IP":     {{}},
		"198.18.0.1":     {n.Anycast4, n.UnicastA4},
	} {
		before := openFiles(t)
		require.NoError(t, n.A.Do(func() error {
			p, err := rawsock.Open(rawsock.Config{Sources: sources})
			require.ErrorContains(t, err, name)
			require.Nil(t, p)
			return nil
		}))
		require.Equal(t, before, openFiles(t))
	}
}

// Hosts with several uplinks choose among them by source address.
func TestRoutingBySource(t *testing.T) {
	n := netlab.NewTwoSites(t)
	n.A.ProhibitFrom(netip.PrefixFrom(n.Anycast4, 32))
	n.A.ProhibitFrom(netip.PrefixFrom(n.Anycast6, 128))
	anycast, unicast := open(t, n.A, n.Anycast4, n.Anycast6), open(t, n.A, n.UnicastA4, n.UnicastA6)
	for _, d := range send(t, anycast, udpProbe(n.Anycast4, n.Target4, 64, 61440, 4), udpProbe(n.Anycast6, n.Target6, 64, 61440, 4)) {
		require.ErrorIs(t, d.Err, unix.EACCES)
	}
	for _, d := range send(t, unicast, udpProbe(n.UnicastA4, n.Target4, 64, 61440, 4), udpProbe(n.UnicastA6, n.Target6, 64, 61440, 4)) {
		require.NoError(t, d.Err)
	}
}

func TestClose(t *testing.T) {
	n := netlab.NewTwoSites(t)
	files, routines := openFiles(t), goleak.IgnoreCurrent()
	a := open(t, n.A, n.Anycast4)
	send(t, a, udpProbe(n.Anycast4, n.Target4, 9, 61440, 4), tcpProbe(n.Anycast4, n.Target4, 9, 61440, 4), udpProbe(n.Anycast4, n.Target4, 9, 99, 4))

	waiting, ended := make(chan struct{}), make(chan error)
	go func() {
		ds := make([]probe.Incoming, 1)
		close(waiting)
		for {
			if _, err := a.Receive(ds); err != nil {
				ended <- err
				return
			}
		}
	}()
	<-waiting
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	select {
	case err := <-ended:
		require.ErrorIs(t, err, net.ErrClosed)
	case <-time.After(limit):
		require.FailNow(t, "Receive goes on after Close")
	}

	out := []probe.Outgoing{{Data: udpProbe(n.Anycast4, n.Target4, 1, 61440, 4)}}
	require.ErrorIs(t, a.Send(out), net.ErrClosed)
	require.Zero(t, out[0].Time)
	_, err := a.Receive(make([]probe.Incoming, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = a.Source(n.Target4)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Zero(t, a.Dropped())
	require.Equal(t, files, openFiles(t))
	goleak.VerifyNone(t, routines)
}

// Receive, Send, Source and Close from goroutines of their own, for the race
// detector.
func TestConcurrentUse(t *testing.T) {
	n := netlab.NewTwoSites(t)
	for range 5 {
		a := open(t, n.A, n.Anycast4)
		var all sync.WaitGroup
		all.Go(func() {
			ds := make([]probe.Incoming, 4)
			for err := error(nil); err == nil; _, err = a.Receive(ds) {
			}
		})
		all.Go(func() {
			ds := []probe.Outgoing{{Data: udpProbe(n.Anycast4, n.Target4, 1, 61440, 4)}}
			for a.Send(ds) == nil {
			}
		})
		all.Go(func() {
			for err := error(nil); err == nil; _, err = a.Source(netip.IPv6Unspecified()) {
			}
		})
		require.NoError(t, a.Send([]probe.Outgoing{{Data: udpProbe(n.Anycast4, n.Target4, 1, 61441, 4)}}))
		a.Dropped()
		require.NoError(t, a.Close())
		all.Wait()
	}
}

func TestDroppedCountsWhatWasNotReceived(t *testing.T) {
	n := netlab.NewTwoSites(t)
	a := open(t, n.A, n.Anycast4)
	answer := ip(n.Hops4[0], n.Anycast4, protoICMP, 60, 1, icmpError(11, udpProbe(n.Anycast4, n.Target4, 1, 61440, 32)))
	batch := slices.Repeat([][]byte{answer}, 1000)
	for range 1000 {
		require.NoError(t, n.R1.InjectTo(n.A, batch...))
		if a.Dropped() > 0 {
			break
		}
	}
	dropped := a.Dropped()
	require.NotZero(t, dropped)
	require.NoError(t, a.Close())
	require.GreaterOrEqual(t, a.Dropped(), dropped)
}

// TestMark follows answers from where they are captured to where their reader is
// done with them, what is not for this host and what was dropped left out.
func TestMark(t *testing.T) {
	n := netlab.NewTwoSites(t)
	a := open(t, n.A, n.Anycast4)
	ds := make([]probe.Incoming, 16)
	read := func(least int) {
		for least > 0 {
			k, err := a.Receive(ds)
			require.NoError(t, err)
			least -= k
		}
	}
	require.True(t, a.Mark()(), "nothing has been captured")

	answer := ip(n.Hops4[0], n.Anycast4, protoICMP, 60, 1, icmpError(11, udpProbe(n.Anycast4, n.Target4, 1, 61440, 32)))
	other := ip(n.Hops4[0], netip.MustParseAddr("198.18.77.1"), protoICMP, 60, 1, icmpError(11, udpProbe(n.Anycast4, n.Target4, 1, 61440, 32)))
	six := ip(n.Hops6[0], n.Anycast6, protoICMPv6, 60, 1, icmpError(3, udpProbe(n.Anycast6, n.Target6, 1, 61440, 32)))
	put := n.R1.Wire(n.A)
	captured := func(count uint64) {
		t.Helper()
		require.Eventually(t, func() bool { return rawsock.Queued(a) == count }, 10*time.Second, 100*time.Microsecond)
	}
	require.NoError(t, put(slices.Repeat([][]byte{answer, other, six}, 40)...))
	captured(120)
	first := a.Mark()
	require.NoError(t, put(answer))
	captured(121)
	second := a.Mark()
	read(80)
	require.False(t, first(), "the last of them are being dealt with")
	read(1)
	require.True(t, first())
	require.False(t, second(), "the last of them is being dealt with")

	// A reader that waits has dealt with all.
	ended := make(chan struct{})
	got := make(chan int)
	go func() {
		defer close(ended)
		for {
			k, err := a.Receive(ds)
			if err != nil {
				return
			}
			got <- k
		}
	}()
	require.Eventually(t, second, 10*time.Second, 100*time.Microsecond)
	for range 200 {
		require.NoError(t, put(other))
		require.Eventually(t, a.Mark(), 10*time.Second, 100*time.Microsecond)
		require.NoError(t, put(answer))
		<-got
		require.Eventually(t, a.Mark(), 10*time.Second, 100*time.Microsecond)
	}

	// What comes later holds up nothing.
	dropped := false
	for !dropped { // nobody takes what the reader got first
		_ = put(slices.Repeat([][]byte{answer}, 1000)...)
		dropped = a.Dropped() > 0
	}
	mark := a.Mark()
	flood := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(flood)
		for {
			select {
			case <-stop:
				return
			default:
				_ = put(slices.Repeat([][]byte{answer}, 100)...)
			}
		}
	}()
	for deadline := time.Now().Add(30 * time.Second); !mark(); {
		require.True(t, time.Now().Before(deadline))
		<-got
	}
	close(stop)
	<-flood
	last := a.Mark()
	go func() {
		for range got {
		}
	}()
	require.Eventually(t, last, 30*time.Second, time.Millisecond, "what was dropped is not waited for")
	require.NoError(t, put(answer))
	last = a.Mark()
	require.NoError(t, a.Close())
	<-ended
	close(got)
	require.True(t, last())
	require.True(t, a.Mark()())
}

func TestDatagramsLongerThanTheBufferAreCut(t *testing.T) {
	lab := netlab.New(t)
	a, b := lab.Host("a"), lab.Host("b")
	lab.Link(a, b, netlab.IfAddrs{A: netip.MustParsePrefix("198.18.0.1/24"), B: netip.MustParsePrefix("198.18.0.2/24")})
	a.SetMTU("b", 9000)
	b.SetMTU("a", 9000)
	p := open(t, a)
	in := listen(t, p)
	long := ip(netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("198.18.0.1"), protoUDP, 60, 1, udp(33434, 61440, 5000))
	require.NoError(t, b.InjectTo(a, long))
	got := in.take(t, 1)[0].Data
	require.Equal(t, long[:len(got)], got)
	require.Len(t, got, 2048)
}

// A stamp that comes late, or never, is told from those of later datagrams.
func TestLateStamps(t *testing.T) {
	a, b, p, src, dst := pair(t)
	unknown := netip.MustParseAddr("198.18.0.99")
	for range 8 {
		start := time.Now()
		for _, d := range send(t, p, udpProbe(src, unknown, 1, 61440, 4), udpProbe(src, unknown, 1, 61440, 4)) {
			require.NoError(t, d.Err)
			require.Equal(t, probe.UserStamp, d.Stamp)
			require.WithinRange(t, d.Time, start, time.Now())
		}
		d := send(t, p, udpProbe(src, dst, 1, 61440, 4))[0]
		require.Equal(t, probe.KernelStamp, d.Stamp)
		require.WithinRange(t, d.Time, start, time.Now())
	}
	// What waited for its neighbour leaves now.
	onWire := b.Capture()
	a.Neighbour(unknown, b)
	_, ok := onWire.Wait(limit, func(ps []netlab.Packet) bool {
		return slices.ContainsFunc(ps, func(p netlab.Packet) bool { return bytes.Equal(p.Data[16:20], unknown.AsSlice()) })
	})
	require.True(t, ok)
	start := time.Now()
	// The first is refused before the kernel counts it.
	sent := send(t, p, udpProbe(src, dst, 1, 61440, 2000), udpProbe(src, dst, 1, 61440, 4), udpProbe(src, dst, 1, 61440, 5))
	require.ErrorIs(t, sent[0].Err, unix.EMSGSIZE)
	for _, d := range sent[1:] {
		require.Equal(t, probe.KernelStamp, d.Stamp)
		require.WithinRange(t, d.Time, start, time.Now())
	}
	require.False(t, sent[2].Time.Before(sent[1].Time))
}

// rerun is set in the environment of a test that unprivileged runs.
const rerun = "VOLTADOMAR_TEST_UNPRIVILEGED"

// unprivileged runs a test anew as a user with no more than the given
// capabilities.
func unprivileged(t *testing.T, caps ...uintptr) {
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "rawsock")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))                   //nolint:gosec // another user runs it
	require.NoError(t, os.WriteFile(dir+"/test", self, 0o755)) //nolint:gosec // another user runs it
	cmd := exec.Command(dir+"/test", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), rerun+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
		AmbientCaps: caps,
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("another user cannot run a program here: %v", err)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS")
}

func TestOpenWithoutCapability(t *testing.T) {
	if os.Getuid() == 0 {
		unprivileged(t)
		return
	}
	p, err := rawsock.Open(rawsock.Config{})
	require.ErrorIs(t, err, probe.ErrPermission)
	require.ErrorContains(t, err, "CAP_NET_RAW")
	require.Nil(t, p)
}

// CAP_NET_RAW is enough for everything.
func TestNetRawIsEnough(t *testing.T) {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.10")
	if os.Getenv(rerun) == "" {
		n := netlab.NewTwoSites(t)
		require.NoError(t, n.A.Do(func() error {
			unprivileged(t, unix.CAP_NET_RAW)
			return nil
		}))
		return
	}
	p, err := rawsock.Open(rawsock.Config{Sources: []netip.Addr{src}})
	require.NoError(t, err)
	in := listen(t, p)
	for _, d := range send(t, p, udpProbe(src, dst, 1, 61440, 4), tcpProbe(src, dst, 2, 61441, 80)) {
		require.NoError(t, d.Err)
		require.Equal(t, probe.KernelStamp, d.Stamp)
	}
	for _, d := range in.take(t, 2) {
		require.Equal(t, probe.KernelStamp, d.Stamp)
	}
	_, err = net.ListenPacket("udp", ":61440")
	require.ErrorIs(t, err, unix.EADDRINUSE)
	_, err = p.Source(netip.IPv6Unspecified())
	require.NoError(t, err)
}

func openFiles(t testing.TB) int {
	es, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(es)
}
