package grpctransport

import (
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

func encodeStatus(m *transport.Status) *voltadomarv1.Status {
	return &voltadomarv1.Status{
		Seq: m.Seq, Received: encodeTime(m.Received), Replied: encodeTime(m.Replied), Step: m.Step,
		Discipline: text(m.Discipline), MaxError: int64(m.MaxError), EstError: int64(m.EstError),
	}
}

func decodeStatus(m *voltadomarv1.Status) *transport.Status {
	return &transport.Status{
		Seq: m.GetSeq(), Received: decodeTime(m.GetReceived()), Replied: decodeTime(m.GetReplied()), Step: m.GetStep(),
		Discipline: m.GetDiscipline(), MaxError: time.Duration(m.GetMaxError()), EstError: time.Duration(m.GetEstError()),
	}
}
