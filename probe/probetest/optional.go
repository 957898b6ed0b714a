package probetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// patience is how long a call may take whose context has ended.
var patience = 10 * time.Second

// batches: if the type works in batches, they come to the same as one at a
// time.
func batches(s *suite) {
	sender, ok := s.sender.(probe.Batcher)
	receiver, also := s.receiver.(probe.Batcher)
	if !ok || !also {
		s.Log("not checked: the prober is no probe.Batcher")
		return
	}
	var ps []probe.Probe
	var datagrams [][]byte
	for v6 := range s.families() {
		for _, p := range s.probes(v6) {
			ps = append(ps, *p)
		}
		for _, wrong := range []func(p *probe.Probe){
			func(p *probe.Probe) { p.ID = 0 },
			func(p *probe.Probe) { p.TTL = 0 },
			func(p *probe.Probe) { p.Size = -1 },
		} {
			p := s.probe(v6)
			wrong(p)
			ps = append(ps, *p)
		}
		for _, g := range append(s.answers(s.probe(v6)), s.noAnswers(s.probe(v6))...) {
			datagrams = append(datagrams, g.datagram, nil)
		}
	}
	s.buildsAll(sender, ps)
	s.must(matchAll(receiver, nil))
	s.must(matchAll(receiver, datagrams))
	s.givesUp(sender, receiver, ps, datagrams)

	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wg.Go(func() {
			var err error
			defer func() {
				if r := recover(); r != nil {
					err = broken("BuildAll or MatchAll by several goroutines panics: %v", r)
				}
				errs <- err
			}()
			_, err = buildAll(sender, ps)
			err = cmp.Or(err, matchAll(receiver, datagrams))
		})
	}
	wg.Wait()
	for range cap(errs) {
		s.must(<-errs)
	}
}

// buildAll checks one BuildAll against Build, as far as that can be done in any
// goroutine.
func buildAll(b probe.Batcher, ps []probe.Probe) ([]probe.Built, error) {
	out := make([]probe.Built, len(ps))
	for i := range out {
		out[i] = probe.Built{Data: []byte("used before"), Err: errors.New("used before")}
	}
	asked := slices.Clone(ps)
	if err := b.BuildAll(context.Background(), asked, out); err != nil {
		return nil, broken("BuildAll of %d probes: %w", len(ps), err)
	}
	if !slices.Equal(asked, ps) {
		return nil, broken("BuildAll changed the probes")
	}
	for i := range ps {
		p := &ps[i]
		switch _, err := b.Build(nil, p); {
		case err == nil && out[i].Err != nil:
			return nil, broken("BuildAll of %s: %w; Build builds it", show(p), out[i].Err)
		case err != nil && out[i].Err == nil:
			return nil, broken("BuildAll of %s: no error; that of Build is: %w", show(p), err)
		case err != nil:
			if err := refusal(p, out[i].Err); err != nil {
				return nil, err
			}
		default:
			if err := valid(p, out[i].Data); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (s *suite) buildsAll(b probe.Batcher, ps []probe.Probe) {
	s.Helper()
	_, err := buildAll(b, nil)
	s.must(err)
	out, err := buildAll(b, ps)
	s.must(err)
	var all [][]byte
	for _, built := range out {
		all = append(all, bytes.Clone(built.Data))
	}
	_, err = buildAll(b, ps[1:])
	s.must(err)
	for i, built := range out {
		if built.Err != nil {
			continue
		}
		if !bytes.Equal(built.Data, all[i]) {
			s.Fatalf("a datagram that BuildAll returned changed when it built the next ones: %x, then %x", all[i], built.Data)
		}
		s.finds(&ps[i], s.expired(&ps[i], asSent(built.Data), nil), true, "built by BuildAll")
	}
}

// matchAll checks one MatchAll against Match, as far as that can be done in any
// goroutine.
func matchAll(b probe.Batcher, datagrams [][]byte) error {
	out := make([]probe.Matched, len(datagrams))
	mine := make([][]byte, len(datagrams))
	for i, d := range datagrams {
		out[i] = probe.Matched{Answer: used(), OK: i%2 == 0}
		mine[i] = bytes.Clone(d)
	}
	if err := b.MatchAll(context.Background(), mine, out); err != nil {
		return broken("MatchAll of %d datagrams: %w", len(datagrams), err)
	}
	if !slices.EqualFunc(mine, datagrams, bytes.Equal) {
		return broken("MatchAll changed a datagram")
	}
	for _, d := range mine { // of which no answer may keep a part
		for i := range d {
			d[i] = 0xFF
		}
	}
	for i, d := range datagrams {
		want := used()
		ok := b.Match(d, &want)
		if ok != out[i].OK {
			return broken("MatchAll says %t, but Match says %t: %x", out[i].OK, ok, d)
		}
		if ok && !reflect.DeepEqual(want, out[i].Answer) {
			return broken("MatchAll reads %+v, but Match reads %+v: %x", out[i].Answer, want, d)
		}
	}
	return nil
}

// givesUp checks that a batch whose context has ended does not go on for long.
func (s *suite) givesUp(sender, receiver probe.Batcher, ps []probe.Probe, datagrams [][]byte) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	errs := make(chan error, 2)
	go func() { errs <- sender.BuildAll(ctx, ps, make([]probe.Built, len(ps))) }()
	go func() { errs <- receiver.MatchAll(ctx, datagrams, make([]probe.Matched, len(datagrams))) }()
	for range cap(errs) {
		select {
		case err := <-errs:
			if err != nil && !errors.Is(err, probe.ErrProber) {
				s.Fatalf("a batch whose context has ended: %v; want an error that is probe.ErrProber", err)
			}
		case <-time.After(patience):
			s.Fatalf("a batch whose context has ended goes on after %v", patience)
		}
	}
}

// options: if the type has options of its own, what is right can be set, what
// is wrong is an OptionError, and every setting is of the same type.
func options(s *suite) {
	pr, ok := s.sender.(probe.Optioner)
	if !ok {
		s.Log("not checked: the prober is no probe.Optioner")
		return
	}
	list := pr.Options()
	s.listed(pr, list)
	s.takes(pr, nil)
	defaults := map[string]string{}
	for _, o := range list {
		if o.Default != "" {
			defaults[o.Name] = o.Default
		}
		for _, v := range valuesOf(o) {
			s.takes(pr, map[string]string{o.Name: v})
		}
		if o.Kind != probe.StringOption {
			s.rejects(pr, o.Name, "no such value")
		}
	}
	s.takes(pr, defaults)
	s.rejects(pr, "no-such-option", "1")
	s.listed(pr, list)
}

// listed checks the list of options.
func (s *suite) listed(pr probe.Optioner, list []probe.Option) {
	s.Helper()
	if again := pr.Options(); !reflect.DeepEqual(list, again) {
		s.Fatalf("Options are %+v and then %+v", list, again)
	}
	t := probe.Describe(pr)
	s.must(t.Check())
}

// valuesOf returns all values that an option is known to take.
func valuesOf(o probe.Option) []string {
	switch o.Kind {
	case probe.BoolOption:
		return []string{"true", "false"}
	case probe.ChoiceOption:
		return o.Choices
	}
	return nil
}

// takes checks a prober that is set to values which are right. An agent that
// has them not still knows its probes from ICMP errors.
func (s *suite) takes(pr probe.Optioner, values map[string]string) {
	s.Helper()
	before := s.first(pr)
	other, err := pr.With(values)
	if err != nil {
		s.Fatalf("With of %q: %v", values, err)
	}
	if other.Name() != pr.Name() {
		s.Fatalf("With of %q returns prober %q, want one called %q", values, other.Name(), pr.Name())
	}
	for v6 := range s.families() {
		p := s.probe(v6)
		b, err := other.Build(nil, p)
		s.must(err)
		s.must(valid(p, b))
		b = asSent(b)
		s.finds(p, s.expired(p, b[:headerLen(b)+8], nil), s.tagged(v6), fmt.Sprintf("with options %q, quoted to 8 bytes", values))
		s.finds(p, s.expired(p, b, nil), true, fmt.Sprintf("with options %q", values))
	}
	if bytes.Equal(before, s.first(s.receiver)) && !bytes.Equal(before, s.first(pr)) {
		s.Fatalf("With of %q changed the prober that it was asked of", values)
	}
}

// first returns a datagram of pr, to compare.
func (s *suite) first(pr probe.Prober) []byte {
	s.Helper()
	b, err := pr.Build(nil, s.probe(s.o.NoIPv4))
	s.must(err)
	return b
}

// rejects checks that a wrong value is an error that says so.
func (s *suite) rejects(pr probe.Optioner, name, value string) {
	s.Helper()
	_, err := pr.With(map[string]string{name: value})
	var wrong *probe.OptionError
	if !errors.As(err, &wrong) || !errors.Is(err, probe.ErrOption) {
		s.Fatalf("With of %s=%q: %v; want a *probe.OptionError", name, value, err)
	}
	if wrong.Name != name || wrong.Value != value || wrong.Want == "" {
		s.Fatalf("With of %s=%q: the error is about %s=%q and wants %q", name, value, wrong.Name, wrong.Value, wrong.Want)
	}
}

// help: if the type says what it measures, it does so in a line.
func help(s *suite) {
	d, ok := s.sender.(probe.Describer)
	if !ok {
		s.Log("not checked: the prober is no probe.Describer")
		return
	}
	first := d.Help()
	if strings.TrimSpace(first) == "" {
		s.Fatalf("Help is %q, want a line of text", first)
	}
	if again := d.Help(); again != first {
		s.Fatalf("Help is %q and then %q", first, again)
	}
	t := probe.Describe(s.sender)
	s.must(t.Check())
}

// defaultPort: if the type has a port of its own, probes without one go there.
func defaultPort(s *suite) {
	d, ok := s.sender.(probe.Porter)
	if !ok {
		s.Log("not checked: the prober is no probe.Porter")
		return
	}
	own := d.DefaultPort()
	if own == 0 {
		return // it has none
	}
	for v6 := range s.families() {
		if protocol := s.protocols[v6]; protocol != probe.UDP && protocol != probe.TCP {
			s.Fatalf("DefaultPort is %d, want 0: protocol %d has no ports", own, protocol)
		}
		p := s.probe(v6)
		p.DstPort = 0
		b := s.build(p)
		s.must(valid(s.resolved(p), b))
		s.finds(p, s.expired(p, b, nil), true, "to the default port")
	}
}

// resolved returns p with the port that it goes to.
func (s *suite) resolved(p *probe.Probe) *probe.Probe {
	d, ok := s.sender.(probe.Porter)
	if !ok || p.DstPort != 0 {
		return p
	}
	q := *p
	q.DstPort = d.DefaultPort()
	return &q
}
