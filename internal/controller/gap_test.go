package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/result"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

func TestGaps(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(sec int) time.Time {
		if sec < 0 {
			return time.Time{}
		}
		return began.Add(time.Duration(sec-10) * time.Second)
	}
	type gap struct{ from, to, count int } // seconds; the session begins at 10
	for name, tt := range map[string]struct{ gaps, want []gap }{
		"apart":                   {[]gap{{11, 12, 1}, {14, 15, 2}}, []gap{{11, 12, 1}, {14, 15, 2}}},
		"one after the other":     {[]gap{{11, 12, 1}, {12, 15, 2}}, []gap{{11, 15, 3}}},
		"one that began earlier":  {[]gap{{13, 14, 1}, {11, 15, 2}}, []gap{{11, 15, 3}}},
		"one within":              {[]gap{{11, 15, 1}, {12, 13, 1}}, []gap{{11, 15, 2}}},
		"one told of late":        {[]gap{{14, 15, 1}, {11, 12, 1}}, []gap{{14, 15, 1}, {11, 12, 1}}},
		"joined by a third":       {[]gap{{11, 12, 1}, {14, 15, 1}, {12, 14, 1}}, []gap{{11, 15, 3}}},
		"one that has not ended":  {[]gap{{11, -1, 0}, {12, 13, 0}}, []gap{{11, -1, 0}}},
		"twice not ended":         {[]gap{{11, -1, 0}, {12, -1, 0}}, []gap{{11, -1, 0}}},
		"over before the session": {[]gap{{5, 9, 4}}, nil},
		"as the session began":    {[]gap{{5, 12, 4}}, []gap{{10, 12, 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &session{began: began}
			a := &agent{Hello: transport.Hello{Agent: "a"}}
			for _, g := range tt.gaps {
				s.gap(a, result.QueueOverflow, at(g.from), at(g.to), uint64(g.count))
			}
			var want []result.Gap
			for _, g := range tt.want {
				want = append(want, result.Gap{Agent: "a", Kind: result.QueueOverflow, From: at(g.from), To: at(g.to), Count: uint64(g.count)})
			}
			require.Equal(t, len(want), len(s.gaps))
			require.ElementsMatch(t, want, s.gaps)
		})
	}
}

// TestGapsOfManyAgents has gaps of some agents not hide those of others, and
// one agent's be bounded.
func TestGapsOfManyAgents(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &session{began: began}
	for id := range 200 {
		s.gaps = append(s.gaps, result.Gap{Agent: string(rune('一' + id)), Kind: result.Disconnected, From: began})
	}
	a := &agent{Hello: transport.Hello{Agent: "a"}}
	for i := range 100 {
		from := began.Add(time.Duration(i) * time.Second)
		s.gap(a, result.KernelDrops, from, from.Add(time.Millisecond), 1)
	}
	own := s.gaps[200:]
	require.NotEmpty(t, own)
	require.LessOrEqual(t, len(own), maxGaps)
	var n uint64
	for _, g := range own {
		require.False(t, g.To.Before(g.From))
		n += g.Count
	}
	require.EqualValues(t, 100, n)
}

func TestARestartIsNoStep(t *testing.T) {
	s := &session{steps: map[string]bool{}, firstSteps: map[process]uint64{}}
	s.observe(&agent{Hello: transport.Hello{Agent: "a", Instance: 1}, pulse: newPulse(time.Now())}, 3)
	s.observe(&agent{Hello: transport.Hello{Agent: "a", Instance: 2}, pulse: newPulse(time.Now())}, 0)
	require.Empty(t, s.steps)
	s.observe(&agent{Hello: transport.Hello{Agent: "a", Instance: 2}, pulse: newPulse(time.Now())}, 1)
	require.True(t, s.steps["a"])
}

func TestSharesClock(t *testing.T) {
	named := func(clock string) *agent { return &agent{Hello: transport.Hello{Clock: clock}} }
	mute, one := named(""), named("one")
	for _, tt := range []struct {
		a, b *agent
		want bool
	}{
		{one, one, true}, {one, named("one"), true}, {one, named("two"), false},
		{mute, mute, true}, {mute, named(""), false}, {mute, one, false}, {one, mute, false},
	} {
		require.Equal(t, tt.want, tt.a.sharesClock(tt.b), "%q and %q", tt.a.Clock, tt.b.Clock)
	}
}

// TestCheckSentAWhileLater has a check leave later than it was asked for. The
// agent has all its time to answer that, and is silent then.
func TestCheckSentAWhileLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(time.Now())
		answer := func() {
			m, ok := p.begin(time.Now())
			require.True(t, ok)
			p.take(&transport.Status{Seq: m.Seq}, time.Now())
		}
		answer()
		heard := time.Now()
		a := &agent{pulse: p, hurry: make(chan struct{}, 1)}
		go func() {
			<-a.hurry
			time.Sleep(20 * time.Millisecond) // a busy host
			p.begin(time.Now())
		}()
		time.Sleep(100 * time.Millisecond)
		a.wait(t.Context(), time.Now())
		require.Equal(t, heard, p.silent(time.Now()))
	})
}

// TestWaitsForTheRevived has an agent be silent for long, and begin to tell what
// it held just when a measurement ends. Its answer to the check follows, or not.
func TestWaitsForTheRevived(t *testing.T) {
	for name, answers := range map[string]bool{"answers": true, "falls silent again": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPulse(time.Now())
				a := &agent{pulse: p, hurry: make(chan struct{}, 1)}
				answer := func() { p.take(&transport.Status{Seq: p.seq}, time.Now()) }
				ask := func() {
					_, ok := p.begin(time.Now())
					require.True(t, ok)
				}
				ask()
				answer()
				heard := time.Now()
				ask()
				time.Sleep(2 * time.Second)
				began := time.Now()
				p.hear(began)
				if answers {
					go func() {
						time.Sleep(20 * time.Millisecond)
						answer()
						<-a.hurry // the check was sent before the wait
						ask()
						answer()
					}()
				}
				a.wait(t.Context(), time.Now())
				if answers {
					require.Equal(t, 20*time.Millisecond, time.Since(began))
					require.Zero(t, p.silent(time.Now()))
					return
				}
				require.Equal(t, patience, time.Since(began))
				require.Equal(t, heard, p.silent(time.Now()))
				p.hear(time.Now())
				a.wait(t.Context(), time.Now())
				require.Equal(t, patience, time.Since(began), "once")
			})
		})
	}
}
