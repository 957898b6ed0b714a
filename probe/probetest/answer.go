package probetest

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// facts are the fields of an answer that its datagram settles, whatever the
// measurement type.
type facts struct {
	Protocol             uint8
	Kind                 probe.Kind
	Dst, Src, From       netip.Addr
	ICMPType, ICMPCode   uint8
	TTL                  uint8
	QuotedTTL, QuotedTOS uint8
	MTU                  uint32
	Time                 time.Time
	Stamp                probe.Stamp
}

func factsOf(a *probe.Answer) facts {
	return facts{
		a.Protocol, a.Kind, a.Dst, a.Src, a.From, a.ICMPType, a.ICMPCode,
		a.TTL, a.QuotedTTL, a.QuotedTOS, a.MTU, a.Time, a.Stamp,
	}
}

var errNoAnswer = errors.New("neither an ICMP error that quotes a datagram nor an answer that there is a kind for")

// quote is what the error that an answer is, if it is one, has besides: the
// quoted IPv4 identification, and an extension.
type quote struct {
	identification uint16
	extended       bool
}

// read returns the facts of an answer.
func read(datagram []byte) (f facts, q quote, err error) {
	h, err := readIP(datagram)
	if err != nil {
		return f, q, err
	}
	f = facts{Protocol: h.protocol, Dst: h.src, Src: h.dst, From: h.src, TTL: h.ttl}
	switch h.protocol {
	case probe.UDP:
		f.Kind = probe.UDPReply
		return f, q, nil
	case probe.TCP:
		t, _, err := packet.ParseTCP(h.payload)
		switch {
		case err != nil:
			return f, q, err
		case t.Flags&packet.RST != 0:
			f.Kind = probe.Reset
		case t.Flags&packet.SYN != 0 && t.Flags&packet.ACK != 0:
			f.Kind = probe.SYNACK
		default:
			return f, q, errNoAnswer
		}
		return f, q, nil
	}
	return readICMP(h, f)
}

func readICMP(h ip, f facts) (facts, quote, error) {
	reply, protocol, parse := packet.ICMPv4EchoReply, probe.ICMP, packet.ParseICMPv4Error
	if h.v6 {
		reply, protocol, parse = packet.ICMPv6EchoReply, probe.ICMPv6, packet.ParseICMPv6Error
	}
	if h.protocol != protocol || len(h.payload) < packet.ICMPHeaderLen {
		return f, quote{}, errNoAnswer
	}
	f.ICMPType, f.ICMPCode = h.payload[0], h.payload[1]
	if f.ICMPType == reply {
		f.Kind = probe.EchoReply
		return f, quote{}, nil
	}
	e, err := parse(h.payload)
	if err != nil {
		return f, quote{}, errNoAnswer
	}
	q, err := readIP(e.Quote)
	if err != nil || q.v6 != h.v6 {
		return f, quote{}, errNoAnswer
	}
	f.Kind = kind(h.v6, e.Type)
	f.Protocol, f.Dst, f.Src = q.protocol, q.dst, q.src
	f.QuotedTTL, f.QuotedTOS, f.MTU = q.ttl, q.tos, e.MTU
	return f, quote{q.id, e.Extension != nil}, nil
}

// kind is the kind of an ICMP error.
func kind(v6 bool, icmpType uint8) probe.Kind {
	if v6 {
		return map[uint8]probe.Kind{1: probe.Unreachable, 2: probe.Unreachable, 3: probe.TimeExceeded, 4: probe.ParameterProblem}[icmpType]
	}
	return map[uint8]probe.Kind{3: probe.Unreachable, 11: probe.TimeExceeded, 12: probe.ParameterProblem}[icmpType]
}

// consistent says what is wrong with an answer that Match read from a
// datagram, whichever bytes those are.
func (s *suite) consistent(datagram []byte, a *probe.Answer) error {
	want, q, err := read(datagram)
	if err != nil {
		return broken("Match takes %x for an answer; it is none: %w", datagram, err)
	}
	if got := factsOf(a); got != want {
		return broken("Match fills the answer with\n %+v, but what came is\n %+v: %x", got, want, datagram)
	}
	switch v6 := want.From.Is6(); {
	case a.Protocol != s.protocols[v6]:
		return broken("Match takes %x, which is about protocol %d, for an answer; the type's probes are of protocol %d", datagram, a.Protocol, s.protocols[v6])
	case a.ID == 0:
		return broken("Match reads the identifier 0, which no probe has, from %x", datagram)
	case a.TagBits > 64:
		return broken("Match knows %d bits of the tag, want 0 to 64: %x", a.TagBits, datagram)
	case a.Swappable && (v6 || a.Kind.Direct()):
		return broken("Match says Swappable, but nothing quotes an IPv4 identification in %x", datagram)
	case a.Swappable && a.Protocol == probe.ICMP && a.TagBits > 0 && uint16(a.Tag) != q.identification,
		a.Swappable && a.Protocol != probe.ICMP && a.ID != q.identification:
		return broken("Match says Swappable of identifier %#x and tag %#x, but the quoted identification is %#x: %x", a.ID, a.Tag, q.identification, datagram)
	case !q.extended && a.MPLS != nil:
		return broken("Match reads labels %v where there is no extension: %x", a.MPLS, datagram)
	case !a.Kind.Direct() && a.Values != nil:
		return broken("Match reads values %q from an ICMP error, want them from direct answers alone: %x", a.Values, datagram)
	}
	if fit := probe.CleanValues(a.Values); !slices.Equal(fit, a.Values) {
		return broken("Match reads values %q, of which only %q are fit to be shown: %x", a.Values, fit, datagram)
	}
	return nil
}

// enough is how many bits of a tag can prove something.
const enough = 8

// identifies says what is wrong with an answer to p: it has to mean p, prove
// so if proven is asked for or any of the tag is said to be known, and prove
// nothing else.
func identifies(p *probe.Probe, a *probe.Answer, proven bool, what string) error {
	ids, n := a.Readings()
	means := false
	for _, id := range ids[:n] {
		means = means || id == p.ID
	}
	switch {
	case !means:
		return broken("%s: Match reads the identifiers %d from an answer to %s", what, ids[:n], show(p))
	case proven && a.TagBits == 0:
		return broken("%s: Match knows nothing of the tag of %s, which came back", what, show(p))
	case proven && !a.Verified(&p.Key, p.ID):
		return broken("%s: the answer to %s is not Verified; Match knows %d bits of the tag, %#x", what, show(p), a.TagBits, a.Tag)
	}
	return misled(p, a)
}

// misled says what an answer to p vouches for besides p. Where few bits of the
// tag are known some probes have the same ones, and some forgers guess them.
func misled(p *probe.Probe, a *probe.Answer) error {
	genuine := p.Tag(a.Protocol)
	few := a.TagBits < 32
	made := !alike(a.Tag, genuine, a.TagBits)
	ids, n := a.Readings()
	for _, id := range ids[:n] {
		if id == p.ID && a.Dst == p.Dst || !a.Verified(&p.Key, id) {
			continue
		}
		same := alike(p.Key.Tag(a.Dst, id, a.Protocol), genuine, a.TagBits)
		if few && (same || made && a.TagBits < 16) {
			continue
		}
		return broken("an answer to %s is Verified as one to probe %d to %v", show(p), id, a.Dst)
	}
	other := p.Key
	for other[0]++; a.TagBits > 0 && alike(genuine, other.Tag(a.Dst, p.ID, a.Protocol), min(a.TagBits, 16)); other[0]++ {
	}
	if guess := few && made; !guess && a.Verified(&other, p.ID) {
		return broken("an answer to %s is Verified under the key of another measurement", show(p))
	}
	return nil
}

// alike tells whether the low bits of one tag may be read as the other's.
func alike(a, b uint64, tagBits uint8) bool {
	if tagBits == 16 {
		a, b := probe.Tag16(a), probe.Tag16(b)
		return a == b || a == b+1 || a == b-1 || bits.ReverseBytes16(a) == b
	}
	return a<<(64-tagBits) == b<<(64-tagBits)
}

// used is an answer that has been filled before.
func used() probe.Answer {
	return probe.Answer{
		ID: 0xDEAD, Tag: 0xDEADBEEFDEADBEEF, TagBits: 64, Protocol: 99, Swappable: true, Kind: 77,
		Dst: router6, Src: router6, From: router6, ICMPType: 99, ICMPCode: 98,
		TTL: 97, QuotedTTL: 96, QuotedTOS: 95, MTU: 94,
		MPLS: make([]probe.Label, 1, 8), Values: make([]probe.Value, 1, 8), Time: time.Unix(93, 0), Stamp: probe.KernelStamp,
	}
}

// show is a probe in a message.
func show(p *probe.Probe) string {
	return fmt.Sprintf("probe %d from %v to %v port %d (%v, flow %d, TTL %d, TOS %#02x, DF %t, size %d)",
		p.ID, p.Src, p.Dst, p.DstPort, p.Mode, p.Flow, p.TTL, p.TOS, p.DontFragment, p.Size)
}
