package probetest

import (
	"fmt"
	"iter"
	"runtime/debug"
	"testing"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Options say what a measurement type may be excused from, and how it is
// answered. The zero value suits a type that builds probes of both families
// and is answered as any host answers UDP, TCP and ICMP.
type Options struct {
	// NoIPv4 and NoIPv6 say that the type has no probes of that family. Build
	// then has to refuse them.
	NoIPv4, NoIPv6 bool
	// NoClassic says that a type over UDP refuses the flow mode
	// [probe.Classic]. Types over other protocols always have to.
	NoClassic bool
	// Sizes4 and Sizes6 are the least and the greatest [probe.Probe.Size], in
	// bytes, that the type takes. Build then has to take each size from one to
	// the other, and to refuse all others but 0. With zeros it may take and
	// refuse as it likes, but not build another size than asked for.
	Sizes4, Sizes6 [2]int
	// DstPort is the destination port of probes over UDP and TCP. Build has to
	// honour or refuse any other. 0 is 33434.
	DstPort uint16
	// Reply returns the datagrams with which destinations may answer a probe,
	// given as it is sent; Match has to know each. Nil is [DirectAnswers]. A
	// type that only ICMP errors answer returns none.
	Reply func(t testing.TB, datagram []byte) [][]byte
	// MayAllocate leaves out the check that Build and Match do not allocate: a
	// prober in another process cannot but do so.
	MayAllocate bool
	// Samples is how many cases stand for all where a check goes through
	// identifiers, flows, altered bits and random bytes. 0 is 4096. Where calls are
	// slow, as into another process, 100 still see all but rare faults.
	Samples int
}

// checks are all that [Run] does. Each gets a suite with probers of its own.
var checks = []struct {
	name string
	run  func(*suite)
}{
	{"Name", name},
	{"Append", appends},
	{"Datagram", datagrams},
	{"Size", sizes},
	{"Refuse", refuses},
	{"Flow", flows},
	{"Classic", classic},
	{"Identity", identity},
	{"Quote", quotes},
	{"Error", icmpErrors},
	{"Extension", extensions},
	{"Rewritten", rewritten},
	{"Carried", carried},
	{"Reply", replies},
	{"Foreign", foreign},
	{"Truncated", truncated},
	{"Altered", altered},
	{"Noise", noise},
	{"Independent", independent},
	{"Allocations", allocations},
	{"Concurrent", concurrent},
	{"Batch", batches},
	{"Options", options},
	{"Help", help},
	{"DefaultPort", defaultPort},
}

// Run checks the probers that open makes, which are all of one measurement
// type. Each check asks for two: one builds the probes and the other, as an
// agent elsewhere would, matches the answers. They may be closed in a cleanup
// of the t that open gets. If t is a *[testing.T], each check is a subtest; it
// must not be parallel unless o.MayAllocate is set.
func Run(t testing.TB, open func(t testing.TB) probe.Prober, o Options) {
	t.Helper()
	for _, c := range checks {
		if tt, ok := t.(*testing.T); ok {
			tt.Run(c.name, func(t *testing.T) { check(t, open, o, c.run) })
		} else {
			check(t, open, o, c.run)
		}
	}
}

// check runs one check, which a panic ends.
func check(t testing.TB, open func(t testing.TB) probe.Prober, o Options, run func(*suite)) {
	t.Helper()
	s := newSuite(t, open, o)
	defer func() {
		if r := recover(); r != nil {
			t.Fatalf("the prober panics: %v\n%s", r, debug.Stack())
		}
	}()
	run(s)
}

// suite is what one check works with.
type suite struct {
	testing.TB
	o                Options
	sender, receiver probe.Prober
	protocols        map[bool]uint8 // of the type's probes, by whether IPv6
}

func newSuite(t testing.TB, open func(t testing.TB) probe.Prober, o Options) *suite {
	t.Helper()
	if o.NoIPv4 && o.NoIPv6 {
		t.Fatalf("Options exclude both IPv4 and IPv6: nothing is left to check")
	}
	if o.DstPort == 0 {
		o.DstPort = 33434
	}
	if o.Reply == nil {
		o.Reply = func(_ testing.TB, datagram []byte) [][]byte { return DirectAnswers(datagram) }
	}
	if o.Samples <= 0 {
		o.Samples = 4096
	}
	s := &suite{TB: t, o: o, sender: open(t), receiver: open(t), protocols: map[bool]uint8{}}
	for v6 := range s.families() {
		p := s.probe(v6)
		b := s.build(p)
		s.must(valid(p, b))
		h, _ := readIP(b)
		s.protocols[v6] = h.protocol
	}
	return s
}

// families yields whether IPv6, for each family that the type has.
func (s *suite) families() iter.Seq[bool] {
	return func(yield func(v6 bool) bool) {
		if !s.o.NoIPv4 && !yield(false) {
			return
		}
		if !s.o.NoIPv6 {
			yield(true)
		}
	}
}

// identifiers yields identifiers from all over their range, its edges first.
func (s *suite) identifiers() iter.Seq[uint16] {
	const prime = 40507 // to 65535, so that none comes twice
	return func(yield func(uint16) bool) {
		for _, id := range []uint16{1, 2, 0xFF, 0x100, 0x7FFF, 0x8000, probe.SourcePort, 0xFF00, 0xFFFE, 0xFFFF} {
			if !yield(id) {
				return
			}
		}
		for i := range min(s.o.Samples, 0xFFFF) {
			if !yield(uint16(1 + i*prime%0xFFFF)) {
				return
			}
		}
	}
}

// sample yields numbers from [0, n): all, or as many as the options want.
func (s *suite) sample(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		step := max(1, float64(n)/float64(s.o.Samples))
		for i := 0.0; int(i) < n; i += step {
			if !yield(int(i)) {
				return
			}
		}
	}
}

// broken returns a promise that was not kept. Unlike other errors it begins
// with the name of a method.
func broken(format string, args ...any) error { return fmt.Errorf(format, args...) }

// must ends the check if there is an error.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", s.sender.Name(), err)
	}
}

// tryBuild is Build of the sender. A panic and a changed probe end the check.
func (s *suite) tryBuild(b []byte, p *probe.Probe) (out []byte, err error) {
	s.Helper()
	defer func() {
		if r := recover(); r != nil {
			s.Fatalf("Build of %s panics: %v\n%s", show(p), r, debug.Stack())
		}
	}()
	before := *p
	out, err = s.sender.Build(b, p)
	if *p != before {
		s.Fatalf("Build changed %s to %s", show(&before), show(p))
	}
	return out, err
}

// build returns the datagram of a probe that has to be built, as it leaves a
// host.
func (s *suite) build(p *probe.Probe) []byte {
	s.Helper()
	b, err := s.tryBuild(nil, p)
	if err != nil {
		s.Fatalf("Build of %s: %v", show(p), err)
	}
	return asSent(b)
}

// match is Match of the receiver into an answer used before. A panic, a
// changed datagram, and an answer that says of the datagram what is not so end
// the check.
func (s *suite) match(datagram []byte) (a probe.Answer, ok bool) {
	s.Helper()
	before := string(datagram)
	defer func() {
		if r := recover(); r != nil {
			s.Fatalf("Match of %x panics: %v\n%s", before, r, debug.Stack())
		}
	}()
	a = used()
	ok = s.receiver.Match(datagram, &a)
	if string(datagram) != before {
		s.Fatalf("Match changed the datagram %x to %x", before, datagram)
	}
	if ok {
		s.must(s.consistent(datagram, &a))
	}
	return a, ok
}

// finds checks that a datagram is taken for an answer to p, that p is a
// reading of its identifier, and that the tag proves it: where it has to, and
// wherever any of it is said to be known. It must not prove anything else.
func (s *suite) finds(p *probe.Probe, datagram []byte, proven bool, what string) probe.Answer {
	s.Helper()
	a, ok := s.match(datagram)
	if !ok {
		s.Fatalf("Match does not know the answer to %s: %s: %x", show(p), what, datagram)
	}
	s.must(identifies(p, &a, proven, what))
	return a
}
