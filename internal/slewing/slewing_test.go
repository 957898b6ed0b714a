package slewing_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/slewing"
)

// TestRead asks this host, whose kernel slews its clock no faster than it may.
func TestRead(t *testing.T) {
	first := slewing.Read()
	if runtime.GOOS != "linux" {
		require.Zero(t, first)
		return
	}
	if !first.Known {
		t.Skip("this host takes long to read a clock")
	}
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		now := slewing.Read()
		require.Positive(t, now.At-first.At)
		most := time.Duration(float64(now.At-first.At) * slewing.Max)
		require.LessOrEqual(t, (now.Sum - first.Sum).Abs(), most+slewing.Error)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { slewing.Read() }))
}
