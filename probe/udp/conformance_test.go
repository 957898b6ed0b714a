package udp_test

import (
	"testing"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

var promised = probetest.Options{Sizes4: [2]int{30, 65000}, Sizes6: [2]int{60, 65000}}

func open(testing.TB) probe.Prober { return udp.Prober{} }

func TestConformance(t *testing.T) { probetest.Run(t, open, promised) }

func FuzzConformance(f *testing.F) { probetest.Fuzz(f, open, promised) }
