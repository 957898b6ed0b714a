// Package timing exchanges times between two hosts: one small datagram each
// way, stamped by the kernels where they can, so that neither side's
// scheduling nor a busy stream widens what the exchange proves.
//
// The client learns when its request left and when the reply came, the server
// when the request came and when the reply left. Whoever gets both pairs has
// the four times of NTP (RFC 5905).
package timing

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/dchest/siphash"
)

// ErrClosed says that the client or server was closed.
var ErrClosed = errors.New("timing: closed")

// Offer lets a client in. It is to be kept from others.
type Offer struct {
	Port uint16 // UDP, of the server
	ID   uint64 // by which the server knows the client
	Key  [16]byte
}

// OfferLen is the length of an encoded offer in bytes.
const OfferLen = 26

// Encode returns the offer's bytes.
func (o *Offer) Encode() []byte {
	b := binary.BigEndian.AppendUint16(nil, o.Port)
	b = binary.BigEndian.AppendUint64(b, o.ID)
	return append(b, o.Key[:]...)
}

// DecodeOffer reads what [Offer.Encode] made. It reports false for anything
// else.
func DecodeOffer(b []byte) (o Offer, ok bool) {
	if len(b) != OfferLen {
		return o, false
	}
	o.Port, o.ID, o.Key = binary.BigEndian.Uint16(b), binary.BigEndian.Uint64(b[2:]), [16]byte(b[10:])
	return o, o.Port != 0
}

// Stamps are the times that one side took of an exchange.
type Stamps struct {
	Exchange uint64 // its number
	// Sent and Received are when the client's request left and its reply came;
	// or when the server's reply left and the request came. Whatever took
	// them, Sent is not after a datagram left, nor Received before one came.
	Sent, Received time.Time
	// Slewed is by how much the kernel had slewed this side's clock, nil if it
	// cannot tell.
	Slewed *time.Duration
	// Kernel says that the kernel took both.
	Kernel bool
}

// A datagram is as long in either direction, so that nobody is hit harder by a
// reply than by what provoked it: magic, kind, ID, number of the exchange, and
// a MAC of all that.
const (
	datagramLen = 32

	request byte = 1
	reply   byte = 2
)

var magic = [7]byte{'v', 'o', 'l', 't', 'a', 'T', 1}

func encode(b *[datagramLen]byte, kind byte, id, exchange uint64, key *[16]byte) {
	copy(b[:], magic[:])
	b[7] = kind
	binary.BigEndian.PutUint64(b[8:], id)
	binary.BigEndian.PutUint64(b[16:], exchange)
	binary.BigEndian.PutUint64(b[24:], mac(b[:24], key))
}

// decode reads a datagram of a kind, without checking its MAC.
func decode(b []byte, kind byte) (id, exchange uint64, ok bool) {
	if len(b) != datagramLen || [7]byte(b) != magic || b[7] != kind {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), true
}

// genuine tells whether a datagram was made with the key. A forger that could
// use how long the comparison takes would have to tell nanoseconds apart.
func genuine(b []byte, key *[16]byte) bool {
	return binary.BigEndian.Uint64(b[24:]) == mac(b[:24], key)
}

func mac(b []byte, key *[16]byte) uint64 {
	return siphash.Hash(binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:]), b)
}
