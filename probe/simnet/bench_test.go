package simnet_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// BenchmarkHops sends packets over nine routers and receives the answers, in
// real time, as fast as they come: echo replies from the far end, and errors
// from all routers on the way.
func BenchmarkHops(b *testing.B) {
	for _, c := range []struct {
		name string
		d    datagram
		ttl  int // of the i-th packet, 1 + i%ttl
	}{
		{"echo4", udp4.echo(), 0}, {"echo6", udp6.echo(), 0}, {"errors4", udp4, 9}, {"errors6", udp6, 9},
	} {
		b.Run(c.name, func(b *testing.B) {
			const window = 256
			out := make([]probe.Outgoing, window)
			for i := range out {
				c.d.sport = uint16(i)
				if c.ttl > 0 {
					c.d.ttl = uint8(1 + i%c.ttl)
				}
				out[i].Data = c.d.bytes()
			}
			n, exchange := exchanger(b, out)
			b.ReportAllocs()
			for sent := 0; b.Loop(); sent++ {
				if sent%window == 0 {
					exchange()
				}
			}
			b.ReportMetric(float64(n.Stats().Hops)/b.Elapsed().Seconds(), "hops/s")
		})
	}
}

// TestHopsDoNotAllocate is for what is true of the benchmark once it is warm.
func TestHopsDoNotAllocate(t *testing.T) {
	for _, d := range []datagram{udp4.echo(), udp6.echo(), udp4, udp6} {
		out := make([]probe.Outgoing, 256)
		for i := range out {
			d.sport = uint16(i)
			out[i].Data = d.bytes()
		}
		_, exchange := exchanger(t, out)
		for range 10 {
			exchange()
		}
		// An exchange is 5,120 hops and 256 answers. What others in the
		// process allocate meanwhile is counted too.
		require.Less(t, testing.AllocsPerRun(20, exchange), 64.0)
	}
}

// exchanger starts a network of nine routers that spread flows. The function
// that it returns sends datagrams and waits for as many answers.
func exchanger(t testing.TB, out []probe.Outgoing) (n *simnet.Network, exchange func()) {
	s := path("a -- r1 -- r2 -- r3 -- r4 -- r5 -- r6 -- r7 -- r8 -- r9 -- h")
	for _, name := range []string{"r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"} {
		router(s, simnet.Router{Name: name, ECMP: simnet.ECMP{Hash: simnet.FlowFields()}})
	}
	n, err := s.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	p, err := n.Port("a")
	require.NoError(t, err)
	in := make([]probe.Incoming, len(out))
	return n, func() {
		require.NoError(t, p.Send(out))
		for got := 0; got < len(out); {
			k, err := p.Receive(in)
			require.NoError(t, err)
			got += k
		}
	}
}
