package simnet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// TestClock sends from a site whose clock is wrong to one whose clock is right.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := twoSites()
		s.Sites[0].Clock = simnet.Clock{
			Ahead: -3 * time.Second, Skew: 50,
			Steps: []simnet.ClockStep{{At: time.Hour, By: time.Minute}},
		}
		n, err := s.Start()
		require.NoError(t, err)
		defer n.Close()
		began := time.Now().Round(0)
		a, err := n.Port("a")
		require.NoError(t, err)
		b, err := n.Port("b")
		require.NoError(t, err)
		for _, at := range []struct{ elapsed, ahead time.Duration }{
			{1000 * time.Second, -3*time.Second + 50*time.Millisecond},
			{2 * time.Hour, 57*time.Second + 360*time.Millisecond},
		} {
			elapsed, ahead := at.elapsed, at.ahead
			time.Sleep(time.Until(began.Add(elapsed))) // virtual
			require.Equal(t, began.Add(elapsed+ahead), a.(probe.Clock).Now())
			require.Equal(t, began.Add(elapsed), b.(probe.Clock).Now())
			d, err := udp.Prober{}.Build(nil, &probe.Probe{ID: 1, Src: addrs("192.0.2.1")[0], Dst: addrs("203.0.113.10")[0], DstPort: 33434, TTL: 4})
			require.NoError(t, err)
			out := []probe.Outgoing{{Data: d}}
			require.NoError(t, a.Send(out))
			require.Equal(t, began.Add(elapsed+ahead), out[0].Time)
			in := make([]probe.Incoming, 1)
			_, err = b.Receive(in)
			require.NoError(t, err)
			require.Equal(t, began.Add(elapsed+15*time.Millisecond), in[0].Time)
		}
	})
}
