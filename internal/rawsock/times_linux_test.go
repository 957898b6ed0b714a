package rawsock_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/internal/rawsock"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// batch is one of each kind of probe, over and over, no two alike.
func batch(n int, src, dst netip.Addr) [][]byte {
	var ds [][]byte
	for i := range uint16(n) {
		var d []byte
		switch i % 4 {
		case 0:
			d = udpProbe(src, dst, 64, 61440+i/4, 32)
		case 1:
			d = tcpProbe(src, dst, 64, 61440+i/4, 80)
		case 2:
			d = echoProbe(src, dst, 64, 61440+i/4)
		case 3:
			d = ip(src, dst, protoUDP, 64, 10000+i, pseudo(src, dst, protoUDP, udp(10000+i, 33434, 4), 6))
		}
		ds = append(ds, d)
	}
	return ds
}

// left returns when a datagram left an interface, at the capture of its host.
// What encloses a datagram is taken for it.
func left(t testing.TB, onWire []netlab.Packet, index int, d []byte) time.Time {
	t.Helper()
	i := slices.IndexFunc(onWire, func(p netlab.Packet) bool { return departs(p, index, d) })
	require.GreaterOrEqual(t, i, 0, "%x never left", d)
	require.NotZero(t, onWire[i].Time)
	return onWire[i].Time
}

func departs(p netlab.Packet, index int, d []byte) bool {
	return p.Outgoing && (p.Index == index || index == anyIndex) && bytes.Contains(p.Data, d)
}

const anyIndex = -1

// seen sends datagrams from h while it captures, until all have left.
func seen(t testing.TB, h *netlab.Host, p *rawsock.Port, index int, datagrams ...[]byte) ([]probe.Outgoing, []netlab.Packet) {
	t.Helper()
	c := h.Capture()
	sent := send(t, p, datagrams...)
	_, ok := c.Wait(limit, func(ps []netlab.Packet) bool {
		for _, d := range datagrams {
			if !slices.ContainsFunc(ps, func(p netlab.Packet) bool { return departs(p, index, d) }) {
				return false
			}
		}
		return true
	})
	require.True(t, ok)
	return sent, c.Stop()
}

var (
	near4, near6 = netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("2001:db8::1/64")
	far4, far6   = netip.MustParsePrefix("198.18.0.2/24"), netip.MustParsePrefix("2001:db8::2/64")
)

// address gives a and b addresses on their interfaces.
func address(a *netlab.Host, devA string, b *netlab.Host, devB string) {
	a.AddAddr(devA, near4)
	a.AddAddr(devA, near6)
	b.AddAddr(devB, far4)
	b.AddAddr(devB, far6)
}

// stacks are ways for a probe to leave host a for host b: over the interface
// dev of a, from which it passes on to the last one, that of the link.
var stacks = []struct {
	name, dev string
	build     func(a, b *netlab.Host)
}{
	{"plain", "b", func(a, b *netlab.Host) { address(a, "b", b, "a") }},
	{"bridge", "br", func(a, b *netlab.Host) {
		a.Bridge("br", b)
		address(a, "br", b, "a")
	}},
	{"macvlan", "mv", func(a, b *netlab.Host) {
		a.MACVLAN("mv", b)
		address(a, "mv", b, "a")
	}},
}

// Transmit times are, to the nanosecond, what a capture on the last interface
// shows.
func TestTransmitTimesAreTheWires(t *testing.T) {
	for _, stack := range stacks {
		t.Run(stack.name, func(t *testing.T) {
			lab := netlab.New(t)
			a, b := lab.Host("a"), lab.Host("b")
			lab.Link(a, b)
			stack.build(a, b)
			p := open(t, a)
			index := a.Index("b")
			for _, f := range []struct{ src, dst netip.Prefix }{{near4, far4}, {near6, far6}} {
				// The first one may wait for the neighbour's address.
				seen(t, a, p, index, udpProbe(f.src.Addr(), f.dst.Addr(), 64, 61440, 500))
				for _, n := range []int{1, 64, 200} {
					ds := batch(n, f.src.Addr(), f.dst.Addr())
					sent, onWire := seen(t, a, p, index, ds...)
					for i, d := range sent {
						require.NoError(t, d.Err)
						require.Equal(t, probe.KernelStamp, d.Stamp)
						require.Equal(t, left(t, onWire, index, ds[i]), d.Time, "%v of %d", f.src, n)
						require.False(t, d.Time.Before(left(t, onWire, a.Index(stack.dev), ds[i])))
					}
				}
			}
		})
	}
}

// What cannot be recognised as it leaves the last interface has the time of
// the driver, which is a little later.
func TestTransmitTimesOfTheDriver(t *testing.T) {
	lab := netlab.New(t)
	a, b := lab.Host("a"), lab.Host("b")
	outer := netlab.IfAddrs{A: netip.MustParsePrefix("198.18.1.1/24"), B: netip.MustParsePrefix("198.18.1.2/24")}
	lab.Link(a, b, outer)
	a.VXLAN("vx", outer.A.Addr(), outer.B.Addr())
	b.VXLAN("vx", outer.B.Addr(), outer.A.Addr())
	address(a, "vx", b, "vx")
	p := open(t, a)
	index := a.Index("b")
	for _, test := range []struct {
		name string
		ds   [][]byte
	}{
		{"in a tunnel", batch(40, near4.Addr(), far4.Addr())},
		{"in a tunnel, IPv6", batch(40, near6.Addr(), far6.Addr())},
		{"from a foreign port", [][]byte{udpProbe(outer.A.Addr(), outer.B.Addr(), 64, 50000, 4)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen(t, a, p, index, test.ds[0])
			sent, onWire := seen(t, a, p, index, test.ds...)
			for i, d := range sent {
				require.NoError(t, d.Err)
				require.Equal(t, probe.DriverStamp, d.Stamp)
				require.True(t, d.Time.After(left(t, onWire, index, test.ds[i])))
			}
		})
	}
	t.Run("without drivers' stamps", func(t *testing.T) {
		rawsock.WithoutDrivers(p)
		ds := batch(8, near4.Addr(), far4.Addr())
		sent, onWire := seen(t, a, p, index, ds...)
		for i, d := range sent {
			require.Equal(t, probe.KernelStamp, d.Stamp)
			require.Equal(t, left(t, onWire, a.Index("vx"), ds[i]), d.Time, "the tunnel's")
		}
	})
}

// A datagram that waits in a queue has the time at which it left that.
func TestTransmitTimesBehindAQueue(t *testing.T) {
	lab := netlab.New(t)
	a, b, c := lab.Host("a"), lab.Host("b"), lab.Host("c")
	toB := netlab.IfAddrs{A: near4, B: far4}
	toC := netlab.IfAddrs{A: netip.MustParsePrefix("198.18.1.1/24"), B: netip.MustParsePrefix("198.18.1.2/24")}
	lab.Link(a, b, toB)
	lab.Link(a, c, toC)
	a.Throttle(b, 4_000_000)
	p := open(t, a)
	whole := 0
	for range 20 {
		var ds [][]byte
		for i := range uint16(8) {
			// Those to c overtake those to b, and of the echoes nothing but
			// the destination tells them apart.
			ds = append(ds, udpProbe(near4.Addr(), far4.Addr(), 64, 61440+i, 800),
				echoProbe(near4.Addr(), far4.Addr(), 64, 61440+i),
				echoProbe(near4.Addr(), toC.B.Addr(), 64, 61440+i))
		}
		sent, onWire := seen(t, a, p, anyIndex, ds...)
		stamped := 0
		for i, d := range sent {
			index := a.Index([]string{"b", "b", "c"}[i%3])
			if d.Stamp == probe.KernelStamp {
				require.Equal(t, left(t, onWire, index, ds[i]), d.Time)
				stamped++
			}
		}
		require.GreaterOrEqual(t, stamped, len(ds)/3)
		if stamped == len(ds) {
			require.Greater(t, sent[len(ds)-2].Time.Sub(sent[0].Time), time.Millisecond, "they left as one")
			whole++
		}
	}
	require.NotZero(t, whole, "all wait longer than Send")
}

// Leaving an interface for another one is not the end of the way.
func TestTransmitTimesBehindAQueueBelow(t *testing.T) {
	lab := netlab.New(t)
	a, b := lab.Host("a"), lab.Host("b")
	lab.Link(a, b)
	a.Bridge("br", b)
	address(a, "br", b, "a")
	p := open(t, a)
	seen(t, a, p, a.Index("b"), udpProbe(near4.Addr(), far4.Addr(), 64, 61440, 500))
	a.Throttle(b, 4_000_000)
	whole := 0
	for range 20 {
		var ds [][]byte
		for i := range uint16(4) {
			ds = append(ds, udpProbe(near4.Addr(), far4.Addr(), 64, 61440+i, 800))
		}
		sent, onWire := seen(t, a, p, a.Index("b"), ds...)
		in := 0
		for i, d := range sent {
			require.Equal(t, probe.KernelStamp, d.Stamp)
			below := left(t, onWire, a.Index("b"), ds[i])
			if d.Time.Equal(below) {
				in++
			} else {
				// It took longer than Send waits.
				require.Equal(t, left(t, onWire, a.Index("br"), ds[i]), d.Time)
				require.Greater(t, below.Sub(d.Time), time.Millisecond)
			}
		}
		if in == len(ds) {
			whole++
		}
	}
	require.NotZero(t, whole, "all wait longer than Send")
}

func TestSame(t *testing.T) {
	four := ip(site4, target4, protoUDP, 3, 7, pseudo(site4, target4, protoUDP, udp(61440, 33434, 32), 6))
	six := ip(site6, target6, protoUDP, 3, 7, pseudo(site6, target6, protoUDP, udp(61440, 33434, 32), 6))
	set := func(at int, v byte) func([]byte) { return func(d []byte) { d[at] = v } }
	for _, test := range []struct {
		name    string
		d, seen []byte
		want    bool
	}{
		{"itself", four, four, true},
		{"itself, IPv6", six, six, true},
		{"the beginning", four, four[:52], true},
		{"another TOS and TTL", four, with(four, func(d []byte) { d[1], d[8] = 0xB8, 1 }), true},
		{"another traffic class, flow label and hop limit", six, with(six, func(d []byte) { d[1], d[2], d[7] = 0xFF, 1, 1 }), true},
		{"another source", four, with(four, set(15, 9)), true},
		{"options", four, ipOptions(four, 2), true},
		{"an identification of the kernel's", with(four, set(5, 0)), four, true},
		{"payload that differs far behind", four, with(four, set(59, 9)), true},

		{"another identification", four, with(four, set(5, 8)), false},
		{"another destination", four, with(four, set(19, 8)), false},
		{"another destination, IPv6", six, with(six, set(39, 8)), false},
		{"another protocol", four, with(four, set(9, protoTCP)), false},
		{"another protocol, IPv6", six, with(six, set(6, protoTCP)), false},
		{"another port", four, with(four, set(21, 1)), false},
		{"another port, IPv6", six, with(six, set(41, 1)), false},
		{"another payload", four, with(four, set(40, 1)), false},
		{"the other family", four, six, false},
		{"the other family, IPv6", six, four, false},
		{"nothing", four, nil, false},
		{"too little", four, four[:19], false},
		{"too little, IPv6", six, six[:39], false},
		{"no payload", four, four[:20], false},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, rawsock.Same(test.d, test.seen)) })
	}
}

// Each way to learn a transmit time works without the others.
func TestTransmitTimesFallBack(t *testing.T) {
	for _, test := range []struct {
		name                string
		departures, drivers bool
	}{
		{"departures alone", true, false}, {"drivers alone", false, true}, {"neither", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, _, p, src, dst := pair(t)
			if !test.departures {
				rawsock.WithoutDepartures(p)
			}
			if !test.drivers {
				rawsock.WithoutDrivers(p)
			}
			index := a.Index("b")
			for _, ds := range [][][]byte{batch(1, src, dst), batch(100, src, dst), batch(10, src, dst)} {
				before := time.Now()
				sent, onWire := seen(t, a, p, index, ds...)
				var last time.Time
				for i, d := range sent {
					onWire := left(t, onWire, index, ds[i])
					require.True(t, onWire.After(last), "the time before is of a later datagram")
					last = d.Time
					switch {
					case test.departures:
						require.Equal(t, probe.KernelStamp, d.Stamp)
						require.Equal(t, onWire, d.Time)
					case test.drivers:
						require.Equal(t, probe.DriverStamp, d.Stamp)
						require.True(t, d.Time.After(onWire))
					default:
						last = time.Time{}
						require.Equal(t, probe.UserStamp, d.Stamp)
						require.WithinRange(t, d.Time, before, time.Now())
					}
				}
				// A refused datagram between two batches, and in one.
				refused := send(t, p, batch(2, src, dst)[0], udpProbe(src, dst, 64, 61440, 2000), batch(2, src, dst)[1])
				require.NoError(t, refused[0].Err)
				require.ErrorIs(t, refused[1].Err, unix.EMSGSIZE)
				require.Equal(t, sent[0].Stamp, refused[2].Stamp)
			}
		})
	}
}

// In a long run of full chunks drivers are not asked. Whoever would have
// needed their stamps shows that, once.
func TestTransmitTimesInALongRun(t *testing.T) {
	a, _, p, src, dst := pair(t)
	index := a.Index("b")
	run := func() {
		for range 20 {
			for _, d := range send(t, p, batch(64, src, dst)...) {
				require.NoError(t, d.Err)
				require.Equal(t, probe.KernelStamp, d.Stamp)
			}
		}
	}
	foreign := func(n int) probe.Stamp {
		var ds [][]byte
		for i := range uint16(n) {
			ds = append(ds, udpProbe(src, dst, 64, 50000+i, 4))
		}
		sent := send(t, p, ds...)
		for _, d := range sent {
			require.NoError(t, d.Err)
			require.Equal(t, sent[0].Stamp, d.Stamp)
		}
		return sent[0].Stamp
	}
	// Single probes are no run, however many.
	for range 20 * 64 {
		send(t, p, batch(1, src, dst)...)
	}
	require.Equal(t, probe.DriverStamp, foreign(1))
	run()
	ds := batch(64, src, dst)
	sent, onWire := seen(t, a, p, index, ds...)
	for i, d := range sent {
		require.Equal(t, left(t, onWire, index, ds[i]), d.Time)
	}
	require.Equal(t, probe.UserStamp, foreign(64), "drivers were asked for nothing")
	require.Equal(t, probe.DriverStamp, foreign(64))
	run()
	require.Equal(t, probe.UserStamp, foreign(1))
	require.Equal(t, probe.DriverStamp, foreign(1))
	run()
	// One refused datagram in between does not matter.
	tooLong := send(t, p, udpProbe(src, dst, 64, 61440, 2000))
	require.Error(t, tooLong[0].Err)
	require.Equal(t, probe.UserStamp, foreign(1))
	require.Equal(t, probe.DriverStamp, foreign(1))
}

// Stamps of drivers that nobody needs do not fill the kernel's queue.
func TestUnneededStampsGo(t *testing.T) {
	_, _, p, src, dst := pair(t)
	ds := batch(63, src, dst)
	for range 400 {
		send(t, p, ds...)
	}
	d := send(t, p, udpProbe(src, dst, 64, 50000, 4))[0]
	require.Equal(t, probe.DriverStamp, d.Stamp)
}

// Datagrams that are alike have their times in the order of sending.
func TestTransmitTimesOfTwins(t *testing.T) {
	a, _, p, src, dst := pair(t)
	twin, other := udpProbe(src, dst, 64, 61440, 32), udpProbe(src, dst, 64, 61441, 32)
	c := a.Capture()
	sent := send(t, p, twin, other, twin, twin)
	var onWire []netlab.Packet
	_, ok := c.Wait(limit, func(ps []netlab.Packet) bool {
		onWire = slices.DeleteFunc(ps, func(p netlab.Packet) bool {
			return !departs(p, anyIndex, twin) && !departs(p, anyIndex, other)
		})
		return len(onWire) == len(sent)
	})
	require.True(t, ok)
	for i, p := range onWire {
		require.Equal(t, sent[i].Data, p.Data)
		require.Equal(t, p.Time, sent[i].Time)
	}
}

// Nothing but probes that leave is copied, and what others send does not
// confuse.
func TestDeparturesAreOfProbes(t *testing.T) {
	a, b, p, src, dst := pair(t)
	index := a.Index("b")
	_, err := rawsock.Departures(p)
	require.NoError(t, err)
	for _, ds := range [][][]byte{batch(50, dst, src), batch(50, netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::1"))} {
		require.NoError(t, b.InjectTo(a, ds...))
	}
	n, err := rawsock.Departures(p)
	require.NoError(t, err)
	require.Zero(t, n)

	other := open(t, a)
	for range 10 {
		for _, d := range send(t, other, batch(64, src, dst)...) {
			require.Equal(t, probe.KernelStamp, d.Stamp)
		}
		ds := batch(3, src, dst)
		sent, onWire := seen(t, a, p, index, ds...)
		for i, d := range sent {
			require.Equal(t, left(t, onWire, index, ds[i]), d.Time)
		}
	}
	n, err = rawsock.Departures(p)
	require.NoError(t, err)
	// The first time it did not watch before it sent.
	require.Equal(t, 10*3+9*64, n)
}

// Watching costs everything that leaves the host, so it ends with the probes.
func TestDeparturesAreWatchedWhileThereAreProbes(t *testing.T) {
	a, _, _, src, dst := pair(t)
	watched := func() bool {
		var table []byte
		require.NoError(t, a.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/ptype")
			return err
		}))
		return regexp.MustCompile(`(?m)^ALL .*tpacket_rcv`).Match(table)
	}
	synctest.Test(t, func(t *testing.T) {
		var p *rawsock.Port
		require.NoError(t, a.Do(func() (err error) {
			p, err = rawsock.Open(rawsock.Config{})
			return err
		}))
		require.False(t, watched())
		for range 3 {
			for range 10 {
				d := send(t, p, udpProbe(src, dst, 64, 61440, 4))[0]
				require.NoError(t, d.Err)
				require.Equal(t, probe.KernelStamp, d.Stamp)
				require.True(t, watched())
				time.Sleep(4 * time.Second)
				synctest.Wait()
				require.True(t, watched())
			}
			time.Sleep(6 * time.Second)
			synctest.Wait()
			require.False(t, watched())
		}
		send(t, p, udpProbe(src, dst, 64, 61440, 4))
		require.NoError(t, p.Close())
	})
}

// What is captured first has the kernel's time, too.
func TestTheFirstAnswersAreStamped(t *testing.T) {
	lab := netlab.New(t)
	a, b := lab.Host("a"), lab.Host("b")
	lab.Link(a, b, netlab.IfAddrs{A: near4, B: far4})
	src, dst := near4.Addr(), far4.Addr()
	answer := ip(dst, src, protoICMP, 60, 1, icmpError(11, udpProbe(src, dst, 1, 61440, 32)))
	inject := b.Wire(a)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	flood.Go(func() {
		for inject(answer) == nil {
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	defer flood.Wait()
	defer close(stop)
	for range 5 {
		p := open(t, a)
		in := make([]probe.Incoming, 64)
		for range 3 {
			n, err := p.Receive(in)
			require.NoError(t, err)
			for _, d := range in[:n] {
				require.Equal(t, probe.KernelStamp, d.Stamp)
			}
		}
		// Nobody asks for stamps any more, so the kernel makes none.
		require.NoError(t, p.Close())
	}
}

// Without loopback nobody can see that the kernel stamps, and yet it does.
func TestOpenWithoutLoopback(t *testing.T) {
	lab := netlab.New(t)
	a, b := lab.Host("a"), lab.Host("b")
	lab.Link(a, b, netlab.IfAddrs{A: near4, B: far4})
	a.Down("lo")
	d := send(t, open(t, a), udpProbe(near4.Addr(), far4.Addr(), 64, 61440, 4))[0]
	require.NoError(t, d.Err)
	require.Equal(t, probe.KernelStamp, d.Stamp)
}

func linkReply(index uint32, attributes ...byte) []byte {
	b := make([]byte, 32)
	binary.NativeEndian.PutUint16(b[4:], 16) // RTM_NEWLINK
	binary.NativeEndian.PutUint32(b[20:], index)
	return append(b, attributes...)
}

func FuzzLinkKind(f *testing.F) {
	f.Add([]byte(nil), int32(0))
	f.Add(linkReply(7, 16, 0, 18, 0, 9, 0, 1, 0, 'v', 'e', 't', 'h', 0), int32(7))
	f.Add(linkReply(7, 8, 0, 18, 0, 200, 0, 1, 0), int32(7))
	f.Add(linkReply(7, 3, 0, 18, 0), int32(7))
	f.Add(linkReply(7, 5, 0, 3, 0, 0), int32(7))
	f.Fuzz(func(t *testing.T, reply []byte, index int32) {
		kind, err := rawsock.LinkKind(reply, index)
		if err == nil && kind != "" {
			require.Contains(t, string(reply), kind)
		}
	})
}
