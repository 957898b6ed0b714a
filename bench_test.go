package volta_test

import (
	"context"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// BenchmarkTraceroute is one whole traceroute of five hops and fifteen probes
// after another, over two sites and real kernels.
func BenchmarkTraceroute(b *testing.B) {
	for _, tt := range []struct {
		name     string
		overGRPC bool
	}{{"inproc", false}, {"grpc", true}} {
		b.Run(tt.name, func(b *testing.B) {
			lab, f := twoSites(b, tt.overGRPC)
			m := volta.Measurement{Source: "a", Target: lab.Target4.String(), Numeric: true}
			b.ReportAllocs()
			for b.Loop() {
				trace, err := f.Measure(f.ctx, m)
				require.NoError(b, err)
				require.True(b, trace.Reached)
			}
		})
		b.Run(tt.name+"/parallel", func(b *testing.B) {
			lab, f := twoSites(b, tt.overGRPC)
			m := volta.Measurement{Source: "a", Target: lab.Target4.String(), Numeric: true}
			var failed atomic.Int64
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if trace, err := f.Measure(f.ctx, m); err != nil || !trace.Reached {
						failed.Add(1)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "traces/s")
			b.ReportMetric(float64(failed.Load()), "failed")
		})
	}
}

// BenchmarkAgainstTraceroute runs traceroute(8) and ours in turn over the same
// path and reports how many times longer the other one takes. That one's figure
// is of a whole process, ours is of a measurement in a controller that runs.
func BenchmarkAgainstTraceroute(b *testing.B) {
	peer, err := exec.LookPath("traceroute")
	if err != nil {
		b.Skip("traceroute(8) is not installed")
	}
	lab, f := twoSites(b, false)
	m := volta.Measurement{Source: "a", Target: lab.Target4.String(), Numeric: true}
	var ours, theirs time.Duration
	for b.Loop() {
		began := time.Now()
		_, err := f.Measure(f.ctx, m)
		require.NoError(b, err)
		ours += time.Since(began)
		began = time.Now()
		require.NoError(b, lab.A.Do(func() error {
			// From its own address: its answers must come back to it.
			return exec.CommandContext(context.Background(), peer, "-n", "-s", lab.UnicastA4.String(), lab.Target4.String()).Run()
		}))
		theirs += time.Since(began)
	}
	b.ReportMetric(float64(theirs)/float64(ours), "traceroute/ours")
	b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "ours-us")
	b.ReportMetric(float64(theirs.Microseconds())/float64(b.N), "traceroute-us")
}

// BenchmarkBound reports by how much the times between two clocks can be wrong
// as results say, with exchanges of time over UDP and without.
func BenchmarkBound(b *testing.B) {
	for name, none := range map[string]bool{"UDP": false, "stream": true} {
		b.Run(name, func(b *testing.B) {
			lab := netlab.NewTwoSites(b)
			f := newRemoteFleet(b, nil, grpctransport.ServerConfig{Addr: "localhost:0", NoTiming: none})
			for id, h := range map[string]*netlab.Host{"a": lab.A, "b": lab.B} {
				f.join(b, volta.AgentConfig{ID: id, Port: openPort(b, h, lab.Anycast4), Clock: "clock of " + id})
			}
			m := volta.Measurement{Source: "a", Target: lab.Target4.String(), Numeric: true}
			var sum time.Duration
			for b.Loop() {
				trace, err := f.Measure(f.ctx, m)
				require.NoError(b, err)
				sum += *trace.Hops[4].Probes[2].Bound
			}
			b.ReportMetric(float64(sum.Nanoseconds())/float64(b.N), "bound-ns")
		})
	}
}
