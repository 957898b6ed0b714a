package volta_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/tun"
)

// TestRoundTripsOverTUN measures known delays through a TUN device. The error
// has two parts. Ours, against a capture on the device, is held to the same as
// on other networks; the simulator's, of the capture against the scenario, is
// its lateness in taking and giving packets, which is stated, and cannot be
// negative.
func TestRoundTripsOverTUN(t *testing.T) {
	s := &simnet.Scenario{
		Sites: []simnet.Site{{Host: simnet.Host{Name: "a", Addresses: []netip.Addr{anycast4, anycast6}}}},
		Hosts: []simnet.Host{{Name: "target", Addresses: []netip.Addr{target4, target6}}},
		Links: []simnet.Link{{Draw: "a --5ms-- r1 --20ms-- r2 --80ms-- target"}},
	}
	known := []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 210 * time.Millisecond}
	lab := netlab.New(t)
	n := startNetwork(t, s)
	h := lab.Host("a")
	require.NoError(t, h.Do(func() error {
		d, err := tun.Open(n, tun.Config{Site: "a"})
		if err == nil {
			t.Cleanup(func() { require.NoError(t, d.Close()) })
		}
		return err
	}))
	f := newFleet(t, false, nil)
	f.join(t, volta.AgentConfig{ID: "a", Port: openPort(t, h, anycast4, anycast6)})
	for _, line := range []string{"203.0.113.10 -N 1", "203.0.113.10", "203.0.113.10 -I", "203.0.113.10 -T -p 81", "2001:db8:fe::10", "2001:db8:fe::10 -I", "2001:db8:fe::10 -T -p 81"} {
		t.Run(line, func(t *testing.T) {
			c := h.Capture()
			trace := f.measure(t, "volta a -q 10 -w 30,0,0 "+line)
			w := readWires(trace, map[string][]netlab.Packet{"a": c.Stop()})
			var ours, simulators []time.Duration
			require.Len(t, trace.Hops, len(known), trace.Text())
			for i, h := range trace.Hops {
				for _, p := range h.Probes {
					require.True(t, p.OneClock)
					came, ok := w.received[passage{p.Receiver, p.ID}]
					require.True(t, ok)
					wire := came.Sub(w.sent[p.ID])
					ours = append(ours, (*p.RTT - wire).Abs())
					simulators = append(simulators, wire-known[i])
				}
			}
			t.Logf("ours: %v", quantiles(ours))
			t.Logf("the simulator's: %v", quantiles(simulators))
			require.LessOrEqual(t, quantile(ours, 0.5), medianError)
			require.LessOrEqual(t, quantile(ours, 0.99), p99Error)
			require.Positive(t, quantile(simulators, 0), "the simulator was early")
		})
	}
}
