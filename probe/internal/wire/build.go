// Package wire is what the built-in probers share: checking a probe, building
// its IP header, and reading what a captured datagram says around the part
// that each prober reads itself.
package wire

import (
	"fmt"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// Default lengths of a probe in bytes, as traceroute(8)'s.
const (
	DefaultSize4 = 60
	DefaultSize6 = 80
	// MaxSize is the longest probe.
	MaxSize = 65000
)

// Transport returns the length of p's IP payload, given the transport header
// and the least payload after it that the prober needs. The error, which is
// [probe.ErrProbe], says what is wrong with the fields that all probers share.
func Transport(p *probe.Probe, least4, least6 int) (int, error) {
	header, least, size := packet.IPv4HeaderLen, least4, DefaultSize4
	if p.Dst.Is6() {
		header, least, size = packet.IPv6HeaderLen, least6, DefaultSize6
	}
	if err := Check(p); err != nil {
		return 0, err
	}
	if p.Size != 0 {
		size = p.Size
	}
	if size < header+least || size > MaxSize {
		return 0, fmt.Errorf("%w: size %d, want %d to %d bytes", probe.ErrProbe, size, header+least, MaxSize)
	}
	return size - header, nil
}

// Check says what is wrong with the fields of p that all probers share, size
// apart. The error is [probe.ErrProbe].
func Check(p *probe.Probe) error {
	switch {
	case p.ID == 0:
		return fmt.Errorf("%w: ID 0, want 1 to 65535", probe.ErrProbe)
	case p.TTL == 0:
		return fmt.Errorf("%w: TTL 0, want 1 to 255", probe.ErrProbe)
	case p.Mode > probe.Classic:
		return fmt.Errorf("%w: flow mode %d, want %d (paris) or %d (classic)", probe.ErrProbe, p.Mode, probe.Paris, probe.Classic)
	case !p.Src.IsValid() || p.Src.IsUnspecified() || p.Src.Is4In6():
		return fmt.Errorf("%w: source %v, want a specified IPv4 or IPv6 address", probe.ErrProbe, p.Src)
	case !p.Dst.IsValid() || p.Dst.IsUnspecified() || p.Dst.Is4In6():
		return fmt.Errorf("%w: destination %v, want a specified IPv4 or IPv6 address", probe.ErrProbe, p.Dst)
	case p.Src.Is4() != p.Dst.Is4():
		return fmt.Errorf("%w: source %v and destination %v, want one family", probe.ErrProbe, p.Src, p.Dst)
	}
	return nil
}

// RefuseClassic is the error of a prober without the classic flow mode.
func RefuseClassic(p *probe.Probe, name string) error {
	if p.Mode == probe.Classic {
		return fmt.Errorf("%w: flow mode classic with prober %s, want paris: only udp has a source port to carry the identifier", probe.ErrProbe, name)
	}
	return nil
}

// AppendIP appends the IP header of p, checked before, for length bytes of the
// given protocol. The identification is used in IPv4 alone. In IPv6 the flow
// label is the source port, so it is as constant as that.
func AppendIP(b []byte, p *probe.Probe, protocol uint8, identification uint16, length int) ([]byte, error) {
	var err error
	if p.Dst.Is4() {
		h := packet.IPv4{
			TOS: p.TOS, ID: identification, DontFragment: p.DontFragment,
			TTL: p.TTL, Protocol: protocol, Src: p.Src, Dst: p.Dst,
		}
		b, err = h.Append(b, length)
	} else {
		h := packet.IPv6{
			TrafficClass: p.TOS, FlowLabel: uint32(p.Port()),
			HopLimit: p.TTL, Protocol: protocol, Src: p.Src, Dst: p.Dst,
		}
		b, err = h.Append(b, length)
	}
	if err != nil {
		return b, fmt.Errorf("%w: %w", probe.ErrProbe, err)
	}
	return b, nil
}

// Zeros appends n zero bytes to b.
func Zeros(b []byte, n int) []byte {
	var z [128]byte
	for n > len(z) {
		b, n = append(b, z[:]...), n-len(z)
	}
	return append(b, z[:n]...)
}
