package probe

import "encoding/binary"

// IdentityLen is how many bytes a carrier adds to a payload: a word that makes
// the checksum valid, the probe's identifier, and its tag.
const IdentityLen = 12

// Payload is what most measurement types are: the data of UDP datagrams or
// ICMP echo requests, and the reading of what comes back in return. A carrier
// such as udp.Carry makes a [Prober] of it, which has the headers, the
// identity and the matching of ICMP errors from the carrier. It may also be a
// [Describer], a [PayloadOptioner] and a [Porter]; so will be the prober.
//
// Its methods are safe for concurrent use.
type Payload interface {
	// Name is the type as users write it, see [Prober].
	Name() string
	// AppendPayload appends the data of probe p to b and returns the extended
	// slice. The error is [ErrProbe].
	//
	// Over UDP the identity follows, [IdentityLen] bytes that the data has to
	// leave room for, for instance as the value of a last option that pads;
	// over ICMP it comes first. Where p has a size, zeros follow up to it: a
	// total that the data states is [Probe.DataLen].
	//
	// An ICMP error to UDP over IPv6 proves the probe only if it quotes the
	// identity too: 80 bytes of data with it come back from every router.
	AppendPayload(b []byte, p *Probe) ([]byte, error)
	// ReadAnswer says which probe the data of a direct answer belongs to: it
	// sets ID, Tag and TagBits of a, and perhaps Values, and reports true.
	// What the headers say is in a already; over ICMP, which sends the whole
	// request back, so are ID, Tag and TagBits, and data is what follows the
	// identity. It does not retain data, and accepts any bytes.
	ReadAnswer(data []byte, a *Answer) bool
}

// PayloadOptioner is implemented by payloads with options of their own, see
// [Optioner].
type PayloadOptioner interface {
	Payload
	Options() []Option
	With(values map[string]string) (Payload, error)
}

// Porter is implemented by probers and payloads over UDP or TCP that have a
// destination port of their own.
type Porter interface {
	// DefaultPort is where probes go whose port is 0. It is 0 itself for what
	// has no ports.
	DefaultPort() uint16
}

// DataLen returns how many bytes follow a transport header of so many bytes
// in a probe that has a size, the identity included. Without a size it is 0:
// as many as there are.
func (p *Probe) DataLen(transportHeader int) int {
	header := 20
	if p.Dst.Is6() {
		header = 40
	}
	return max(0, p.Size-header-transportHeader)
}

// AppendIdentity appends the identity of a probe, with 0 as the first word.
func AppendIdentity(b []byte, id uint16, tag uint64) []byte {
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	return binary.BigEndian.AppendUint64(b, tag)
}

// TrailingIdentity reads the identity at the end of the data of a UDP probe, as
// it may come back from a destination that echoes. It reports false if there
// is none.
func TrailingIdentity(data []byte) (id uint16, tag uint64, ok bool) {
	if len(data) < IdentityLen {
		return 0, 0, false
	}
	data = data[len(data)-IdentityLen:]
	id, tag = binary.BigEndian.Uint16(data[2:]), binary.BigEndian.Uint64(data[4:])
	return id, tag, id != 0 && tag != 0
}
