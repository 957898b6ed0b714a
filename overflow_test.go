package volta_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// gatedPort receives only while its gate is open.
type gatedPort struct {
	probe.Port
	gate chan struct{} // closed when open
}

func (p *gatedPort) Receive(ds []probe.Incoming) (int, error) {
	<-p.gate
	return p.Port.Receive(ds)
}

func (p *gatedPort) Dropped() uint64 { return p.Port.(probe.Dropper).Dropped() }

// tellingPort tells of the first probe that is sent.
type tellingPort struct {
	probe.Port
	once  sync.Once
	began chan struct{} // closed then
}

func (p *tellingPort) Send(ds []probe.Outgoing) error {
	p.once.Do(func() { close(p.began) })
	return p.Port.Send(ds)
}

// TestKernelOverflow floods a site whose agent does not come to reading, until
// its kernel drops what it captures.
func TestKernelOverflow(t *testing.T) {
	lab := netlab.NewTwoSites(t)
	f := newFleet(t, false, nil)
	a := &tellingPort{Port: openPort(t, lab.A, lab.Anycast4), began: make(chan struct{})}
	f.join(t, volta.AgentConfig{ID: "a", Port: a})
	b := &gatedPort{Port: openPort(t, lab.B, lab.Anycast4), gate: make(chan struct{})}
	f.join(t, volta.AgentConfig{ID: "b", Port: b})
	type outcome struct {
		trace *result.Trace
		err   error
	}
	done := make(chan outcome, 1)
	m, err := volta.ParseCommand("volta a " + lab.Target4.String() + " -n -m 5 -w 20,0,0")
	require.NoError(t, err)
	go func() {
		trace, err := f.Measure(f.ctx, m)
		done <- outcome{trace, err}
	}()
	<-a.began // what b's kernel drops before is of no measurement
	for seed := uint64(1); b.Dropped() == 0; seed++ {
		var many [][]byte
		for range 64 {
			many = append(many, noise(lab, seed)...)
		}
		_ = lab.R3.InjectTo(lab.B, many...) // a full queue of the link is no matter
	}
	close(b.gate)
	got := <-done
	require.NoError(t, got.err)
	requireAccount(t, got.trace)
	require.Len(t, got.trace.Account.Gaps, 1, got.trace.Text())
	g := got.trace.Account.Gaps[0]
	require.Equal(t, result.KernelDrops, g.Kind)
	require.Equal(t, "b", g.Agent)
	require.Contains(t, got.trace.Text(), "agent b: its kernel dropped ")
}
