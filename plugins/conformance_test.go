//go:build unix

package plugins_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// types are the measurement types of the tests, by mode, as they are in
// process, and what they promise.
var types = map[string]struct {
	probe.Prober
	probetest.Options
}{
	"udp":     {udp.Prober{}, probetest.Options{Sizes4: [2]int{30, 65000}, Sizes6: [2]int{60, 65000}}},
	"icmp":    {icmp.Prober{}, probetest.Options{Sizes4: [2]int{38, 65000}, Sizes6: [2]int{58, 65000}}},
	"tcp":     {tcp.Prober{}, probetest.Options{Sizes4: [2]int{44, 44}, Sizes6: [2]int{64, 64}}},
	"hello":   {udp.Carry(hello{}), probetest.Options{Sizes4: [2]int{45, 65000}, Sizes6: [2]int{65, 65000}}},
	"ping":    {icmp.Carry(hello{}), probetest.Options{Sizes4: [2]int{45, 65000}, Sizes6: [2]int{65, 65000}}},
	"batcher": {batcher{udp.Prober{}}, probetest.Options{Sizes4: [2]int{30, 65000}, Sizes6: [2]int{60, 65000}}},
}

// A type does from another process all that it does in this one.
func TestConformance(t *testing.T) {
	for _, mode := range []string{"udp", "icmp", "tcp", "hello"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			typ := types[mode]
			sender, receiver := open(t, config(t, mode)), open(t, config(t, mode))
			mine := true
			o := typ.Options
			o.MayAllocate, o.Samples = true, 30
			probetest.Run(t, func(testing.TB) probe.Prober {
				mine = !mine
				if mine {
					return receiver
				}
				return sender
			}, o)
			require.Zero(t, sender.State().Restarts+receiver.State().Restarts)
		})
	}
}
