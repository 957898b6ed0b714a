package icmp_test

import (
	"testing"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
)

var promised = probetest.Options{Sizes4: [2]int{38, 65000}, Sizes6: [2]int{58, 65000}}

func open(testing.TB) probe.Prober { return icmp.Prober{} }

func TestConformance(t *testing.T) { probetest.Run(t, open, promised) }

func FuzzConformance(f *testing.F) { probetest.Fuzz(f, open, promised) }
