package volta_test

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// requireTwoSites checks a complete trace from site a.
func requireTwoSites(t testing.TB, trace *result.Trace, hops [5]netip.Addr) {
	t.Helper()
	require.True(t, trace.Reached, trace.Text())
	require.Len(t, trace.Hops, 5, trace.Text())
	for i, h := range trace.Hops {
		receiver := "a"
		if i >= 2 {
			receiver = "b"
		}
		require.Len(t, h.Probes, trace.Queries)
		for _, p := range h.Probes {
			require.Equal(t, result.Matched, p.Verdict, trace.Text())
			require.Equal(t, receiver, p.Receiver, trace.Text())
			require.Equal(t, hops[i], p.Addr, trace.Text())
			require.Equal(t, "kernel", p.SentStamp)
			require.Equal(t, "kernel", p.RecvStamp)
			require.NotNil(t, p.RTT)
			require.Positive(t, *p.RTT)
			require.True(t, p.OneClock, "both agents are in this process")
		}
	}
}

func TestTwoSites(t *testing.T) {
	for _, overGRPC := range []bool{false, true} {
		t.Run(map[bool]string{false: "inproc", true: "grpc"}[overGRPC], func(t *testing.T) {
			lab, f := twoSites(t, overGRPC)
			lab.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
			for _, options := range []string{
				"", "-I", "-T -p 80", "-T -p 81", "-U", "--flows 3", "--flows 3 -I", "--flows 3 -T -p 81", "--classic", "-q 10 -N 32 -T", "-N 1", "-z 0.005",
			} {
				for target, hops := range map[netip.Addr][5]netip.Addr{lab.Target4: lab.Hops4, lab.Target6: lab.Hops6} {
					t.Run(fmt.Sprintf("%s %v", options, target), func(t *testing.T) {
						trace := f.measure(t, fmt.Sprintf("volta a %s %s", target, options))
						requireTwoSites(t, trace, hops)
						require.Zero(t, trace.Counts.Unverified+trace.Counts.Foreign)
					})
				}
			}
		})
	}
}

// TestManyAtOnce runs 200 measurements over the same two agents.
func TestManyAtOnce(t *testing.T) {
	lab, f := twoSites(t, true)
	lab.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	options := []string{"", "-I", "-T -p 81", "--flows 3"}
	traces := make([]*result.Trace, 200)
	errs := make([]error, len(traces))
	hops := make([][5]netip.Addr, len(traces))
	var wg sync.WaitGroup
	for i := range traces {
		target := lab.Target4
		hops[i] = lab.Hops4
		if i%2 == 1 {
			target, hops[i] = lab.Target6, lab.Hops6
		}
		m, err := volta.ParseCommand(fmt.Sprintf("volta a %s -n -m 8 -w 10,0,0 %s", target, options[i/2%len(options)]))
		require.NoError(t, err)
		wg.Go(func() { traces[i], errs[i] = f.Measure(f.ctx, m) })
	}
	wg.Wait()
	for i, trace := range traces {
		require.NoError(t, errs[i])
		requireTwoSites(t, trace, hops[i])
	}
}

// TestOnTheWire looks at every probe of a trace as it leaves a real kernel.
func TestOnTheWire(t *testing.T) {
	lab, f := twoSites(t, false)
	for _, tt := range wireTests {
		for _, target := range []netip.Addr{lab.Target4, lab.Target6} {
			t.Run(fmt.Sprintf("%s %v", tt.options, target), func(t *testing.T) {
				c := lab.A.Capture()
				f.measure(t, fmt.Sprintf("volta a %s %s", target, tt.options))
				var datagrams [][]byte
				for _, p := range c.Stop() {
					if p.Outgoing {
						datagrams = append(datagrams, p.Data)
					}
				}
				requireWire(t, tt, target, datagrams)
			})
		}
	}
}

func TestSilence(t *testing.T) {
	lab, f := twoSites(t, false)
	t.Run("one hop", func(t *testing.T) {
		restore := lab.R2.Silence()
		defer restore()
		began := time.Now()
		trace := f.measure(t, "volta a "+lab.Target4.String())
		require.Less(t, time.Since(began), 2*time.Second, "the adaptive wait, not the whole one")
		require.Len(t, trace.Hops, 5)
		for i, h := range trace.Hops {
			for _, p := range h.Probes {
				require.Equal(t, i != 1, p.Answered(), trace.Text())
			}
		}
	})
	t.Run("the target", func(t *testing.T) {
		restore := lab.Target.Silence()
		defer restore()
		began := time.Now()
		trace := f.measure(t, "volta a "+lab.Target4.String()+" -m 7 -w 0.5")
		require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond)
		require.Less(t, time.Since(began), 5*time.Second)
		require.Len(t, trace.Hops, 7)
		require.False(t, trace.Reached)
		require.False(t, trace.Hops[6].Probes[2].Answered())
	})
}

// TestUnreachable has R4 refuse what goes to the target.
func TestUnreachable(t *testing.T) {
	lab, f := twoSites(t, false)
	for target, hops := range map[netip.Addr][5]netip.Addr{lab.Target4: lab.Hops4, lab.Target6: lab.Hops6} {
		lab.R4.Unreachable(netip.PrefixFrom(target, target.BitLen()))
		trace := f.measure(t, "volta a "+target.String())
		require.False(t, trace.Reached, trace.Text())
		require.Len(t, trace.Hops, 4, trace.Text())
		for _, p := range trace.Hops[3].Probes {
			require.Equal(t, hops[3], p.Addr)
			require.Equal(t, "unreachable", p.Kind)
		}
		// Linux says "host unreachable" in IPv4 and "no route" in IPv6.
		require.Contains(t, trace.Text(), map[bool]string{true: " !H", false: " !N"}[target.Is4()])
	}
}

// TestNoise floods both sites with what is not for them.
func TestNoise(t *testing.T) {
	lab, f := twoSites(t, true)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var injected atomic.Int64
	for _, h := range []*netlab.Host{lab.R1, lab.R3} {
		site := map[*netlab.Host]*netlab.Host{lab.R1: lab.A, lab.R3: lab.B}[h]
		wg.Go(func() {
			// 16,000 a second: a kernel whose queues overflow would lose
			// answers before any agent could see them.
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for seed := uint64(1); ; seed++ {
				select {
				case <-stop:
					return
				case <-tick.C:
					if packets := noise(lab, seed); h.InjectTo(site, packets...) == nil {
						injected.Add(int64(len(packets)))
					}
				}
			}
		})
	}
	for injected.Load() < 5000 {
		for _, options := range []string{"", "-I", "-T -p 81"} {
			requireTwoSites(t, f.measure(t, "volta a "+lab.Target4.String()+" -w 5,0,0 "+options), lab.Hops4)
			requireTwoSites(t, f.measure(t, "volta a "+lab.Target6.String()+" -w 5,0,0 "+options), lab.Hops6)
		}
	}
	close(stop)
	wg.Wait()
	require.Equal(t, []string{"a", "b"}, f.Agents())
}
