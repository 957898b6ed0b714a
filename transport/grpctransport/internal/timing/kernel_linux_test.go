package timing_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKernelStamps shows that it is the kernel that takes the times, once it
// has begun to, and that the exchange is the shorter for it.
func TestKernelStamps(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			m := serve(t, netip.AddrPortFrom(netip.MustParseAddr(addr), 0).String()).Admit()
			c := dial(t, addr, m.Offer())
			require.Eventually(t, func() bool {
				before := time.Now()
				mine, err := c.Exchange(t.Context())
				require.NoError(t, err)
				whole := time.Since(before)
				theirs, ok := m.Served(mine.Exchange)
				require.True(t, ok)
				onTheWay := theirs.Received.Sub(mine.Sent) + mine.Received.Sub(theirs.Sent.Round(0))
				return mine.Kernel && theirs.Kernel && onTheWay < whole/2
			}, 10*time.Second, time.Millisecond)
		})
	}
}
