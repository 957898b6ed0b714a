// Package sitetest is a measurement type for tests: it asks a server over UDP
// for the name of its site.
package sitetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// Port is where servers listen.
const Port = 5353

const question, answer = "who?", "I am "

// Payload is the type. Its answers begin with the option "greeting" if that is
// set, and are known only to who knows it.
type Payload struct{ Greeting string }

// Prober returns the type as a prober of this process.
func Prober() probe.Prober { return udp.Carry(Payload{}) }

// Name returns "site".
func (Payload) Name() string { return "site" }

// Help returns a line.
func (Payload) Help() string { return "asks for the name of a site" }

// DefaultPort returns [Port].
func (Payload) DefaultPort() uint16 { return Port }

// Options lists "greeting" and "shout".
func (Payload) Options() []probe.Option {
	return []probe.Option{
		{Name: "greeting", Kind: probe.ChoiceOption, Choices: []string{"none", "hello", "hi"}, Default: "none", Help: "how answers begin"},
		{Name: "shout", Kind: probe.BoolOption, Help: "does nothing"},
	}
}

// With sets the options. The greeting "hi" is refused, although it is a choice.
func (Payload) With(values map[string]string) (probe.Payload, error) {
	all, err := probe.CheckOptions(Payload{}.Options(), values)
	switch {
	case err != nil:
		return nil, err
	case all["greeting"] == "hi":
		return nil, &probe.OptionError{Name: "greeting", Value: "hi", Want: "must be politer"}
	case all["greeting"] == "none":
		return Payload{}, nil
	}
	return Payload{all["greeting"]}, nil
}

// AppendPayload appends the question, with the identity for the answer.
func (p Payload) AppendPayload(b []byte, pr *probe.Probe) ([]byte, error) {
	b = append(append(b, question...), byte(len(p.Greeting)))
	b = append(b, p.Greeting...)
	b = binary.BigEndian.AppendUint16(b, pr.ID)
	return binary.BigEndian.AppendUint64(b, pr.Tag(probe.UDP)), nil
}

// Server answers questions with the name of its site.
func Server(site string) func(data []byte) []byte {
	return func(data []byte) []byte {
		data, ok := bytes.CutPrefix(data, []byte(question))
		if !ok || len(data) < 11 || len(data) < 11+int(data[0]) {
			return nil
		}
		n := int(data[0])
		return append(append(bytes.Clone(data[1:1+n]), answer...), append(bytes.Clone(data[1+n:11+n]), site...)...)
	}
}

// ReadAnswer reads identity and site.
func (p Payload) ReadAnswer(data []byte, a *probe.Answer) bool {
	data, ok := bytes.CutPrefix(data, []byte(p.Greeting+answer))
	if !ok || len(data) < 10 {
		return false
	}
	a.ID, a.Tag, a.TagBits = binary.BigEndian.Uint16(data), binary.BigEndian.Uint64(data[2:]), 64
	a.Values = []probe.Value{{Name: "site", Text: string(data[10:])}}
	return true
}

// Reply returns the datagram with which a server at site answers the one that
// asks p, nil if it does not.
func Reply(pr probe.Prober, p *probe.Probe, site string) []byte {
	asked, err := pr.Build(nil, p)
	if err != nil {
		return nil
	}
	header := packet.IPv4HeaderLen
	if p.Dst.Is6() {
		header = packet.IPv6HeaderLen
	}
	data := Server(site)(asked[header+packet.UDPHeaderLen:])
	if data == nil {
		return nil
	}
	return UDP(p.Dst, p.Src, p.Port(), data)
}

// UDP returns a datagram from [Port] of src.
func UDP(src, dst netip.Addr, port uint16, data []byte) []byte {
	n := packet.UDPHeaderLen + len(data)
	var b []byte
	if src.Is6() {
		h := packet.IPv6{HopLimit: 60, Protocol: probe.UDP, Src: src, Dst: dst}
		b, _ = h.Append(nil, n)
	} else {
		h := packet.IPv4{TTL: 60, Protocol: probe.UDP, Src: src, Dst: dst}
		b, _ = h.Append(nil, n)
	}
	at := len(b)
	b = append(packet.UDP{SrcPort: Port, DstPort: port, Length: uint16(n)}.Append(b), data...)
	sum := packet.PseudoHeader(src, dst, probe.UDP, n).Add(b[at:])
	binary.BigEndian.PutUint16(b[at+6:], sum.UDPChecksum())
	return b
}

// Remote is the type as if it ran in another process: a [probe.Batcher]. What
// Building and Matching do comes before each batch; an error fails it. Built and
// Matched change what comes out.
type Remote struct {
	probe.Prober
	Building, Matching func(ctx context.Context, n int) error
	Built              func(*probe.Built)
	Matched            func(*probe.Matched)
}

var _ probe.Batcher = Remote{}

// Help returns a line.
func (r Remote) Help() string { return r.Prober.(probe.Describer).Help() }

// DefaultPort returns the prober's.
func (r Remote) DefaultPort() uint16 { return r.Prober.(probe.Porter).DefaultPort() }

// Options lists those of the prober.
func (r Remote) Options() []probe.Option { return r.Prober.(probe.Optioner).Options() }

// With sets them.
func (r Remote) With(values map[string]string) (probe.Prober, error) {
	p, err := r.Prober.(probe.Optioner).With(values)
	if err != nil {
		return nil, err
	}
	r.Prober = p
	return r, nil
}

// BuildAll builds one after the other.
func (r Remote) BuildAll(ctx context.Context, ps []probe.Probe, out []probe.Built) error {
	if r.Building != nil {
		if err := r.Building(ctx, len(ps)); err != nil {
			return err
		}
	}
	for i := range ps {
		out[i].Data, out[i].Err = r.Build(nil, &ps[i])
		if r.Built != nil {
			r.Built(&out[i])
		}
	}
	return nil
}

// MatchAll matches one after the other.
func (r Remote) MatchAll(ctx context.Context, datagrams [][]byte, out []probe.Matched) error {
	if r.Matching != nil {
		if err := r.Matching(ctx, len(datagrams)); err != nil {
			return err
		}
	}
	for i, d := range datagrams {
		out[i].OK = r.Match(d, &out[i].Answer)
		if r.Matched != nil {
			r.Matched(&out[i])
		}
	}
	return nil
}
