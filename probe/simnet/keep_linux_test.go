package simnet_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// In real time packets reach what is attached when they are due: the timers of
// the runtime are late by some 80 µs.
func TestKeepTime(t *testing.T) {
	n := start(t, path("a --500us-- h"))
	require.NoError(t, n.KeepTime())
	require.NoError(t, n.KeepTime())
	late := make(chan time.Duration, 1)
	a, err := n.Attach("a", func(_ []byte, at time.Time) { late <- time.Since(at) })
	require.NoError(t, err)
	defer a.Close()
	var median time.Duration
	for range 20 { // as long as others have the processors
		var all []time.Duration
		for range 21 {
			require.NoError(t, a.Send(echo4.bytes(), time.Now()))
			all = append(all, <-late)
		}
		slices.Sort(all)
		require.GreaterOrEqual(t, all[0], time.Duration(0), "never early")
		if median = all[len(all)/2]; median < 20*time.Microsecond {
			return
		}
	}
	require.Failf(t, "late", "half of the packets by more than %v", median)
}
