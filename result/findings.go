package result

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// FindingKind is what is out of the ordinary with a path.
type FindingKind string

// The kinds. Each one's rule is that of [Trace.Find].
const (
	Loop          FindingKind = "loop"
	VaryingLength FindingKind = "varying length"
	SeveralPaths  FindingKind = "several addresses"
	QuotedTTL     FindingKind = "quoted TTL"
	TOSChanged    FindingKind = "TOS changed"
	ECNChanged    FindingKind = "ECN changed"
	AddressNAT    FindingKind = "NAT"
	RateLimited   FindingKind = "rate limited"
	Lossy         FindingKind = "loss"
	WrongClock    FindingKind = "wrong clock"
)

// Finding is something out of the ordinary.
type Finding struct {
	Kind FindingKind `json:"kind"`
	TTL  int         `json:"ttl,omitempty"` // of the hop where it shows first
	// Addrs are the addresses that it is about.
	Addrs []netip.Addr `json:"addresses,omitempty"`
	// Was and Is are the values of a field that changed.
	Was uint8 `json:"was,omitempty"`
	Is  uint8 `json:"is,omitempty"`
	// Text says it in a line, for people.
	Text string `json:"text"`
}

// Find looks for what is out of the ordinary with the path, by these rules:
//
//   - Loop: a router's "time exceeded" comes from two TTLs of one flow with
//     another router between them; probes of the classic mode count as one
//     flow. An address that answers at two TTLs in a row is none: it may
//     forward what it should drop.
//   - VaryingLength: at one TTL the destination answers some probes, and a
//     router others.
//   - SeveralPaths: one hop's answers come from several addresses. Over several
//     flows that is a load balancer; within one flow it is one that balances
//     packets, or a route that changed.
//   - QuotedTTL: a router quotes a probe whose time ran out with another TTL
//     than 1: the router before it forwarded a TTL of 0, or a tunnel hides
//     hops.
//   - TOSChanged, ECNChanged: a router quotes another DSCP, or other ECN bits,
//     than the probe was sent with; the hop is the first that saw them changed,
//     so the change happened on the way to it. Each flow is followed by itself.
//   - NAT: a router quotes another source than the probe was sent from, or
//     answers whose 16-bit tags are all off by one constant: something
//     rewrites probes on the way.
//   - RateLimited: a hop answers some of its probes, while all later hops
//     answer all of theirs, so probes and answers get through; later hops that
//     answer nothing, or limit their rate too, are left out. Or answers and
//     silence, in the order of sending, are spaced as by a token bucket.
//   - Lossy: a hop answers some of its probes, and it is not RateLimited.
//   - WrongClock: a clock was set during the measurement; or an answer seems to
//     have come before its probe was sent, by more than what is known of the
//     clocks allows.
func (t *Trace) Find() []Finding {
	var all []Finding
	for _, rule := range []func(*Trace) []Finding{
		findLoops, findLengths, findAddresses, findQuotedTTL, findTOS, findNAT, findLoss, findClocks,
	} {
		all = append(all, rule(t)...)
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return a.TTL - b.TTL })
	return all
}

// answered yields the probes of a hop that have an answer.
func (h *Hop) answered(yield func(*Probe) bool) {
	for i := range h.Probes {
		if h.Probes[i].Answered() && !yield(&h.Probes[i]) {
			return
		}
	}
}

func (p *Probe) timeExceeded() bool { return p.Kind == "time-exceeded" }

func findLoops(t *Trace) (all []Finding) {
	type router struct {
		addr netip.Addr
		flow int
	}
	seen := map[router]int{} // the first TTL
	told := map[netip.Addr]bool{}
	for i := range t.Hops {
		h := &t.Hops[i]
		for p := range h.answered {
			if !p.timeExceeded() {
				continue
			}
			r := router{p.Addr, p.Flow}
			first, again := seen[r]
			if !again {
				seen[r] = h.TTL
				continue
			}
			if h.TTL-first < 2 || told[p.Addr] || !t.between(first, h.TTL, p) {
				continue
			}
			told[p.Addr] = true
			all = append(all, Finding{Kind: Loop, TTL: first, Addrs: []netip.Addr{p.Addr},
				Text: fmt.Sprintf("loop: %v answers at hops %d and %d", p.Addr, first, h.TTL)})
		}
	}
	return all
}

// between tells whether another address answered between two TTLs to the flow.
func (t *Trace) between(first, last int, of *Probe) bool {
	for i := range t.Hops {
		h := &t.Hops[i]
		if h.TTL <= first || h.TTL >= last {
			continue
		}
		for p := range h.answered {
			if p.Addr != of.Addr && p.Flow == of.Flow {
				return true
			}
		}
	}
	return false
}

func findLengths(t *Trace) (all []Finding) {
	for i := range t.Hops {
		h := &t.Hops[i]
		arrived, passing := 0, 0
		var routers []netip.Addr
		for p := range h.answered {
			switch {
			case p.timeExceeded():
				passing++
				routers = appendNew(routers, p.Addr)
			case p.Addr == t.Destination:
				arrived++
			}
		}
		if arrived > 0 && passing > 0 {
			all = append(all, Finding{Kind: VaryingLength, TTL: h.TTL, Addrs: routers, Text: fmt.Sprintf(
				"paths of different length: at hop %d the destination answers %d probes, and a router %d", h.TTL, arrived, passing)})
		}
	}
	return all
}

func findAddresses(t *Trace) (all []Finding) {
	for i := range t.Hops {
		h := &t.Hops[i]
		var addrs []netip.Addr
		flows := map[int][]netip.Addr{}
		within := false
		for p := range h.answered {
			addrs = appendNew(addrs, p.Addr)
			flows[p.Flow] = appendNew(flows[p.Flow], p.Addr)
			within = within || len(flows[p.Flow]) > 1 && t.Flow != probe.Classic.String()
		}
		if len(addrs) < 2 {
			continue
		}
		how := "over several flows: a load balancer"
		if within {
			how = "to probes of one flow: balanced by packet, or the route changed"
		}
		all = append(all, Finding{Kind: SeveralPaths, TTL: h.TTL, Addrs: addrs,
			Text: fmt.Sprintf("hop %d answers from %d addresses %s", h.TTL, len(addrs), how)})
	}
	return all
}

func findQuotedTTL(t *Trace) (all []Finding) {
	for i := range t.Hops {
		h := &t.Hops[i]
		for p := range h.answered {
			if !p.timeExceeded() || p.ICMPCode != 0 || p.QuotedTTL == 1 {
				continue
			}
			all = append(all, Finding{Kind: QuotedTTL, TTL: h.TTL, Addrs: []netip.Addr{p.Addr}, Was: 1, Is: p.QuotedTTL,
				Text: fmt.Sprintf("hop %d quotes a TTL of %d, not 1", h.TTL, p.QuotedTTL)})
			break
		}
	}
	return all
}

// findTOS reports where DSCP and ECN were first seen to be other than before.
func findTOS(t *Trace) (all []Finding) {
	seen := map[int]uint8{} // by flow, up to the hop before
	told := map[[2]uint8]bool{}
	for i := range t.Hops {
		h := &t.Hops[i]
		here := map[int]uint8{}
		for p := range h.answered {
			if !p.quotes() {
				continue
			}
			was, known := seen[p.Flow]
			if !known {
				was = t.TOS
			}
			is := p.QuotedTOS
			if now, changed := here[p.Flow]; !changed || now == was {
				here[p.Flow] = is
			}
			change := [2]uint8{was, is}
			if was == is || told[change] {
				continue
			}
			told[change] = true
			if was>>2 != is>>2 {
				all = append(all, Finding{Kind: TOSChanged, TTL: h.TTL, Addrs: []netip.Addr{p.Addr}, Was: was >> 2, Is: is >> 2,
					Text: fmt.Sprintf("DSCP %d became %d on the way to hop %d", was>>2, is>>2, h.TTL)})
			}
			if was&3 != is&3 {
				all = append(all, Finding{Kind: ECNChanged, TTL: h.TTL, Addrs: []netip.Addr{p.Addr}, Was: was & 3, Is: is & 3,
					Text: fmt.Sprintf("ECN %s became %s on the way to hop %d", ecn(was), ecn(is), h.TTL)})
			}
		}
		maps.Copy(seen, here)
	}
	return all
}

// ecn names the ECN codepoint of a TOS byte (RFC 3168).
func ecn(tos uint8) string { return [...]string{"not-ECT", "ECT(1)", "ECT(0)", "CE"}[tos&3] }

// quotes tells whether the answer quotes the probe.
func (p *Probe) quotes() bool {
	return p.timeExceeded() || p.Kind == "unreachable" || p.Kind == "parameter-problem"
}

func findNAT(t *Trace) (all []Finding) {
	for i := range t.Hops {
		h := &t.Hops[i]
		for p := range h.answered {
			if p.quotes() && p.QuotedSource.IsValid() && t.SourceAddr.IsValid() && p.QuotedSource != t.SourceAddr {
				return append(all, Finding{Kind: AddressNAT, TTL: h.TTL, Addrs: []netip.Addr{t.SourceAddr, p.QuotedSource},
					Text: fmt.Sprintf("NAT: the source %v became %v on the way to hop %d", t.SourceAddr, p.QuotedSource, h.TTL)})
			}
		}
	}
	if t.Rewritten > 1 {
		all = append(all, Finding{Kind: AddressNAT, Text: fmt.Sprintf(
			"NAT: the tags of %d unverified answers are off by one constant, as by a rewritten address or port", t.Rewritten)})
	}
	return all
}

// findLoss tells hops that answer some of their probes, and why.
func findLoss(t *Trace) (all []Finding) {
	proof, lossy := false, false // of the later hops: one answered all, one lost some
	for i := len(t.Hops) - 1; i >= 0; i-- {
		h := &t.Hops[i]
		got, silent := h.tally()
		if got == 0 || silent == 0 {
			proof = proof || got > 0
			continue
		}
		f := Finding{Kind: RateLimited, TTL: h.TTL, Text: fmt.Sprintf("hop %d answered %d of %d probes", h.TTL, got, got+silent)}
		switch {
		case proof && !lossy:
			f.Text += ", while later hops answered all: it limits its rate"
		case bucketLike(h):
			f.Text += ", spaced like a token bucket's: it limits its rate"
		default:
			f.Kind, lossy = Lossy, true
		}
		all = append(all, f)
	}
	return all
}

// tally counts the probes of a hop that were answered, and those that nobody
// knows a reason for not being.
func (h *Hop) tally() (got, silent int) {
	for i := range h.Probes {
		switch p := &h.Probes[i]; {
		case p.Answered():
			got++
		case p.Missing == NoAnswer || p.Missing == "" && p.Error == "":
			silent++
		}
	}
	return got, silent
}

// bucketLike tells whether a token bucket made the hop's pattern of answers: a
// burst answered, and from then on one answer for each equal time, so that all
// spaces between answers after the burst are alike to within the time between
// two probes. Fewer than three such answers prove nothing.
func bucketLike(h *Hop) bool {
	probes := make([]*Probe, 0, len(h.Probes))
	for i := range h.Probes {
		if !h.Probes[i].Sent.IsZero() {
			probes = append(probes, &h.Probes[i])
		}
	}
	slices.SortFunc(probes, func(a, b *Probe) int { return a.Sent.Compare(b.Sent) })
	burst := 0
	for burst < len(probes) && probes[burst].Answered() {
		burst++
	}
	var answered []time.Time
	var pace time.Duration // the longest time between two probes
	for i, p := range probes {
		if i > 0 {
			pace = max(pace, p.Sent.Sub(probes[i-1].Sent))
		}
		if i >= burst && p.Answered() {
			answered = append(answered, p.Sent)
		}
	}
	if burst == 0 || len(answered) < 3 {
		return false
	}
	least, most := answered[1].Sub(answered[0]), time.Duration(0)
	for i := 1; i < len(answered); i++ {
		d := answered[i].Sub(answered[i-1])
		least, most = min(least, d), max(most, d)
	}
	// Between two answers at least one probe went unanswered.
	return most-least <= pace && least > pace
}

// findClocks tells of answers that came before their probes.
func findClocks(t *Trace) (all []Finding) {
	told := map[string]bool{}
	for _, agent := range slices.Sorted(maps.Keys(t.Clocks)) {
		if t.Clocks[agent].Stepped {
			told[agent] = true
			all = append(all, Finding{Kind: WrongClock, Text: fmt.Sprintf("the clock of %s was set during the measurement", agent)})
		}
	}
	for i := range t.Hops {
		h := &t.Hops[i]
		for p := range h.answered {
			if p.RTT == nil || told[p.Receiver] {
				continue
			}
			delay, bound, known := *p.RTT, time.Duration(0), p.OneClock
			if p.Delay != nil && p.Bound != nil {
				delay, bound, known = *p.Delay, *p.Bound, true
			}
			if delay+bound >= 0 {
				continue
			}
			told[p.Receiver] = true
			why := fmt.Sprintf("the clocks of %s and %s differ by at least that", t.Source, p.Receiver)
			switch {
			case p.Receiver == t.Source:
				why = fmt.Sprintf("the clock of %s was set back meanwhile", t.Source)
			case known:
				why = fmt.Sprintf("the clock of %s or %s is not what it was taken to be", t.Source, p.Receiver)
			}
			all = append(all, Finding{Kind: WrongClock, TTL: h.TTL,
				Text: fmt.Sprintf("an answer of hop %d arrived %v before its probe was sent: %s", h.TTL, -delay, why)})
		}
	}
	return all
}

func appendNew(list []netip.Addr, a netip.Addr) []netip.Addr {
	if slices.Contains(list, a) {
		return list
	}
	return append(list, a)
}
