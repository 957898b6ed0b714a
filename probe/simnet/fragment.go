package simnet

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// fragment yields the pieces of a datagram that fit into mtu bytes.
func (n *Network) fragment(f *flight, mtu int) iter.Seq[*flight] {
	cut := cut4
	if f.v6 {
		cut = cut6
	}
	return func(yield func(*flight) bool) {
		k := uint64(0)
		for b := range cut(f, mtu) {
			piece := n.spawn(len(b))
			if piece == nil {
				return
			}
			copy(piece.data, b)
			piece.read()
			piece.uid, piece.hops, piece.talk = child(f.uid, childFragment+k), f.hops, f.talk
			n.stats.Sent++
			if !yield(piece) {
				return
			}
			k++
		}
	}
}

// cut4 yields the fragments of an IPv4 datagram or fragment (RFC 791).
func cut4(f *flight, mtu int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		h, payload, err := packet.ParseIPv4(f.data)
		if err != nil {
			return
		}
		base, more := int(h.FragmentOffset), h.MoreFragments
		room := (mtu - f.transport) &^ 7
		var b []byte
		for at := 0; at < len(payload); at += room {
			size := min(room, len(payload)-at)
			if base+at > 0xFFFF {
				return // where no datagram reaches
			}
			h.FragmentOffset = uint16(base + at)
			h.MoreFragments = more || at+size < len(payload)
			if b, err = h.Append(b[:0], size); err != nil {
				return
			}
			if b = append(b, payload[at:at+size]...); !yield(b) {
				return
			}
			h.Options = copied(h.Options)
		}
	}
}

// cut6 yields the fragments of an IPv6 datagram (RFC 8200 section 4.5), which
// only its source may cut.
func cut6(f *flight, mtu int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		header, payload := f.data[:packet.IPv6HeaderLen], f.data[packet.IPv6HeaderLen:]
		room := (mtu - len(header) - fragmentLen) &^ 7
		id := uint32(mix(f.uid))
		var b []byte
		for at := 0; at < len(payload); at += room {
			size := min(room, len(payload)-at)
			b = append(b[:0], header...)
			binary.BigEndian.PutUint16(b[4:], uint16(fragmentLen+size))
			b[6] = packet.Fragment
			var err error
			if b, err = packet.AppendFragment(b, header[6], uint16(at), at+size < len(payload), id); err != nil {
				return
			}
			if b = append(b, payload[at:at+size]...); !yield(b) {
				return
			}
		}
	}
}

// copied returns the options of fragments but the first: of those that are not
// copied there remains nothing but their room, as in Linux.
func copied(options []byte) []byte {
	const end, nop, copyFlag = 0, 1, 0x80
	out := slices.Clone(options)
	for b := out; len(b) > 0 && b[0] != end; {
		if b[0] == nop {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		size := int(b[1])
		if b[0]&copyFlag == 0 {
			for i := range size {
				b[i] = nop
			}
		}
		b = b[size:]
	}
	return out
}

const (
	fragmentLen   = 8 // of the IPv6 fragment header
	maxAssemblies = 64
	assemblyTime4 = 30 * time.Second // Linux
	assemblyTime6 = time.Minute      // RFC 8200 section 4.5
)

// pieceKey names the datagram that a fragment is of.
type pieceKey struct {
	src, dst netip.Addr
	id       uint32
	protocol uint8 // IPv4
}

// assembly is a datagram of which pieces are missing.
type assembly struct {
	first  *flight // a copy of the piece at 0, nil: missing
	pieces []piece // in order and apart
	got    int     // bytes
	total  int     // bytes; 0: not known yet
	spoilt bool    // pieces overlap
}

type piece struct {
	at   int
	data []byte
}

func (p piece) end() int { return p.at + len(p.data) }

// pieceKey returns what f is a piece of, and where in f.data the piece starts.
func (f *flight) pieceKey() (key pieceKey, offset, start int) {
	if !f.v6 {
		id, fragment := binary.BigEndian.Uint16(f.data[4:]), binary.BigEndian.Uint16(f.data[6:])
		return pieceKey{f.src, f.dst, uint32(id), f.protocol}, int(fragment&0x1FFF) * 8, f.transport
	}
	for h := range f.headers() {
		if b := f.data[h.at:]; h.typ == packet.Fragment && len(b) >= 8 {
			offset = int(binary.BigEndian.Uint16(b[2:]) &^ 7)
			return pieceKey{f.src, f.dst, binary.BigEndian.Uint32(b[4:]), 0}, offset, h.at + 8
		}
	}
	return pieceKey{src: f.src, dst: f.dst}, 0, f.transport
}

// assemble keeps a fragment, and gives f away. It returns the whole datagram
// when the last piece is in.
func (n *Network) assemble(nd *node, f *flight) *flight {
	key, at, start := f.pieceKey()
	p := piece{at, f.data[start:]}
	if len(p.data) == 0 || f.more && len(p.data)%8 != 0 || p.end() > 0xFFFF {
		n.drop(nd, f, DropMalformed)
		return nil
	}
	n.stats.Delivered++
	defer n.give(f)
	a := nd.pieces[key]
	if a == nil {
		if len(nd.pieces) >= maxAssemblies {
			return nil
		}
		a = n.begin(nd, key)
	}
	if !a.add(p, f) {
		return nil
	}
	delete(nd.pieces, key)
	return n.join(a)
}

// begin starts an assembly, and plans the end of its time.
func (n *Network) begin(nd *node, key pieceKey) *assembly {
	if nd.pieces == nil {
		nd.pieces = map[pieceKey]*assembly{}
	}
	a := new(assembly)
	nd.pieces[key] = a
	wait := assemblyTime4
	if key.src.Is6() {
		wait = assemblyTime6
	}
	n.agenda.plan(n.current+int64(wait), nil, func() {
		if nd.pieces[key] != a {
			return
		}
		delete(nd.pieces, key)
		if a.first != nil {
			n.find(a.first)
			c := timeExceeded(a.first)
			c.code = 1 // fragment reassembly
			n.answerError(nd, a.first, c)
		}
	})
	return a
}

// add adds a piece, and tells whether all are there. One that is there already
// is ignored; pieces that overlap in another way spoil the datagram (RFC 5722).
func (a *assembly) add(p piece, f *flight) (whole bool) {
	if a.spoilt {
		return false
	}
	i, found := slices.BinarySearchFunc(a.pieces, p.at, func(q piece, at int) int { return q.at - at })
	if found && len(a.pieces[i].data) == len(p.data) {
		return false
	}
	if !f.more {
		if a.total != 0 && a.total != p.end() {
			a.spoilt = true
		}
		a.total = p.end()
	}
	last := p.end()
	if k := len(a.pieces); k > 0 {
		last = max(last, a.pieces[k-1].end())
	}
	if found || i > 0 && a.pieces[i-1].end() > p.at || i < len(a.pieces) && p.end() > a.pieces[i].at || a.total != 0 && last > a.total {
		a.spoilt = true
	}
	if a.spoilt {
		a.pieces, a.first = nil, nil
		return false
	}
	if p.at == 0 {
		c := *f
		c.data = slices.Clone(f.data)
		a.first = &c
	}
	p.data = slices.Clone(p.data)
	a.pieces = slices.Insert(a.pieces, i, p)
	a.got += len(p.data)
	return a.got == a.total
}

// join makes the datagram of its pieces, with the header of the first one.
func (n *Network) join(a *assembly) *flight {
	first := a.first
	_, _, start := first.pieceKey()
	header := first.data[:start]
	if first.v6 {
		for h := range first.headers() {
			if h.typ == packet.Fragment {
				header = slices.Clone(header[:h.at])
				header[h.named] = first.data[h.at]
				break
			}
		}
	}
	size := len(header) + a.total
	if size-packet.IPv6HeaderLen > 0xFFFF || !first.v6 && size > 0xFFFF {
		return nil
	}
	f := n.spawn(size)
	if f == nil {
		return nil
	}
	b := f.data[:0]
	b = append(b, header...)
	for _, p := range a.pieces {
		b = append(b, p.data...)
	}
	f.data = b
	if first.v6 {
		binary.BigEndian.PutUint16(b[4:], uint16(size-packet.IPv6HeaderLen))
	} else {
		f.setWord(2, uint16(size))
		f.setWord(6, 0)
	}
	if !f.read() {
		n.give(f)
		return nil
	}
	f.at, f.in, f.hops, f.talk = first.at, first.in, first.hops, first.talk
	f.uid = child(first.uid, childWhole)
	n.stats.Sent++
	return f
}
