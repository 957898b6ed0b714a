package tcp_test

import (
	"testing"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
)

var promised = probetest.Options{Sizes4: [2]int{44, 44}, Sizes6: [2]int{64, 64}}

func open(testing.TB) probe.Prober { return tcp.Prober{} }

func TestConformance(t *testing.T) { probetest.Run(t, open, promised) }

func FuzzConformance(f *testing.F) { probetest.Fuzz(f, open, promised) }
