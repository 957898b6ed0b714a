package udp_test

import (
	"fmt"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// A probe is built, a router on its way answers with an error that quotes no
// more of it than it must, and the answer is told from a forged one.
func Example() {
	p := &probe.Probe{
		ID:      10000,
		Key:     probe.Key{1, 2, 3}, // drawn at random for each measurement
		Src:     netip.MustParseAddr("192.0.2.1"),
		Dst:     netip.MustParseAddr("198.51.100.7"),
		DstPort: 33434,
		TTL:     3,
	}
	datagram, err := udp.Prober{}.Build(nil, p)
	if err != nil {
		fmt.Println(err)
		return
	}

	msg, _ := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: packet.ICMPv4TimeExceeded, Quote: datagram[:28]})
	router := packet.IPv4{TTL: 250, Protocol: probe.ICMP, Src: netip.MustParseAddr("203.0.113.5"), Dst: p.Src}
	captured, _ := router.Append(nil, len(msg))
	captured = append(captured, msg...)

	var answer probe.Answer
	if (udp.Prober{}).Match(captured, &answer) {
		fmt.Println(answer.Kind, "from", answer.From, "for probe", answer.ID)
		fmt.Println("verified:", answer.Verified(&p.Key, p.ID))
		fmt.Println("with another key:", answer.Verified(&probe.Key{}, p.ID))
	}
	// Output:
	// time-exceeded from 203.0.113.5 for probe 10000
	// verified: true
	// with another key: false
}

// hello asks a server over UDP for its name.
type hello struct{}

func (hello) Name() string { return "hello" }

func (hello) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) {
	return append(b, "hello"...), nil
}

// ReadAnswer knows answers that repeat the question before the name.
func (hello) ReadAnswer(data []byte, a *probe.Answer) bool {
	const asked = len("hello") + probe.IdentityLen
	if len(data) < asked {
		return false
	}
	var ok bool
	a.ID, a.Tag, ok = probe.TrailingIdentity(data[:asked])
	a.TagBits = 64
	a.Values = []probe.Value{{Name: "name", Text: string(data[asked:])}}
	return ok
}

// A measurement type is the data of its probes and the reading of what is
// answered: Carry does the rest.
func ExampleCarry() {
	prober := udp.Carry(hello{})
	p := &probe.Probe{
		ID: 4711, Key: probe.Key{1}, DstPort: 7, TTL: 3,
		Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("203.0.113.10"),
	}
	datagram, err := prober.Build(nil, p)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s asks %q, %d bytes in all\n", prober.Name(), datagram[28:33], len(datagram))
	// Output: hello asks "hello", 45 bytes in all
}
