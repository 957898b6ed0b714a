package probetest_test

import (
	"fmt"
	"testing"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
)

// https is a measurement type of one's own: TCP probes that go to web servers
// and nowhere else.
type https struct{ tcp.Prober }

func (https) Name() string { return "https" }

func (h https) Build(b []byte, p *probe.Probe) ([]byte, error) {
	if p.DstPort != 443 {
		return b, fmt.Errorf("%w: destination port %d, want 443", probe.ErrProbe, p.DstPort)
	}
	return h.Prober.Build(b, p)
}

// openHTTPS makes a prober; the suite asks for one to build and another one to
// match.
func openHTTPS(testing.TB) probe.Prober { return https{} }

// The options say what the type may be excused from: its probes go to one port
// and are of one size.
var httpsOptions = probetest.Options{
	DstPort: 443,
	Sizes4:  [2]int{44, 44},
	Sizes6:  [2]int{64, 64},
}

// A type passes if two tests of its package do, of which each is one line:
//
//	func TestConformance(t *testing.T) { probetest.Run(t, openHTTPS, httpsOptions) }
//
//	func FuzzConformance(f *testing.F) { probetest.Fuzz(f, openHTTPS, httpsOptions) }
func Example() {
	var t *testing.T // of func TestConformance(t *testing.T)
	probetest.Run(t, openHTTPS, httpsOptions)
}
