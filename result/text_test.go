package result_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// trace is the frame of one that went well.
func trace(hops ...result.Hop) *result.Trace {
	return &result.Trace{
		Target: "google.com", Destination: netip.MustParseAddr("203.0.113.110"),
		Source: "node1", Queries: 3, MaxTTL: 30, Hops: hops,
	}
}

func hop(ttl int, ps ...result.Probe) result.Hop { return result.Hop{TTL: ttl, Probes: ps} }

var star = result.Probe{}

// answer is a "TTL exceeded" seen by one clock.
func answer(name, addr, receiver string, ms float64, edit ...func(*result.Probe)) result.Probe {
	rtt := time.Duration(ms * float64(time.Millisecond))
	p := result.Probe{
		Verdict: result.Matched, Name: name, Addr: netip.MustParseAddr(addr), Receiver: receiver,
		RTT: &rtt, OneClock: true, Kind: probe.TimeExceeded.String(), ICMPType: 11,
	}
	if p.Addr.Is6() {
		p.ICMPType = 3
	}
	for _, f := range edit {
		f(&p)
	}
	return p
}

func icmp(kind, code uint8) func(*result.Probe) {
	return func(p *result.Probe) { p.ICMPType, p.ICMPCode = kind, code }
}

func twoClocks(p *result.Probe) { p.OneClock = false }

func text(t *testing.T, tr *result.Trace) []string {
	t.Helper()
	lines := strings.Split(tr.Text(), "\n")
	require.NotEmpty(t, lines)
	return lines
}

func TestTextIsTheSeedsForm(t *testing.T) {
	tr := trace(
		hop(1, answer("", "192.168.1.1", "node1", 1.234), answer("", "192.168.1.1", "node1", 1.456), answer("", "192.168.1.1", "node1", 1.3)),
		hop(2, answer("gw.example.net", "192.0.2.1", "node1", 5.678), star, answer("gw.example.net", "192.0.2.1", "node1", 6.1)),
		hop(3, star, star, star),
		hop(4, answer("a.example.net", "198.51.100.1", "node1", 9), answer("a.example.net", "198.51.100.1", "node2", 9.0004), answer("b.example.net", "198.51.100.2", "node2", 10.0006)),
		hop(5, answer("google.com", "203.0.113.110", "node2", 12.5, icmp(3, 3)), answer("google.com", "203.0.113.110", "node2", 0.0005, icmp(3, 3)), answer("google.com", "203.0.113.110", "node2", 1234567.891, icmp(3, 3))),
	)
	const want = `Traceroute to google.com (203.0.113.110) from node1, 3 probes, 30 hops max
1  192.168.1.1 (192.168.1.1) node1  1.234 ms  1.456 ms  1.300 ms
2  gw.example.net (192.0.2.1) node1  5.678 ms  *  6.100 ms
3  *  *  *
4  a.example.net (198.51.100.1) node1  9.000 ms  a.example.net (198.51.100.1) node2  9.000 ms  b.example.net (198.51.100.2) node2  10.001 ms
5  google.com (203.0.113.110) node2  12.500 ms  0.001 ms  1234567.891 ms`
	require.Equal(t, want, tr.Text())

	var b bytes.Buffer
	require.NoError(t, tr.WriteText(&b))
	require.Equal(t, want+"\n", b.String())
}

func TestTextOfHops(t *testing.T) {
	label := func(ls ...probe.Label) func(*result.Probe) {
		return func(p *result.Probe) { p.MPLS = ls }
	}
	says := func(vs ...probe.Value) func(*result.Probe) {
		return func(p *result.Probe) { p.Values = vs }
	}
	site := probe.Value{Name: "site", Text: "fra1"}
	one := probe.Label{Label: 24015, TC: 3, Bottom: true, TTL: 1}
	two := probe.Label{Label: 1048575, TTL: 254}
	for _, c := range []struct {
		name    string
		numeric bool
		probes  []result.Probe
		want    string
	}{
		{name: "star first", probes: []result.Probe{star, answer("r", "192.0.2.1", "a", 1)}, want: "7  *  r (192.0.2.1) a  1.000 ms"},
		{name: "there and back", probes: []result.Probe{answer("r", "192.0.2.1", "a", 1), answer("r", "192.0.2.1", "b", 1), answer("r", "192.0.2.1", "a", 1)},
			want: "7  r (192.0.2.1) a  1.000 ms  r (192.0.2.1) b  1.000 ms  r (192.0.2.1) a  1.000 ms"},
		{name: "late answers are none", probes: []result.Probe{answer("r", "192.0.2.1", "a", 1, func(p *result.Probe) { p.Verdict = result.Late })}, want: "7  *"},
		{name: "numeric", numeric: true, probes: []result.Probe{answer("", "192.0.2.1", "a", 1), answer("", "2001:db8::1", "a", 2)},
			want: "7  192.0.2.1 a  1.000 ms  2001:db8::1 a  2.000 ms"},
		{name: "no probe", want: "7"},
		{name: "one label", probes: []result.Probe{answer("r", "192.0.2.1", "a", 1, label(one)), answer("r", "192.0.2.1", "a", 2, label(one))},
			want: "7  r (192.0.2.1) a <MPLS:L=24015,E=3,S=1,T=1>  1.000 ms  2.000 ms"},
		{name: "label stack", probes: []result.Probe{answer("r", "192.0.2.1", "a", 1, label(two, one))},
			want: "7  r (192.0.2.1) a <MPLS:L=1048575,E=0,S=0,T=254/L=24015,E=3,S=1,T=1>  1.000 ms"},
		{name: "labels change", probes: []result.Probe{answer("r", "192.0.2.1", "a", 1, label(one)), answer("r", "192.0.2.1", "a", 1)},
			want: "7  r (192.0.2.1) a <MPLS:L=24015,E=3,S=1,T=1>  1.000 ms  r (192.0.2.1) a  1.000 ms"},
		{name: "values", probes: []result.Probe{answer("d", "192.0.2.1", "a", 1, says(site, probe.Value{Name: "rcode", Text: "0"})), answer("d", "192.0.2.1", "a", 2, says(site, probe.Value{Name: "rcode", Text: "0"}))},
			want: "7  d (192.0.2.1) a [site=fra1,rcode=0]  1.000 ms  2.000 ms"},
		{name: "values change", probes: []result.Probe{answer("d", "192.0.2.1", "a", 1, says(site)), answer("d", "192.0.2.1", "a", 2, says(probe.Value{Name: "site", Text: "ams2"})), answer("d", "192.0.2.1", "a", 3)},
			want: "7  d (192.0.2.1) a [site=fra1]  1.000 ms  d (192.0.2.1) a [site=ams2]  2.000 ms  d (192.0.2.1) a  3.000 ms"},
		{name: "values behind labels", numeric: true, probes: []result.Probe{answer("d", "192.0.2.1", "a", 1, label(one), says(site))},
			want: "7  192.0.2.1 a <MPLS:L=24015,E=3,S=1,T=1> [site=fra1]  1.000 ms"},
		{name: "values that are no words", probes: []result.Probe{answer("d", "192.0.2.1", "a", 1, says(probe.Value{Name: "b  r", Text: "\x1b[2J\n  x\u202e"}, probe.Value{}))},
			want: "7  d (192.0.2.1) a [b__r=?[2J?__x?,=]  1.000 ms"},
		{name: "long values", probes: []result.Probe{answer("d", "192.0.2.1", "a", 1, says(probe.Value{Name: "n", Text: strings.Repeat("é", 65)}, probe.Value{Name: "m", Text: strings.Repeat("é", 64)}))},
			want: "7  d (192.0.2.1) a [n=" + strings.Repeat("é", 64) + "...,m=" + strings.Repeat("é", 64) + "]  1.000 ms"},
		{name: "many values", probes: []result.Probe{answer("d", "192.0.2.1", "a", 1, says(make([]probe.Value, 20)...))},
			want: "7  d (192.0.2.1) a [" + strings.Repeat("=,", 15) + "=]  1.000 ms"},
		{name: "annotated", probes: []result.Probe{answer("r", "192.0.2.1", "a", 1, icmp(3, 1)), answer("r", "192.0.2.1", "a", 2, icmp(3, 13))},
			want: "7  r (192.0.2.1) a  1.000 ms !H  2.000 ms !X"},
		{name: "name that is no word", probes: []result.Probe{answer("a b\x1b[2J\n\u202e\xff", "192.0.2.1", "a", 1)},
			want: "7  a_b?[2J??? (192.0.2.1) a  1.000 ms"},
		{name: "zone that is no word", probes: []result.Probe{answer("", "fe80::1%a\x1b b", "a", 1)},
			want: "7  fe80::1%a?_b (fe80::1%a?_b) a  1.000 ms"},
		{name: "nothing known", probes: []result.Probe{{Verdict: result.Matched, RTT: new(time.Duration), OneClock: true}},
			want: "7  ? (?) ?  0.000 ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := trace(hop(7, c.probes...))
			tr.Numeric = c.numeric
			lines := text(t, tr)
			require.Len(t, lines, 2, "nothing out of the ordinary: no remarks")
			require.Equal(t, c.want, lines[1])
		})
	}
}

func TestAnnotations(t *testing.T) {
	mtu := func(p *result.Probe) { p.MTU = 1480 }
	for _, c := range []struct {
		addr       string
		kind, code uint8
		want       string
	}{
		{"192.0.2.1", 11, 0, ""},
		{"192.0.2.1", 3, 3, ""},
		{"192.0.2.1", 0, 0, ""}, // echo reply, TCP, UDP
		{"192.0.2.1", 11, 1, " !<11-1>"},
		{"192.0.2.1", 3, 0, " !N"},
		{"192.0.2.1", 3, 6, " !N"},
		{"192.0.2.1", 3, 8, " !N"},
		{"192.0.2.1", 3, 11, " !N"},
		{"192.0.2.1", 3, 1, " !H"},
		{"192.0.2.1", 3, 7, " !H"},
		{"192.0.2.1", 3, 12, " !H"},
		{"192.0.2.1", 3, 2, " !P"},
		{"192.0.2.1", 3, 4, " !F-1480"},
		{"192.0.2.1", 3, 5, " !S"},
		{"192.0.2.1", 3, 9, " !X"},
		{"192.0.2.1", 3, 10, " !X"},
		{"192.0.2.1", 3, 13, " !X"},
		{"192.0.2.1", 3, 14, " !V"},
		{"192.0.2.1", 3, 15, " !C"},
		{"192.0.2.1", 3, 16, " !<16>"},
		{"192.0.2.1", 3, 255, " !<255>"},
		{"192.0.2.1", 12, 0, " !<12-0>"},
		{"192.0.2.1", 1, 4, " !<1-4>"}, // means something in IPv6 only
		{"2001:db8::1", 3, 0, ""},
		{"2001:db8::1", 1, 4, ""},
		{"2001:db8::1", 129, 0, ""},
		{"2001:db8::1", 0, 0, ""}, // TCP, UDP
		{"2001:db8::1", 3, 1, " !<3-1>"},
		{"2001:db8::1", 1, 0, " !N"},
		{"2001:db8::1", 1, 1, " !X"},
		{"2001:db8::1", 1, 2, " !H"},
		{"2001:db8::1", 1, 3, " !H"},
		{"2001:db8::1", 1, 5, " !<5>"},
		{"2001:db8::1", 1, 6, " !<6>"},
		{"2001:db8::1", 2, 0, " !F-1480"},
		{"2001:db8::1", 4, 1, " !<4-1>"},
	} {
		lines := text(t, trace(hop(1, answer("r", c.addr, "a", 1, icmp(c.kind, c.code), mtu))))
		require.Equal(t, "1  r ("+c.addr+") a  1.000 ms"+c.want, lines[1], "type %d code %d", c.kind, c.code)
	}
}

func TestTimesOfTwoClocksAreMarked(t *testing.T) {
	tr := trace(
		hop(1, answer("r", "192.0.2.1", "a", 1), answer("r", "192.0.2.1", "b", 35.432, twoClocks), answer("r", "192.0.2.1", "b", -3.21, twoClocks, icmp(3, 1))),
		hop(2, answer("s", "192.0.2.2", "b", 2, func(p *result.Probe) { p.RTT = nil })),
	)
	require.Equal(t, `Traceroute to google.com (203.0.113.110) from node1, 3 probes, 30 hops max
1  r (192.0.2.1) a  1.000 ms  r (192.0.2.1) b  35.432? ms  -3.210? ms !H
2  s (192.0.2.2) b  ? ms
# ?: sent and received by different clocks, off by their unknown difference
# ? ms: the time of sending or receiving is not known`, tr.Text())
}

func TestRemarks(t *testing.T) {
	refused := func(why string) result.Probe { return result.Probe{Error: why} }
	for _, c := range []struct {
		name string
		edit func(*result.Trace)
		want []string
	}{
		{"ordinary", func(tr *result.Trace) { tr.Counts = result.Counts{Sent: 3, Matched: 3}; tr.Reached = true }, nil},
		{"partial", func(tr *result.Trace) { tr.Partial = "agent node1 disconnected" }, []string{"# partial: agent node1 disconnected"}},
		{"counts", func(tr *result.Trace) { tr.Counts = result.Counts{Late: 1, Duplicate: 2, Foreign: 3, Unverified: 4} },
			[]string{"# answers not shown: 1 late, 2 duplicate, 3 foreign, 4 unverified"}},
		{"one count", func(tr *result.Trace) { tr.Counts.Foreign = 7 }, []string{"# answers not shown: 7 foreign"}},
		{"findings", func(tr *result.Trace) {
			tr.Findings = []result.Finding{{Text: "one"}, {Text: "two\x1b[31m\r\nthree"}}
		}, []string{"# one", "# two?[31m??three"}},
		{"one refused", func(tr *result.Trace) { tr.Hops = append(tr.Hops, hop(2, star, refused("network is unreachable"))) },
			[]string{"# 1 probe of hop 2 not sent: network is unreachable"}},
		{"many refused", func(tr *result.Trace) {
			tr.Hops = append(tr.Hops, hop(2, refused("x"), refused("y")), hop(3, refused("x"), refused("x")), hop(4, refused("y")))
		}, []string{"# 3 probes of hops 2 to 3 not sent: x", "# 2 probes of hops 2 to 4 not sent: y"}},
		{"everything", func(tr *result.Trace) {
			tr.Findings, tr.Counts.Late, tr.Partial = []result.Finding{{Text: "n"}}, 1, "p"
			tr.Hops = append(tr.Hops, hop(2, refused("x"), answer("r", "192.0.2.1", "b", 1, twoClocks)))
		}, []string{"# ?: sent and received by different clocks, off by their unknown difference", "# partial: p", "# 1 probe of hop 2 not sent: x", "# answers not shown: 1 late", "# n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := trace(hop(1, answer("r", "192.0.2.1", "a", 1)))
			c.edit(tr)
			require.Equal(t, c.want, append([]string(nil), text(t, tr)[1+len(tr.Hops):]...))
		})
	}
}

func TestHeaderHasOneLine(t *testing.T) {
	tr := trace()
	tr.Target, tr.Source, tr.Destination = "a\nb c", "x\x00y", netip.Addr{}
	require.Equal(t, "Traceroute to a?b_c (?) from x?y, 3 probes, 30 hops max", tr.Text())
}

type full struct{}

var errFull = errors.New("disk full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteTextReturnsTheWritersError(t *testing.T) {
	require.ErrorIs(t, trace().WriteText(full{}), errFull)
}

func BenchmarkText(b *testing.B) {
	tr := trace()
	for ttl := 1; ttl <= 30; ttl++ {
		p := answer("core1.example.net", "198.51.100.1", "node1", 12.345)
		tr.Hops = append(tr.Hops, hop(ttl, p, p, p))
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = tr.Text()
	}
}
