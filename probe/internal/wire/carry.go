package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
)

// Carry makes the prober of a payload: bare makes it but for help, options and
// port, which are the payload's.
func Carry(p probe.Payload, bare func(probe.Payload) probe.Prober) probe.Prober {
	c := carried{bare(p), p}
	if o, ok := p.(probe.PayloadOptioner); ok {
		return optioned{c, o, bare}
	}
	return c
}

type carried struct {
	probe.Prober
	payload probe.Payload
}

// Help returns the payload's help, or else says what carries it.
func (c carried) Help() string {
	if d, ok := c.payload.(probe.Describer); ok {
		return d.Help()
	}
	return "the payload " + c.Name()
}

// DefaultPort is 0 for what has no ports.
func (c carried) DefaultPort() uint16 {
	if p, ok := c.Prober.(probe.Porter); ok {
		return p.DefaultPort()
	}
	return 0
}

type optioned struct {
	carried
	payload probe.PayloadOptioner
	bare    func(probe.Payload) probe.Prober
}

func (o optioned) Options() []probe.Option { return o.payload.Options() }

func (o optioned) With(values map[string]string) (probe.Prober, error) {
	p, err := o.payload.With(values)
	if err != nil {
		return nil, err
	}
	return Carry(p, o.bare), nil
}

// AppendData appends what a payload has for p behind the room that b ends
// with, as [probe.Payload] allows.
func AppendData(b []byte, p *probe.Probe, payload probe.Payload) ([]byte, error) {
	out, err := payload.AppendPayload(b, p)
	switch {
	case err != nil && !errors.Is(err, probe.ErrProbe) && !errors.Is(err, probe.ErrProber):
		err = fmt.Errorf("%w: %w", probe.ErrProbe, err)
	case err == nil && len(out) < len(b):
		err = fmt.Errorf("%w: the payload of %s took away what it was to append to", probe.ErrProbe, payload.Name())
	}
	return out, err
}

// Fill appends zeros to a datagram up to the size that p asks for. The error
// is [probe.ErrProbe] if it is longer than that, or than any may be.
func Fill(b []byte, datagram int, p *probe.Probe) ([]byte, error) {
	size := p.Size
	if size == 0 {
		size = datagram
	}
	if size < datagram || size > MaxSize {
		return b, fmt.Errorf("%w: size %d, want %d to %d bytes", probe.ErrProbe, size, datagram, MaxSize)
	}
	return Zeros(b, size-datagram), nil
}

// IPHeaderLen returns the length of the IP header of p.
func IPHeaderLen(p *probe.Probe) int {
	if p.Dst.Is6() {
		return packet.IPv6HeaderLen
	}
	return packet.IPv4HeaderLen
}

// Fixup puts the word that makes want a valid checksum at an index of segment,
// where it is 0. Sum is that of all that is covered.
func Fixup(segment []byte, at int, sum packet.Sum, want uint16) {
	word := sum.Fixup(want)
	if at%2 != 0 {
		word = bits.ReverseBytes16(word)
	}
	binary.BigEndian.PutUint16(segment[at:], word)
}

// Locate finds the identity that stands in data before the zeros at its end, if
// there are any. The tag may end in zeros itself, so of the places where it may
// be the one counts that scores highest, and more than 0. It returns where the
// identity ends, and the score.
func Locate(data []byte, score func(id uint16, tag uint64) int) (end, best int) {
	first := max(len(bytes.TrimRight(data, "\x00")), probe.IdentityLen)
	for e := first; e < first+8 && e <= len(data); e++ {
		id, tag, ok := probe.TrailingIdentity(data[:e])
		if !ok {
			continue
		}
		if s := score(id, tag); s > best {
			end, best = e, s
		}
	}
	return end, best
}

// Zero tells whether b holds nothing but zeros.
func Zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
