package contract

import (
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// Verdict is what the host alone can say of a captured datagram.
type Verdict uint8

// The verdicts.
const (
	NoAnswer Verdict = iota
	Answer           // an ICMP error, which needs no plugin to be read
	Direct           // perhaps: the plugin knows
)

// Judge fills a with what a datagram says of a probe that was sent with a
// protocol, whatever the measurement type.
func Judge(datagram []byte, protocol pluginv1.Protocol, a *probe.Answer) Verdict {
	var matches bool
	switch protocol {
	case pluginv1.Protocol_PROTOCOL_UDP:
		if _, ok := udpReply(datagram, a); ok {
			return Direct
		}
		matches = udp.Prober{}.Match(datagram, a)
	case pluginv1.Protocol_PROTOCOL_TCP:
		matches = tcp.Prober{}.Match(datagram, a)
	case pluginv1.Protocol_PROTOCOL_ICMP:
		matches = icmp.Prober{}.Match(datagram, a) || carried.Match(datagram, a)
	}
	switch {
	case !matches:
		return NoAnswer
	case a.Kind.Direct():
		return Direct
	}
	return Answer
}

// carried knows the echo replies of all types but the built-in one.
var carried = icmp.Carry(anything{})

// anything is a payload that takes all answers.
type anything struct{}

func (anything) Name() string { return "anything" }

func (anything) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) { return b, nil }

func (anything) ReadAnswer([]byte, *probe.Answer) bool { return true }

// udpReply fills a with what a UDP datagram says of itself, and returns the
// port it is to.
func udpReply(datagram []byte, a *probe.Answer) (port uint16, ok bool) {
	if len(datagram) == 0 {
		return 0, false
	}
	*a = probe.Answer{Kind: probe.UDPReply, Protocol: probe.UDP}
	var payload []byte
	if datagram[0]>>4 == 6 {
		h, rest, err := packet.ParseIPv6(datagram)
		if err != nil || h.Protocol != probe.UDP || h.FragmentOffset != 0 {
			return 0, false
		}
		a.Dst, a.Src, a.TTL, payload = h.Src, h.Dst, h.HopLimit, rest
	} else {
		h, rest, err := packet.ParseIPv4(datagram)
		if err != nil || h.Protocol != probe.UDP || h.FragmentOffset != 0 {
			return 0, false
		}
		a.Dst, a.Src, a.TTL, payload = h.Src, h.Dst, h.TTL, rest
	}
	h, _, err := packet.ParseUDP(payload)
	if err != nil {
		return 0, false
	}
	a.From = a.Dst
	return h.DstPort, true
}

// Complete adds to a, which Judge filled from a datagram, what the plugin said
// of it. It reports false for an answer to a port that the probe is not from.
// The error is [ErrMalformed].
func Complete(a *probe.Answer, datagram []byte, said *Said) (bool, error) {
	a.Values = said.Values
	if a.Kind != probe.UDPReply {
		if said.ID != a.ID {
			return false, malformed("identifier %d read from an answer to probe %d", said.ID, a.ID)
		}
		return true, nil
	}
	var again probe.Answer
	port, _ := udpReply(datagram, &again)
	a.ID, a.Tag, a.TagBits = said.ID, said.Tag, said.TagBits
	return port == said.ID || port >= probe.SourcePort && port-probe.SourcePort < probe.MaxFlows, nil
}
