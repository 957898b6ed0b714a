package simnet

import (
	"encoding/binary"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

const noPort = -1

// edit is a change of a datagram's source or destination.
type edit struct {
	source bool
	addr   netip.Addr
	port   int // or echo identifier; noPort: as it is
	// fix makes the checksum of the transport header follow.
	fix bool
	// whole says that only the IP header is there to be changed.
	whole bool
}

// apply changes a datagram, which may be cut short after its IP header.
func (e *edit) apply(b []byte, transport int, protocol uint8) {
	portAt, checksumAt, pseudo := places(transport, protocol, e.source)
	switch {
	case e.whole:
		portAt, checksumAt = -1, -1
	case !e.fix || len(b) < checksumAt+2:
		checksumAt = -1
	}
	if protocol == probe.UDP && checksumAt >= 0 && binary.BigEndian.Uint16(b[checksumAt:]) == 0 {
		checksumAt = -1 // there is none
	}
	follow := func(at int, old, v uint16) {
		c := binary.BigEndian.Uint16(b[at:])
		binary.BigEndian.PutUint16(b[at:], packet.UpdateChecksum(c, old, v))
	}
	set := func(at int, v uint16, covered bool) {
		old := binary.BigEndian.Uint16(b[at:])
		binary.BigEndian.PutUint16(b[at:], v)
		if covered && checksumAt >= 0 {
			follow(checksumAt, old, v)
		}
		if e.addr.Is4() && at < transport {
			follow(10, old, v)
		}
	}
	at := e.addrAt()
	for raw := e.addr.AsSlice(); len(raw) > 0; raw = raw[2:] {
		set(at, binary.BigEndian.Uint16(raw), pseudo)
		at += 2
	}
	if e.port != noPort && portAt >= 0 && len(b) >= portAt+2 {
		set(portAt, uint16(e.port), true)
	}
	if protocol == probe.UDP && checksumAt >= 0 && binary.BigEndian.Uint16(b[checksumAt:]) == 0 {
		binary.BigEndian.PutUint16(b[checksumAt:], 0xFFFF) // 0 would say that there is none
	}
}

func (e *edit) addrAt() int {
	switch {
	case e.addr.Is6() && e.source:
		return 8
	case e.addr.Is6():
		return 24
	case e.source:
		return 12
	}
	return 16
}

// places returns where port or echo identifier and the checksum of a transport
// header are, -1 for none, and whether the checksum covers the addresses.
func places(transport int, protocol uint8, source bool) (port, checksum int, pseudo bool) {
	if !source {
		port = 2
	}
	switch protocol {
	case probe.UDP:
		return transport + port, transport + 6, true
	case probe.TCP:
		return transport + port, transport + 16, true
	case probe.ICMP:
		return transport + 4, transport + 2, false
	case probe.ICMPv6:
		return transport + 4, transport + 2, true
	}
	return -1, -1, false
}
