package contract

import (
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// AppendTags appends the tags of probes that are sent with a protocol.
func AppendTags(tags []uint64, ps []probe.Probe, protocol pluginv1.Protocol) []uint64 {
	for i := range ps {
		tags = append(tags, ps[i].Tag(number(protocol, ps[i].Dst.Is6())))
	}
	return tags
}

// Groups returns the message about probes of which the tags are known. It
// keeps a part of tags.
func Groups(ps []probe.Probe, tags []uint64) []*pluginv1.Group {
	var groups []*pluginv1.Group
	for len(ps) > 0 {
		n, same := run(ps)
		groups = append(groups, group(ps[:n], tags[:n:n], same))
		ps, tags = ps[n:], tags[n:]
	}
	return groups
}

// run returns how many probes from the first on make a group, and whether they
// have one destination.
func run(ps []probe.Probe) (n int, same bool) {
	first, same := &ps[0], true
	for n = 1; n < len(ps); n++ {
		p := &ps[n]
		if p.Key != first.Key || p.Src != first.Src || p.DstPort != first.DstPort || p.Mode != first.Mode ||
			p.TOS != first.TOS || p.DontFragment != first.DontFragment || p.Size != first.Size ||
			p.Dst.BitLen() != first.Dst.BitLen() {
			break
		}
		same = same && p.Dst == first.Dst
	}
	return n, same
}

func group(ps []probe.Probe, tags []uint64, same bool) *pluginv1.Group {
	p := &ps[0]
	g := &pluginv1.Group{
		Key: p.Key[:], Src: p.Src.AsSlice(), DstPort: uint32(p.DstPort), Mode: uint32(p.Mode),
		Tos: uint32(p.TOS), DontFragment: p.DontFragment, Size: int64(p.Size),
		Tickets: make([]uint32, len(ps)), Tags: tags,
	}
	if same {
		g.Dst = p.Dst.AsSlice()
	} else {
		g.Dsts = make([]byte, 0, len(ps)*p.Dst.BitLen()/8)
	}
	for i := range ps {
		p := &ps[i]
		g.Tickets[i] = uint32(p.ID)<<16 | uint32(p.TTL)<<8 | uint32(p.Flow)
		if !same {
			g.Dsts = appendAddr(g.Dsts, p.Dst)
		}
	}
	return g
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

// AppendProbes appends the probes of groups. The error is [ErrMalformed].
func AppendProbes(ps []probe.Probe, groups []*pluginv1.Group) ([]probe.Probe, error) {
	for _, g := range groups {
		var err error
		if ps, err = appendGroup(ps, g); err != nil {
			return nil, err
		}
		if len(ps) > MaxBatch {
			return nil, malformed("more than %d probes", MaxBatch)
		}
	}
	return ps, nil
}

func appendGroup(ps []probe.Probe, g *pluginv1.Group) ([]probe.Probe, error) {
	if g == nil {
		return nil, malformed("no group")
	}
	n := len(g.Tickets)
	p := probe.Probe{
		DstPort: uint16(g.DstPort), Mode: probe.FlowMode(g.Mode), TOS: uint8(g.Tos),
		DontFragment: g.DontFragment, Size: int(g.Size),
	}
	var err error
	if p.Src, err = addr(g.Src); err != nil {
		return nil, err
	}
	if p.Dst, err = addr(g.Dst); err != nil {
		return nil, err
	}
	width := 0
	if n > 0 {
		width = len(g.Dsts) / n
	}
	switch {
	case n > MaxBatch:
		return nil, malformed("more than %d probes", MaxBatch)
	case copy(p.Key[:], g.Key) != len(p.Key) || len(g.Key) != len(p.Key):
		return nil, malformed("key of %d bytes, want %d", len(g.Key), len(p.Key))
	case g.DstPort > 0xFFFF || g.Mode > 0xFF || g.Tos > 0xFF || int64(p.Size) != g.Size:
		return nil, malformed("port %d, mode %d, TOS %d or size %d out of range", g.DstPort, g.Mode, g.Tos, g.Size)
	case width != 0 && width != 4 && width != 16 || width*n != len(g.Dsts):
		return nil, malformed("%d bytes of destinations for %d probes", len(g.Dsts), n)
	}
	for i, ticket := range g.Tickets {
		if width > 0 {
			p.Dst, _ = netip.AddrFromSlice(g.Dsts[i*width : (i+1)*width])
		}
		p.ID, p.TTL, p.Flow = uint16(ticket>>16), uint8(ticket>>8), uint8(ticket)
		ps = append(ps, p)
	}
	return ps, nil
}

// addr reads an address; no bytes are none.
func addr(b []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(b)
	if !ok && len(b) > 0 {
		return a, malformed("address of %d bytes, want 4 or 16", len(b))
	}
	return a, nil
}
