package result_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/result"
)

// path draws a trace, a word per probe: "a" is a router's answer, "." none,
// "D" the destination's.
func path(hops ...string) *result.Trace {
	t := &result.Trace{Target: "d", Destination: netip.MustParseAddr("203.0.113.10"), Source: "a", SourceAddr: netip.MustParseAddr("192.0.2.1"), MaxTTL: 30}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, h := range hops {
		hop := result.Hop{TTL: i + 1}
		for q, word := range strings.Fields(h) {
			p := result.Probe{TTL: i + 1, Attempt: q, Sent: at, OneClock: true}
			at = at.Add(100 * time.Millisecond)
			rtt := time.Duration(i+1) * time.Millisecond
			switch word {
			case ".":
				p.Missing = result.NoAnswer
			case "D":
				p.Verdict, p.Kind, p.Addr, p.RTT, p.Receiver = result.Matched, "unreachable", t.Destination, &rtt, "a"
			default:
				p.Verdict, p.Kind, p.QuotedTTL, p.RTT, p.Receiver = result.Matched, "time-exceeded", 1, &rtt, "a"
				p.Addr = netip.AddrFrom4([4]byte{198, 18, 0, word[0]})
			}
			hop.Probes = append(hop.Probes, p)
		}
		t.Hops = append(t.Hops, hop)
	}
	return t
}

// each changes the answered probes of a hop.
func each(t *result.Trace, ttl int, change func(p *result.Probe)) *result.Trace {
	for i := range t.Hops[ttl-1].Probes {
		change(&t.Hops[ttl-1].Probes[i])
	}
	return t
}

func TestFindings(t *testing.T) {
	for name, tt := range map[string]struct {
		trace *result.Trace
		want  []string // kind, TTL, part of the text
	}{
		"nothing":         {path("a a a", "b b b", "D D D"), nil},
		"silent hop":      {path("a a a", ". . .", "D D D"), nil},
		"loop":            {path("a a a", "b b b", "a a a", "b b b"), []string{"loop 1 hops 1 and 3", "loop 2 hops 2 and 4"}},
		"twice in a row":  {path("a a a", "b b b", "b b b", "D D D"), nil},
		"silence between": {path("a a a", ". . .", "a a a"), nil},
		"lengths":         {path("a a a", "b D b", "D D D"), []string{"varying length 2 destination answers 1 probes, and a router 2", "several addresses 2 hop 2 answers from 2 addresses"}},
		"one flow":        {path("a b a", "D D D"), []string{"several addresses 1 of one flow"}},
		"classic":         {func() *result.Trace { tr := path("a b a", "D D D"); tr.Flow = "classic"; return tr }(), []string{"several addresses 1 load balancer"}},
		"several flows": {each(path("a b a", "D D D"), 1, func(p *result.Probe) { p.Flow = p.Attempt % 2 }),
			[]string{"several addresses 1 load balancer"}},
		"quoted TTL": {each(path("a a a", "b b b", "D D D"), 2, func(p *result.Probe) { p.QuotedTTL = 3 }), []string{"quoted TTL 2 TTL of 3"}},
		"paths of two flows": {func() *result.Trace {
			tr := path("a a", "d c", "e f", "g d", "D D")
			for i := range tr.Hops {
				each(tr, i+1, func(p *result.Probe) { p.Flow = p.Attempt })
			}
			tr.Flows = 2
			return tr
		}(), []string{"several addresses 2 load balancer", "several addresses 3 load balancer", "several addresses 4 load balancer"}},
		"loop of paths of their own": {func() *result.Trace {
			tr := path("a a", "b b", "a b")
			tr.Flow = "classic"
			return tr
		}(), []string{"loop 1 hops 1 and 3", "several addresses 3 load balancer"}},
		"TOS of one of two flows": {func() *result.Trace {
			tr := path("a a", "b c", "d e", "D D")
			for i := range tr.Hops {
				each(tr, i+1, func(p *result.Probe) {
					if p.Flow = p.Attempt; p.Flow == 1 && i > 0 {
						p.QuotedTOS = 0x20
					}
				})
			}
			return tr
		}(), []string{"several addresses 2 load balancer", "TOS changed 2 DSCP 0 became 8 on the way to hop 2", "several addresses 3 load balancer"}},
		"TOS of some packets": {each(path("a a a", "b b b", "D D D"), 2, func(p *result.Probe) {
			if p.Attempt == 1 {
				p.QuotedTOS = 0x20
			}
		}), []string{"TOS changed 2 DSCP 0 became 8 on the way to hop 2", "TOS changed 3 DSCP 8 became 0 on the way to hop 3"}},
		"fragments waited for too long": {each(path("a", "b", "D"), 2, func(p *result.Probe) { p.QuotedTTL, p.ICMPType, p.ICMPCode = 30, 11, 1 }), nil},
		"quoted TTL of the destination": {each(path("a", "D D D"), 2, func(p *result.Probe) { p.QuotedTTL = 3 }), nil},
		"ECN": {func() *result.Trace {
			tr := path("a a a", "b b b", "c c c", "D D D")
			tr.TOS = 0xBA // DSCP 46, ECT(0)
			each(tr, 1, func(p *result.Probe) { p.QuotedTOS = 0xBA })
			each(tr, 2, func(p *result.Probe) { p.QuotedTOS = 0xB8 })
			each(tr, 3, func(p *result.Probe) { p.QuotedTOS = 0x00 })
			return tr
		}(), []string{"ECN changed 2 ECN ECT(0) became not-ECT on the way to hop 2", "TOS changed 3 DSCP 46 became 0 on the way to hop 3"}},
		"NAT": {each(path("a a a", "b b b"), 2, func(p *result.Probe) { p.QuotedSource = netip.MustParseAddr("198.51.100.1") }),
			[]string{"NAT 2 192.0.2.1 became 198.51.100.1"}},
		"no NAT":          {each(path("a a a"), 1, func(p *result.Probe) { p.QuotedSource = netip.MustParseAddr("192.0.2.1") }), nil},
		"rewritten":       {func() *result.Trace { tr := path("a"); tr.Rewritten = 3; return tr }(), []string{"NAT 0 tags of 3"}},
		"one rewritten":   {func() *result.Trace { tr := path("a"); tr.Rewritten = 1; return tr }(), nil},
		"rate limit":      {path("a . .", "b b b", "D D D"), []string{"rate limited 1 answered 1 of 3 probes, while later"}},
		"two limits":      {path("a . .", "b b b", "c . c", ". . .", "D D D"), []string{"rate limited 1 answered 1 of 3", "rate limited 3 answered 2 of 3"}},
		"loss":            {path("a . .", "b b b", "c . c", "D . ."), []string{"loss 1 answered 1 of 3", "loss 3 answered 2 of 3", "loss 4 answered 1 of 3"}},
		"loss at the end": {path("a a a", "D . D"), []string{"loss 2 answered 2 of 3"}},
		"bucket":          {path("a a . . a . . a . . a"), []string{"rate limited 1 spaced like a token bucket"}},
		"no bucket":       {path("a . . a . a . . . . a"), []string{"loss 1 answered"}},
		"bucket too fast": {path("a a . a a a a"), []string{"loss 1 answered"}},
		"not sent": {each(path("a a a", "D D D"), 1, func(p *result.Probe) {
			if p.Attempt > 0 {
				*p = result.Probe{Error: "message too long", Missing: result.NotSent}
			}
		}), nil},
		"clock set back": {each(path("a", "D"), 2, func(p *result.Probe) { *p.RTT = -time.Second }), []string{"wrong clock 2 1s before its probe was sent: the clock of a was set back"}},
		"clock set": {func() *result.Trace {
			tr := path("a")
			tr.Clocks = map[string]result.Clock{"a": {}, "b": {Stepped: true}}
			return tr
		}(), []string{"wrong clock 0 clock of b was set during"}},
		"two clocks": {each(path("a", "D"), 2, func(p *result.Probe) { *p.RTT, p.OneClock, p.Receiver = -time.Second, false, "b" }), []string{"wrong clock 2 the clocks of a and b differ by at least that"}},
		"corrected": {each(path("a", "D"), 2, func(p *result.Probe) {
			*p.RTT, p.OneClock, p.Receiver = -time.Second, false, "b"
			delay, bound := time.Millisecond, 2*time.Millisecond
			p.Delay, p.Bound = &delay, &bound
		}), nil},
		"within the bound": {each(path("a", "D"), 2, func(p *result.Probe) {
			*p.RTT, p.OneClock, p.Receiver = -time.Second, false, "b"
			delay, bound := -time.Millisecond, 2*time.Millisecond
			p.Delay, p.Bound = &delay, &bound
		}), nil},
		"beyond the bound": {each(path("a", "D"), 2, func(p *result.Probe) {
			p.OneClock, p.Receiver = false, "b"
			delay, bound := -3*time.Millisecond, 2*time.Millisecond
			p.Delay, p.Bound = &delay, &bound
		}), []string{"wrong clock 2 clock of a or b is not what it was taken to be"}},
	} {
		t.Run(name, func(t *testing.T) {
			found := tt.trace.Find()
			require.Len(t, found, len(tt.want), "%v", found)
			for i, f := range found {
				kind, rest, _ := strings.Cut(tt.want[i], fmt.Sprintf(" %d ", f.TTL))
				require.Equal(t, kind, string(f.Kind))
				require.Contains(t, f.Text, rest)
			}
		})
	}
}

func TestAccountAddsUp(t *testing.T) {
	reasons := []result.Missing{"", result.NotSent, result.Blocked, result.SourceLost, result.AnsweredLate, result.AskedAgain, result.Beyond, result.Cancelled, result.Unreported, result.ReceiverAway, result.Dropped, result.NoAnswer}
	rapid.Check(t, func(t *rapid.T) {
		var a result.Account
		n := rapid.IntRange(0, 100).Draw(t, "n")
		byReason := map[result.Missing]int{}
		for range n {
			r := rapid.SampledFrom(reasons).Draw(t, "reason")
			byReason[r]++
			a.Add(r, rapid.SampledFrom([]string{"", "b", "c"}).Draw(t, "detail"))
		}
		require.Equal(t, n, a.Asked)
		require.True(t, a.Adds())
		require.Equal(t, byReason[""], a.Answered)
		last := -1
		for _, l := range a.Unanswered {
			at := 0
			for reasons[at] != l.Reason {
				at++
			}
			require.GreaterOrEqual(t, at, last, "in the order of the reasons")
			last = at
			byReason[l.Reason] -= l.Count
		}
		for _, r := range reasons[1:] {
			require.Zero(t, byReason[r])
		}
		a.Answered++
		require.False(t, a.Adds())
	})
}

func TestTextOfTrouble(t *testing.T) {
	tr := path("a a a", "D . .")
	tr.Started = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tr.Account = result.Account{Asked: 6, Answered: 4, Unanswered: []result.Loss{
		{Reason: result.ReceiverAway, Detail: "b", Count: 1}, {Reason: result.NoAnswer, Count: 1},
	}, Gaps: []result.Gap{
		{Agent: "b", Kind: result.Disconnected, From: tr.Started.Add(time.Second), To: tr.Started.Add(1500 * time.Millisecond)},
		{Agent: "c", Kind: result.Unresponsive, From: tr.Started.Add(2 * time.Second)},
		{Agent: "a", Kind: result.KernelDrops, From: tr.Started, To: tr.Started.Add(time.Second), Count: 7},
		{Agent: "a", Kind: result.QueueOverflow, From: tr.Started, To: tr.Started.Add(time.Second), Count: 8},
		{Agent: "b", Kind: result.NotRead, From: tr.Started, To: tr.Started.Add(time.Second), Count: 9},
	}}
	tr.Findings = tr.Find()
	_, remarks, _ := strings.Cut(tr.Text(), "\n#")
	require.Equal(t, ` 6 probes asked for, 4 answered; of the others: 1 receiver away (b)
# agent b was disconnected from 1s to 1.5s: answers that reached it then may be missing
# agent c was unresponsive from 2s on: answers that reached it then may be missing
# agent a: its kernel dropped 7 captured packets from 0s to 1s
# agent a: its queue to the controller dropped 8 captured answers from 0s to 1s
# agent b captured 9 possible answers from 0s to 1s that it could neither read nor pass on in time`, remarks)
}

func TestTextOfTwoClocks(t *testing.T) {
	tr := path("a a a", "D D D")
	each(tr, 2, func(p *result.Probe) {
		p.OneClock = false
		if p.Attempt > 0 {
			delay, bound := 35432*time.Microsecond, 209_001*time.Nanosecond
			p.Delay, p.Bound = &delay, &bound
		}
	})
	require.Contains(t, tr.Text(), "2  203.0.113.10 (203.0.113.10) a  2.000? ms  35.432±0.210 ms  35.432±0.210 ms\n# ±: ")
	require.Contains(t, tr.Text(), "\n# ?: ")
}

func TestTextOfUserStamps(t *testing.T) {
	tr := path("a a a", "D D D")
	require.NotContains(t, tr.Text(), "user space")
	kernel := tr.Text()
	tr.Hops[0].Probes[0].SentStamp = "driver"
	require.Equal(t, kernel, tr.Text())
	tr.Hops[0].Probes[1].SentStamp = "user"
	tr.Hops[1].Probes[2].RecvStamp = "user"
	require.Contains(t, tr.Text(), "\n# 2 times taken in user space")
}
