package result

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Text renders the trace as traceroute(8) would, with the receiver of each
// answer. It has no newline at its end. A header is followed by a line per
// hop, whose fields are two spaces apart: the TTL, and per probe
//
//   - `name (address) receiver`, if any of it differs from the hop's answered
//     probe before, or `address receiver` if the trace is numeric.
//     Where the name is unknown the address stands in for it. The MPLS label
//     stack that the answer carried follows as traceroute(8) -e shows it, and
//     what the destination said, `[name=text,...]`, with `_` for spaces and a
//     text of more than 64 characters cut short.
//   - the round-trip time, `1.234 ms`; or where the receiver has another clock
//     than the sender the time from sending to receiving, and by how much that
//     can be wrong, `1.234±0.120 ms`. Where the clocks' offset is not known a
//     question mark says so, `1.234? ms`; `? ms` is a time that is not known.
//     Times taken in user space are counted below; the kernel's are not told
//     apart by where in the kernel they were taken.
//   - after the time, the annotation of traceroute(8) for an ICMP error other
//     than the expected: !N !H !P (network, host, protocol unreachable), !X
//     (prohibited), !S (source route failed), !V !C (precedence), !F-mtu
//     (fragmentation needed), !<code> (other unreachable), !<type-code> (other
//     ICMP).
//   - `*` alone if there was no answer in time.
//
// Lines that begin with "# " follow if there is anything out of the ordinary:
// what a mark means, why the trace is partial, what was not sent, probes that
// lack an answer for another reason than that none came, agents that could not
// capture, answers that did not count, and the findings. Characters that a
// terminal might act on are replaced, whoever sent them.
func (t *Trace) Text() string {
	w := textWriter{trace: t}
	w.header()
	for i := range t.Hops {
		w.hop(&t.Hops[i])
	}
	w.remarks()
	return string(w.b)
}

// WriteText writes [Trace.Text] and a newline to w. The error is w's.
func (t *Trace) WriteText(w io.Writer) error {
	_, err := io.WriteString(w, t.Text()+"\n")
	return err
}

type textWriter struct {
	trace     *Trace
	b         []byte
	corrected bool // a time of two clocks with a known offset was printed
	twoClocks bool // a time of two clocks was printed
	noTime    bool // an unknown time was printed
	user      int  // times printed that do not rest on the kernel's stamps alone
}

func (w *textWriter) header() {
	t := w.trace
	w.b = append(w.b, "Traceroute to "...)
	w.word(t.Target)
	w.b = append(w.b, " ("...)
	w.addr(t.Destination)
	w.b = append(w.b, ") from "...)
	w.word(t.Source)
	w.b = fmt.Appendf(w.b, ", %d probes, %d hops max", t.Queries, t.MaxTTL)
}

func (w *textWriter) hop(h *Hop) {
	w.b = append(w.b, '\n')
	w.b = strconv.AppendInt(w.b, int64(h.TTL), 10)
	var prev *Probe
	for i := range h.Probes {
		p := &h.Probes[i]
		w.b = append(w.b, "  "...)
		if !p.Answered() {
			w.b = append(w.b, '*')
			continue
		}
		if prev == nil || p.Addr != prev.Addr || p.Receiver != prev.Receiver || !slices.Equal(p.MPLS, prev.MPLS) || !slices.Equal(p.Values, prev.Values) {
			w.who(p)
			w.b = append(w.b, "  "...)
		}
		prev = p
		w.time(p)
		if a := annotation(p); a != "" {
			w.b = append(append(w.b, ' '), a...)
		}
	}
}

func (w *textWriter) who(p *Probe) {
	if w.trace.Numeric {
		w.addr(p.Addr)
	} else {
		if p.Name != "" {
			w.word(p.Name)
		} else {
			w.addr(p.Addr)
		}
		w.b = append(w.b, " ("...)
		w.addr(p.Addr)
		w.b = append(w.b, ')')
	}
	w.b = append(w.b, ' ')
	w.word(p.Receiver)
	if len(p.MPLS) > 0 {
		w.labels(p.MPLS)
	}
	if len(p.Values) > 0 {
		w.values(p.Values)
	}
}

// values shows them at most to the number and length of [probe.MaxValues] and
// valueWidth.
func (w *textWriter) values(values []probe.Value) {
	const valueWidth = 64
	for i, v := range values[:min(len(values), probe.MaxValues)] {
		sep := byte(',')
		if i == 0 {
			w.b = append(w.b, ' ')
			sep = '['
		}
		w.b = append(w.b, sep)
		w.short(v.Name, probe.MaxValueName)
		w.b = append(w.b, '=')
		w.short(v.Text, valueWidth)
	}
	w.b = append(w.b, ']')
}

// short appends at most so many characters of a word, and "..." for the rest.
func (w *textWriter) short(s string, most int) {
	n := 0
	for i := range s {
		if n++; n > most {
			w.safe(s[:i], '_')
			w.b = append(w.b, "..."...)
			return
		}
	}
	w.safe(s, '_')
}

func (w *textWriter) labels(stack []probe.Label) {
	sep := " <MPLS:"
	for _, l := range stack {
		bottom := 0
		if l.Bottom {
			bottom = 1
		}
		w.b = fmt.Appendf(w.b, "%sL=%d,E=%d,S=%d,T=%d", sep, l.Label, l.TC, bottom, l.TTL)
		sep = "/"
	}
	w.b = append(w.b, '>')
}

func (w *textWriter) time(p *Probe) {
	if p.RTT == nil {
		w.noTime = true
		w.b = append(w.b, "? ms"...)
		return
	}
	if user := probe.UserStamp.String(); p.SentStamp == user || p.RecvStamp == user {
		w.user++
	}
	switch {
	case !p.OneClock && p.Delay != nil && p.Bound != nil:
		w.corrected = true
		w.ms(*p.Delay)
		w.b = append(w.b, "±"...)
		w.ms((*p.Bound + time.Microsecond - 1).Truncate(time.Microsecond)) // up: a bound cut short is none
	case p.OneClock:
		w.ms(*p.RTT)
	default:
		w.twoClocks = true
		w.ms(*p.RTT)
		w.b = append(w.b, '?')
	}
	w.b = append(w.b, " ms"...)
}

func (w *textWriter) ms(d time.Duration) {
	w.b = strconv.AppendFloat(w.b, float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// annotation is what traceroute(8) prints after the time of an answer; empty
// for "TTL exceeded", "port unreachable" and answers of the destination.
func annotation(p *Probe) string {
	kind, code := p.ICMPType, p.ICMPCode
	mark := ""
	if p.Addr.Unmap().Is4() {
		switch {
		case kind == 0, kind == 11 && code == 0, kind == 3 && code == 3:
			return ""
		case kind == 3 && code == 4:
			return fmt.Sprintf("!F-%d", p.MTU)
		case kind == 3 && int(code) < len(unreachable4):
			mark = unreachable4[code]
		}
		if mark == "" && kind == 3 {
			return fmt.Sprintf("!<%d>", code)
		}
	} else {
		switch {
		case kind == 0, kind == 129, kind == 3 && code == 0, kind == 1 && code == 4:
			return ""
		case kind == 2:
			return fmt.Sprintf("!F-%d", p.MTU)
		case kind == 1 && int(code) < len(unreachable6):
			mark = unreachable6[code]
		}
		if mark == "" && kind == 1 {
			return fmt.Sprintf("!<%d>", code)
		}
	}
	if mark == "" {
		return fmt.Sprintf("!<%d-%d>", kind, code)
	}
	return mark
}

var (
	// By the code of ICMP type 3 (RFC 792, RFC 1122, RFC 1812).
	unreachable4 = [...]string{0: "!N", 1: "!H", 2: "!P", 5: "!S", 6: "!N", 7: "!H", 8: "!N",
		9: "!X", 10: "!X", 11: "!N", 12: "!H", 13: "!X", 14: "!V", 15: "!C"}
	// By the code of ICMPv6 type 1 (RFC 4443).
	unreachable6 = [...]string{0: "!N", 1: "!X", 2: "!H", 3: "!H"}
)

// remarks appends the lines on what was out of the ordinary.
func (w *textWriter) remarks() {
	t := w.trace
	if w.corrected {
		w.remark("±: sent and received by different clocks, corrected by their offset, which is known as well as the number says")
	}
	if w.twoClocks {
		w.remark("?: sent and received by different clocks, off by their unknown difference")
	}
	if w.noTime {
		w.remark("? ms: the time of sending or receiving is not known")
	}
	if w.user > 0 {
		w.remark(fmt.Sprintf("%d times taken in user space, not by the kernel: too long by what the hosts were busy with", w.user))
	}
	if t.Partial != "" {
		w.remark("partial: " + t.Partial)
	}
	w.refusals()
	w.losses()
	w.gaps()
	var counts []string
	for _, c := range []struct {
		n    int
		what Verdict
	}{{t.Counts.Late, Late}, {t.Counts.Duplicate, Duplicate}, {t.Counts.Foreign, Foreign}, {t.Counts.Unverified, Unverified}} {
		if c.n != 0 {
			counts = append(counts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(counts) > 0 {
		w.remark("answers not shown: " + strings.Join(counts, ", "))
	}
	for _, f := range t.Findings {
		if f.Kind != Lossy { // the stars say it
			w.remark(f.Text)
		}
	}
}

// losses tells of probes without an answer for reasons that stars do not show.
func (w *textWriter) losses() {
	var parts []string
	for _, l := range w.trace.Account.Unanswered {
		switch l.Reason {
		case NotSent, Blocked, Beyond, AskedAgain, NoAnswer:
			continue
		}
		part := fmt.Sprintf("%d %s", l.Count, l.Reason)
		if l.Detail != "" {
			part += " (" + l.Detail + ")"
		}
		parts = append(parts, part)
	}
	if len(parts) > 0 {
		a := &w.trace.Account
		w.remark(fmt.Sprintf("%d probes asked for, %d answered; of the others: %s", a.Asked, a.Answered, strings.Join(parts, ", ")))
	}
}

// gaps tells when agents could not capture.
func (w *textWriter) gaps() {
	since := func(at time.Time) string {
		return at.Sub(w.trace.Started).Round(time.Millisecond).String()
	}
	for _, g := range w.trace.Account.Gaps {
		when := "from " + since(g.From) + " on"
		if !g.To.IsZero() {
			when = "from " + since(g.From) + " to " + since(g.To)
		}
		switch g.Kind {
		case Disconnected, Unresponsive:
			w.remark(fmt.Sprintf("agent %s was %s %s: answers that reached it then may be missing", g.Agent, g.Kind, when))
		case KernelDrops:
			w.remark(fmt.Sprintf("agent %s: its kernel dropped %d captured packets %s", g.Agent, g.Count, when))
		case QueueOverflow:
			w.remark(fmt.Sprintf("agent %s: its queue to the controller dropped %d captured answers %s", g.Agent, g.Count, when))
		case NotRead:
			w.remark(fmt.Sprintf("agent %s captured %d possible answers %s that it could neither read nor pass on in time", g.Agent, g.Count, when))
		}
	}
}

// refusals tells of probes that a host refused to send, or that a rule forbids,
// a line per reason.
func (w *textWriter) refusals() {
	type refusal struct {
		reason         string
		n, first, last int
	}
	var all []refusal
	for _, h := range w.trace.Hops {
		for _, p := range h.Probes {
			reason := p.Error
			if p.Missing == Blocked {
				reason = fmt.Sprintf("%s, %s", p.Missing, p.MissingDetail)
			}
			if reason == "" {
				continue
			}
			i := slices.IndexFunc(all, func(r refusal) bool { return r.reason == reason })
			if i < 0 {
				i = len(all)
				all = append(all, refusal{reason: reason, first: h.TTL})
			}
			all[i].n++
			all[i].last = h.TTL
		}
	}
	for _, r := range all {
		probes, hops := "probes", fmt.Sprintf("hops %d to %d", r.first, r.last)
		if r.n == 1 {
			probes = "probe"
		}
		if r.first == r.last {
			hops = fmt.Sprintf("hop %d", r.first)
		}
		w.remark(fmt.Sprintf("%d %s of %s not sent: %s", r.n, probes, hops, r.reason))
	}
}

func (w *textWriter) remark(s string) {
	w.b = append(w.b, "\n# "...)
	w.safe(s, ' ')
}

// addr appends an address; its zone may hold anything.
func (w *textWriter) addr(a netip.Addr) {
	if a.IsValid() {
		w.word(a.String())
	} else {
		w.word("")
	}
}

// word appends s as one word: spaces in it would shift the fields.
func (w *textWriter) word(s string) {
	if s == "" {
		s = "?"
	}
	w.safe(s, '_')
}

// safe appends s without what a terminal might act on, blank for spaces.
func (w *textWriter) safe(s string, blank rune) {
	for _, r := range s {
		switch {
		case r == ' ':
			r = blank
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			r = '?'
		}
		w.b = utf8.AppendRune(w.b, r)
	}
}
