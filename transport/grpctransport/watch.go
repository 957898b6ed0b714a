package grpctransport

import (
	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

func encodeWatch(m *transport.Watch) *voltadomarv1.Watch {
	return &voltadomarv1.Watch{Number: m.Number, Prober: text(m.Prober), Options: encodeOptions(m.Options), Dst: encodeAddr(m.Dst)}
}

func (d *decoder) watch(m *voltadomarv1.Watch) *transport.Watch {
	return &transport.Watch{
		Number: m.GetNumber(), Prober: m.GetProber(), Options: decodeOptions(m.GetOptions()), Dst: d.addr("watch: dst", m.GetDst()),
	}
}

func (d *decoder) watching(m *voltadomarv1.Watching) *transport.Watching {
	return &transport.Watching{Number: m.GetNumber(), Code: d.int("watching: code", m.GetCode()), Reason: m.GetReason()}
}

func encodeUnread(m *transport.Unread) *voltadomarv1.Unread {
	out := &voltadomarv1.Unread{Number: m.Number, Dropped: m.Dropped, Step: m.Step}
	for _, c := range m.Datagrams {
		out.Datagrams = append(out.Datagrams, &voltadomarv1.Captured{Data: c.Data, Time: encodeTime(c.Time), Stamp: uint32(c.Stamp)})
	}
	return out
}

func (d *decoder) unread(m *voltadomarv1.Unread) *transport.Unread {
	out := &transport.Unread{Number: m.GetNumber(), Dropped: m.GetDropped(), Step: m.GetStep()}
	for _, c := range m.GetDatagrams() {
		out.Datagrams = append(out.Datagrams, transport.Captured{
			Data: d.datagram("unread", c.GetData()), Time: decodeTime(c.GetTime()), Stamp: probe.Stamp(d.uint8("unread: stamp", c.GetStamp())),
		})
	}
	return out
}

func encodeRead(m *transport.Read) *voltadomarv1.Read {
	out := &voltadomarv1.Read{Number: m.Number}
	for _, r := range m.Datagrams {
		out.Datagrams = append(out.Datagrams, &voltadomarv1.Reference{Ref: r.Ref, Data: r.Data})
	}
	return out
}

func (d *decoder) read(m *voltadomarv1.Read) *transport.Read {
	out := &transport.Read{Number: m.GetNumber()}
	for _, r := range m.GetDatagrams() {
		out.Datagrams = append(out.Datagrams, transport.Reference{Ref: r.GetRef(), Data: d.datagram("read", r.GetData())})
	}
	return out
}

func encodeReadings(m *transport.Readings) *voltadomarv1.Readings {
	out := &voltadomarv1.Readings{Number: m.Number}
	for _, r := range m.Readings {
		out.Readings = append(out.Readings, &voltadomarv1.Reading{
			Ref: r.Ref, Ok: r.OK, Id: uint32(r.ID), Tag: r.Tag, TagBits: uint32(r.TagBits), Values: encodeValues(r.Values),
		})
	}
	return out
}

func (d *decoder) readings(m *voltadomarv1.Readings) *transport.Readings {
	out := &transport.Readings{Number: m.GetNumber()}
	for _, r := range m.GetReadings() {
		out.Readings = append(out.Readings, transport.Reading{
			Ref: r.GetRef(), OK: r.GetOk(), ID: d.uint16("reading: id", r.GetId()), Tag: r.GetTag(),
			TagBits: d.uint8("reading: tag_bits", r.GetTagBits()), Values: decodeValues(r.GetValues()),
		})
	}
	return out
}

// datagram refuses what no agent passes on.
func (d *decoder) datagram(field string, b []byte) []byte {
	if len(b) > transport.MaxForwarded {
		d.fail("%s: a datagram of %d bytes: must be at most %d", field, len(b), transport.MaxForwarded)
	}
	if len(b) == 0 {
		return nil
	}
	return b
}

func encodeValues(in []probe.Value) []*voltadomarv1.Value {
	if len(in) == 0 {
		return nil
	}
	out := make([]*voltadomarv1.Value, len(in))
	for i, v := range in {
		out[i] = &voltadomarv1.Value{Name: text(v.Name), Text: text(v.Text)}
	}
	return out
}

func decodeValues(in []*voltadomarv1.Value) []probe.Value {
	if len(in) == 0 {
		return nil
	}
	out := make([]probe.Value, len(in))
	for i, v := range in {
		out[i] = probe.Value{Name: v.GetName(), Text: v.GetText()}
	}
	return out
}
