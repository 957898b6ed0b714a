package result_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

var (
	key     = probe.Key{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	target  = netip.MustParseAddr("203.0.113.9")
	session = result.Session{Key: key, Dst: target}
)

// genuine is an answer to the probe id of the session.
func genuine(id uint16) result.Answer {
	return result.Answer{ID: id, Receiver: "node1", Answer: probe.Answer{
		ID: id, Dst: target, Protocol: probe.UDP, Kind: probe.TimeExceeded,
		Tag: uint64(probe.Tag16(key.Tag(target, id, probe.UDP))), TagBits: 16,
	}}
}

func changed(a result.Answer, f func(*result.Answer)) result.Answer {
	f(&a)
	return a
}

func giveUp(c result.Correlator, id uint16) { c.(result.GaveUper).GaveUp(id) }

func TestVerdicts(t *testing.T) {
	forged := changed(genuine(100), func(a *result.Answer) { a.Tag ^= 1 })
	for _, c := range []struct {
		name string
		do   func(c result.Correlator)
		a    result.Answer
		want result.Verdict
	}{
		{"matched", nil, genuine(100), result.Matched},
		{"matched after the report", func(c result.Correlator) { c.Sent(result.Sent{ID: 100, TTL: 1}) }, genuine(100), result.Matched},
		{"another was answered", func(c result.Correlator) { c.Answered(genuine(101)) }, genuine(100), result.Matched},
		{"another was given up", func(c result.Correlator) { giveUp(c, 101) }, genuine(100), result.Matched},
		{"forged before", func(c result.Correlator) { c.Answered(forged) }, genuine(100), result.Matched},
		{"late", func(c result.Correlator) { giveUp(c, 100) }, genuine(100), result.Late},
		{"late, and the report later", func(c result.Correlator) { giveUp(c, 100); c.Sent(result.Sent{ID: 100}) }, genuine(100), result.Late},
		{"duplicate", func(c result.Correlator) { c.Answered(genuine(100)) }, genuine(100), result.Duplicate},
		{"duplicate of a late one", func(c result.Correlator) { giveUp(c, 100); c.Answered(genuine(100)) }, genuine(100), result.Duplicate},
		{"duplicate, given up afterwards", func(c result.Correlator) { c.Answered(genuine(100)); giveUp(c, 100) }, genuine(100), result.Duplicate},
		{"never asked, below", nil, genuine(99), result.Foreign},
		{"never asked, above", nil, genuine(104), result.Foreign},
		{"never asked, between", nil, genuine(102), result.Foreign},
		{"never asked, given up", func(c result.Correlator) { giveUp(c, 102) }, genuine(102), result.Foreign},
		{"nobody's", func(c result.Correlator) { c.Sent(result.Sent{ID: 0}) }, genuine(0), result.Foreign},
		{"another destination", nil, changed(genuine(100), func(a *result.Answer) { a.Dst = netip.MustParseAddr("203.0.113.10") }), result.Foreign},
		{"no destination", nil, changed(genuine(100), func(a *result.Answer) { a.Dst = netip.Addr{} }), result.Foreign},
		{"another destination, after an answer", func(c result.Correlator) { c.Answered(genuine(100)) }, changed(genuine(100), func(a *result.Answer) { a.Dst = netip.MustParseAddr("203.0.113.10") }), result.Foreign},
		{"unverified", nil, forged, result.Unverified},
		{"unverified, after an answer", func(c result.Correlator) { c.Answered(genuine(100)) }, forged, result.Unverified},
		{"unverified, given up", func(c result.Correlator) { giveUp(c, 100) }, forged, result.Unverified},
		{"tag of another probe", nil, changed(genuine(101), func(a *result.Answer) { a.ID = 100 }), result.Unverified},
		{"tag of another protocol", nil, changed(genuine(100), func(a *result.Answer) { a.Protocol = probe.TCP }), result.Unverified},
		{"no tag", nil, changed(genuine(100), func(a *result.Answer) { a.TagBits = 0 }), result.Unverified},
		{"64 bits", nil, changed(genuine(100), func(a *result.Answer) { a.TagBits, a.Tag = 64, key.Tag(target, 100, probe.UDP) }), result.Matched},
		{"64 bits, one wrong", nil, changed(genuine(100), func(a *result.Answer) { a.TagBits, a.Tag = 64, key.Tag(target, 100, probe.UDP)^1<<63 }), result.Unverified},
		{"identifier was mangled", nil, changed(genuine(100), func(a *result.Answer) { a.Answer.ID = 0x6400 }), result.Matched},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := result.NewCorrelator(session)
			m.Sent(result.Sent{ID: 103})
			m.Sent(result.Sent{ID: 101})
			m.Sent(result.Sent{ID: 100})
			if c.do != nil {
				c.do(m)
			}
			require.Equal(t, c.want, m.Answered(c.a))
		})
	}
}

func TestMappedAndZonedDestinations(t *testing.T) {
	for _, pair := range [][2]string{{"203.0.113.9", "::ffff:203.0.113.9"}, {"fe80::1%eth0", "fe80::1"}} {
		dst, claimed := netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])
		m := result.NewCorrelator(result.Session{Key: key, Dst: dst})
		m.Sent(result.Sent{ID: 7})
		a := genuine(7)
		a.Dst, a.TagBits, a.Tag = claimed, 64, key.Tag(claimed, 7, probe.UDP)
		require.Equal(t, result.Matched, m.Answered(a), "%s and %s", dst, claimed)
	}
}

// Whatever order probes are asked, given up and answered in, the verdicts are
// those of a plain record of what happened.
func TestVerdictsFollowWhatHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := result.NewCorrelator(session)
		asked, gone, done := map[uint16]bool{}, map[uint16]bool{}, map[uint16]bool{}
		ids := rapid.OneOf(rapid.Uint16Range(1, 12), rapid.Just[uint16](65535), rapid.Just[uint16](30000), rapid.Just[uint16](0))
		t.Repeat(map[string]func(*rapid.T){
			"sent": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				m.Sent(result.Sent{ID: id})
				asked[id] = id != 0
			},
			"give up": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				giveUp(m, id)
				gone[id] = gone[id] || asked[id]
			},
			"answer": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				a, want := genuine(id), result.Matched
				forged := rapid.Bool().Draw(t, "forged")
				if forged {
					a.Tag ^= 0x8000
				}
				switch {
				case !asked[id]:
					want = result.Foreign
				case forged:
					want = result.Unverified
				case done[id]:
					want = result.Duplicate
				case gone[id]:
					want = result.Late
				}
				require.Equal(t, want, m.Answered(a), "probe %d", id)
				done[id] = done[id] || asked[id] && !forged
			},
		})
	})
}

func TestAnsweredDoesNotAllocate(t *testing.T) {
	m := result.NewCorrelator(session)
	for id := uint16(1); id <= 1000; id++ {
		m.Sent(result.Sent{ID: id})
	}
	a, id := genuine(1), uint16(0)
	require.Zero(t, testing.AllocsPerRun(900, func() {
		id++
		a.ID = id
		m.Answered(a)
	}))
}

func BenchmarkAnswered(b *testing.B) {
	m := result.NewCorrelator(session)
	m.Sent(result.Sent{ID: 1})
	a := genuine(1)
	b.ReportAllocs()
	for b.Loop() {
		m.Answered(a)
	}
}
