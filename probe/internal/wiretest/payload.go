package wiretest

import (
	"encoding/binary"
	"strconv"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Payload is a payload for the carriers, whose answers send it back. The zero
// value carries no data of its own.
type Payload struct {
	Data []byte
	// Imitate puts identifier and tag where the built-in probers look for
	// theirs: the identifier alone at offset 2 where there is nothing behind
	// it.
	Imitate bool
}

var _ probe.PayloadOptioner = Payload{}

// Name returns "test".
func (Payload) Name() string { return "test" }

// Help returns a line.
func (Payload) Help() string { return "something to carry" }

// DefaultPort returns 7.
func (Payload) DefaultPort() uint16 { return 7 }

// Options lists an option for the length of the data.
func (Payload) Options() []probe.Option {
	return []probe.Option{{Name: "length", Kind: probe.IntOption, Default: "16", Help: "of the data"}}
}

// With sets the length of the data.
func (p Payload) With(values map[string]string) (probe.Payload, error) {
	all, err := probe.CheckOptions(p.Options(), values)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(all["length"])
	if err != nil || n < 0 || n > 1000 {
		return nil, &probe.OptionError{Name: "length", Value: all["length"], Want: "must be 0 to 1000"}
	}
	return Payload{Data: make([]byte, n), Imitate: p.Imitate}, nil
}

// AppendPayload appends the data.
func (p Payload) AppendPayload(b []byte, pr *probe.Probe) ([]byte, error) {
	start := len(b)
	b = append(b, p.Data...)
	if p.Imitate && len(p.Data) >= 4 {
		binary.BigEndian.PutUint16(b[start+2:], pr.ID)
	}
	return b, nil
}

// ReadAnswer reads the identity at the end of what came back.
func (p Payload) ReadAnswer(data []byte, a *probe.Answer) bool {
	if a.TagBits != 0 || a.Kind == probe.EchoReply {
		return true
	}
	id, tag, ok := probe.TrailingIdentity(data)
	if ok {
		a.ID, a.Tag, a.TagBits = id, tag, 64
	}
	return ok
}

// Broken is a payload that does what Append does.
type Broken struct {
	Append func(b []byte) ([]byte, error)
}

// Name returns "broken".
func (Broken) Name() string { return "broken" }

// AppendPayload does what Append does.
func (p Broken) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) { return p.Append(b) }

// ReadAnswer reads nothing.
func (Broken) ReadAnswer([]byte, *probe.Answer) bool { return false }
