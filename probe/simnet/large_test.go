package simnet_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// A network of 1,000 routers, 100 sites and 100,000 targets takes less than a
// GiB, with probes to all targets.
func TestLarge(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("takes some seconds, and far more with the race detector")
	}
	const targets = 100_000
	s, err := simnet.Generate(simnet.Size{Sites: 100, Routers: 1000, Targets: targets})
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		n := start(t, s)
		answers, receivers := make(chan int), 0
		for _, site := range n.Sites() {
			p, err := n.Port(site)
			require.NoError(t, err)
			go func() {
				got, in := 0, make([]probe.Incoming, 256)
				for {
					k, err := p.Receive(in)
					if err != nil {
						answers <- got
						return
					}
					got += k
				}
			}()
		}
		for i := range s.Hosts { // half of them over IPv6
			d := []datagram{udp4, udp6}[i%2].to(s.Hosts[i].Addresses[i%2])
			require.NoError(t, n.Inject("site1", d.bytes()))
			if i%1000 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		stats := n.Stats()
		require.NoError(t, n.Close())
		total := 0
		for range s.Sites {
			got := <-answers
			total += got
			if got > 0 {
				receivers++
			}
		}
		require.Equal(t, targets, total)
		require.Greater(t, receivers, 50, "answers land at the nearest site")
		require.EqualValues(t, 2*targets, stats.Delivered)
		requireSettled(t, stats)
	})
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d MiB", m.Sys>>20)
	require.Less(t, m.Sys, uint64(1<<30))
	runtime.KeepAlive(s)
}
