package volta_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/internal/tracetest"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

var requireAccount = tracetest.RequireAccount

// TestRandomFaults measures while random things go wrong.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			some := func(most time.Duration) time.Duration { return time.Duration(r.Int64N(int64(most))) }
			s := simulatedTwoSites()
			s.Seed = seed
			for i := range s.Links {
				p := &s.Links[i].Properties
				p.Loss, p.Duplicate, p.Reorder = r.Float64()*0.3, r.Float64()*0.2, r.Float64()*0.2
				p.Jitter = some(3 * time.Millisecond)
			}
			for _, name := range []string{"r1", "r2", "r3", "r4"} {
				stack := simnet.Stack{Silent: r.IntN(5) == 0, Errors: simnet.RateLimit{Rate: float64(r.IntN(3) * 50), Burst: 1 + r.IntN(3)}}
				s.Routers = append(s.Routers, simnet.Router{Name: name, Stack: stack})
			}
			for range r.IntN(4) {
				links := []string{"r1 -- r2", "r2 -- r3", "r3 -- r4", "r3 -- b"}
				from := some(300 * time.Millisecond)
				l := links[r.IntN(len(links))]
				s.Changes = append(s.Changes, simnet.Change{At: from, Down: l}, simnet.Change{At: from + some(300*time.Millisecond), Up: l})
			}
			if r.IntN(2) == 0 {
				s.Changes = append(s.Changes, simnet.Change{At: some(200 * time.Millisecond), Withdraw: "b"})
			}
			if r.IntN(2) == 0 {
				s.Spoofers = append(s.Spoofers, simnet.Spoofer{At: "r2", To: anycast4, From: target4, Claims: target4, Rate: float64(100 + r.IntN(5000))})
			}
			synctest.Test(t, func(t *testing.T) {
				n, err := s.Start()
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, n.Close()) })
				f := newFleet(t, false, &volta.ControllerConfig{Resolver: n})
				join := func(site string) (leave func()) {
					port, err := n.Port(site)
					require.NoError(t, err)
					return f.join(t, volta.AgentConfig{ID: site, Port: port})
				}
				join("a")
				leave := join("b")
				stop, done := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(done)
					for {
						select {
						case <-stop:
							return
						case <-time.After(some(400 * time.Millisecond)):
						}
						if r.IntN(2) == 0 {
							leave()
							time.Sleep(some(200 * time.Millisecond)) // virtual
							leave = join("b")
						}
					}
				}()
				options := []string{"", "-I", "-T -p 80", "-T -p 81", "--flows 3", "-q 10 -N 4", "-N 1", "-z 0.01"}[seed%8]
				m, err := volta.ParseCommand("volta a 203.0.113.10 -n -m 8 -w 0.3 " + options)
				require.NoError(t, err)
				trace, err := f.Measure(f.ctx, m)
				require.NoError(t, err)
				close(stop)
				<-done
				requireAccount(t, trace)
			})
		})
	}
}

// TestReasons has one thing go wrong at a time, and it is named.
func TestReasons(t *testing.T) {
	silent := func(names ...string) func(*simnet.Scenario) {
		return func(s *simnet.Scenario) {
			for _, n := range names {
				s.Changes = append(s.Changes, simnet.Change{Silence: n})
			}
		}
	}
	for name, tt := range map[string]struct {
		change func(s *simnet.Scenario)
		fault  func(t *testing.T, f *fleet, leave, back func())
		line   string
		want   []result.Loss
		gaps   []result.GapKind
		code   int
	}{
		"nothing":         {},
		"a silent router": {change: silent("r2"), want: []result.Loss{{Reason: result.NoAnswer, Count: 3}}},
		"a link drops everything": {
			change: func(s *simnet.Scenario) {
				ms := simnet.Properties{Delay: time.Millisecond}
				dead := ms
				dead.Loss = 1
				s.Links = []simnet.Link{
					{Draw: "a -- r1 -- r2 -- r3", Properties: ms}, {Draw: "r3 -- r4", Properties: dead, Back: &ms},
					{Draw: "r4 -- target", Properties: ms}, {Draw: "r3 -- b", Properties: ms},
				}
			},
			line: "-m 5 -w 0.1",
			want: []result.Loss{{Reason: result.NoAnswer, Count: 6}},
		},
		"too long": {line: "-m 4 2000", code: 503, want: []result.Loss{
			{Reason: result.NotSent, Detail: "message too long: 2000 bytes over a link with an MTU of 1500", Count: 12}}},
		"the receiver is away": {
			fault: func(_ *testing.T, _ *fleet, leave, _ func()) { leave() },
			line:  "-w 0.1 -m 5",
			want:  []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 9}},
			gaps:  []result.GapKind{result.Disconnected},
		},
		"the receiver goes and comes back": {
			change: silent("r2"),
			fault: func(_ *testing.T, _ *fleet, leave, back func()) {
				time.AfterFunc(20*time.Millisecond, func() { leave(); time.AfterFunc(20*time.Millisecond, back) })
			},
			line: "-w 5,0,0",
			want: []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 3}},
			gaps: []result.GapKind{result.Disconnected},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := simulatedTwoSites()
			if tt.change != nil {
				tt.change(s)
			}
			synctest.Test(t, func(t *testing.T) {
				n, err := s.Start()
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, n.Close()) })
				f := newFleet(t, false, nil)
				join := func(site string) func() {
					port, err := n.Port(site)
					require.NoError(t, err)
					return f.join(t, volta.AgentConfig{ID: site, Port: port})
				}
				join("a")
				leave := join("b")
				time.Sleep(time.Second) // virtual: the agents have been checked
				if tt.fault != nil {
					tt.fault(t, f, leave, func() { leave = join("b") })
				}
				m, err := volta.ParseCommand("volta a 203.0.113.10 -n " + tt.line)
				require.NoError(t, err)
				trace, err := f.Measure(f.ctx, m)
				if tt.code == 0 {
					require.NoError(t, err)
				} else {
					var e *volta.Error
					require.ErrorAs(t, err, &e)
					require.Equal(t, tt.code, e.Code)
				}
				requireAccount(t, trace)
				got := slices.DeleteFunc(trace.Account.Unanswered, func(l result.Loss) bool { return l.Reason == result.Beyond })
				require.ElementsMatch(t, tt.want, got, trace.Text())
				var kinds []result.GapKind
				for _, g := range trace.Account.Gaps {
					kinds = append(kinds, g.Kind)
				}
				require.Equal(t, tt.gaps, kinds)
			})
		})
	}
}

// TestSourceLost has the sender go away in the middle: it is said when.
func TestSourceLost(t *testing.T) {
	s := simulatedTwoSites()
	s.Routers = []simnet.Router{{Name: "r2", Stack: simnet.Stack{Silent: true}}}
	synctest.Test(t, func(t *testing.T) {
		n, err := s.Start()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, n.Close()) })
		f := newFleet(t, false, nil)
		leave := map[string]func(){}
		for _, site := range n.Sites() {
			port, err := n.Port(site)
			require.NoError(t, err)
			leave[site] = f.join(t, volta.AgentConfig{ID: site, Port: port})
		}
		time.Sleep(time.Second) // virtual: the agents have been checked
		began := time.Now()
		time.AfterFunc(700*time.Millisecond, leave["a"])
		m, err := volta.ParseCommand("volta a 203.0.113.10 -n -m 5 -w 5,0,0")
		require.NoError(t, err)
		trace, err := f.Measure(f.ctx, m)
		require.ErrorIs(t, err, volta.ErrAgentLost)
		requireAccount(t, trace)
		require.Equal(t, 12, trace.Account.Answered)
		require.Equal(t, []result.Loss{{Reason: result.SourceLost, Detail: "a after 700ms", Count: 3}}, trace.Account.Unanswered)
		require.Len(t, trace.Account.Gaps, 1)
		g := trace.Account.Gaps[0]
		require.Equal(t, result.Gap{Agent: "a", Kind: result.Disconnected, From: g.From}, g)
		require.LessOrEqual(t, g.From.Sub(began), 700*time.Millisecond)
		require.Contains(t, trace.Text(), "3 source lost (a after 700ms)")
	})
}

// stoppable is a transport whose agents can be stopped, as SIGSTOP does.
type stoppable struct {
	transport.Transport
	mu      sync.Mutex // guards running
	running chan struct{}
}

func newStoppable(t transport.Transport) *stoppable {
	s := &stoppable{Transport: t, running: make(chan struct{})}
	close(s.running)
	return s
}

func (s *stoppable) stop() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	s.running = c
	return func() { close(c) }
}

func (s *stoppable) wait(ctx context.Context) {
	s.mu.Lock()
	c := s.running
	s.mu.Unlock()
	select {
	case <-c:
	case <-ctx.Done():
	}
}

func (s *stoppable) Dial(ctx context.Context) (transport.Conn, error) {
	c, err := s.Transport.Dial(ctx)
	return &stoppableConn{c, s}, err
}

type stoppableConn struct {
	transport.Conn
	s *stoppable
}

func (c *stoppableConn) Send(ctx context.Context, m transport.Message) error {
	c.s.wait(ctx)
	return c.Conn.Send(ctx, m)
}

func (c *stoppableConn) Receive(ctx context.Context) (transport.Message, error) {
	m, err := c.Conn.Receive(ctx)
	c.s.wait(ctx)
	return m, err
}

// TestStoppedAgent has the receiver stop and go on.
func TestStoppedAgent(t *testing.T) {
	for name, tt := range map[string]struct {
		line  string
		pause time.Duration // 0: for good
		want  []result.Loss
		gap   string // how it is seen: "", "open", "ended", or "any" where nothing was lost by it
		mute  string // a router that does not answer
	}{
		"for good":           {"-w 2 -m 5", 0, []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 9}}, "open", ""},
		"for a while":        {"-w 2 -m 5", 1500 * time.Millisecond, nil, "any", ""},
		"and comes back":     {"-w 3,0,0 -m 5", 1500 * time.Millisecond, []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 3}}, "ended", "r2"},
		"for longer":         {"-w 0.3 -m 5", 1500 * time.Millisecond, []result.Loss{{Reason: result.ReceiverAway, Detail: "b", Count: 9}}, "open", ""},
		"too short to count": {"-w 2 -m 5", 100 * time.Millisecond, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := simulatedTwoSites()
				if tt.mute != "" {
					s.Routers = []simnet.Router{{Name: tt.mute, Stack: simnet.Stack{Silent: true}}}
				}
				n, err := s.Start()
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, n.Close()) })
				f := newFleet(t, false, nil)
				var stops *stoppable
				dial := f.dial
				for _, site := range []string{"a", "b"} {
					port, err := n.Port(site)
					require.NoError(t, err)
					f.dial = func(t testing.TB) transport.Transport {
						stops = newStoppable(dial(t))
						return stops
					}
					f.join(t, volta.AgentConfig{ID: site, Port: port})
				}
				time.Sleep(time.Second) // virtual: the agents have been checked
				resume := stops.stop()
				if tt.pause > 0 {
					time.AfterFunc(tt.pause, resume)
				} else {
					t.Cleanup(resume)
				}
				trace := f.measure(t, "volta a 203.0.113.10 "+tt.line)
				requireAccount(t, trace)
				require.Equal(t, tt.want, trace.Account.Unanswered, trace.Text())
				if tt.gap == "any" {
					return
				}
				if tt.gap == "" {
					require.Empty(t, trace.Account.Gaps)
					return
				}
				require.Len(t, trace.Account.Gaps, 1, trace.Text())
				g := trace.Account.Gaps[0]
				require.Equal(t, result.Unresponsive, g.Kind)
				require.Equal(t, tt.gap == "open", g.To.IsZero(), trace.Text())
				time.Sleep(3 * time.Second) // virtual: it goes on
			})
		})
	}
}
