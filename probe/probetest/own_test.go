package probetest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// whoami is a type as others may write it, which shares nothing with the
// built-in ones: it asks a server for its name, over UDP and IPv4 alone.
//
//	 0       2       4     5        6                               14
//	+-------+-------+-----+--------+-------------------------------+------
//	| fix-up|  ID   | QR  | colour |              tag              | name
//	+-------+-------+-----+--------+-------------------------------+------
type whoami struct{ blue bool }

const (
	whoamiLen  = 14
	whoamiSize = packet.IPv4HeaderLen + packet.UDPHeaderLen + whoamiLen
)

var whoamiOptions = probetest.Options{
	NoIPv6: true, NoClassic: true, MayAllocate: true, DstPort: 7777,
	Sizes4: [2]int{whoamiSize, whoamiSize}, Reply: whoamiReplies,
}

func (whoami) Name() string { return "whoami" }

func (w whoami) Build(b []byte, p *probe.Probe) ([]byte, error) {
	wrong := func(format string, args ...any) ([]byte, error) {
		return b, fmt.Errorf("%w: "+format, append([]any{probe.ErrProbe}, args...)...)
	}
	switch {
	case p.ID == 0 || p.TTL == 0:
		return wrong("ID %d and TTL %d, want 1 at least", p.ID, p.TTL)
	case p.Mode != probe.Paris:
		return wrong("flow mode %d", p.Mode)
	case !p.Src.Is4() || !p.Dst.Is4() || p.Src.IsUnspecified() || p.Dst.IsUnspecified():
		return wrong("from %v to %v, want IPv4", p.Src, p.Dst)
	case p.DstPort != 0 && p.DstPort != 7777:
		return wrong("port %d, want 7777", p.DstPort)
	case p.Size != 0 && p.Size != whoamiSize:
		return wrong("size %d, want %d", p.Size, whoamiSize)
	}
	const n = packet.UDPHeaderLen + whoamiLen
	ip := packet.IPv4{TOS: p.TOS, ID: p.ID, DontFragment: p.DontFragment, TTL: p.TTL, Protocol: probe.UDP, Src: p.Src, Dst: p.Dst}
	b, err := ip.Append(b, n)
	if err != nil {
		return wrong("%w", err)
	}
	at := len(b)
	tag := p.Tag(probe.UDP)
	b = packet.UDP{SrcPort: p.Port(), DstPort: 7777, Length: n}.Append(b)
	b = append(b, 0, 0, byte(p.ID>>8), byte(p.ID), 0, 0)
	if w.blue {
		b[len(b)-1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, tag)
	sum := packet.PseudoHeader(p.Src, p.Dst, probe.UDP, n).Add(b[at:])
	binary.BigEndian.PutUint16(b[at+8:], sum.Fixup(probe.Tag16(tag)))
	binary.BigEndian.PutUint16(b[at+6:], probe.Tag16(tag))
	return b, nil
}

func (whoami) Match(datagram []byte, a *probe.Answer) bool {
	h, payload, err := packet.ParseIPv4(datagram)
	if err != nil || h.FragmentOffset != 0 {
		return false
	}
	*a = probe.Answer{Protocol: probe.UDP, Dst: h.Src, Src: h.Dst, From: h.Src, TTL: h.TTL}
	if h.Protocol == probe.UDP {
		return matchName(payload, a)
	}
	e, err := packet.ParseICMPv4Error(payload)
	if h.Protocol != probe.ICMP || err != nil {
		return false
	}
	q, inner, err := packet.ParseIPv4(e.Quote)
	u, _, short := packet.ParseUDP(inner)
	if err != nil || short != nil || q.FragmentOffset != 0 || q.Protocol != probe.UDP || q.ID == 0 || u.SrcPort&0xFF00 != probe.SourcePort {
		return false
	}
	a.ID, a.Swappable, a.Dst, a.Src = q.ID, true, q.Dst, q.Src
	if u.Checksum != 0 {
		a.Tag, a.TagBits = uint64(u.Checksum), 16
	}
	a.ICMPType, a.ICMPCode, a.MTU, a.QuotedTTL, a.QuotedTOS = e.Type, e.Code, e.MTU, q.TTL, q.TOS
	a.Kind = map[uint8]probe.Kind{3: probe.Unreachable, 11: probe.TimeExceeded, 12: probe.ParameterProblem}[e.Type]
	for o := range packet.Objects(e.Extension) {
		if o.Class == packet.ClassMPLS && o.CType == 1 {
			for l := range packet.MPLSLabels(o.Payload) {
				a.MPLS = append(a.MPLS, probe.Label(l))
			}
		}
	}
	return true
}

func matchName(payload []byte, a *probe.Answer) bool {
	u, body, err := packet.ParseUDP(payload)
	if err != nil || len(body) < whoamiLen || body[4] != 1 || u.DstPort&0xFF00 != probe.SourcePort || body[2]|body[3] == 0 {
		return false
	}
	a.Kind = probe.UDPReply
	a.ID, a.Tag, a.TagBits = binary.BigEndian.Uint16(body[2:]), binary.BigEndian.Uint64(body[6:]), 64
	name := bytes.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			return -1
		}
		return r
	}, body[whoamiLen:])
	a.Values = []probe.Value{{Name: "server", Text: string(name[:min(len(name), 60)])}}
	return true
}

func (whoami) Help() string { return "ask a server for its name" }

func (whoami) DefaultPort() uint16 { return 7777 }

func (whoami) Options() []probe.Option {
	return []probe.Option{
		{Name: "colour", Kind: probe.ChoiceOption, Choices: []string{"red", "blue"}, Default: "red", Help: "colour of the question"},
		{Name: "wait", Kind: probe.DurationOption, Default: "5ms", Help: "how long the server may think"},
	}
}

func (w whoami) With(values map[string]string) (probe.Prober, error) {
	values, err := probe.CheckOptions(w.Options(), values)
	return whoami{blue: values["colour"] == "blue"}, err
}

func (w whoami) BuildAll(_ context.Context, ps []probe.Probe, out []probe.Built) error {
	for i := range ps {
		out[i].Data, out[i].Err = w.Build(nil, &ps[i])
	}
	return nil
}

func (w whoami) MatchAll(_ context.Context, datagrams [][]byte, out []probe.Matched) error {
	for i, d := range datagrams {
		out[i].OK = w.Match(d, &out[i].Answer)
	}
	return nil
}

// whoamiReplies answers as the server does, and as a host that has none.
func whoamiReplies(t testing.TB, datagram []byte) [][]byte {
	answers := probetest.DirectAnswers(datagram)
	require.Len(t, answers, 2)
	reply, unreachable := answers[0], answers[1]
	if reply[20+8+3]|reply[20+8+2] != 0 {
		reply[20+8+4] = 1
	}
	reply = append(reply, "amsterdam"...)
	binary.BigEndian.PutUint16(reply[2:], uint16(len(reply)))
	binary.BigEndian.PutUint16(reply[24:], uint16(len(reply)-20))
	return [][]byte{probetest.Seal(reply), unreachable}
}

func openWhoami(testing.TB) probe.Prober { return whoami{} }

func TestOwnType(t *testing.T) { probetest.Run(t, openWhoami, whoamiOptions) }

func FuzzOwnType(f *testing.F) { probetest.Fuzz(f, openWhoami, whoamiOptions) }

// only6 is the UDP prober for IPv6 alone.
type only6 struct{ udp.Prober }

func (o only6) Build(b []byte, p *probe.Probe) ([]byte, error) {
	if p.Dst.Is4() {
		return b, fmt.Errorf("%w: destination %v, want IPv6", probe.ErrProbe, p.Dst)
	}
	return o.Prober.Build(b, p)
}

func TestIPv6Alone(t *testing.T) {
	probetest.Run(t, func(testing.TB) probe.Prober { return only6{} }, probetest.Options{NoIPv4: true, Samples: 100})
}
