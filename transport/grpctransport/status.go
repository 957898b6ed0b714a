package grpctransport

import (
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

func encodeStatus(m *transport.Status) *voltadomarv1.Status {
	out := &voltadomarv1.Status{
		Seq: m.Seq, Received: encodeTime(m.Received), Replied: encodeTime(m.Replied), Step: m.Step,
		Slewed: (*int64)(m.Slewed), Discipline: text(m.Discipline), MaxError: int64(m.MaxError), EstError: int64(m.EstError),
	}
	for _, b := range m.Behind {
		out.Behind = append(out.Behind, &voltadomarv1.Backlog{Number: b.Number, Count: b.Count})
	}
	return out
}

func decodeStatus(m *voltadomarv1.Status) *transport.Status {
	out := &transport.Status{
		Seq: m.GetSeq(), Received: decodeTime(m.GetReceived()), Replied: decodeTime(m.GetReplied()), Step: m.GetStep(),
		Slewed: (*time.Duration)(m.Slewed), Discipline: m.GetDiscipline(), MaxError: time.Duration(m.GetMaxError()), EstError: time.Duration(m.GetEstError()),
	}
	for _, b := range m.GetBehind() {
		out.Behind = append(out.Behind, transport.Backlog{Number: b.GetNumber(), Count: b.GetCount()})
	}
	return out
}

func encodeTiming(m *transport.Timing) *voltadomarv1.Timing {
	return &voltadomarv1.Timing{
		Exchange: m.Exchange, Sent: encodeTime(m.Sent), Received: encodeTime(m.Received), Step: m.Step, Slewed: (*int64)(m.Slewed),
	}
}

func decodeTiming(m *voltadomarv1.Timing) *transport.Timing {
	return &transport.Timing{
		Exchange: m.GetExchange(), Sent: decodeTime(m.GetSent()), Received: decodeTime(m.GetReceived()), Step: m.GetStep(), Slewed: (*time.Duration)(m.Slewed),
	}
}
