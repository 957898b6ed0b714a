package simnet_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

const us = time.Microsecond

// oneWay sends n numbered packets from a to b, one every gap, and returns when
// each copy of each arrived after it was sent.
func oneWay(t *testing.T, seed uint64, n int, gap time.Duration, p simnet.Properties) (took map[uint16][]time.Duration, order []uint16) {
	t.Helper()
	s := path("a -- r -- h")
	s.Seed = seed
	s.Sites = append(s.Sites, simnet.Site{Host: simnet.Host{Name: "b", Addresses: addrs("192.0.2.2", "2001:db8:ff::2")}})
	s.Links = append(s.Links, simnet.Link{Draw: "r -- b", Properties: p})
	took = map[uint16][]time.Duration{}
	simulate(t, s, func(l *lab) {
		began := map[uint16]time.Duration{}
		for i := range n {
			d := udp4.to(addr("192.0.2.2"))
			d.id = uint16(i + 1)
			began[d.id] = time.Since(l.began)
			l.send(d)
			time.Sleep(gap)
		}
		for _, g := range l.sites["b"].pass(2 * time.Hour) {
			took[g.id] = append(took[g.id], g.at-began[g.id])
			order = append(order, g.id)
		}
	})
	return took, order
}

// Two links of a nanosecond: a -- r, and the least of the other one.
const least = time.Nanosecond

func TestDelay(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 10 * us, 17 * time.Millisecond, time.Hour} {
		took, _ := oneWay(t, 1, 3, 0, simnet.Properties{Delay: d})
		for id := range uint16(3) {
			require.Equal(t, []time.Duration{least + max(d, least)}, took[id+1])
		}
	}
}

// Delays of the two directions are their own.
func TestBack(t *testing.T) {
	s := path("a --1ms-- r --10ms-- h")
	s.Links[0].Back = &simnet.Properties{Delay: 3 * time.Millisecond}
	simulate(t, s, func(l *lab) {
		require.Equal(t, 17*time.Millisecond, l.ask(udp4).at)
	})
}

func TestJitter(t *testing.T) {
	const base, jitter, n = 10 * time.Millisecond, 4 * time.Millisecond, 2000
	took, order := oneWay(t, 1, n, us, simnet.Properties{Delay: base, Jitter: jitter})
	require.Len(t, took, n)
	require.True(t, slices.IsSorted(order), "jitter must keep the order")
	var all []time.Duration
	for _, d := range took {
		require.GreaterOrEqual(t, d[0], base+least)
		require.Less(t, d[0], base+jitter+least)
		all = append(all, d[0])
	}

	// Far apart, packets do not hold each other up, and all of the range occurs.
	took, _ = oneWay(t, 1, n, time.Second, simnet.Properties{Delay: base, Jitter: jitter})
	all = all[:0]
	var sum time.Duration
	for _, d := range took {
		all = append(all, d[0]-base-least)
		sum += d[0] - base - least
	}
	require.Less(t, slices.Min(all), jitter/100)
	require.Greater(t, slices.Max(all), jitter*99/100)
	require.InDelta(t, float64(jitter)/2, float64(sum)/n, 5*float64(jitter)/math.Sqrt(12*n))
}

// within requires a count of n draws to be within 5 standard deviations.
func within(t *testing.T, n int, p float64, got int) {
	t.Helper()
	require.InDelta(t, float64(n)*p, got, 5*math.Sqrt(float64(n)*p*(1-p))+1e-9)
}

func TestLoss(t *testing.T) {
	const n = 2000
	for _, p := range []float64{0, 0.05, 0.3, 1} {
		took, _ := oneWay(t, 1, n, us, simnet.Properties{Loss: p})
		within(t, n, p, n-len(took))
		again, _ := oneWay(t, 1, n, us, simnet.Properties{Loss: p})
		require.Equal(t, took, again, "the same seed loses the same packets")
		if p > 0 && p < 1 {
			other, _ := oneWay(t, 2, n, us, simnet.Properties{Loss: p})
			require.NotEqual(t, took, other)
		}
	}
}

func TestDuplicate(t *testing.T) {
	const n = 2000
	for _, p := range []float64{0, 0.2, 1} {
		took, order := oneWay(t, 1, n, us, simnet.Properties{Duplicate: p, Delay: time.Millisecond})
		require.Len(t, took, n)
		within(t, n, p, len(order)-n)
		for _, d := range took {
			require.LessOrEqual(t, len(d), 2)
			require.Equal(t, d[0], d[len(d)-1])
		}
	}
}

func TestReorder(t *testing.T) {
	const n, delay = 2000, time.Millisecond
	for _, by := range []time.Duration{0, 50 * us} {
		took, order := oneWay(t, 1, n, 10*us, simnet.Properties{Delay: delay, Reorder: 0.1, ReorderBy: by})
		held := 0
		for _, d := range took {
			if d[0] == delay+least {
				continue
			}
			held++
			if by == 0 {
				by = delay
			}
			require.Equal(t, delay+by+least, d[0])
		}
		within(t, n, 0.1, held)
		overtaken := 0
		for i := range order[1:] {
			if order[i+1] < order[i] {
				overtaken++
			}
		}
		require.Greater(t, overtaken, held/2)
	}
}

// Chances on one link, and those of one packet on several, are independent.
func TestChanceIsIndependent(t *testing.T) {
	const n = 5000
	took, order := oneWay(t, 1, n, us, simnet.Properties{Loss: 0.5, Duplicate: 0.5})
	within(t, n, 0.5, len(took))
	within(t, len(took), 0.5, len(order)-len(took))

	// Two copies of one packet on the next link.
	s := path("r -- h")
	s.Links = append(s.Links, simnet.Link{Draw: "a -- r", Properties: simnet.Properties{Duplicate: 1}})
	s.Links[0].Loss, s.Hosts[0].Silent = 0.5, true
	copies := map[string]int{}
	simulateWatched(t, s, func(s simnet.Sighting) {
		if s.Node == "h" {
			copies[string(s.Datagram[4:6])]++
		}
	}, func(l *lab) {
		for i := range n {
			d := udp4
			d.id = uint16(i)
			l.send(d)
		}
		time.Sleep(time.Second)
	})
	within(t, n, 0.75, len(copies)) // of whom some copy arrived
	both := 0
	for _, c := range copies {
		both += c - 1
	}
	within(t, n, 0.25, both)

	s = path("a -- r1 -- r2 -- h")
	s.Links[0].Loss = 0.5
	s.Hosts[0].UDP.Open = []simnet.PortRange{{}}
	simulate(t, s, func(l *lab) {
		for range n {
			l.send(udp4)
			time.Sleep(us)
		}
		time.Sleep(time.Second)
		within(t, n, 1.0/8, int(l.Stats().Delivered))
	})
}

// A packet in a loop takes its chance at each turn.
func TestChanceInLoop(t *testing.T) {
	s := path("a -- r1 -- r2 -- h")
	s.Routes = []simnet.Route{{At: "r2", To: prefixes("203.0.113.0/24")[0], Via: []string{"r1"}}}
	s.Links[0].Loss = 0.1
	simulate(t, s, func(l *lab) {
		for range 1000 {
			l.send(udp4.hops(101))
			time.Sleep(us)
		}
		time.Sleep(time.Second)
		// Of a thousand, 0.9^101 survive: none.
		require.Less(t, l.Stats().Dropped[simnet.DropTTL], uint64(5))
	})
}

// Jitter does not let packets of several senders pass each other on a link.
func TestOrderOfSeveral(t *testing.T) {
	s := path("a -- r")
	s.Sites = append(s.Sites, simnet.Site{Host: simnet.Host{Name: "b", Addresses: addrs("192.0.2.2")}})
	s.Hosts[0].Silent = true
	s.Links = append(s.Links, simnet.Link{Draw: "b -- r"}, simnet.Link{Draw: "r -- h", Properties: simnet.Properties{Jitter: time.Millisecond}})
	var came, went []string
	simulateWatched(t, s, func(s simnet.Sighting) {
		what := s.From + fmt.Sprintf("%x", s.Datagram[4:6])
		switch s.Node {
		case "r":
			came = append(came, what)
		case "h":
			went = append(went, string(s.Datagram[15]-1+'a')+what[1:])
		}
	}, func(l *lab) {
		for i := range 500 {
			d := udp4
			d.id = uint16(i)
			l.sites["b"].send(d.from(addr("192.0.2.2")))
			time.Sleep(us)
			l.send(d)
			time.Sleep(us)
		}
		time.Sleep(time.Second)
	})
	require.Len(t, came, 1000)
	require.Equal(t, came, went)
}

// Packets that were sent at one moment arrive in their order, with and without
// jitter, from the port and on the way.
func TestOrderKept(t *testing.T) {
	for _, jitter := range []time.Duration{0, time.Millisecond} {
		s := path("a --1ms-- r1 --1ms-- r2 --1ms-- h")
		s.Links[0].Jitter = jitter
		simulate(t, s, func(l *lab) {
			var ds []datagram
			for i := range 300 {
				d := udp4.echo()
				d.dport = uint16(i)
				ds = append(ds, d)
			}
			l.send(ds[:100]...)
			l.send(ds[100:]...)
			got := l.pass(time.Second)
			require.Len(t, got, len(ds))
			for i, g := range got {
				require.Equal(t, uint16(i), g.dport)
			}
		})
	}
}
