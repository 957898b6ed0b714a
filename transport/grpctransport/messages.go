package grpctransport

import (
	"fmt"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// encodeAgent encodes what an agent says.
func encodeAgent(m transport.Message) (*voltadomarv1.AgentMessage, error) {
	switch m := m.(type) {
	case *transport.Hello:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Hello{Hello: encodeHello(m)}}, nil
	case *transport.Sent:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Sent{Sent: encodeSent(m)}}, nil
	case *transport.Failed:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Failed{Failed: &voltadomarv1.Failed{
			Session: m.Session, Code: int64(m.Code), Reason: text(m.Reason), Rule: encodePrefix(m.Blocked),
		}}}, nil
	case *transport.Answers:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Answers{Answers: encodeAnswers(m)}}, nil
	case *transport.Status:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Status{Status: encodeStatus(m)}}, nil
	case *transport.Timing:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Timing{Timing: encodeTiming(m)}}, nil
	case *transport.Watching:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Watching{Watching: &voltadomarv1.Watching{
			Number: m.Number, Code: int64(m.Code), Reason: text(m.Reason),
		}}}, nil
	case *transport.Unread:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Unread{Unread: encodeUnread(m)}}, nil
	case *transport.Readings:
		return &voltadomarv1.AgentMessage{Message: &voltadomarv1.AgentMessage_Readings{Readings: encodeReadings(m)}}, nil
	}
	return nil, fmt.Errorf("an agent cannot send a %T", m)
}

// decodeAgent is the inverse of encodeAgent.
func decodeAgent(m *voltadomarv1.AgentMessage) (transport.Message, error) {
	var d decoder
	var out transport.Message
	switch m := m.GetMessage().(type) {
	case *voltadomarv1.AgentMessage_Hello:
		out = d.hello(m.Hello)
	case *voltadomarv1.AgentMessage_Sent:
		out = d.sent(m.Sent)
	case *voltadomarv1.AgentMessage_Failed:
		f := m.Failed
		out = &transport.Failed{Session: f.GetSession(), Code: d.int("failed: code", f.GetCode()), Reason: f.GetReason(), Blocked: d.prefix("failed: rule", f.GetRule())}
	case *voltadomarv1.AgentMessage_Answers:
		out = d.answers(m.Answers)
	case *voltadomarv1.AgentMessage_Status:
		out = decodeStatus(m.Status)
	case *voltadomarv1.AgentMessage_Timing:
		out = decodeTiming(m.Timing)
	case *voltadomarv1.AgentMessage_Watching:
		out = d.watching(m.Watching)
	case *voltadomarv1.AgentMessage_Unread:
		out = d.unread(m.Unread)
	case *voltadomarv1.AgentMessage_Readings:
		out = d.readings(m.Readings)
	default:
		d.fail("a message of no known type")
	}
	if d.err != nil {
		return nil, d.err
	}
	return out, nil
}

// encodeController encodes what a controller says.
func encodeController(m transport.Message) (*voltadomarv1.ControllerMessage, error) {
	switch m := m.(type) {
	case *transport.Welcome:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Welcome{Welcome: &voltadomarv1.Welcome{
			Start: m.Start, End: m.End,
		}}}, nil
	case *transport.Refused:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Refused{Refused: &voltadomarv1.Refused{
			Code: int64(m.Code), Reason: text(m.Reason),
		}}}, nil
	case *transport.Job:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Job{Job: encodeJob(m)}}, nil
	case *transport.Ask:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Ask{Ask: encodeAsk(m)}}, nil
	case *transport.Cancel:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Cancel{Cancel: &voltadomarv1.Cancel{
			Session: m.Session,
		}}}, nil
	case *transport.Check:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Check{Check: &voltadomarv1.Check{Seq: m.Seq}}}, nil
	case *transport.Watch:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Watch{Watch: encodeWatch(m)}}, nil
	case *transport.Unwatch:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Unwatch{Unwatch: &voltadomarv1.Unwatch{Number: m.Number}}}, nil
	case *transport.Read:
		return &voltadomarv1.ControllerMessage{Message: &voltadomarv1.ControllerMessage_Read{Read: encodeRead(m)}}, nil
	}
	return nil, fmt.Errorf("a controller cannot send a %T", m)
}

// decodeController is the inverse of encodeController.
func decodeController(m *voltadomarv1.ControllerMessage) (transport.Message, error) {
	var d decoder
	var out transport.Message
	switch m := m.GetMessage().(type) {
	case *voltadomarv1.ControllerMessage_Welcome:
		out = &transport.Welcome{Start: m.Welcome.GetStart(), End: m.Welcome.GetEnd()}
	case *voltadomarv1.ControllerMessage_Refused:
		out = &transport.Refused{Code: d.int("refused: code", m.Refused.GetCode()), Reason: m.Refused.GetReason()}
	case *voltadomarv1.ControllerMessage_Job:
		out = d.job(m.Job)
	case *voltadomarv1.ControllerMessage_Ask:
		out = decodeAsk(m.Ask)
	case *voltadomarv1.ControllerMessage_Cancel:
		out = &transport.Cancel{Session: m.Cancel.GetSession()}
	case *voltadomarv1.ControllerMessage_Check:
		out = &transport.Check{Seq: m.Check.GetSeq()}
	case *voltadomarv1.ControllerMessage_Watch:
		out = d.watch(m.Watch)
	case *voltadomarv1.ControllerMessage_Unwatch:
		out = &transport.Unwatch{Number: m.Unwatch.GetNumber()}
	case *voltadomarv1.ControllerMessage_Read:
		out = d.read(m.Read)
	default:
		d.fail("a message of no known type")
	}
	if d.err != nil {
		return nil, d.err
	}
	return out, nil
}

// encodeHello puts the names of the types into a field of their own, for
// controllers that know no more.
func encodeHello(m *transport.Hello) *voltadomarv1.Hello {
	out := &voltadomarv1.Hello{
		Agent: text(m.Agent), Instance: m.Instance, Clock: text(m.Clock), Types: encodeTypes(m.Types), Watches: m.Watches,
	}
	for _, t := range out.Types {
		out.Probers = append(out.Probers, t.Name)
	}
	for _, a := range m.Sources {
		out.Sources = append(out.Sources, encodeAddr(a))
	}
	return out
}

// hello takes the names for the types where an agent does not describe them.
func (d *decoder) hello(m *voltadomarv1.Hello) *transport.Hello {
	out := &transport.Hello{
		Agent: m.GetAgent(), Instance: m.GetInstance(), Clock: m.GetClock(), Types: d.types(m.GetTypes()), Watches: m.GetWatches(),
	}
	if len(out.Types) == 0 {
		for _, name := range m.GetProbers() {
			out.Types = append(out.Types, probe.Type{Name: name})
		}
	}
	for _, b := range m.GetSources() {
		out.Sources = append(out.Sources, d.addr("hello: source", b))
	}
	return out
}

func encodeJob(m *transport.Job) *voltadomarv1.Job {
	return &voltadomarv1.Job{
		Session: m.Session, Prober: text(m.Prober), Key: m.Key[:], Dst: encodeAddr(m.Dst), DstPort: uint32(m.DstPort),
		Tos: uint32(m.TOS), DontFragment: m.DontFragment, Size: int64(m.Size), Mode: uint32(m.Mode), Interval: int64(m.Interval),
		Options: encodeOptions(m.Options),
	}
}

func (d *decoder) job(m *voltadomarv1.Job) *transport.Job {
	out := &transport.Job{
		Session: m.GetSession(), Prober: m.GetProber(), Dst: d.addr("job: dst", m.GetDst()), DstPort: d.uint16("job: dst_port", m.GetDstPort()),
		TOS: d.uint8("job: tos", m.GetTos()), DontFragment: m.GetDontFragment(), Size: d.int("job: size", m.GetSize()),
		Mode: probe.FlowMode(d.uint8("job: mode", m.GetMode())), Interval: time.Duration(m.GetInterval()),
		Options: decodeOptions(m.GetOptions()),
	}
	if copy(out.Key[:], m.GetKey()) != len(m.GetKey()) || len(m.GetKey()) != len(out.Key) {
		d.fail("job: key is %d bytes long: must be %d", len(m.GetKey()), len(out.Key))
	}
	return out
}

func encodeAsk(m *transport.Ask) *voltadomarv1.Ask {
	out := &voltadomarv1.Ask{Session: m.Session}
	if len(m.Probes) > 0 {
		out.Tickets = make([]uint32, len(m.Probes))
	}
	for i, t := range m.Probes {
		out.Tickets[i] = uint32(t.ID)<<16 | uint32(t.TTL)<<8 | uint32(t.Flow)
	}
	return out
}

func decodeAsk(m *voltadomarv1.Ask) *transport.Ask {
	out := &transport.Ask{Session: m.GetSession()}
	if n := len(m.GetTickets()); n > 0 {
		out.Probes = make([]transport.Ticket, n)
	}
	for i, t := range m.GetTickets() {
		out.Probes[i] = transport.Ticket{ID: uint16(t >> 16), TTL: uint8(t >> 8), Flow: uint8(t)}
	}
	return out
}

func encodeSent(m *transport.Sent) *voltadomarv1.Sent {
	out := &voltadomarv1.Sent{Session: m.Session, Source: encodeAddr(m.Source), Step: m.Step}
	n := len(m.Probes)
	if n == 0 {
		return out
	}
	out.Ids, out.Times, out.Stamps = make([]uint32, n), make([]int64, n), make([]byte, n)
	before := int64(0)
	for i, p := range m.Probes {
		at := encodeTime(p.Time)
		out.Ids[i], out.Times[i], out.Stamps[i] = uint32(p.ID), at-before, byte(p.Stamp)
		before = at
		if p.Err != "" || p.Blocked.IsValid() {
			out.Errors = append(out.Errors, &voltadomarv1.SendError{Index: uint32(i), Error: text(p.Err), Rule: encodePrefix(p.Blocked)})
		}
	}
	return out
}

func (d *decoder) sent(m *voltadomarv1.Sent) *transport.Sent {
	out := &transport.Sent{Session: m.GetSession(), Source: d.addr("sent: source", m.GetSource()), Step: m.GetStep()}
	n := len(m.GetIds())
	if len(m.GetTimes()) != n || len(m.GetStamps()) != n {
		d.fail("sent: %d ids, %d times, %d stamps: must be as many of each", n, len(m.GetTimes()), len(m.GetStamps()))
		return nil
	}
	if n > 0 {
		out.Probes = make([]transport.SentProbe, n)
	}
	at := int64(0)
	for i, id := range m.GetIds() {
		at += m.GetTimes()[i]
		out.Probes[i] = transport.SentProbe{ID: d.uint16("sent: id", id), Time: decodeTime(at), Stamp: probe.Stamp(m.GetStamps()[i])}
	}
	for _, e := range m.GetErrors() {
		if int64(e.GetIndex()) >= int64(n) {
			d.fail("sent: an error of probe %d: there are %d", e.GetIndex(), n)
			return nil
		}
		p := &out.Probes[e.GetIndex()]
		p.Err, p.Blocked = e.GetError(), d.prefix("sent: rule", e.GetRule())
	}
	return out
}

func encodeAnswers(m *transport.Answers) *voltadomarv1.Answers {
	out := &voltadomarv1.Answers{Dropped: m.Dropped, KernelDropped: m.KernelDropped, Step: m.Step}
	n := len(m.Answers)
	if n == 0 {
		return out
	}
	// One allocation each for all answers and all addresses.
	out.Answers = make([]*voltadomarv1.Answer, n)
	answers := make([]voltadomarv1.Answer, n)
	buf := make(addrs, 0, n*3*16)
	for i := range m.Answers {
		a, o := &m.Answers[i], &answers[i]
		o.Id = uint32(a.ID)
		o.Tag = a.Tag
		o.TagBits = uint32(a.TagBits)
		o.Protocol = uint32(a.Protocol)
		o.Swappable = a.Swappable
		o.Kind = uint32(a.Kind)
		o.Dst, o.Src, o.From = buf.encode(a.Dst), buf.encode(a.Src), buf.encode(a.From)
		o.IcmpType, o.IcmpCode = uint32(a.ICMPType), uint32(a.ICMPCode)
		o.Ttl, o.QuotedTtl, o.QuotedTos = uint32(a.TTL), uint32(a.QuotedTTL), uint32(a.QuotedTOS)
		o.Mtu = a.MTU
		o.Mpls, o.Values = encodeLabels(a.MPLS), encodeValues(a.Values)
		o.Time, o.Stamp = encodeTime(a.Time), uint32(a.Stamp)
		out.Answers[i] = o
	}
	return out
}

func (d *decoder) answers(m *voltadomarv1.Answers) *transport.Answers {
	out := &transport.Answers{Dropped: m.GetDropped(), KernelDropped: m.GetKernelDropped(), Step: m.GetStep()}
	if n := len(m.GetAnswers()); n > 0 {
		out.Answers = make([]probe.Answer, n)
	}
	for i, a := range m.GetAnswers() {
		out.Answers[i] = probe.Answer{
			ID:        d.uint16("answer: id", a.GetId()),
			Tag:       a.GetTag(),
			TagBits:   d.uint8("answer: tag_bits", a.GetTagBits()),
			Protocol:  d.uint8("answer: protocol", a.GetProtocol()),
			Swappable: a.GetSwappable(),
			Kind:      probe.Kind(d.uint8("answer: kind", a.GetKind())),
			Dst:       d.addr("answer: dst", a.GetDst()),
			Src:       d.addr("answer: src", a.GetSrc()),
			From:      d.addr("answer: from", a.GetFrom()),
			ICMPType:  d.uint8("answer: icmp_type", a.GetIcmpType()),
			ICMPCode:  d.uint8("answer: icmp_code", a.GetIcmpCode()),
			TTL:       d.uint8("answer: ttl", a.GetTtl()),
			QuotedTTL: d.uint8("answer: quoted_ttl", a.GetQuotedTtl()),
			QuotedTOS: d.uint8("answer: quoted_tos", a.GetQuotedTos()),
			MTU:       a.GetMtu(),
			MPLS:      d.labels(a.GetMpls()),
			Values:    decodeValues(a.GetValues()),
			Time:      decodeTime(a.GetTime()),
			Stamp:     probe.Stamp(d.uint8("answer: stamp", a.GetStamp())),
		}
	}
	return out
}
