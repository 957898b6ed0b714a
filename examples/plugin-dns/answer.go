package main

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// ReadAnswer reads a response to the query, even one that is cut short. One
// that has no question, as some errors, still says which probe it answers.
func (q *question) ReadAnswer(data []byte, a *probe.Answer) bool {
	var m dns.Msg
	err := m.Unpack(data) // what comes before an error is there
	if len(data) < headerLen || !m.Response || m.Opcode != dns.OpcodeQuery {
		return false
	}
	switch len(m.Question) {
	case 0:
		if err != nil || m.Rcode == dns.RcodeSuccess {
			return false
		}
	case 1:
		asked := m.Question[0]
		if !strings.EqualFold(asked.Name, q.name+".") || asked.Qtype != dns.TypeTXT || asked.Qclass != dns.ClassCHAOS {
			return false
		}
		a.Tag, a.TagBits = spelled(asked.Name)
	default:
		return false
	}
	a.ID = m.Id
	opt := m.IsEdns0()
	if tag, ok := cookie(opt); ok {
		a.Tag, a.TagBits = tag, 64
	}
	a.Values = probe.CleanValues(q.values(&m, opt))
	return true
}

// cookie returns the tag in the client's cookie of a response.
func cookie(opt *dns.OPT) (uint64, bool) {
	if opt == nil {
		return 0, false
	}
	for _, o := range opt.Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			raw, err := hex.DecodeString(c.Cookie)
			if err == nil && len(raw) >= cookieLen {
				return binary.BigEndian.Uint64(raw) ^ veil, true
			}
		}
	}
	return 0, false
}

// values are what a response says for people: the site, the server's
// identifier, and what went wrong.
func (q *question) values(m *dns.Msg, opt *dns.OPT) (values []probe.Value) {
	for _, rr := range m.Answer {
		if txt, ok := rr.(*dns.TXT); ok && txt.Hdr.Class == dns.ClassCHAOS && strings.EqualFold(txt.Hdr.Name, q.name+".") {
			values = append(values, probe.Value{Name: "site", Text: strings.Join(txt.Txt, "")})
			break
		}
	}
	if opt != nil {
		for _, o := range opt.Option {
			if n, ok := o.(*dns.EDNS0_NSID); ok && n.Nsid != "" {
				values = append(values, probe.Value{Name: "nsid", Text: identifier(n.Nsid)})
				break
			}
		}
	}
	if m.Rcode != dns.RcodeSuccess {
		name := dns.RcodeToString[m.Rcode]
		if name == "" {
			name = strconv.Itoa(m.Rcode)
		}
		values = append(values, probe.Value{Name: "rcode", Text: name})
	}
	if m.Truncated {
		values = append(values, probe.Value{Name: "truncated", Text: "true"})
	}
	return values
}

// identifier is what people read of an NSID, given in hexadecimal: its text if
// it is one, as most are (RFC 5001 leaves that open).
func identifier(nsid string) string {
	raw, err := hex.DecodeString(nsid)
	if err != nil || strings.ContainsFunc(string(raw), func(r rune) bool { return r < ' ' || r > '~' }) {
		return "0x" + nsid
	}
	return string(raw)
}
