package volta_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// deafPort is a port to an IPv4 network on which nobody answers.
type deafPort struct {
	once   sync.Once
	closed chan struct{}
	sent   sync.Once
	used   chan struct{} // closed when something was sent
}

func newDeafPort() *deafPort {
	return &deafPort{closed: make(chan struct{}), used: make(chan struct{})}
}

func (p *deafPort) Send(ds []probe.Outgoing) error {
	p.sent.Do(func() { close(p.used) })
	for i := range ds {
		ds[i].Time = time.Now()
	}
	return nil
}

func (p *deafPort) Receive([]probe.Incoming) (int, error) {
	<-p.closed
	return 0, net.ErrClosed
}

func (p *deafPort) Source(dst netip.Addr) (netip.Addr, error) {
	if dst.Is6() {
		return netip.Addr{}, probe.ErrNoSource
	}
	return netip.MustParseAddr("192.0.2.1"), nil
}

func (p *deafPort) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// namesOff is a resolver that knows nothing.
type namesOff struct{}

func (namesOff) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("no such host")
}

func (namesOff) LookupAddr(context.Context, string) ([]string, error) {
	return nil, errors.New("no such name")
}

func TestWrongRequests(t *testing.T) {
	f := newFleet(t, true, &volta.ControllerConfig{Resolver: namesOff{}})
	f.join(t, volta.AgentConfig{ID: "a", Port: newDeafPort()})
	client, err := grpctransport.NewClient(grpctransport.ClientConfig{Addr: f.addr})
	require.NoError(t, err)
	defer client.Close()
	for _, tt := range []struct {
		line string
		code int
		says []string
	}{
		{"volta a 203.0.113.1 --frobnicate", 400, []string{"--frobnicate"}},
		{"volta a 203.0.113.1 -A", 400, []string{"-A", "traceroute(8)"}},
		{"volta a 203.0.113.1 --mtu", 400, []string{"--mtu", "traceroute(8)"}},
		{"volta a 203.0.113.1 -g 192.0.2.9", 400, []string{"-g", "traceroute(8)"}},
		{"volta a 203.0.113.1 -m 0", 400, []string{"0", "1", "255"}},
		{"volta a 203.0.113.1 -m 300", 400, []string{"300", "1", "255"}},
		{"volta a 203.0.113.1 -q 0", 400, []string{"0", "1", "10"}},
		{"volta a 203.0.113.1 -q 1000", 400, []string{"1000", "1", "10"}},
		{"volta a 203.0.113.1 -w -1", 400, []string{"-1"}},
		{"volta a 203.0.113.1 -t 999", 400, []string{"999", "0", "255"}},
		{"", 400, []string{"empty"}},
		{"   ", 400, []string{"empty"}},
		{"volta a nowhere.example", 400, []string{"nowhere.example"}},
		{"volta a 2001:db8::1", 400, []string{"2001:db8::1", "IPv6"}},
		{"volta a 203.0.113.1 " + strings.Repeat("x", 1<<20), 400, []string{"4096"}},
		{"volta a \xff\xfe", 400, []string{"UTF-8"}},
		{"volta a 'x", 400, nil},
		{"volta nobody 203.0.113.1", 404, []string{"nobody"}},
	} {
		code, output, err := client.UserRequest(f.ctx, tt.line)
		require.NoError(t, err, "%.80q", tt.line)
		require.Equal(t, tt.code, code, "%.80q: %s", tt.line, output)
		require.Less(t, len(output), 500, "%.80q", tt.line)
		for _, s := range tt.says {
			require.Contains(t, output, s, "%.80q", tt.line)
		}
	}
	code, output, err := client.UserRequest(f.ctx, "volta a 203.0.113.1 -n -m 1 -w 0.05")
	require.NoError(t, err)
	require.Equal(t, 200, code)
	require.Equal(t, "Traceroute to 203.0.113.1 (203.0.113.1) from a, 3 probes, 1 hops max\n1  *  *  *", output)
}

func TestDuplicateAgent(t *testing.T) {
	f := newFleet(t, true, nil)
	f.join(t, volta.AgentConfig{ID: "a", Port: newDeafPort()})
	second, err := volta.NewAgent(volta.AgentConfig{ID: "a", Port: newDeafPort()})
	require.NoError(t, err)
	err = second.Run(f.ctx, f.dial(t))
	require.ErrorIs(t, err, volta.ErrDuplicateAgent)
	require.ErrorContains(t, err, `"a"`)
	f.measure(t, "volta a 203.0.113.1 -m 1 -w 0.05")
}

func TestAgentLeavesInTheMiddle(t *testing.T) {
	f := newFleet(t, true, nil)
	port := newDeafPort()
	leave := f.join(t, volta.AgentConfig{ID: "a", Port: port})
	m := volta.Measurement{Source: "a", Target: "203.0.113.1", Numeric: true, Wait: time.Minute}
	type outcome struct {
		trace *result.Trace
		err   error
	}
	ended := make(chan outcome, 1)
	go func() {
		trace, err := f.Measure(f.ctx, m)
		ended <- outcome{trace, err}
	}()
	<-port.used
	leave()
	got := <-ended
	var e *volta.Error
	require.ErrorAs(t, got.err, &e)
	require.ErrorIs(t, got.err, volta.ErrAgentLost)
	require.Equal(t, 503, e.Code)
	require.Contains(t, got.trace.Partial, `"a" disconnected`)
	require.Contains(t, got.trace.Text(), got.trace.Partial)
}

func TestStream(t *testing.T) {
	f := newFleet(t, false, nil)
	f.join(t, volta.AgentConfig{ID: "a", Port: newDeafPort()})
	m := volta.Measurement{Source: "a", Target: "203.0.113.1", Numeric: true, MaxTTL: 2, Wait: 50 * time.Millisecond}
	probes := 0
	for e, err := range f.Stream(f.ctx, m) {
		require.NoError(t, err)
		if e.Probe != nil {
			probes++
			require.Nil(t, e.Trace)
			continue
		}
		require.Len(t, e.Trace.Hops, 2)
	}
	require.Equal(t, 6, probes)
	for range f.Stream(f.ctx, m) {
		break
	}
}

func TestMeasurementLimits(t *testing.T) {
	f := newFleet(t, false, nil)
	f.join(t, volta.AgentConfig{ID: "a", Port: newDeafPort()})
	for want, change := range map[string]func(*volta.Measurement){
		"256: max hops must be 1 to 255": func(m *volta.Measurement) { m.MaxTTL = 256 },
		"31: first hop must be 1 to 30":  func(m *volta.Measurement) { m.FirstTTL = 31 },
		"11: ":                           func(m *volta.Measurement) { m.Queries = 11 },
		"-1: ":                           func(m *volta.Measurement) { m.Window = -1 },
		"4: each flow needs a probe at every hop": func(m *volta.Measurement) { m.Flows = 4 },
		"70000: ":                   func(m *volta.Measurement) { m.Size = 70000 },
		"5: must be 4, 6":           func(m *volta.Measurement) { m.Family = 5 },
		"-1,3,10":                   func(m *volta.Measurement) { m.Wait = -time.Second },
		"only UDP probes":           func(m *volta.Measurement) { m.Prober, m.FlowMode = "icmp", probe.Classic },
		`prober "sctp"`:             func(m *volta.Measurement) { m.Prober = "sctp" },
		"size 29, want 30 to 65000": func(m *volta.Measurement) { m.Size = 29 },
	} {
		m := volta.Measurement{Source: "a", Target: "203.0.113.1", Numeric: true}
		change(&m)
		_, err := f.Measure(f.ctx, m)
		var e *volta.Error
		require.ErrorAs(t, err, &e, want)
		require.Contains(t, e.Error(), want)
		require.Equal(t, 400, e.Code, want)
	}
	_, err := volta.NewAgent(volta.AgentConfig{ID: "a b", Port: newDeafPort()})
	require.ErrorContains(t, err, "a b")
	_, err = volta.NewAgent(volta.AgentConfig{ID: "a"})
	require.ErrorContains(t, err, "Port")
	_, err = volta.NewController(&volta.ControllerConfig{Start: 200, End: 100})
	require.Error(t, err)
}
