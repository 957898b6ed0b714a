package probetest

import (
	"bytes"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// independent: an answer depends on its datagram alone, and on that only while
// Match runs. A port reads the next datagram into the same bytes; the answer
// is reported later.
func independent(s *suite) {
	for v6 := range s.families() {
		p, other := s.probe(v6), s.probe(v6)
		other.ID, other.Key[0] = 0x1717, 99
		b := s.build(other)
		next := s.expired(other, b[:headerLen(b)+8], s.stack(labels[2], labels[0]))
		for _, g := range s.answers(p) {
			buffer := slices.Clone(g.datagram)
			first, _ := s.match(buffer)
			first = detached(first)
			if again, _ := s.match(buffer); !reflect.DeepEqual(first, again) {
				s.Fatalf("Match reads from one datagram first %+v and then %+v", first, again)
			}
			a := probe.Answer{}
			s.receiver.Match(buffer, &a)
			kept := a
			for i := range buffer {
				buffer[i] = 0xFF
			}
			if !reflect.DeepEqual(kept, first) {
				s.Fatalf("an answer changed with the bytes it was read from: %+v, then %+v", first, kept)
			}
			s.receiver.Match(next, &a)
			if !reflect.DeepEqual(kept, first) {
				s.Fatalf("an answer changed when Match read the next one into the same variable: %+v, then %+v", first, kept)
			}
		}
	}
}

// detached returns an answer that shares no memory with a.
func detached(a probe.Answer) probe.Answer {
	a.MPLS = slices.Clone(a.MPLS)
	a.Values = slices.Clone(a.Values)
	for i, v := range a.Values {
		a.Values[i] = probe.Value{Name: strings.Clone(v.Name), Text: strings.Clone(v.Text)}
	}
	return a
}

// allocations: Build into room enough and Match without extensions allocate
// nothing.
func allocations(s *suite) {
	if s.o.MayAllocate {
		s.Log("not checked: Options.MayAllocate is set")
		return
	}
	for v6 := range s.families() {
		p := s.probe(v6)
		b := bytes.Clone(s.build(p))
		n := testing.AllocsPerRun(100, func() { b, _ = s.sender.Build(b[:0], p) })
		if n > 0 {
			s.Fatalf("Build of %s into a buffer with room allocates %v times", show(p), n)
		}
		gs := append(s.answers(p), s.noAnswers(p)...)
		gs = append(gs, genuine{"the probe itself", b}, genuine{"nothing", nil})
		var a probe.Answer
		for _, g := range gs {
			if s.receiver.Match(g.datagram, &a); a.MPLS != nil || a.Values != nil {
				continue
			}
			if n := testing.AllocsPerRun(10, func() { s.receiver.Match(g.datagram, &a) }); n > 0 {
				s.Fatalf("Match allocates %v times: %s: %x", n, g.what, g.datagram)
			}
		}
	}
}

// concurrent: all methods may be called by all at once.
func concurrent(s *suite) {
	workers := make([]worker, 4*runtime.GOMAXPROCS(0)+8)
	var wg sync.WaitGroup
	for i := range workers {
		v6 := i%2 == 1 && !s.o.NoIPv6 || s.o.NoIPv4
		p := s.probe(v6)
		p.ID, p.Key[0], p.TTL, p.Flow = uint16(1000+i), byte(i), uint8(1+i%255), uint8(i)
		workers[i] = worker{s: s, p: p, answers: s.answers(p)}
		wg.Go(workers[i].run)
	}
	wg.Wait()
	for _, w := range workers {
		s.must(w.err)
		for _, b := range w.built {
			s.finds(w.p, s.expired(w.p, asSent(b), nil), true, "built by one of several goroutines")
		}
	}
}

// worker is one of many goroutines, which builds p and matches answers to it.
type worker struct {
	s       *suite
	p       *probe.Probe
	answers []genuine
	built   [][]byte
	err     error
}

func (w *worker) run() {
	defer func() {
		if r := recover(); r != nil {
			w.err = broken("Build or Match by several goroutines panics: %v", r)
		}
	}()
	name := w.s.sender.Name()
	for i := 0; i < min(w.s.o.Samples, 100) && w.err == nil; i++ {
		if err := w.step(name, w.answers[i%len(w.answers)]); err != nil {
			w.err = broken("by several goroutines: %w", err)
		}
		runtime.Gosched()
	}
}

func (w *worker) step(name string, g genuine) error {
	b, err := w.s.sender.Build(nil, w.p)
	if err != nil {
		return broken("Build of %s: %w", show(w.p), err)
	}
	w.built = append(w.built, b)
	if err := valid(w.p, b); err != nil {
		return err
	}
	a := used()
	if !w.s.receiver.Match(g.datagram, &a) {
		return broken("Match does not know the answer to %s: %s", show(w.p), g.what)
	}
	if err := w.s.consistent(g.datagram, &a); err != nil {
		return err
	}
	if again := w.s.receiver.Name(); again != name {
		return broken("Name is %q and then %q", name, again)
	}
	return identifies(w.p, &a, a.TagBits >= enough, g.what)
}
