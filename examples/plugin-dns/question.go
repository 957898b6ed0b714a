package main

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/miekg/dns"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// bufferSize is how long answers may be, in bytes: what passes without
// fragments nearly everywhere.
const bufferSize = 1232

const (
	headerLen = 12
	cookieLen = 8 // of a client (RFC 7873)
)

// veil makes the tag in a cookie look different, so that a quote that ends
// there does not seem to end with the identity.
const veil = 0x5555555555555555

// question is a [probe.Payload]: a query for TXT records of class CHAOS (RFC
// 4892) whose last EDNS option pads (RFC 7830), with the identity in it.
//
// The tag of the probe is in the client's cookie, which servers that know
// cookies send back. The others send back the name at least, in which the low
// bits of the tag choose between capitals and small letters.
type question struct {
	name string // without the dot at its end
	nsid bool
	// query is the message without the value of the padding, of a probe whose
	// identifier and tag are 0.
	query []byte
}

func newQuestion(name string, nsid bool) *question {
	m := new(dns.Msg)
	m.Question = []dns.Question{{Name: name + ".", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}}
	m.SetEdns0(bufferSize, false)
	opt := m.IsEdns0()
	if nsid {
		opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	}
	opt.Option = append(opt.Option,
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: fmt.Sprintf("%0*d", 2*cookieLen, 0)},
		&dns.EDNS0_PADDING{Padding: make([]byte, probe.IdentityLen)})
	query, err := m.Pack()
	if err != nil {
		panic(err) // one of the few names that With lets pass
	}
	return &question{name, nsid, query[:len(query)-probe.IdentityLen]}
}

// Name returns "dns".
func (*question) Name() string { return "dns" }

// Help returns a line.
func (*question) Help() string { return "asks a DNS server which of its sites answers" }

// DefaultPort is that of DNS.
func (*question) DefaultPort() uint16 { return 53 }

// Options lists "name" and "nsid".
func (*question) Options() []probe.Option {
	return []probe.Option{
		{
			Name: "name", Kind: probe.ChoiceOption, Choices: []string{"id.server", "hostname.bind"}, Default: "id.server",
			Help: "whose TXT records of class CHAOS are asked for",
		},
		{Name: "nsid", Kind: probe.BoolOption, Default: "false", Help: "asks for the server's identifier (RFC 5001) too"},
	}
}

// With sets the options.
func (q *question) With(values map[string]string) (probe.Payload, error) {
	all, err := probe.CheckOptions(q.Options(), values)
	if err != nil {
		return nil, err
	}
	nsid, err := strconv.ParseBool(all["nsid"])
	if err != nil {
		return nil, err
	}
	return newQuestion(all["name"], nsid), nil
}

// AppendPayload appends the query up to the value of the padding.
func (q *question) AppendPayload(b []byte, p *probe.Probe) ([]byte, error) {
	const udpHeader = 8
	at := len(b)
	b = append(b, q.query...)
	m := b[at:]
	binary.BigEndian.PutUint16(m, p.ID)
	tag := p.Tag(probe.UDP)
	spell(m[headerLen:headerLen+1+len(q.name)], tag)

	// What follows the name: its end, type, class; the OPT record.
	record := m[headerLen+1+len(q.name)+1+4:]
	const lengthAt, fixed = 9, 11
	padding := max(probe.IdentityLen, p.DataLen(udpHeader)-len(m))
	binary.BigEndian.PutUint16(record[lengthAt:], uint16(len(record)-fixed+padding))
	binary.BigEndian.PutUint16(record[len(record)-2:], uint16(padding))
	binary.BigEndian.PutUint64(record[len(record)-4-cookieLen:], tag^veil)
	return b, nil
}

// spell makes capitals of those letters of a name for which the bits of tag
// are set, the lowest first.
func spell(name []byte, tag uint64) {
	for i, c := range name {
		if c < 'a' || c > 'z' {
			continue
		}
		name[i] = c &^ (byte(tag&1) << 5)
		tag >>= 1
	}
}

// spelled returns the bits that a name spells, and how many they are.
func spelled(name string) (tag uint64, n uint8) {
	for _, c := range []byte(name) {
		switch {
		case 'A' <= c && c <= 'Z':
			tag |= 1 << n
		case c < 'a' || c > 'z':
			continue
		}
		n++
	}
	return tag, n
}
