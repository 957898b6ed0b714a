package result_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

func moments() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
}

func addrs() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		switch rapid.IntRange(0, 4).Draw(t, "family") {
		case 0:
			return netip.Addr{}
		case 1:
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
		case 2:
			return netip.MustParseAddr("fe80::1%eth0")
		case 3:
			return netip.MustParseAddr("::ffff:192.0.2.1")
		default:
			return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
		}
	})
}

func probes() *rapid.Generator[result.Probe] {
	return rapid.Custom(func(t *rapid.T) result.Probe {
		str := rapid.String()
		p := result.Probe{
			ID: rapid.Uint16().Draw(t, "id"), TTL: rapid.Int().Draw(t, "ttl"), Attempt: rapid.Int().Draw(t, "attempt"),
			Flow: rapid.Int().Draw(t, "flow"), Destination: addrs().Draw(t, "dst"), Sent: moments().Draw(t, "sent"),
			SentStamp: str.Draw(t, "ss"), Error: str.Draw(t, "error"),
			Verdict:  rapid.SampledFrom([]result.Verdict{"", result.Matched, result.Late, "of a later version"}).Draw(t, "verdict"),
			Receiver: str.Draw(t, "receiver"), Addr: addrs().Draw(t, "addr"), Name: str.Draw(t, "name"),
			Received: moments().Draw(t, "received"), RecvStamp: str.Draw(t, "rs"), OneClock: rapid.Bool().Draw(t, "one"),
			Kind: str.Draw(t, "kind"), ICMPType: rapid.Byte().Draw(t, "type"), ICMPCode: rapid.Byte().Draw(t, "code"),
			ReplyTTL: rapid.Byte().Draw(t, "rttl"), QuotedTTL: rapid.Byte().Draw(t, "qttl"), QuotedTOS: rapid.Byte().Draw(t, "qtos"),
			Values: rapid.SampledFrom([][]probe.Value{nil, {{Name: "site", Text: "fra1"}, {Name: "x", Text: "é \x00"}}}).Draw(t, "values"),
			MTU:    rapid.Uint32().Draw(t, "mtu"), QuotedSource: addrs().Draw(t, "qsrc"),
			Delay: durations().Draw(t, "delay"), Bound: durations().Draw(t, "bound"),
			Missing:       rapid.SampledFrom([]result.Missing{"", result.NoAnswer, "of a later version"}).Draw(t, "missing"),
			MissingDetail: rapid.String().Draw(t, "detail"),
		}
		if rapid.Bool().Draw(t, "rtt?") {
			d := time.Duration(rapid.Int64().Draw(t, "rtt"))
			p.RTT = &d
		}
		for range rapid.IntRange(0, 3).Draw(t, "labels") {
			p.MPLS = append(p.MPLS, probe.Label{
				Label: rapid.Uint32().Draw(t, "label"), TC: rapid.Byte().Draw(t, "tc"),
				Bottom: rapid.Bool().Draw(t, "bottom"), TTL: rapid.Byte().Draw(t, "lttl"),
			})
		}
		return p
	})
}

func durations() *rapid.Generator[*time.Duration] {
	return rapid.Ptr(rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) }), true)
}

func clocks() *rapid.Generator[result.Clock] {
	return rapid.Custom(func(t *rapid.T) result.Clock {
		return result.Clock{
			Name: rapid.String().Draw(t, "name"), Offset: durations().Draw(t, "offset"), Bound: durations().Draw(t, "bound"),
			Skew: rapid.Float64Range(-500, 500).Draw(t, "skew"), Stepped: rapid.Bool().Draw(t, "stepped"),
			Discipline: rapid.String().Draw(t, "discipline"),
			MaxError:   time.Duration(rapid.Int64().Draw(t, "max")), EstError: time.Duration(rapid.Int64().Draw(t, "est")),
		}
	})
}

func findings() *rapid.Generator[result.Finding] {
	return rapid.Custom(func(t *rapid.T) result.Finding {
		return result.Finding{
			Kind: rapid.SampledFrom([]result.FindingKind{result.Loop, "of a later version"}).Draw(t, "kind"),
			TTL:  rapid.Int().Draw(t, "ttl"), Addrs: rapid.SliceOfN(addrs(), 1, 2).Draw(t, "addrs"),
			Was: rapid.Byte().Draw(t, "was"), Is: rapid.Byte().Draw(t, "is"), Text: rapid.String().Draw(t, "text"),
		}
	})
}

func traces() *rapid.Generator[*result.Trace] {
	return rapid.Custom(func(t *rapid.T) *result.Trace {
		str, num := rapid.String(), rapid.Int()
		tr := &result.Trace{
			Target: str.Draw(t, "target"), Destination: addrs().Draw(t, "dst"), Source: str.Draw(t, "source"), SourceAddr: addrs().Draw(t, "sa"),
			Prober: str.Draw(t, "prober"), Port: rapid.Uint16().Draw(t, "port"), Flow: str.Draw(t, "flow"), Flows: num.Draw(t, "flows"),
			FirstTTL: num.Draw(t, "first"), MaxTTL: num.Draw(t, "max"), Queries: num.Draw(t, "queries"), TOS: rapid.Byte().Draw(t, "tos"),
			Size: num.Draw(t, "size"), Numeric: rapid.Bool().Draw(t, "numeric"), Started: moments().Draw(t, "started"), Ended: moments().Draw(t, "ended"),
			Reached: rapid.Bool().Draw(t, "reached"), Partial: str.Draw(t, "partial"),
			Counts: result.Counts{Sent: num.Draw(t, "c1"), Matched: num.Draw(t, "c2"), Late: num.Draw(t, "c3"), Duplicate: num.Draw(t, "c4"), Foreign: num.Draw(t, "c5"), Unverified: num.Draw(t, "c6")},
		}
		for range rapid.IntRange(0, 3).Draw(t, "hops") {
			tr.Hops = append(tr.Hops, result.Hop{TTL: num.Draw(t, "ttl"), Probes: rapid.SliceOfN(probes(), 1, 3).Draw(t, "probes")})
		}
		if rapid.Bool().Draw(t, "extras") {
			tr.Clocks = rapid.MapOfN(str, clocks(), 1, 3).Draw(t, "clocks")
			tr.Findings = rapid.SliceOfN(findings(), 1, 3).Draw(t, "findings")
			tr.Rewritten = num.Draw(t, "rewritten")
			tr.Options = rapid.MapOfN(str, str, 1, 3).Draw(t, "options")
			tr.Account = result.Account{
				Asked: num.Draw(t, "asked"), Answered: num.Draw(t, "answered"),
				Unanswered: []result.Loss{{Reason: result.NoAnswer, Detail: str.Draw(t, "detail"), Count: num.Draw(t, "lost")}},
				Gaps:       []result.Gap{{Agent: str.Draw(t, "ga"), Kind: result.KernelDrops, From: moments().Draw(t, "gf"), To: moments().Draw(t, "gt"), Count: rapid.Uint64().Draw(t, "gc")}},
			}
		}
		return tr
	})
}

func TestJSONLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := traces().Draw(t, "trace")
		b, err := json.Marshal(want)
		require.NoError(t, err)
		var got result.Trace
		require.NoError(t, json.Unmarshal(b, &got))
		require.Equal(t, want, &got)
		require.Equal(t, want.Text(), got.Text())
	})
}

// The generator above must not leave a field out.
func TestJSONTestKnowsEveryField(t *testing.T) {
	seen := map[string]bool{}
	for seed := range 200 {
		tr := traces().Example(seed)
		notZero(seen, reflect.ValueOf(tr).Elem())
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[result.Trace](), reflect.TypeFor[result.Hop](), reflect.TypeFor[result.Probe](), reflect.TypeFor[result.Counts](), reflect.TypeFor[result.Account](), reflect.TypeFor[result.Loss](), reflect.TypeFor[result.Gap](), reflect.TypeFor[result.Finding](), reflect.TypeFor[result.Clock](), reflect.TypeFor[probe.Label](), reflect.TypeFor[probe.Value]()} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			require.True(t, seen[typ.Name()+"."+f.Name], "%s.%s is never set", typ.Name(), f.Name)
			require.NotEmpty(t, f.Tag.Get("json"), "%s.%s has no JSON name", typ.Name(), f.Name)
		}
	}
}

func notZero(seen map[string]bool, v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			notZero(seen, v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			notZero(seen, it.Value())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !v.Field(i).IsZero() {
				seen[v.Type().Name()+"."+v.Type().Field(i).Name] = true
				notZero(seen, v.Field(i))
			}
		}
	}
}

func TestJSONForm(t *testing.T) {
	rtt := 1234567 * time.Nanosecond
	tr := trace(hop(1, result.Probe{
		ID: 10000, TTL: 1, Destination: netip.MustParseAddr("203.0.113.110"),
		Sent: time.Date(2024, 5, 1, 12, 0, 0, 123456789, time.UTC), SentStamp: "kernel",
		Verdict: result.Matched, Receiver: "b", Addr: netip.MustParseAddr("192.0.2.1"),
		Received: time.Date(2024, 5, 1, 12, 0, 0, 124691356, time.UTC), RecvStamp: "kernel",
		RTT: &rtt, OneClock: true, Delay: &rtt, Bound: new(time.Duration), Kind: "time-exceeded", ICMPType: 11, ReplyTTL: 64, QuotedTTL: 1,
	}, result.Probe{ID: 10001, TTL: 1, Attempt: 1, Destination: netip.MustParseAddr("203.0.113.110"), Error: "network is unreachable", Missing: result.NotSent, MissingDetail: "network is unreachable"},
		result.Probe{ID: 10002, TTL: 1, Attempt: 2, Destination: netip.MustParseAddr("203.0.113.110"), Sent: time.Date(2024, 5, 1, 12, 0, 1, 0, time.UTC), SentStamp: "driver", Missing: result.NoAnswer}))
	tr.Account.Add("", "")
	tr.Account.Add(result.NotSent, "network is unreachable")
	tr.Account.Add(result.NoAnswer, "")
	b, err := json.Marshal(tr)
	require.NoError(t, err)
	require.JSONEq(t, `{
	  "target": "google.com", "destination": "203.0.113.110", "source": "node1", "prober": "", "flow": "", "flows": 0,
	  "first_ttl": 0, "max_ttl": 30, "queries": 3, "tos": 0,
	  "started": "0001-01-01T00:00:00Z", "ended": "0001-01-01T00:00:00Z", "reached": false,
	  "hops": [{"ttl": 1, "probes": [
	    {"id": 10000, "ttl": 1, "attempt": 0, "flow": 0, "destination": "203.0.113.110",
	     "sent": "2024-05-01T12:00:00.123456789Z", "sent_stamp": "kernel", "verdict": "matched", "receiver": "b",
	     "address": "192.0.2.1", "received": "2024-05-01T12:00:00.124691356Z", "received_stamp": "kernel",
	     "rtt_ns": 1234567, "one_clock": true, "delay_ns": 1234567, "delay_bound_ns": 0, "kind": "time-exceeded", "icmp_type": 11, "icmp_code": 0,
	     "reply_ttl": 64, "quoted_ttl": 1, "quoted_tos": 0},
	    {"id": 10001, "ttl": 1, "attempt": 1, "flow": 0, "destination": "203.0.113.110", "error": "network is unreachable",
	     "missing": "not sent", "missing_detail": "network is unreachable", "delay_ns": null, "delay_bound_ns": null,
	     "one_clock": false, "icmp_type": 0, "icmp_code": 0, "quoted_tos": 0},
	    {"id": 10002, "ttl": 1, "attempt": 2, "flow": 0, "destination": "203.0.113.110",
	     "sent": "2024-05-01T12:00:01Z", "sent_stamp": "driver", "missing": "no answer in time", "delay_ns": null, "delay_bound_ns": null,
	     "one_clock": false, "icmp_type": 0, "icmp_code": 0, "quoted_tos": 0}]}],
	  "counts": {"sent": 0, "matched": 0, "late": 0, "duplicate": 0, "foreign": 0, "unverified": 0},
	  "account": {"asked": 3, "answered": 1, "unanswered": [{"reason": "not sent", "detail": "network is unreachable", "count": 1}, {"reason": "no answer in time", "count": 1}]}
	}`, string(b))
}

func TestJSONOfExtremeRoundTrips(t *testing.T) {
	for _, d := range []time.Duration{0, -1, math.MaxInt64, math.MinInt64} {
		b, err := json.Marshal(result.Probe{RTT: &d})
		require.NoError(t, err)
		var p result.Probe
		require.NoError(t, json.Unmarshal(b, &p))
		require.Equal(t, &d, p.RTT)
	}
}

// What can be read can be written, read again as the same, and shown without
// a character that a terminal acts on.
func FuzzJSON(f *testing.F) {
	for seed := range 8 {
		b, err := json.Marshal(traces().Example(seed))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"hops":[{"ttl":1,"probes":[{"verdict":"matched","address":"fe80::1%\u001b[2J","name":"a\nb","rtt_ns":-1}]}]}`))
	f.Add([]byte(`{"started":"2024-01-01T00:00:00+23:59","hops":null,"findings":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var one, two result.Trace
		if json.Unmarshal(b, &one) != nil {
			t.Skip()
		}
		first, err := json.Marshal(&one)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(first, &two))
		second, err := json.Marshal(&two)
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
		text := one.Text()
		require.Equal(t, text, two.Text())
		require.NotContains(t, text, "\uFFFD")
		require.False(t, strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }))
		require.True(t, strings.HasPrefix(text, "Traceroute to "))
	})
}
