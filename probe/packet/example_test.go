package packet_test

import (
	"fmt"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// Reading an ICMP error: what a router says of a datagram that ran out of
// hops, and the label under which it had come in.
func ExampleParseICMPv4Error() {
	captured := timeExceeded()

	outer, payload, err := packet.ParseIPv4(captured)
	if err != nil {
		fmt.Println(err)
		return
	}
	icmp, err := packet.ParseICMPv4Error(payload)
	if err != nil {
		fmt.Println(err)
		return
	}
	quoted, datagram, err := packet.ParseIPv4(icmp.Quote)
	if err != nil {
		fmt.Println(err)
		return
	}
	udp, _, err := packet.ParseUDP(datagram)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v: type %d code %d\n", outer.Src, icmp.Type, icmp.Code)
	fmt.Printf("quoted: id %d to %v port %d\n", quoted.ID, quoted.Dst, udp.DstPort)
	for object := range packet.Objects(icmp.Extension) {
		if object.Class != packet.ClassMPLS {
			continue
		}
		for label := range packet.MPLSLabels(object.Payload) {
			fmt.Printf("label %d, TTL %d\n", label.Label, label.TTL)
		}
	}
	// Output:
	// 203.0.113.5: type 11 code 0
	// quoted: id 10000 to 198.51.100.7 port 33434
	// label 16004, TTL 1
}

// timeExceeded builds what the example reads.
func timeExceeded() []byte {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	probe := packet.IPv4{ID: 10000, TTL: 1, Protocol: 17, Src: src, Dst: dst}
	quote, _ := probe.Append(nil, packet.UDPHeaderLen)
	quote = packet.UDP{SrcPort: 61440, DstPort: 33434, Length: packet.UDPHeaderLen}.Append(quote)

	stack := packet.MPLSLabel{Label: 16004, Bottom: true, TTL: 1}.Append(nil)
	ext, _ := packet.AppendExtension(nil, packet.Object{Class: packet.ClassMPLS, CType: 1, Payload: stack})
	msg, _ := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: packet.ICMPv4TimeExceeded, Quote: quote, Extension: ext})

	router := packet.IPv4{TTL: 255, Protocol: 1, Src: netip.MustParseAddr("203.0.113.5"), Dst: src}
	b, _ := router.Append(nil, len(msg))
	return append(b, msg...)
}
