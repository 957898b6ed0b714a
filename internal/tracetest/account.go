// Package tracetest checks the results of measurements for tests.
package tracetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/result"
)

// RequireAccount checks that a trace's account adds up, that its probes say the
// same, and that who is blamed was in trouble.
func RequireAccount(t testing.TB, trace *result.Trace) {
	t.Helper()
	a := &trace.Account
	require.True(t, a.Adds(), "%+v", a)
	require.Equal(t, trace.Counts.Matched, a.Answered)
	shown := map[result.Missing]int{}
	for _, h := range trace.Hops {
		for _, p := range h.Probes {
			require.Equal(t, p.Answered(), p.Missing == "", "%+v", p)
			require.Equal(t, p.Missing == result.NotSent, p.Error != "", "%+v", p)
			shown[p.Missing]++
		}
	}
	booked := map[result.Missing]int{"": a.Answered}
	for _, l := range a.Unanswered {
		require.Positive(t, l.Count, "%+v", l)
		booked[l.Reason] += l.Count
		requireGaps(t, a, l)
	}
	for reason, n := range shown {
		require.LessOrEqual(t, n, booked[reason], "%q", reason)
	}
	for _, reason := range []result.Missing{result.NoAnswer, result.ReceiverAway, result.Dropped} {
		require.Equal(t, booked[reason], shown[reason], "%q: every probe that nobody answered is shown", reason)
	}
	for _, g := range a.Gaps {
		require.False(t, g.From.IsZero())
		require.True(t, g.To.IsZero() || !g.To.Before(g.From), "%+v", g)
		require.Equal(t, counted(g.Kind), g.Count > 0, "%+v", g)
	}
}

// counted tells whether it is known how many packets a gap cost.
func counted(k result.GapKind) bool {
	return k == result.KernelDrops || k == result.QueueOverflow || k == result.NotRead
}

// requireGaps checks that the receivers to which a loss is put down had a gap
// that accounts for it.
func requireGaps(t testing.TB, a *result.Account, l result.Loss) {
	t.Helper()
	if l.Reason != result.ReceiverAway && l.Reason != result.Dropped {
		return
	}
	for agent := range strings.SplitSeq(l.Detail, ", ") {
		require.True(t, slices.ContainsFunc(a.Gaps, func(g result.Gap) bool {
			return g.Agent == agent && counted(g.Kind) == (l.Reason == result.Dropped)
		}), "%+v: %+v", l, a.Gaps)
	}
}
