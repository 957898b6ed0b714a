package volta_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// How far a reported round trip may be from what captures on the interfaces
// show: half of them, and all but one in a hundred.
const (
	medianError = time.Microsecond
	p99Error    = 5 * time.Microsecond
)

// accuracy is a fleet over the two-site network, of which both sites can be
// captured.
type accuracy struct {
	*fleet
	batches *batches // the port of site a
	sites   map[string]*netlab.Host
	targets []netip.Addr
	hops    [][5]netip.Addr // of each target
}

// TestRoundTripsAreTheWires compares every round trip with captures at the
// sites, over real kernels, on an idle machine and on a busy one.
func TestRoundTripsAreTheWires(t *testing.T) {
	lab := netlab.NewTwoSites(t)
	lab.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	a := newAccuracy(t, map[string]*netlab.Host{"a": lab.A, "b": lab.B}, lab.Anycast4, lab.Anycast6)
	a.targets = []netip.Addr{lab.Target4, lab.Target6}
	a.hops = [][5]netip.Addr{lab.Hops4, lab.Hops6}
	asFromAfar(lab)
	all := []string{"", "-I", "-T -p 80", "-T -p 81", "-U", "--classic", "--flows 3"}
	t.Run("idle", func(t *testing.T) { a.require(t, 4, all, 1, 64) })
	t.Run("busy", func(t *testing.T) {
		keepBusy(t)
		a.require(t, 2, all, 1, 64)
	})
}

// asFromAfar makes SYN-ACKs of the target's kernel arrive as if it were not the
// sites' own. Such a packet keeps the time at which TCP wanted it to leave all
// along its way in one kernel. Where it arrives no stamp is taken then, but
// each capture reads the clock when its turn comes, some microseconds one after
// the other. At the end of a tunnel the packet loses that time, as it does on
// any wire.
func asFromAfar(lab *netlab.TwoSites) {
	outer := [2]netip.Addr{simAddr("198.18.4.1"), simAddr("198.18.4.2")} // of the last link
	lab.R4.VXLAN("tunnel", outer[0], outer[1])
	lab.Target.VXLAN("tunnel", outer[1], outer[0])
	for _, ends := range [][2]netip.Prefix{
		{netip.MustParsePrefix("198.18.9.1/24"), netip.MustParsePrefix("198.18.9.2/24")},
		{netip.MustParsePrefix("2001:db8:9::1/64"), netip.MustParsePrefix("2001:db8:9::2/64")},
	} {
		lab.R4.AddAddr("tunnel", ends[0])
		lab.Target.AddAddr("tunnel", ends[1])
	}
	lab.Target.Route(netip.PrefixFrom(lab.Anycast4, 32), simAddr("198.18.9.1"))
	lab.Target.Route(netip.PrefixFrom(lab.Anycast6, 128), simAddr("2001:db8:9::1"))
}

func newAccuracy(t testing.TB, sites map[string]*netlab.Host, anycast ...netip.Addr) *accuracy {
	a := &accuracy{fleet: newFleet(t, false, nil), sites: sites, batches: &batches{Port: openPort(t, sites["a"], anycast...)}}
	a.join(t, volta.AgentConfig{ID: "a", Port: a.batches})
	a.join(t, volta.AgentConfig{ID: "b", Port: openPort(t, sites["b"], anycast...)})
	return a
}

// require makes some traces with each set of options to each target, so many
// probes at a time.
func (a *accuracy) require(t *testing.T, traces int, ways []string, windows ...int) {
	for i, target := range a.targets {
		for _, options := range ways {
			for _, window := range windows {
				line := fmt.Sprintf("%v -N %d %s", target, window, options)
				t.Run(line, func(t *testing.T) {
					a.batches.longest.Store(0)
					captures := map[string]*netlab.Capture{}
					for site, h := range a.sites {
						captures[site] = h.Capture()
					}
					var got []*result.Trace
					for range traces {
						trace := a.measure(t, "volta a -q 10 -w 30,0,0 "+line)
						requireTwoSites(t, trace, a.hops[i])
						got = append(got, trace)
					}
					wires := map[string][]netlab.Packet{}
					for site, c := range captures {
						wires[site] = c.Stop()
					}
					a.compare(t, got, wires)
					require.Equal(t, window > 1, a.batches.longest.Load() > 1)
				})
			}
		}
	}
}

// compare holds traces against what the sites captured meanwhile.
func (a *accuracy) compare(t *testing.T, traces []*result.Trace, captured map[string][]netlab.Packet) {
	var errors []time.Duration
	for _, trace := range traces {
		w := readWires(trace, captured)
		for _, h := range trace.Hops {
			for _, p := range h.Probes {
				left, ok := w.sent[p.ID]
				require.True(t, ok, "probe %d was not seen to leave", p.ID)
				came, ok := w.received[passage{p.Receiver, p.ID}]
				require.True(t, ok, "the answer to probe %d was not seen at %s", p.ID, p.Receiver)
				errors = append(errors, (*p.RTT - came.Sub(left)).Abs())
			}
		}
	}
	require.Len(t, errors, len(traces)*5*10)
	t.Logf("%v; at most %d probes at once", quantiles(errors), a.batches.longest.Load())
	require.LessOrEqual(t, quantile(errors, 0.5), medianError)
	require.LessOrEqual(t, quantile(errors, 0.99), p99Error)
}

// batches is a port that notes how many probes it is given at once.
type batches struct {
	probe.Port
	longest atomic.Int64
}

func (b *batches) Send(ds []probe.Outgoing) error {
	b.longest.Store(max(b.longest.Load(), int64(len(ds))))
	return b.Port.Send(ds)
}

// keepBusy loops on every processor until the test ends.
func keepBusy(t *testing.T) {
	cores := runtime.NumCPU()
	// The loops compete with the rest for the kernel's processors, not for
	// Go's.
	before := runtime.GOMAXPROCS(2 * cores)
	var stop atomic.Bool
	var loops sync.WaitGroup
	for core := range cores {
		loops.Go(func() {
			// Never unlocked: the thread, bound to a processor, ends here.
			runtime.LockOSThread()
			var one unix.CPUSet
			one.Set(core)
			_ = unix.SchedSetaffinity(0, &one)
			for !stop.Load() {
			}
		})
	}
	t.Cleanup(func() {
		stop.Store(true)
		loops.Wait()
		runtime.GOMAXPROCS(before)
	})
}

// passage is where a probe or what belongs to it was seen.
type passage struct {
	site string
	id   uint16
}

// wires are the times at which probes and the first answers to them were seen.
type wires struct {
	sent     map[uint16]time.Time
	received map[passage]time.Time
}

func readWires(trace *result.Trace, captured map[string][]netlab.Packet) wires {
	w := wires{map[uint16]time.Time{}, map[passage]time.Time{}}
	for site, packets := range captured {
		for _, p := range packets {
			if p.Time.Before(trace.Started) || p.Time.After(trace.Ended) {
				continue // of another trace
			}
			id, ok := wireID(p.Data, trace.Destination)
			at := passage{site, id}
			_, again := w.received[at]
			switch {
			case !ok:
			case p.Outgoing && site == trace.Source:
				w.sent[id] = p.Time
			case !p.Outgoing && !again:
				w.received[at] = p.Time
			}
		}
	}
	return w
}

// wireID returns the identifier of a probe to target, or of that which a
// packet answers.
func wireID(b []byte, target netip.Addr) (id uint16, ok bool) {
	var protocol uint8
	var src, dst netip.Addr
	var rest []byte
	switch {
	case len(b) >= 20 && b[0] == 0x45:
		protocol, rest = b[9], b[20:]
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	case len(b) >= 40 && b[0]>>4 == 6:
		protocol, rest = b[6], b[40:]
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	if len(rest) < 8 {
		return 0, false
	}
	const syn, ack = 0x02, 0x10
	field := func(at int) uint16 { return binary.BigEndian.Uint16(rest[at:]) }
	icmp := protocol == probe.ICMP || protocol == probe.ICMPv6
	switch kind := rest[0]; {
	case icmp && slices.Contains([]uint8{8, 0, 128, 129}, kind): // echoes
		return field(6), dst == target || src == target
	case icmp:
		return wireID(rest[8:], target)
	case protocol == probe.TCP && dst == target && (len(rest) < 14 || rest[13] == syn): // quoted or whole
		return field(4), true
	case protocol == probe.TCP && src == target && len(rest) >= 14 && rest[13]&ack != 0:
		// What acknowledges a sequence number is one more.
		return uint16((binary.BigEndian.Uint32(rest[8:]) - 1) >> 16), true
	case protocol == probe.UDP && dst == target && dst.Is4():
		return binary.BigEndian.Uint16(b[4:]), true
	case protocol == probe.UDP && dst == target:
		return field(6), true
	}
	return 0, false
}

// quantile returns the least element that a share of all is not above.
func quantile(ds []time.Duration, share float64) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(int(share*float64(len(ds))), len(ds)-1)]
}

func quantiles(ds []time.Duration) string {
	exact := 0
	for _, d := range ds {
		if d == 0 {
			exact++
		}
	}
	return fmt.Sprintf("p50 %v, p95 %v, p99 %v, most %v; %d of %d exact",
		quantile(ds, 0.5), quantile(ds, 0.95), quantile(ds, 0.99), slices.Max(ds), exact, len(ds))
}

// stampedPort is a port whose times were taken elsewhere.
type stampedPort struct {
	probe.Port
	sent, received probe.Stamp
}

func (s stampedPort) Send(ds []probe.Outgoing) error {
	err := s.Port.Send(ds)
	for i := range ds {
		ds[i].Stamp = s.sent
	}
	return err
}

func (s stampedPort) Receive(ds []probe.Incoming) (int, error) {
	n, err := s.Port.Receive(ds)
	for i := range ds[:n] {
		ds[i].Stamp = s.received
	}
	return n, err
}

// TestStampsShow has a site whose times are the program's own, or of drivers,
// or from where nobody knows.
func TestStampsShow(t *testing.T) {
	for _, tt := range []struct {
		sent, received         probe.Stamp
		wantSent, wantReceived string
	}{
		{probe.UserStamp, probe.UserStamp, "user", "user"},
		{probe.DriverStamp, probe.KernelStamp, "driver", "kernel"},
		{200, 200, "user", "user"},
	} {
		for _, overGRPC := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d grpc=%v", tt.sent, overGRPC), func(t *testing.T) {
				lab := netlab.NewTwoSites(t)
				f := newFleet(t, overGRPC, nil)
				f.join(t, volta.AgentConfig{ID: "a", Port: stampedPort{openPort(t, lab.A, lab.Anycast4), tt.sent, tt.received}})
				f.join(t, volta.AgentConfig{ID: "b", Port: openPort(t, lab.B, lab.Anycast4)})
				trace := f.measure(t, "volta a "+lab.Target4.String())
				for _, h := range trace.Hops {
					for _, p := range h.Probes {
						require.Equal(t, tt.wantSent, p.SentStamp)
						require.Equal(t, map[string]string{"a": tt.wantReceived, "b": "kernel"}[p.Receiver], p.RecvStamp)
					}
				}
				require.Equal(t, tt.wantSent == "user", strings.Contains(trace.Text(), "taken in user space"))
			})
		}
	}
}

// BenchmarkRoundTripError measures how far round trips that tools print are
// from those on the wire, at the interface of the host that they run on: ours,
// traceroute(8)'s and scamper's over the same path.
func BenchmarkRoundTripError(b *testing.B) {
	lab := netlab.NewTwoSites(b)
	f := newFleet(b, false, nil)
	f.join(b, volta.AgentConfig{ID: "a", Port: openPort(b, lab.A, lab.UnicastA4)})
	from, to := lab.UnicastA4.String(), lab.Target4.String()
	for _, tool := range []struct {
		name  string
		trace func(b *testing.B) printed
	}{
		{"volta", func(b *testing.B) printed { return printedBy([]byte(f.measure(b, "volta a "+to).Text())) }},
		{"traceroute", func(b *testing.B) printed {
			return printedBy(run(b, lab.A, "traceroute", "-n", "-s", from, to))
		}},
		{"scamper", func(b *testing.B) printed {
			return printedByScamper(b, run(b, lab.A, "scamper", "-p", "1000", "-O", "json", "-I", "trace -P udp-paris -q 3 -Q -S "+from+" "+to))
		}},
	} {
		b.Run(tool.name, func(b *testing.B) {
			if _, err := exec.LookPath(tool.name); err != nil && tool.name != "volta" {
				b.Skip(tool.name + " is not installed")
			}
			var errors []time.Duration
			for b.Loop() {
				c := lab.A.Capture()
				p := tool.trace(b)
				errors = append(errors, p.errors(b, c.Stop(), lab.Target4)...)
			}
			for name, share := range map[string]float64{"p50-ns": 0.5, "p95-ns": 0.95, "p99-ns": 0.99} {
				b.ReportMetric(float64(quantile(errors, share)), name)
			}
		})
	}
}

func run(b *testing.B, h *netlab.Host, name string, args ...string) []byte {
	var out []byte
	require.NoError(b, h.Do(func() (err error) {
		out, err = exec.CommandContext(b.Context(), name, args...).Output()
		return err
	}))
	return out
}

// printed are the round trips that a tool prints of each hop, in the order of
// their probes.
type printed map[uint8][]time.Duration

// errors returns how far they are from those of a capture.
func (p printed) errors(b *testing.B, captured []netlab.Packet, target netip.Addr) []time.Duration {
	type probe struct {
		quote string
		time.Time
	}
	sent, answered := map[uint8][]probe{}, map[string]time.Time{}
	for _, c := range captured {
		switch d := c.Data; {
		case len(d) < 28 || d[0] != 0x45:
		case c.Outgoing && d[9] == 17 && netip.AddrFrom4([4]byte(d[16:20])) == target:
			sent[d[8]] = append(sent[d[8]], probe{quote(d), c.Time})
		case !c.Outgoing && d[9] == 1 && len(d) >= 56:
			answered[quote(d[28:])] = c.Time
		}
	}
	var errors []time.Duration
	for ttl, trips := range p {
		require.GreaterOrEqual(b, len(sent[ttl]), len(trips))
		for i, trip := range trips {
			at, ok := answered[sent[ttl][i].quote]
			require.True(b, ok)
			errors = append(errors, (trip - at.Sub(sent[ttl][i].Time)).Abs())
		}
	}
	require.Len(b, errors, 15)
	return errors
}

// quote is what tells a UDP probe from others: IP identification, ports,
// length and checksum.
func quote(d []byte) string { return string(d[4:6]) + string(d[20:28]) }

var (
	hopLine   = regexp.MustCompile(`(?m)^ *(\d+) .*ms *$`)
	roundTrip = regexp.MustCompile(`([\d.]+) ms`)
)

// printedBy reads the text of traceroute(8), or ours.
func printedBy(text []byte) printed {
	p := printed{}
	for _, line := range hopLine.FindAllSubmatch(text, -1) {
		ttl, _ := strconv.Atoi(string(line[1]))
		for _, ms := range roundTrip.FindAllSubmatch(line[0], -1) {
			v, _ := strconv.ParseFloat(string(ms[1]), 64)
			p[uint8(ttl)] = append(p[uint8(ttl)], milliseconds(v))
		}
	}
	return p
}

func printedByScamper(b *testing.B, lines []byte) printed {
	p := printed{}
	for line := range bytes.Lines(lines) {
		var trace struct {
			Hops []struct {
				TTL uint8   `json:"probe_ttl"`
				RTT float64 `json:"rtt"`
			} `json:"hops"`
		}
		require.NoError(b, json.Unmarshal(line, &trace))
		for _, h := range trace.Hops {
			p[h.TTL] = append(p[h.TTL], milliseconds(h.RTT))
		}
	}
	return p
}

func milliseconds(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
