package tun_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/tun"
)

const patience = 10 * time.Second

func addrs(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

var (
	anycast4, anycast6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:ff::1")
	target4, target6   = netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:fe::10")
)

// twoSites is two sites of one address; answers from r2 on go to b.
func twoSites() *simnet.Scenario {
	site := func(name string) simnet.Site {
		return simnet.Site{Host: simnet.Host{Name: name, Addresses: []netip.Addr{anycast4, anycast6}}}
	}
	return &simnet.Scenario{
		Sites: []simnet.Site{site("a"), site("b")},
		Hosts: []simnet.Host{{
			Name: "target", Addresses: []netip.Addr{target4, target6}, TCP: simnet.Ports{Open: []simnet.PortRange{{First: 80, Last: 80}}},
			Services: map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return b }},
		}},
		Links: []simnet.Link{{Draw: "a --1ms-- r1 --2ms-- r2 --3ms-- target\nr2 --1ms-- b"}},
	}
}

func start(t *testing.T, s *simnet.Scenario, watch func(simnet.Sighting)) *simnet.Network {
	t.Helper()
	n, err := s.StartWatched(watch)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// open makes a device in a host's namespace.
func open(h *netlab.Host, n *simnet.Network, cfg tun.Config) (d *tun.Device, err error) {
	err = h.Do(func() (err error) {
		d, err = tun.Open(n, cfg)
		return err
	})
	return d, err
}

// attach makes a site of a network of a host until the test ends.
func attach(t *testing.T, h *netlab.Host, n *simnet.Network, cfg tun.Config) *tun.Device {
	t.Helper()
	d, err := open(h, n, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// devices returns what a host has besides its loopback.
func devices(t *testing.T, h *netlab.Host) (names []string) {
	t.Helper()
	require.NoError(t, h.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Attrs().Name != "lo" {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	}))
	return names
}

// A kernel opens connections, is refused, and learns of errors.
func TestKernelSpeaks(t *testing.T) {
	lab := netlab.New(t)
	s := twoSites()
	s.Hosts[0].Firewall = []simnet.Rule{{Protocol: simnet.ProtocolTCP, Ports: simnet.PortRange{First: 82, Last: 82}, Action: simnet.ActionReject}}
	var mu sync.Mutex
	var strange []string
	n := start(t, s, func(s simnet.Sighting) {
		src, dst := ends(s.Datagram)
		if s.Node == "a" && s.From == "" && (dst != target4 && dst != target6 || src == anycast4 || src == anycast6) {
			mu.Lock()
			defer mu.Unlock()
			strange = append(strange, fmt.Sprintf("%x", s.Datagram))
		}
	})
	h := lab.Host("a")
	d := attach(t, h, n, tun.Config{Site: "a"})
	require.Equal(t, "sim0", d.Name())
	for _, target := range []netip.Addr{target4, target6} {
		dial := func(network string, port uint16) (c net.Conn, err error) {
			err = h.Do(func() (err error) {
				c, err = net.DialTimeout(network, netip.AddrPortFrom(target, port).String(), patience)
				return err
			})
			if err == nil {
				t.Cleanup(func() { _ = c.Close() })
				require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			}
			return c, err
		}
		began := time.Now()
		_, err := dial("tcp", 80)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(began), 12*time.Millisecond)
		_, err = dial("tcp", 81)
		require.ErrorIs(t, err, unix.ECONNREFUSED)
		_, err = dial("tcp", 82)
		require.Contains(t, []error{unix.EHOSTUNREACH, unix.EACCES}, errnoOf(err), "%v", err)

		// Longer than the MTU, there and back.
		c, err := dial("udp", 7)
		require.NoError(t, err)
		long := strings.Repeat("long ", 1000)
		_, err = c.Write([]byte(long))
		require.NoError(t, err)
		back := make([]byte, len(long)+1)
		k, err := c.Read(back)
		require.NoError(t, err)
		require.Equal(t, long, string(back[:k]))

		c, err = dial("udp", 9)
		require.NoError(t, err)
		_, err = c.Write(nil)
		require.NoError(t, err)
		_, err = c.Read(back)
		require.ErrorIs(t, err, unix.ECONNREFUSED)
	}
	require.Zero(t, d.Dropped())
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, strange, "the kernel looks for neighbours, or sends from the anycast address unasked")
}

func errnoOf(err error) error {
	var e unix.Errno
	errors.As(err, &e)
	return e
}

func ends(b []byte) (src, dst netip.Addr) {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	}
	return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
}

// echo is an echo request over IPv4.
func echo(t *testing.T, src, dst netip.Addr, id uint16) []byte {
	t.Helper()
	b, err := icmp.Prober{}.Build(nil, &probe.Probe{ID: id, Src: src, Dst: dst, TTL: 64})
	require.NoError(t, err)
	return b
}

func TestDevice(t *testing.T) {
	lab := netlab.New(t)
	h := lab.Host("a")
	h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1") // as many hosts have it
	for _, tt := range []struct {
		name      string
		link      simnet.Link
		mtu       int
		addresses []string
	}{
		{"default", simnet.Link{Draw: "a -- r"}, 1500, []string{"198.18.0.1/32", "192.0.2.1/32", "2001:db8::1/128", "2001:db8:ff::1/128"}},
		{"MTU", simnet.Link{Draw: "a -- r", Properties: simnet.Properties{MTU: 1280}}, 1280, []string{"198.18.0.1/32", "192.0.2.1/32", "2001:db8::1/128", "2001:db8:ff::1/128"}},
		{"numbered", simnet.Link{Draw: "r -- a", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.4/30")}}, 1500, []string{"198.51.100.6/32", "192.0.2.1/32", "2001:db8:ff::1/128"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := twoSites()
			s.Sites = s.Sites[:1]
			s.Links = []simnet.Link{tt.link, {Draw: "r -- target"}}
			d := attach(t, h, start(t, s, nil), tun.Config{Site: "a", Name: "net-a"})
			defer d.Close()
			require.Equal(t, "net-a", d.Name())
			require.NoError(t, h.Do(func() error {
				link, err := netlink.LinkByName("net-a")
				require.NoError(t, err)
				require.Equal(t, tt.mtu, link.Attrs().MTU)
				require.Equal(t, 4096, link.Attrs().TxQLen)
				require.Zero(t, link.Attrs().Flags&net.FlagMulticast)
				list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
				require.NoError(t, err)
				var got []string
				for _, a := range list {
					got = append(got, a.IPNet.String())
				}
				require.ElementsMatch(t, tt.addresses, got)
				return nil
			}))
		})
	}
}

func TestRoutes(t *testing.T) {
	lab := netlab.New(t)
	h := lab.Host("a")
	s := twoSites()
	s.Routes = []simnet.Route{
		{At: "r1", To: netip.MustParsePrefix("198.51.100.0/24"), Drop: simnet.Prohibited},
		{At: "r1", To: netip.MustParsePrefix("0.0.0.0/0"), Via: []string{"r2"}},
	}
	n := start(t, s, nil)
	reach := func(to string) error {
		return h.Do(func() error {
			c, err := net.Dial("udp", net.JoinHostPort(to, "9"))
			if err == nil {
				require.Contains(t, []string{"198.18.0.1", "2001:db8::1"}, c.LocalAddr().(*net.UDPAddr).IP.String())
				err = c.Close()
			}
			return err
		})
	}
	inside := []string{"203.0.113.10", "2001:db8:fe::10", "198.18.1.1", "2001:db8:3::2", "198.51.100.77"}
	outside := []string{"203.0.113.11", "2001:db8:fd::1", "192.0.2.2"}

	d := attach(t, h, n, tun.Config{Site: "a"})
	for _, to := range inside {
		require.NoError(t, reach(to), to)
	}
	for _, to := range outside {
		require.ErrorIs(t, reach(to), unix.ENETUNREACH, to)
	}
	require.NoError(t, d.Close())

	d = attach(t, h, n, tun.Config{Site: "a", Routes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}})
	for _, to := range append(inside, outside...) {
		require.NoError(t, reach(to), to)
	}
	require.NoError(t, d.Close())

	d = attach(t, h, n, tun.Config{Site: "a", Routes: []netip.Prefix{}})
	require.ErrorIs(t, reach(inside[0]), unix.ENETUNREACH)
	require.NoError(t, d.Close())
}

// Every address of a site's blocks is the host's own.
func TestPrefixes(t *testing.T) {
	lab := netlab.New(t)
	h := lab.Host("a")
	s := twoSites()
	s.Sites[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:ff::/48")}
	n := start(t, s, nil)
	attach(t, h, n, tun.Config{Site: "a"})
	var pc net.PacketConn
	require.NoError(t, h.Do(func() (err error) {
		pc, err = net.ListenPacket("udp", ":4242")
		return err
	}))
	defer pc.Close()
	require.NoError(t, pc.SetDeadline(time.Now().Add(patience)))
	for _, to := range addrs("192.0.2.0", "192.0.2.77", "2001:db8:ff::", "2001:db8:ff:1::77") {
		src := target4
		if to.Is6() {
			src = target6
		}
		require.NoError(t, n.Inject("target", datagram(t, src, to, 4242, to.String())))
		b := make([]byte, 100)
		k, _, err := pc.ReadFrom(b)
		require.NoError(t, err)
		require.Equal(t, to.String(), string(b[:k]))
	}
}

func datagram(t *testing.T, src, dst netip.Addr, port uint16, text string) []byte {
	t.Helper()
	h := packet.UDP{SrcPort: 1, DstPort: port, Length: uint16(packet.UDPHeaderLen + len(text))}
	u := append(h.Append(nil), text...)
	binary.BigEndian.PutUint16(u[6:], packet.PseudoHeader(src, dst, probe.UDP, len(u)).Add(u).UDPChecksum())
	var b []byte
	var err error
	if src.Is4() {
		b, err = (&packet.IPv4{TTL: 64, Protocol: probe.UDP, Src: src, Dst: dst}).Append(nil, len(u))
	} else {
		b, err = (&packet.IPv6{HopLimit: 64, Protocol: probe.UDP, Src: src, Dst: dst}).Append(nil, len(u))
	}
	require.NoError(t, err)
	return append(b, u...)
}

// A burst from the kernel is not lost, or counted as lost where there is no
// room for it.
func TestBurst(t *testing.T) {
	for name, queue := range map[string]int{"default": 0, "short queue": 1} {
		t.Run(name, func(t *testing.T) {
			const burst = 2000
			arrived := make(chan struct{}, burst)
			n := start(t, twoSites(), func(s simnet.Sighting) {
				if s.Node == "target" && s.From != "" {
					arrived <- struct{}{}
				}
			})
			h := netlab.New(t).Host("a")
			d := attach(t, h, n, tun.Config{Site: "a"})
			var c net.Conn
			require.NoError(t, h.Do(func() error {
				link, err := netlink.LinkByName(d.Name())
				require.NoError(t, err)
				if queue > 0 {
					require.NoError(t, netlink.LinkSetTxQLen(link, queue))
				}
				c, err = net.Dial("udp", netip.AddrPortFrom(target4, 7).String())
				return err
			}))
			defer c.Close()
			for range burst {
				_, err := c.Write([]byte("burst"))
				require.NoError(t, err)
			}
			lost := d.Dropped()
			if queue == 0 {
				require.Zero(t, lost)
			}
			late := time.After(patience)
			for i := range burst - lost {
				select {
				case <-arrived:
				case <-late:
					require.Fail(t, "lost", "%d of %d arrived, %d are known to be lost", i, burst, lost)
				}
			}
		})
	}
}

// The network is on time as soon as it has a device.
func TestKeepsTime(t *testing.T) {
	lab := netlab.New(t)
	n := start(t, twoSites(), nil)
	attach(t, lab.Host("a"), n, tun.Config{Site: "a"})
	late := make(chan time.Duration, 1)
	b, err := n.Attach("b", func(_ []byte, at time.Time) { late <- time.Since(at) })
	require.NoError(t, err)
	defer b.Close()
	var median time.Duration
	for range 20 { // as long as others have the processors
		var all []time.Duration
		for i := range 21 {
			require.NoError(t, b.Send(echo(t, netip.MustParseAddr("198.18.3.2"), netip.MustParseAddr("198.18.3.1"), uint16(i+1)), time.Now()))
			all = append(all, <-late)
		}
		slices.Sort(all)
		if median = all[len(all)/2]; median < 20*time.Microsecond {
			return
		}
	}
	require.Failf(t, "late", "half of the packets by more than %v", median)
}

// What the kernel does not take is counted.
func TestDropped(t *testing.T) {
	lab := netlab.New(t)
	n := start(t, twoSites(), nil)
	h := lab.Host("a")
	d := attach(t, h, n, tun.Config{Site: "a"})
	require.NoError(t, h.Do(func() error {
		link, err := netlink.LinkByName(d.Name())
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	}))
	port, err := n.Port("b")
	require.NoError(t, err)
	defer port.Close()
	require.NoError(t, n.Inject("r1", echo(t, target4, anycast4, 1)))
	require.NoError(t, n.Inject("r2", echo(t, target4, netip.MustParseAddr("198.18.3.2"), 2)))
	_, err = port.Receive(make([]probe.Incoming, 1)) // a millisecond later than what a got
	require.NoError(t, err)
	require.EqualValues(t, 1, d.Dropped())
	require.NoError(t, d.Close())
	require.EqualValues(t, 1, d.Dropped(), "known to the end")
}

func TestClose(t *testing.T) {
	lab := netlab.New(t)
	h := lab.Host("a")
	n := start(t, twoSites(), nil)
	d := attach(t, h, n, tun.Config{Site: "a"})
	require.Equal(t, []string{"sim0"}, devices(t, h))
	began := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			require.NoError(t, d.Close())
			require.Empty(t, devices(t, h), "gone when Close returns")
		})
	}
	wg.Wait()
	require.Less(t, time.Since(began), 2*time.Second)

	port, err := n.Port("a")
	require.NoError(t, err, "the site is free")
	require.NoError(t, port.Close())
	again := attach(t, h, n, tun.Config{Site: "a"})
	require.Equal(t, "sim0", again.Name())

	require.NoError(t, n.Close())
	require.NoError(t, h.Inject(echo(t, netip.MustParseAddr("198.18.0.1"), target4, 1)))
	require.NoError(t, again.Close(), "after its network")
	require.Empty(t, devices(t, h))
	_, err = open(h, n, tun.Config{Site: "a"})
	require.ErrorIs(t, err, net.ErrClosed)
	require.Empty(t, devices(t, h))
}

func TestErrors(t *testing.T) {
	lab := netlab.New(t)
	h := lab.Host("a")
	n := start(t, twoSites(), nil)
	for _, tt := range []struct {
		name string
		cfg  tun.Config
		want string
		is   error
	}{
		{"no site", tun.Config{}, `unknown node: "", want one of the sites a, b`, simnet.ErrUnknown},
		{"unknown site", tun.Config{Site: "c"}, `unknown node: "c", want one of the sites a, b`, simnet.ErrUnknown},
		{"router", tun.Config{Site: "r1"}, `unknown node: "r1", want one of the sites a, b`, simnet.ErrUnknown},
		{"long name", tun.Config{Site: "a", Name: "sixteen-letters-"}, `device name "sixteen-letters-", want 1 to 15`, nil},
		{"slash", tun.Config{Site: "a", Name: "a/b"}, `device name "a/b", want`, nil},
		{"space", tun.Config{Site: "a", Name: "a b"}, `device name "a b", want`, nil},
		{"pattern", tun.Config{Site: "a", Name: "x%d"}, `device name "x%d", want`, nil},
		{"dots", tun.Config{Site: "a", Name: ".."}, `device name "..", want`, nil},
		{"loopback", tun.Config{Site: "a", Name: "lo"}, `device name "lo": taken`, tun.ErrTaken},
		{"route", tun.Config{Site: "a", Routes: make([]netip.Prefix, 1)}, "route to invalid Prefix, want", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(h, n, tt.cfg)
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			require.Empty(t, devices(t, h))
		})
	}
	t.Run("taken", func(t *testing.T) {
		attach(t, h, n, tun.Config{Site: "a"})
		_, err := open(h, n, tun.Config{Site: "a", Name: "other"})
		require.ErrorIs(t, err, simnet.ErrTaken)
		_, err = open(h, n, tun.Config{Site: "b", Name: "sim0"})
		require.ErrorIs(t, err, tun.ErrTaken)
		_, err = open(h, n, tun.Config{Site: "b"})
		require.ErrorIs(t, err, tun.ErrTaken, "one kernel cannot be two sites")
		require.ErrorContains(t, err, "route to 192.0.2.1/32: taken")
		require.Equal(t, []string{"sim0"}, devices(t, h))

		d := attach(t, h, n, tun.Config{Site: "b", Routes: []netip.Prefix{}})
		require.Equal(t, "sim1", d.Name())
	})
	t.Run("no privileges", func(t *testing.T) {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: the thread ends with its rights
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			if err := unix.Capset(&header, &none[0]); err != nil {
				done <- err
				return
			}
			_, err := tun.Open(n, tun.Config{Site: "a"})
			done <- err
		}()
		err := <-done
		require.ErrorIs(t, err, tun.ErrPermission)
		require.ErrorContains(t, err, "CAP_NET_ADMIN")
		port, err := n.Port("a")
		require.NoError(t, err, "the site is free")
		require.NoError(t, port.Close())
	})
}
