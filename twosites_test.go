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
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
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

// TestOnTheWire looks at every probe of a trace as it leaves the source.
func TestOnTheWire(t *testing.T) {
	lab, f := twoSites(t, false)
	for _, tt := range []struct {
		options string
		check   func(t *testing.T, p wireProbe)
	}{
		{"", func(t *testing.T, p wireProbe) {
			require.EqualValues(t, 33434, p.dport)
			require.Zero(t, p.tos)
			require.False(t, p.df)
			require.Equal(t, map[bool]int{false: 60, true: 80}[p.v6], p.size)
		}},
		{"-I", func(t *testing.T, p wireProbe) { require.Contains(t, []uint8{1, 58}, p.protocol) }},
		{"-T -p 8080", func(t *testing.T, p wireProbe) { require.EqualValues(t, 8080, p.dport) }},
		{"-U", func(t *testing.T, p wireProbe) { require.EqualValues(t, 53, p.dport) }},
		{"-p 40000", func(t *testing.T, p wireProbe) { require.EqualValues(t, 40000, p.dport) }},
		{"-t 2", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x02, p.tos) }},
		{"-t 1", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x00, p.tos) }},
		{"-t 16", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x10, p.tos) }},
		{"-t 16 -I", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x10, p.tos) }},
		{"-t 16 -T -p 81", func(t *testing.T, p wireProbe) { require.EqualValues(t, 0x10, p.tos) }},
		{"-F", func(t *testing.T, p wireProbe) { require.Equal(t, !p.v6, p.df) }},
		{"-f 3", func(t *testing.T, p wireProbe) { require.GreaterOrEqual(t, p.ttl, uint8(3)) }},
	} {
		for _, target := range []netip.Addr{lab.Target4, lab.Target6} {
			t.Run(fmt.Sprintf("%s %v", tt.options, target), func(t *testing.T) {
				probes := capture(t, lab, target, func() {
					f.measure(t, fmt.Sprintf("volta a %s %s", target, tt.options))
				})
				require.NotEmpty(t, probes)
				for _, p := range probes {
					tt.check(t, p)
					require.Equal(t, probes[0].flow, p.flow, "one flow")
					require.True(t, p.checksum, "checksum")
				}
			})
		}
	}
	t.Run("packet length", func(t *testing.T) {
		for _, p := range capture(t, lab, lab.Target4, func() { f.measure(t, "volta a "+lab.Target4.String()+" 777") }) {
			require.Equal(t, 777, p.size)
		}
	})
	t.Run("flows", func(t *testing.T) {
		flows := map[string]bool{}
		for _, p := range capture(t, lab, lab.Target4, func() { f.measure(t, "volta a "+lab.Target4.String()+" --flows 3") }) {
			flows[p.flow] = true
		}
		require.Len(t, flows, 3)
	})
}

// wireProbe is what a capture shows of a probe.
type wireProbe struct {
	v6, df, checksum bool
	ttl, tos         uint8
	protocol         uint8
	dport            uint16
	size             int
	flow             string // the fields that routers hash
}

// capture runs f and returns the probes to target that left site a meanwhile.
func capture(t *testing.T, lab *netlab.TwoSites, target netip.Addr, f func()) []wireProbe {
	t.Helper()
	c := lab.A.Capture()
	f()
	var probes []wireProbe
	for _, p := range c.Stop() {
		if w, ok := readProbe(t, p.Data); ok && p.Outgoing && w.flow[:len(target.String())] == target.String() {
			probes = append(probes, w)
		}
	}
	return probes
}

func readProbe(t *testing.T, b []byte) (w wireProbe, ok bool) {
	t.Helper()
	var src, dst netip.Addr
	var payload []byte
	w.size = len(b)
	if b[0]>>4 == 4 {
		ip, rest, err := packet.ParseIPv4(b)
		require.NoError(t, err)
		src, dst, payload = ip.Src, ip.Dst, rest
		w.ttl, w.tos, w.protocol, w.df = ip.TTL, ip.TOS, ip.Protocol, ip.DontFragment
	} else {
		ip, rest, err := packet.ParseIPv6(b)
		require.NoError(t, err)
		src, dst, payload = ip.Src, ip.Dst, rest
		w.v6, w.ttl, w.tos, w.protocol = true, ip.HopLimit, ip.TrafficClass, ip.NextHeader
		w.flow = fmt.Sprint(ip.FlowLabel)
	}
	pseudo := uint32(0)
	if w.protocol != probe.ICMP {
		pseudo = pseudoSum(src, dst, w.protocol, len(payload))
	}
	w.checksum = onesSum(pseudo, payload) == 0xFFFF
	if len(payload) < 8 {
		return w, false
	}
	w.dport = uint16(payload[2])<<8 | uint16(payload[3])
	// Bytes 0-3 are the ports, or ICMP's type, code and checksum; 4-5 its identifier.
	w.flow = fmt.Sprintf("%v %v %d %s %x", dst, src, w.protocol, w.flow, payload[:4])
	if w.protocol == probe.ICMP || w.protocol == probe.ICMPv6 {
		w.flow += fmt.Sprintf("%x", payload[4:6])
	}
	return w, true
}

// onesSum is RFC 1071 written a second time, to check the first.
func onesSum(sum uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xFFFF + sum>>16
	}
	return uint16(sum)
}

func pseudoSum(src, dst netip.Addr, protocol uint8, n int) uint32 {
	return uint32(onesSum(0, src.AsSlice())) + uint32(onesSum(0, dst.AsSlice())) + uint32(protocol) + uint32(n)
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
