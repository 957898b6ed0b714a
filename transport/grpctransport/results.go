package grpctransport

import (
	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/result"
)

func encodeTrace(t *result.Trace) *voltadomarv1.Trace {
	out := &voltadomarv1.Trace{
		Target:      text(t.Target),
		Destination: encodeAddr(t.Destination),
		Source:      text(t.Source),
		SourceAddr:  encodeAddr(t.SourceAddr),
		Prober:      text(t.Prober),
		Port:        uint32(t.Port),
		Flow:        text(t.Flow),
		Flows:       int64(t.Flows),
		FirstTtl:    int64(t.FirstTTL),
		MaxTtl:      int64(t.MaxTTL),
		Queries:     int64(t.Queries),
		Tos:         uint32(t.TOS),
		Size:        int64(t.Size),
		Numeric:     t.Numeric,
		Options:     encodeOptions(t.Options),
		Started:     encodeTime(t.Started),
		Ended:       encodeTime(t.Ended),
		Reached:     t.Reached,
		Partial:     text(t.Partial),
		Counts: &voltadomarv1.Counts{
			Sent:       int64(t.Counts.Sent),
			Matched:    int64(t.Counts.Matched),
			Late:       int64(t.Counts.Late),
			Duplicate:  int64(t.Counts.Duplicate),
			Foreign:    int64(t.Counts.Foreign),
			Unverified: int64(t.Counts.Unverified),
		},
		Account:   encodeAccount(&t.Account),
		Findings:  encodeFindings(t.Findings),
		Rewritten: int64(t.Rewritten),
	}
	for i := range t.Hops {
		hop := &voltadomarv1.Hop{Ttl: int64(t.Hops[i].TTL)}
		for j := range t.Hops[i].Probes {
			hop.Probes = append(hop.Probes, encodeProbe(&t.Hops[i].Probes[j]))
		}
		out.Hops = append(out.Hops, hop)
	}
	if len(t.Clocks) > 0 {
		out.Clocks = make(map[string]*voltadomarv1.Clock, len(t.Clocks))
	}
	for agent, clock := range t.Clocks {
		out.Clocks[text(agent)] = encodeClock(&clock)
	}
	return out
}

func decodeTrace(t *voltadomarv1.Trace) (*result.Trace, error) {
	var d decoder
	counts := t.GetCounts()
	out := &result.Trace{
		Target:      t.GetTarget(),
		Destination: d.addr("trace: destination", t.GetDestination()),
		Source:      t.GetSource(),
		SourceAddr:  d.addr("trace: source_addr", t.GetSourceAddr()),
		Prober:      t.GetProber(),
		Port:        d.uint16("trace: port", t.GetPort()),
		Flow:        t.GetFlow(),
		Flows:       d.int("trace: flows", t.GetFlows()),
		FirstTTL:    d.int("trace: first_ttl", t.GetFirstTtl()),
		MaxTTL:      d.int("trace: max_ttl", t.GetMaxTtl()),
		Queries:     d.int("trace: queries", t.GetQueries()),
		TOS:         d.uint8("trace: tos", t.GetTos()),
		Size:        d.int("trace: size", t.GetSize()),
		Numeric:     t.GetNumeric(),
		Options:     decodeOptions(t.GetOptions()),
		Started:     decodeTime(t.GetStarted()),
		Ended:       decodeTime(t.GetEnded()),
		Reached:     t.GetReached(),
		Partial:     t.GetPartial(),
		Counts: result.Counts{
			Sent:       d.int("counts: sent", counts.GetSent()),
			Matched:    d.int("counts: matched", counts.GetMatched()),
			Late:       d.int("counts: late", counts.GetLate()),
			Duplicate:  d.int("counts: duplicate", counts.GetDuplicate()),
			Foreign:    d.int("counts: foreign", counts.GetForeign()),
			Unverified: d.int("counts: unverified", counts.GetUnverified()),
		},
		Account:   d.account(t.GetAccount()),
		Findings:  d.findings(t.GetFindings()),
		Rewritten: d.int("trace: rewritten", t.GetRewritten()),
	}
	if len(t.GetClocks()) > 0 {
		out.Clocks = make(map[string]result.Clock, len(t.GetClocks()))
	}
	for agent, clock := range t.GetClocks() {
		out.Clocks[agent] = decodeClock(clock)
	}
	for _, h := range t.GetHops() {
		hop := result.Hop{TTL: d.int("hop: ttl", h.GetTtl())}
		for _, p := range h.GetProbes() {
			hop.Probes = append(hop.Probes, d.probe(p))
		}
		out.Hops = append(out.Hops, hop)
	}
	if d.err != nil {
		return nil, d.err
	}
	return out, nil
}

func encodeProbe(p *result.Probe) *voltadomarv1.Probe {
	out := &voltadomarv1.Probe{
		Id:          uint32(p.ID),
		Ttl:         int64(p.TTL),
		Attempt:     int64(p.Attempt),
		Flow:        int64(p.Flow),
		Destination: encodeAddr(p.Destination),
		Sent:        encodeTime(p.Sent),
		SentStamp:   text(p.SentStamp),
		Error:       text(p.Error),
		Verdict:     text(string(p.Verdict)),
		Receiver:    text(p.Receiver),
		Addr:        encodeAddr(p.Addr),
		Name:        text(p.Name),
		Received:    encodeTime(p.Received),
		RecvStamp:   text(p.RecvStamp),
		OneClock:    p.OneClock,
		Kind:        text(p.Kind),
		IcmpType:    uint32(p.ICMPType),
		IcmpCode:    uint32(p.ICMPCode),
		ReplyTtl:    uint32(p.ReplyTTL),
		QuotedTtl:   uint32(p.QuotedTTL),
		QuotedTos:   uint32(p.QuotedTOS),
		Mtu:         p.MTU,
		Mpls:        encodeLabels(p.MPLS),
		Values:      encodeValues(p.Values),

		QuotedSource:  encodeAddr(p.QuotedSource),
		Rtt:           encodeDuration(p.RTT),
		Delay:         encodeDuration(p.Delay),
		DelayBound:    encodeDuration(p.Bound),
		Missing:       text(string(p.Missing)),
		MissingDetail: text(p.MissingDetail),
	}
	return out
}

func decodeProbe(p *voltadomarv1.Probe) (*result.Probe, error) {
	var d decoder
	out := d.probe(p)
	if d.err != nil {
		return nil, d.err
	}
	return &out, nil
}

func (d *decoder) probe(p *voltadomarv1.Probe) result.Probe {
	out := result.Probe{
		ID:          d.uint16("probe: id", p.GetId()),
		TTL:         d.int("probe: ttl", p.GetTtl()),
		Attempt:     d.int("probe: attempt", p.GetAttempt()),
		Flow:        d.int("probe: flow", p.GetFlow()),
		Destination: d.addr("probe: destination", p.GetDestination()),
		Sent:        decodeTime(p.GetSent()),
		SentStamp:   p.GetSentStamp(),
		Error:       p.GetError(),
		Verdict:     result.Verdict(p.GetVerdict()),
		Receiver:    p.GetReceiver(),
		Addr:        d.addr("probe: addr", p.GetAddr()),
		Name:        p.GetName(),
		Received:    decodeTime(p.GetReceived()),
		RecvStamp:   p.GetRecvStamp(),
		OneClock:    p.GetOneClock(),
		Kind:        p.GetKind(),
		ICMPType:    d.uint8("probe: icmp_type", p.GetIcmpType()),
		ICMPCode:    d.uint8("probe: icmp_code", p.GetIcmpCode()),
		ReplyTTL:    d.uint8("probe: reply_ttl", p.GetReplyTtl()),
		QuotedTTL:   d.uint8("probe: quoted_ttl", p.GetQuotedTtl()),
		QuotedTOS:   d.uint8("probe: quoted_tos", p.GetQuotedTos()),
		MTU:         p.GetMtu(),
		MPLS:        d.labels(p.GetMpls()),
		Values:      decodeValues(p.GetValues()),

		QuotedSource:  d.addr("probe: quoted_source", p.GetQuotedSource()),
		Missing:       result.Missing(p.GetMissing()),
		MissingDetail: p.GetMissingDetail(),
	}
	if p != nil {
		out.RTT, out.Delay, out.Bound = decodeDuration(p.Rtt), decodeDuration(p.Delay), decodeDuration(p.DelayBound)
	}
	return out
}
