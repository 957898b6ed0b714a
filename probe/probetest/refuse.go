package probetest

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// sizes: a size is honoured to the byte, or refused with what it may be.
func sizes(s *suite) {
	for v6 := range s.families() {
		def := s.probe(v6)
		def.Size = len(s.build(def))
		s.must(valid(def, s.build(def)))

		bounds, declared := s.o.Sizes4, true
		if v6 {
			bounds = s.o.Sizes6
		}
		if bounds == [2]int{} {
			bounds, declared = [2]int{1, 9000}, false
		}
		try := []int{1499, 1500, 65000, 65535}
		for i := range 8 {
			try = append(try, bounds[0]-1-i, bounds[1]+1+i, max(bounds[0], bounds[1]-i))
		}
		for i := range s.sample(min(bounds[1]-bounds[0]+1, 512)) {
			try = append(try, bounds[0]+i, bounds[0]+i*(bounds[1]-bounds[0])/512)
		}
		for _, size := range try {
			switch inside := size >= bounds[0] && size <= bounds[1]; {
			case size == 0:
			case declared && !inside:
				s.refused(sized(s.probe(v6), size), number(size), number(bounds[0]), number(bounds[1]))
			default:
				s.size(v6, size, declared, bounds)
			}
		}
	}
}

// size checks one size that may be, or with taken must be, built.
func (s *suite) size(v6 bool, size int, taken bool, bounds [2]int) {
	s.Helper()
	p := sized(s.probe(v6), size)
	b, err := s.tryBuild(nil, p)
	if err != nil {
		if taken {
			s.Fatalf("Build of %s: %v; Options say that sizes %d to %d are taken", show(p), err, bounds[0], bounds[1])
		}
		s.must(refusal(p, err, number(size), anotherNumber(size)))
		return
	}
	s.must(valid(p, b))
	b = asSent(b)
	s.finds(p, s.expired(p, b[:headerLen(b)+8], nil), s.tagged(v6), "a quote of 8 bytes")
	s.finds(p, s.expired(p, b[:min(len(b), 1200)], nil), true, "quoted whole, or 1200 bytes of it")
}

func sized(p *probe.Probe, size int) *probe.Probe {
	p.Size = size
	return p
}

// refuses: a probe that cannot be is ErrProbe, which names what is wrong.
func refuses(s *suite) {
	for v6 := range s.families() {
		least := packet.IPv4HeaderLen + 8
		other, mapped, none := src6, netip.AddrFrom16(dst4.As16()), netip.IPv4Unspecified()
		if v6 {
			least = packet.IPv6HeaderLen + 8
			other, none = src4, netip.IPv6Unspecified()
		}
		for _, c := range []struct {
			edit func(p *probe.Probe)
			says []says
		}{
			{func(p *probe.Probe) { p.ID = 0 }, []says{number(0), anotherNumber(0)}},
			{func(p *probe.Probe) { p.TTL = 0 }, []says{number(0), anotherNumber(0)}},
			{func(p *probe.Probe) { p.Mode = 9 }, []says{number(9)}},
			{func(p *probe.Probe) { p.Src = netip.Addr{} }, nil},
			{func(p *probe.Probe) { p.Dst = netip.Addr{} }, nil},
			{func(p *probe.Probe) { p.Src, p.Dst = netip.Addr{}, netip.Addr{} }, nil},
			{func(p *probe.Probe) { p.Src = none }, []says{text(none.String())}},
			{func(p *probe.Probe) { p.Dst = none }, []says{text(none.String())}},
			{func(p *probe.Probe) { p.Src = mapped }, []says{text(mapped.String())}},
			{func(p *probe.Probe) { p.Dst = mapped }, []says{text(mapped.String())}},
			{func(p *probe.Probe) { p.Src, p.Dst = mapped, mapped }, []says{text(mapped.String())}},
			{func(p *probe.Probe) { p.Src = other }, []says{text(other.String())}},
			{func(p *probe.Probe) { p.Dst = other }, []says{text(other.String())}},
		} {
			p := s.probe(v6)
			c.edit(p)
			s.refused(p, c.says...)
		}
		for _, size := range []int{math.MinInt, -1, 1, 20, least - 1, 65576, 1 << 20, math.MaxInt} {
			s.refused(sized(s.probe(v6), size), number(size), anotherNumber(size))
		}
	}
	for _, v6 := range []bool{false, true} {
		if v6 && s.o.NoIPv6 || !v6 && s.o.NoIPv4 {
			s.refused(s.probe(v6))
		}
	}
}

// refused checks that Build refuses p, and leaves the buffer as it was.
func (s *suite) refused(p *probe.Probe, says ...says) {
	s.Helper()
	const prefix = "kept"
	b := append(make([]byte, 0, 2048), prefix...)
	out, err := s.tryBuild(b, p)
	if err == nil {
		s.Fatalf("Build of %s: no error, want probe.ErrProbe", show(p))
	}
	s.must(refusal(p, err, says...))
	if string(out) != prefix || string(b) != prefix {
		s.Fatalf("Build of %s refuses and returns %q, want what it was given, %q", show(p), out, prefix)
	}
}

// says is what the text of an error has to say.
type says struct {
	what string
	in   func(text string) bool
}

// refusal says what is wrong with the error of a Build.
func refusal(p *probe.Probe, err error, says ...says) error {
	if !errors.Is(err, probe.ErrProbe) {
		return broken("Build of %s: %w; want an error that is probe.ErrProbe", show(p), err)
	}
	for _, c := range says {
		if !c.in(err.Error()) {
			return broken("Build of %s: %q does not name %s", show(p), err.Error(), c.what)
		}
	}
	return nil
}

func text(t string) says {
	return says{t, func(text string) bool { return strings.Contains(text, t) }}
}

// number wants a number named.
func number(n int) says {
	return says{strconv.Itoa(n), func(text string) bool {
		return slices.Contains(digits(text), unsigned(n))
	}}
}

// anotherNumber wants the range named: a number besides the value.
func anotherNumber(n int) says {
	return says{"the range that would be right", func(text string) bool {
		return slices.ContainsFunc(digits(text), func(d string) bool { return d != unsigned(n) })
	}}
}

// digits returns the numbers in a text, without signs: a hyphen may stand for
// "to".
func digits(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}

func unsigned(n int) string { return strings.TrimPrefix(strconv.Itoa(n), "-") }
