package grpctransport

import (
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/result"
)

func encodeDuration(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	return new(int64(*d))
}

func decodeDuration(d *int64) *time.Duration {
	if d == nil {
		return nil
	}
	return new(time.Duration(*d))
}

func encodeClock(c *result.Clock) *voltadomarv1.Clock {
	return &voltadomarv1.Clock{
		Name: text(c.Name), Offset: encodeDuration(c.Offset), Bound: encodeDuration(c.Bound), SkewPpm: c.Skew,
		Stepped: c.Stepped, Discipline: text(c.Discipline), MaxError: int64(c.MaxError), EstError: int64(c.EstError),
	}
}

func decodeClock(c *voltadomarv1.Clock) result.Clock {
	out := result.Clock{
		Name: c.GetName(), Skew: c.GetSkewPpm(), Stepped: c.GetStepped(), Discipline: c.GetDiscipline(),
		MaxError: time.Duration(c.GetMaxError()), EstError: time.Duration(c.GetEstError()),
	}
	if c != nil {
		out.Offset, out.Bound = decodeDuration(c.Offset), decodeDuration(c.Bound)
	}
	return out
}

func encodeAccount(a *result.Account) *voltadomarv1.Account {
	out := &voltadomarv1.Account{Asked: int64(a.Asked), Answered: int64(a.Answered)}
	for _, l := range a.Unanswered {
		out.Unanswered = append(out.Unanswered, &voltadomarv1.Loss{Reason: text(string(l.Reason)), Detail: text(l.Detail), Count: int64(l.Count)})
	}
	for _, g := range a.Gaps {
		out.Gaps = append(out.Gaps, &voltadomarv1.Gap{
			Agent: text(g.Agent), Kind: text(string(g.Kind)), From: encodeTime(g.From), To: encodeTime(g.To), Count: g.Count,
		})
	}
	return out
}

func (d *decoder) account(a *voltadomarv1.Account) result.Account {
	out := result.Account{Asked: d.int("account: asked", a.GetAsked()), Answered: d.int("account: answered", a.GetAnswered())}
	for _, l := range a.GetUnanswered() {
		out.Unanswered = append(out.Unanswered, result.Loss{
			Reason: result.Missing(l.GetReason()), Detail: l.GetDetail(), Count: d.int("loss: count", l.GetCount()),
		})
	}
	for _, g := range a.GetGaps() {
		out.Gaps = append(out.Gaps, result.Gap{
			Agent: g.GetAgent(), Kind: result.GapKind(g.GetKind()), From: decodeTime(g.GetFrom()), To: decodeTime(g.GetTo()), Count: g.GetCount(),
		})
	}
	return out
}

func encodeFindings(all []result.Finding) []*voltadomarv1.Finding {
	var out []*voltadomarv1.Finding
	for _, f := range all {
		m := &voltadomarv1.Finding{Kind: text(string(f.Kind)), Ttl: int64(f.TTL), Was: uint32(f.Was), Is: uint32(f.Is), Text: text(f.Text)}
		for _, a := range f.Addrs {
			m.Addrs = append(m.Addrs, encodeAddr(a))
		}
		out = append(out, m)
	}
	return out
}

func (d *decoder) findings(all []*voltadomarv1.Finding) []result.Finding {
	var out []result.Finding
	for _, m := range all {
		f := result.Finding{
			Kind: result.FindingKind(m.GetKind()), TTL: d.int("finding: ttl", m.GetTtl()),
			Was: d.uint8("finding: was", m.GetWas()), Is: d.uint8("finding: is", m.GetIs()), Text: m.GetText(),
		}
		for _, a := range m.GetAddrs() {
			f.Addrs = append(f.Addrs, d.addr("finding: addrs", a))
		}
		out = append(out, f)
	}
	return out
}
