package simnet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// start starts a scenario within a bubble, without ports.
func start(t *testing.T, s *simnet.Scenario) *simnet.Network {
	t.Helper()
	n, err := s.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func TestPortSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := twoSites()
		s.Sites[1].Addresses = addrs("192.0.2.1")
		s.Links = s.Links[:1]
		s.Links = append(s.Links, simnet.Link{Draw: "r3 -- b", Prefixes: prefixes("198.51.100.0/30")})
		n := start(t, s)
		a, err := n.Port("a")
		require.NoError(t, err)
		b, err := n.Port("b")
		require.NoError(t, err)
		for dst, want := range map[string]netip.Addr{
			"203.0.113.10": a4, "0.0.0.0": a4, "2001:db8::1": a6, "::": a6, "::ffff:203.0.113.10": a4,
		} {
			got, err := a.Source(addr(dst))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		_, err = b.Source(addr("2001:db8::1"))
		require.ErrorIs(t, err, probe.ErrNoSource)
		require.ErrorContains(t, err, "2001:db8::1")
		_, err = a.Source(netip.Addr{})
		require.ErrorIs(t, err, probe.ErrNoSource)
	})
}

// The port, or the whole network, is closed while calls are pending.
func TestPortClose(t *testing.T) {
	for _, what := range []string{"port", "network"} {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, twoSites())
			p, err := n.Port("a")
			require.NoError(t, err)
			ended := make(chan error)
			go func() {
				_, err := p.Receive(make([]probe.Incoming, 1))
				ended <- err
			}()
			synctest.Wait()
			for range 2 {
				if what == "port" {
					require.NoError(t, p.Close())
				} else {
					require.NoError(t, n.Close())
				}
			}
			require.ErrorIs(t, <-ended, net.ErrClosed)
			_, err = p.Receive(make([]probe.Incoming, 1))
			require.ErrorIs(t, err, net.ErrClosed)
			out := []probe.Outgoing{{Data: udp4.bytes()}}
			require.ErrorIs(t, p.Send(out), net.ErrClosed)
			require.Zero(t, out[0].Time)
			_, err = p.Source(h4)
			require.ErrorIs(t, err, net.ErrClosed)
			require.NoError(t, p.Close())

			again, err := n.Port("a")
			if what == "network" {
				require.ErrorIs(t, err, net.ErrClosed)
				_, err = n.Attach("a", nil)
				require.ErrorIs(t, err, net.ErrClosed)
				require.ErrorIs(t, n.Inject("a", udp4.bytes()), net.ErrClosed)
				return
			}
			require.NoError(t, err, "the site is free again")
			require.NoError(t, p.Close(), "of what is closed already")
			require.NoError(t, again.Send([]probe.Outgoing{{Data: udp4.bytes()}}))
			require.ErrorIs(t, p.Send(out), net.ErrClosed)
		})
	}
}

func TestPortErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, twoSites())
		for _, name := range []string{"", "c", "target", "r1"} {
			_, err := n.Port(name)
			require.ErrorIs(t, err, simnet.ErrUnknown)
			require.ErrorContains(t, err, "a, b")
			_, err = n.Attach(name, nil)
			require.ErrorIs(t, err, simnet.ErrUnknown)
		}
		_, err := n.Port("a")
		require.NoError(t, err)
		_, err = n.Port("a")
		require.ErrorIs(t, err, simnet.ErrTaken)
		_, err = n.Attach("a", nil)
		require.ErrorIs(t, err, simnet.ErrTaken)
		att, err := n.Attach("b", func([]byte, time.Time) {})
		require.NoError(t, err)
		_, err = n.Port("b")
		require.ErrorIs(t, err, simnet.ErrTaken)
		require.NoError(t, att.Close())
		require.NoError(t, att.Close())
		require.ErrorIs(t, att.Send(udp4.bytes(), time.Now()), net.ErrClosed)
		_, err = n.Port("b")
		require.NoError(t, err)
		require.NoError(t, att.Close(), "of another door's predecessor")
		_, err = n.Port("b")
		require.ErrorIs(t, err, simnet.ErrTaken)
	})
}

// A refused datagram has an error of its own, and the others go.
func TestPortRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := path("a -- r -- h")
		s.Changes = []simnet.Change{{At: time.Minute, Down: "a -- r"}}
		n := start(t, s)
		p, err := n.Port("a")
		require.NoError(t, err)
		good, good6 := udp4.bytes(), udp6.bytes()
		bad := map[string][]byte{
			"nothing":            {},
			"one byte":           {0x45},
			"version 5":          append([]byte{0x55}, good[1:]...),
			"short IPv4 header":  good[:19],
			"short IPv6 header":  good6[:39],
			"header length 4":    append([]byte{0x44}, good[1:]...),
			"truncated":          good[:len(good)-1],
			"truncated IPv6":     good6[:len(good6)-1],
			"wrong checksum":     append(slices.Clone(good[:10]), append([]byte{1, 2}, good[12:]...)...),
			"length 0":           append(slices.Clone(good[:2]), append([]byte{0, 0}, good[4:]...)...),
			"cut extension":      append(slices.Clone(good6[:6]), append([]byte{0}, append(good6[7:40], make([]byte, 5)...)...)...),
			"too long":           udp4.size(1501).bytes(),
			"too long over IPv6": udp6.size(1501).bytes(),
		}
		for name, b := range bad {
			t.Log(name)
			out := []probe.Outgoing{{Data: good}, {Data: b}, {Data: good6}}
			require.NoError(t, p.Send(out))
			require.NoError(t, out[0].Err)
			require.NoError(t, out[2].Err)
			require.Error(t, out[1].Err)
			for _, o := range out {
				require.Equal(t, time.Now().Round(0), o.Time)
				require.Equal(t, probe.KernelStamp, o.Stamp)
			}
			if len(b) > 1500 {
				require.ErrorContains(t, out[1].Err, "1501 bytes over a link with an MTU of 1500")
			} else {
				require.Error(t, n.Inject("h", b))
			}
		}
		require.Equal(t, uint64(2*len(bad)), n.Stats().Sent)

		// What follows the datagram is not of it.
		out := []probe.Outgoing{{Data: append(good, 1, 2, 3)}}
		require.NoError(t, p.Send(out))
		require.NoError(t, out[0].Err)

		time.Sleep(2 * time.Minute)
		require.NoError(t, p.Send(out))
		require.ErrorContains(t, out[0].Err, "down")
	})
}

// What Receive returned stays as it was until the next call, whatever else
// happens: more traffic, and the port being closed.
func TestPortDataValid(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, path("a -- r -- h"))
			p, err := n.Port("a")
			require.NoError(t, err)
			traffic := func() {
				d := udp4.echo()
				for i := range 100 {
					d.dport, d.body = uint16(i), make([]byte, 32)
					require.NoError(t, n.Inject("a", d.bytes()))
				}
				time.Sleep(time.Second)
			}
			traffic()
			in := make([]probe.Incoming, 7)
			k, err := p.Receive(in)
			require.NoError(t, err)
			require.Equal(t, 7, k)
			var want [][]byte
			for _, i := range in {
				want = append(want, slices.Clone(i.Data))
			}
			if closed {
				require.NoError(t, p.Close())
				p, err = n.Port("a")
				require.NoError(t, err)
			}
			traffic()
			traffic()
			for i := range in {
				require.Equal(t, want[i], in[i].Data)
			}
			if !closed {
				require.Equal(t, uint16(6), readDatagram(t, in[6].Data).dport)
				_, err = p.Receive(in)
				require.NoError(t, err)
				require.Equal(t, uint16(7), readDatagram(t, in[0].Data).dport, "the next in order")
			}
		})
	}
}

// A port holds what waits, and counts what it has no room for.
func TestPortDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, path("a -- r -- h"))
		p, err := n.Port("a")
		require.NoError(t, err)
		const room, more = 1 << 14, 100
		d := udp4.echo()
		for i := range room + more {
			d.dport = uint16(i)
			require.NoError(t, n.Inject("a", d.bytes()))
		}
		time.Sleep(time.Second)
		require.Equal(t, uint64(more), p.(probe.Dropper).Dropped())
		// Drained in pieces, while more comes, in order.
		in := make([]probe.Incoming, 1000)
		next := 0
		for next < room+1000 {
			k, err := p.Receive(in)
			require.NoError(t, err)
			for _, i := range in[:k] {
				if next == room {
					next += more // what was dropped
				}
				require.Equal(t, uint16(next), readDatagram(t, i.Data).dport)
				next++
			}
			if next == 5000 {
				for i := range 1000 {
					d.dport = uint16(room + more + i)
					require.NoError(t, n.Inject("a", d.bytes()))
				}
				time.Sleep(time.Second)
			}
		}
		require.Equal(t, uint64(more), p.(probe.Dropper).Dropped())
		requireSettled(t, n.Stats())
	})
}

// TestPortMark follows an answer from where it is captured to where its reader
// is done with it.
func TestPortMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, path("a -- r -- h"))
		p, err := n.Port("a")
		require.NoError(t, err)
		mark := p.(probe.Marker).Mark
		require.True(t, mark()())
		inject := func() {
			require.NoError(t, n.Inject("a", udp4.echo().bytes()))
			time.Sleep(time.Second) // virtual
		}
		inject()
		inject()
		two := mark()
		inject()
		in := make([]probe.Incoming, 1)
		for range 2 {
			require.False(t, two())
			_, err = p.Receive(in)
			require.NoError(t, err)
		}
		require.False(t, two(), "the second is being dealt with")
		_, err = p.Receive(in)
		require.NoError(t, err)
		require.True(t, two())
		last := mark()
		require.False(t, last())
		require.NoError(t, p.Close())
		require.True(t, last())
	})
}

// What is on its way is bounded, in bytes too; what there is no room for is
// refused where it is sent, and counted where it is made.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := path("a -- r")
		s.Links[0].MTU = 65535
		s.Links = append(s.Links, simnet.Link{Draw: "r --1h-- h", Properties: simnet.Properties{MTU: 65535, Duplicate: 1}})
		s.Hosts[0].Silent = true
		n := start(t, s)
		p, err := n.Port("a")
		require.NoError(t, err)
		d := udp4.size(65535).bytes()
		const room = 1 << 27 / 65536 // or a few more
		for i := range room/2 - 5 {
			require.NoError(t, n.Inject("a", d), i)
		}
		time.Sleep(time.Second)
		require.Zero(t, n.Stats().Dropped[simnet.DropOverflow])
		out := make([]probe.Outgoing, 100)
		for i := range out {
			out[i].Data = d
		}
		require.NoError(t, p.Send(out))
		refused := 0
		for _, o := range out {
			require.NotZero(t, o.Time)
			if o.Err != nil {
				refused++
			}
		}
		require.Equal(t, 90, refused)
		time.Sleep(time.Second)
		require.EqualValues(t, 10, n.Stats().Dropped[simnet.DropOverflow], "copies")
		time.Sleep(2 * time.Hour)
		requireSettled(t, n.Stats())
		require.NoError(t, n.Inject("a", d), "there is room again")
	})
}

func TestReceiveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, path("a -- r -- h"))
		p, err := n.Port("a")
		require.NoError(t, err)
		k, err := p.Receive(nil)
		require.NoError(t, err)
		require.Zero(t, k)
	})
}

// A port captures pieces as they come, like a packet socket, and all that is for
// the site, itself included.
func TestPortCaptures(t *testing.T) {
	simulate(t, path("a -- r -- h"), func(l *lab) {
		for _, p := range cut(udp4.echo().size(200).from(h4).to(a4), 80) {
			require.NoError(t, l.Inject("h", p.bytes()))
		}
		require.Len(t, l.pass(time.Second), 3)
		l.send(udp4.to(a4))
		got := l.pass(time.Second)
		require.Len(t, got, 2, "the probe, and the answer of the site's own stack")
		requireError(t, got[1], unreachable, 3)
		require.Equal(t, got[0].at, got[1].at)
	})
}

// Inject is as if the node had sent it: a router forwards, and nobody counts
// the TTL down before the first router that it comes to.
func TestInject(t *testing.T) {
	simulate(t, path("a -- r1 -- r2 -- h"), func(l *lab) {
		require.ErrorIs(t, l.Inject("x", udp4.bytes()), simnet.ErrUnknown)
		require.NoError(t, l.Inject("r1", udp4.hops(1).bytes()))
		require.Equal(t, "r2", owners(l)[l.pass(time.Second)[0].src])
		require.NoError(t, l.Inject("h", udp4.echo().from(h4).to(a4).bytes()))
		require.Len(t, l.pass(time.Second), 1)
		b := udp4.bytes()
		require.NoError(t, l.Inject("a", b))
		clear(b) // it was copied
		require.Len(t, l.pass(time.Second), 1)
	})
}

func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := router(twoSites(), simnet.Router{Name: "r1", DNS: "r1.example"})
		s.Sites[0].DNS, s.Sites[1].DNS, s.Hosts[0].DNS = "any.example", "any.example", "Target.example"
		s.Hosts[0].Prefixes = prefixes("198.51.100.0/24")
		n := start(t, s)
		ctx := context.Background()
		for _, c := range []struct {
			network, name string
			want          []netip.Addr
		}{
			{"ip", "target.EXAMPLE", []netip.Addr{h4, h6}},
			{"ip4", "target.example.", []netip.Addr{h4}},
			{"ip6", "target.example", []netip.Addr{h6}},
			{"ip", "any.example", []netip.Addr{a4, a6}},
			{"ip4", "r1.example", addrs("198.18.0.2")},
			{"ip", "target", nil}, {"ip", "", nil}, {"ip", ".", nil}, {"tcp", "target.example", nil},
		} {
			got, err := n.LookupNetIP(ctx, c.network, c.name)
			require.Equal(t, c.want, got, "%v", c)
			var dns *net.DNSError
			require.Equal(t, c.want == nil, errors.As(err, &dns) && dns.IsNotFound, "%v", c)
		}
		for ip, want := range map[string]string{
			"203.0.113.10": "Target.example.", "::ffff:203.0.113.10": "Target.example.", "2001:db8:fe::10": "Target.example.",
			"198.51.100.7": "Target.example.", "192.0.2.1": "any.example.", "198.18.1.1": "r1.example.",
			"198.18.1.2": "", "203.0.113.11": "", "not an address": "",
		} {
			got, err := n.LookupAddr(ctx, ip)
			if want != "" {
				require.NoError(t, err)
				require.Equal(t, []string{want}, got)
				continue
			}
			var dns *net.DNSError
			require.True(t, errors.As(err, &dns) && dns.IsNotFound)
		}
		require.Equal(t, []string{"a", "b"}, n.Sites())
		require.Same(t, s, n.Scenario())
	})
}

// A watcher sees each packet at each node in the order of time, and where it
// ends.
func TestWatch(t *testing.T) {
	var seen []string
	var last time.Time
	s := path("a --1ms-- r1 --1ms-- r2 --1ms-- h")
	s.Hosts[0].Silent = true
	simulateWatched(t, s, func(s simnet.Sighting) {
		require.False(t, s.Time.Before(last))
		last = s.Time
		what := fmt.Sprint(s.Time.UnixMilli()%1000, " ", s.From, ">", s.Node, " ", s.Datagram[8])
		if s.Dropped {
			what += " " + s.Reason.String()
		}
		seen = append(seen, what)
	}, func(l *lab) {
		l.send(udp4, udp4.hops(1), udp4.to(addr("203.0.113.11")))
		l.pass(time.Second)
		require.Equal(t, []string{
			"0 >a 64", "0 >a 1", "0 >a 64",
			"1 a>r1 64", "1 a>r1 1", "1 >r1 255", "1 a>r1 1 ttl", "1 a>r1 64", "1 >r1 255", "1 a>r1 64 no-route",
			"2 r1>r2 63", "2 r1>a 255", "2 r1>a 255",
			"3 r2>h 62",
		}, seen)
	})
}

func TestDropReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range simnet.DropReason(len(simnet.Stats{}.Dropped)) {
		require.NotEmpty(t, r.String())
		seen[r.String()] = true
	}
	require.Len(t, seen, len(simnet.Stats{}.Dropped))
	require.Empty(t, simnet.DropReason(200).String())
}

// Several goroutines use a network at once, in real time.
func TestConcurrentUse(t *testing.T) {
	n, err := twoSites().Start()
	require.NoError(t, err)
	var wg sync.WaitGroup
	half := make(chan struct{}, 2)
	for _, site := range n.Sites() {
		p, err := n.Port(site)
		require.NoError(t, err)
		wg.Go(func() {
			in := make([]probe.Incoming, 8)
			for {
				if _, err := p.Receive(in); err != nil {
					return
				}
				p.(probe.Dropper).Dropped()
			}
		})
		wg.Go(func() {
			out := []probe.Outgoing{{Data: udp4.bytes()}, {Data: udp6.echo().bytes()}}
			for i := range 200 {
				if i == 100 {
					half <- struct{}{}
				}
				if p.Send(out) != nil {
					return
				}
				n.Stats()
				_, _ = p.Source(h4)
				_ = n.Inject("target", udp4.bytes())
				_, _ = n.LookupAddr(context.Background(), "203.0.113.10")
			}
		})
	}
	<-half
	require.NoError(t, n.Close())
	wg.Wait()
}
