package volta_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// TestBlockedOnTheWire: a capture where probes leave shows none to the
// destination from the moment on that it is blocked.
func TestBlockedOnTheWire(t *testing.T) {
	lab := netlab.NewTwoSites(t)
	for _, options := range []string{"-N 1", "-z 0.02", "-I -z 0.02", "-T -p 80 -N 1"} {
		t.Run(options, func(t *testing.T) {
			var list probe.Blocklist
			f := newFleet(t, false, nil)
			f.join(t, volta.AgentConfig{ID: "a", Port: openPort(t, lab.A, lab.Anycast4), Blocklist: &list})
			wire := lab.A.Capture()
			asked, before := 0, 0
			var set time.Time
			var trace *result.Trace
			for e, err := range f.Stream(f.ctx, parse(t, "volta a "+lab.Target4.String()+" -n -w 0.2 -m 6 "+options)) {
				require.NoError(t, err)
				if e.Trace != nil {
					trace = e.Trace
				} else if asked++; asked == 3 {
					rules, err := lab.Target4.Prefix(24)
					require.NoError(t, err)
					list.Set(append(blocked4, rules))
					set = time.Now()
				}
			}
			requireAccount(t, trace)
			blocked := 0
			for _, l := range trace.Account.Unanswered {
				if l.Reason == result.Blocked {
					blocked += l.Count
				}
			}
			require.NotZero(t, blocked)
			for _, p := range wire.Stop() {
				if len(p.Data) < 20 || p.Data[0]>>4 != 4 || string(p.Data[16:20]) != string(lab.Target4.AsSlice()) {
					continue
				}
				before++
				require.False(t, p.Time.After(set), "a packet left %v after", p.Time.Sub(set))
			}
			require.Equal(t, trace.Counts.Sent, before)
			require.Equal(t, 18-blocked, before)
		})
	}
}
