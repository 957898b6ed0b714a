package simnet

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// fragment yields the pieces of an IPv4 datagram that fit into mtu bytes
// (RFC 791). Options are in the first one only.
func (n *Network) fragment(f *flight, mtu int) iter.Seq[*flight] {
	return func(yield func(*flight) bool) {
		h, payload, err := packet.ParseIPv4(f.data)
		if err != nil {
			return
		}
		base, more := h.FragmentOffset, h.MoreFragments
		for k, at := 0, 0; at < len(payload); k++ {
			size := min((mtu-packet.IPv4HeaderLen-len(h.Options))&^7, len(payload)-at)
			if size <= 0 {
				return
			}
			piece := n.take(packet.IPv4HeaderLen + len(h.Options) + size)
			if piece == nil {
				return
			}
			h.FragmentOffset = base + uint16(at)
			h.MoreFragments = more || at+size < len(payload)
			b, err := h.Append(piece.data[:0], size)
			if err != nil {
				n.give(piece)
				return
			}
			piece.data = append(b, payload[at:at+size]...)
			piece.read()
			piece.uid, piece.hops, piece.talk = child(f.uid, childFragment+uint64(k)), f.hops, f.talk
			n.stats.Sent++
			if !yield(piece) {
				return
			}
			at += size
			h.Options = nil
		}
	}
}

const (
	maxAssemblies = 64
	assemblyTime  = int64(30 * time.Second)
)

type pieceKey struct {
	src, dst netip.Addr
	id       uint32
	protocol uint8
}

// assembly is a datagram of which pieces are missing.
type assembly struct {
	began  int64
	uid    uint64
	talk   uint8
	pieces []piece
	total  int // of the payload; 0: not known yet
}

type piece struct {
	at   int
	data []byte
}

// assemble keeps a fragment, and gives f away. It returns the whole datagram
// when the last piece is in.
func (n *Network) assemble(nd *node, f *flight) *flight {
	defer n.give(f)
	n.stats.Delivered++
	key, p, more, ok := readPiece(f)
	if !ok {
		return nil
	}
	a := nd.pieces[key]
	if a == nil {
		if nd.pieces == nil {
			nd.pieces = map[pieceKey]*assembly{}
		}
		if len(nd.pieces) >= maxAssemblies {
			nd.sweep(n.current)
		}
		if len(nd.pieces) >= maxAssemblies {
			return nil
		}
		a = &assembly{began: n.current, uid: f.uid, talk: f.talk}
		nd.pieces[key] = a
	}
	p.data = slices.Clone(p.data)
	if len(a.pieces) > 1<<13 {
		return nil
	}
	a.pieces = append(a.pieces, p)
	if !more {
		a.total = p.at + len(p.data)
	}
	payload := a.whole()
	if payload == nil {
		return nil
	}
	delete(nd.pieces, key)
	whole := n.take(packet.IPv6HeaderLen + len(payload))
	if whole == nil {
		return nil
	}
	b, err := appendIP(whole.data[:0], f.src, f.dst, key.protocol, f.tos(), f.ttl(), uint16(key.id), len(payload))
	whole.data = append(b, payload...)
	if err != nil || !whole.read() {
		n.give(whole)
		return nil
	}
	whole.at, whole.in, whole.uid, whole.talk = f.at, f.in, a.uid, a.talk
	n.find(whole)
	n.stats.Sent++
	return whole
}

func (nd *node) sweep(now int64) {
	for k, a := range nd.pieces {
		if now-a.began > assemblyTime {
			delete(nd.pieces, k)
		}
	}
}

func readPiece(f *flight) (key pieceKey, p piece, more, ok bool) {
	key = pieceKey{src: f.src, dst: f.dst, protocol: f.protocol}
	if !f.v6 {
		h, payload, err := packet.ParseIPv4(f.data)
		key.id = uint32(h.ID)
		return key, piece{int(h.FragmentOffset), payload}, h.MoreFragments, err == nil
	}
	h, payload, err := packet.ParseIPv6(f.data)
	if err != nil || h.NextHeader != packet.Fragment || len(h.Extensions) != 8 {
		return key, p, false, false // with further headers: more than hosts here can do
	}
	key.id = binary.BigEndian.Uint32(h.Extensions[4:])
	return key, piece{int(h.FragmentOffset), payload}, h.MoreFragments, true
}

// whole returns the payload if all of it is there, else nil.
func (a *assembly) whole() []byte {
	if a.total == 0 {
		return nil
	}
	slices.SortStableFunc(a.pieces, func(p, q piece) int { return p.at - q.at })
	payload := make([]byte, 0, a.total)
	for _, p := range a.pieces {
		if p.at > len(payload) {
			return nil
		}
		if end := p.at + len(p.data); end > len(payload) {
			payload = append(payload, p.data[len(payload)-p.at:]...)
		}
	}
	if len(payload) != a.total {
		return nil
	}
	return payload
}
