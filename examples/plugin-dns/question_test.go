package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/probetest"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers as the DNS servers of a site do.
type server struct {
	site    string
	nsid    string // in hexadecimal, if asked for
	cookies bool
	rcode   int
	slip    bool // answers with nothing but the request to use TCP
}

// respond returns the response to a query, nil to what is none.
func (s server) respond(query []byte) []byte {
	var q dns.Msg
	if q.Unpack(query) != nil || q.Response || len(q.Question) != 1 {
		return nil
	}
	var r dns.Msg
	r.SetRcode(&q, s.rcode)
	r.Truncated = s.slip
	if s.site != "" && !s.slip {
		h := dns.RR_Header{Name: strings.ToLower(q.Question[0].Name), Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}
		r.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{s.site}}}
	}
	if asked := q.IsEdns0(); asked != nil && (s.cookies || s.nsid != "") {
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		opt.SetUDPSize(bufferSize)
		for _, o := range asked.Option {
			switch o := o.(type) {
			case *dns.EDNS0_COOKIE:
				if s.cookies {
					opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: o.Cookie + "0123456789abcdef"})
				}
			case *dns.EDNS0_NSID:
				if s.nsid != "" {
					opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: s.nsid})
				}
			}
		}
		r.Extra = []dns.RR{opt}
	}
	b, err := r.Pack()
	if err != nil {
		return nil
	}
	return b
}

var servers = []server{
	{site: "fra1"},
	{site: "fra1", cookies: true},
	{site: "fra1", cookies: true, nsid: hex.EncodeToString([]byte("ns1.fra"))},
	{rcode: dns.RcodeRefused},
	{cookies: true, slip: true},
}

// replies are what all servers answer a datagram with.
func replies(t testing.TB, datagram []byte) (all [][]byte) {
	for _, s := range servers {
		all = append(all, reply(t, datagram, func(query []byte) []byte {
			query = bytes.Clone(query)
			for _, i := range altered {
				query[i] = 0
			}
			return s.respond(query)
		}))
	}
	return all
}

// reply is the datagram of an answer to another.
func reply(t testing.TB, datagram []byte, respond func([]byte) []byte) []byte {
	t.Helper()
	at := packet.IPv4HeaderLen
	var src, dst netip.Addr
	if datagram[0]>>4 == 6 {
		h, _, err := packet.ParseIPv6(datagram)
		require.NoError(t, err)
		at, src, dst = packet.IPv6HeaderLen, h.Dst, h.Src
	} else {
		h, _, err := packet.ParseIPv4(datagram)
		require.NoError(t, err)
		src, dst = h.Dst, h.Src
	}
	u, query, err := packet.ParseUDP(datagram[at:])
	require.NoError(t, err)
	data := respond(query)
	require.NotNil(t, data, "%x", query)
	n := packet.UDPHeaderLen + len(data)
	var b []byte
	if src.Is6() {
		h := packet.IPv6{HopLimit: 60, Protocol: probe.UDP, Src: src, Dst: dst}
		b, err = h.Append(nil, n)
	} else {
		h := packet.IPv4{TTL: 60, Protocol: probe.UDP, Src: src, Dst: dst}
		b, err = h.Append(nil, n)
	}
	require.NoError(t, err)
	b = append(packet.UDP{SrcPort: u.DstPort, DstPort: u.SrcPort, Length: uint16(n)}.Append(b), data...)
	sum := packet.PseudoHeader(src, dst, probe.UDP, n).Add(b[at:])
	binary.BigEndian.PutUint16(b[at+6:], sum.UDPChecksum())
	return b
}

// kinds are the queries that options choose between.
var kinds = map[string]*question{
	"id.server":               newQuestion("id.server", false),
	"id.server and NSID":      newQuestion("id.server", true),
	"hostname.bind":           newQuestion("hostname.bind", false),
	"hostname.bind with NSID": newQuestion("hostname.bind", true),
}

// unlike is the question, but for what seems to be the identifier of two
// probes, see TestQuotesThatMislead.
type unlike struct{ *question }

// altered are the high bytes of the numbers of questions, answers and records
// beside them.
var altered = [...]int{4, 6, 10}

func (u unlike) AppendPayload(b []byte, p *probe.Probe) ([]byte, error) {
	at := len(b)
	b, err := u.question.AppendPayload(b, p)
	if p.ID == 1 || p.ID == 0x100 {
		for _, i := range altered {
			b[at+i] = 0xFF
		}
	}
	return b, err
}

func (u unlike) With(values map[string]string) (probe.Payload, error) {
	p, err := u.question.With(values)
	if err != nil {
		return nil, err
	}
	return unlike{p.(*question)}, nil
}

// TestQuotesThatMislead shows a limit. A query has numbers that are the same in
// all; where such a number is the identifier of the probe, and an error quotes
// just 8 bytes more, these seem to be its tag.
func TestQuotesThatMislead(t *testing.T) {
	for id, lengths := range map[uint16][]int{1: {14, 20}, 0x100: {15}, 4711: nil} {
		p, pr := probeTo("203.0.113.10"), udp.Carry(kinds["id.server"])
		p.ID = id
		b, err := pr.Build(nil, p)
		require.NoError(t, err)
		const header = packet.IPv4HeaderLen + packet.UDPHeaderLen
		for n := range len(b) - header + 1 {
			msg, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: packet.ICMPv4TimeExceeded, Quote: b[:header+n]})
			require.NoError(t, err)
			router := packet.IPv4{TTL: 250, Protocol: probe.ICMP, Src: netip.MustParseAddr("198.18.0.2"), Dst: p.Src}
			d, err := router.Append(nil, len(msg))
			require.NoError(t, err)
			var a probe.Answer
			require.True(t, pr.Match(append(d, msg...), &a))
			require.Equal(t, id, a.ID)
			require.Equal(t, !slices.Contains(lengths, n), a.Verified(&p.Key, id), n)
		}
	}
}

func TestConformance(t *testing.T) {
	for name, q := range kinds {
		t.Run(name, func(t *testing.T) {
			least := packet.IPv4HeaderLen + packet.UDPHeaderLen + len(q.query) + probe.IdentityLen
			probetest.Run(t, func(testing.TB) probe.Prober { return udp.Carry(unlike{q}) }, probetest.Options{
				DstPort: 53, Reply: replies, MayAllocate: true, Samples: 100,
				Sizes4: [2]int{least, 65000}, Sizes6: [2]int{least + 20, 65000},
			})
		})
	}
}

func FuzzMatch(f *testing.F) {
	probetest.Fuzz(f, func(testing.TB) probe.Prober { return udp.Carry(unlike{kinds["id.server and NSID"]}) },
		probetest.Options{DstPort: 53, Reply: replies, MayAllocate: true})
}

// What a server says, whatever it is, can be shown, and says of the probe what
// its header does.
func FuzzReadAnswer(f *testing.F) {
	q := kinds["id.server and NSID"]
	query, err := q.AppendPayload(nil, probeTo("203.0.113.10"))
	require.NoError(f, err)
	query = append(query, make([]byte, probe.IdentityLen)...)
	for _, s := range servers {
		f.Add(s.respond(query))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a probe.Answer
		if !q.ReadAnswer(data, &a) {
			return
		}
		require.Equal(t, binary.BigEndian.Uint16(data), a.ID)
		require.Contains(t, []uint8{0, 8, 64}, a.TagBits)
		require.Equal(t, probe.CleanValues(a.Values), a.Values)
	})
}

func probeTo(dst string) *probe.Probe {
	p := &probe.Probe{ID: 4711, Key: probe.Key{1, 2, 3}, TTL: 5, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr(dst)}
	if p.Dst.Is6() {
		p.Src = netip.MustParseAddr("2001:db8:ff::1")
	}
	return p
}

// What is sent is a DNS query as the RFCs have it, of any size.
func TestQuery(t *testing.T) {
	for name, q := range kinds {
		for dst, header := range map[string]int{"203.0.113.10": 28, "2001:db8:fe::10": 48} {
			for _, size := range []int{0, 200, 1500, 65000} {
				p := probeTo(dst)
				p.Size = size
				b, err := udp.Carry(q).Build(nil, p)
				require.NoError(t, err)
				require.EqualValues(t, 53, binary.BigEndian.Uint16(b[header-6:]))
				if size > 0 {
					require.Len(t, b, size)
				} else {
					require.LessOrEqual(t, len(b)-header, 80, "routers quote as much of an IPv6 probe")
				}
				data := b[header:]
				var m dns.Msg
				require.NoError(t, m.Unpack(data), name)
				require.Equal(t, p.ID, m.Id)
				require.False(t, m.Response)
				require.False(t, m.RecursionDesired)
				require.Len(t, m.Question, 1)
				require.Equal(t, q.name+".", strings.ToLower(m.Question[0].Name))
				require.Equal(t, []uint16{dns.TypeTXT, dns.ClassCHAOS}, []uint16{m.Question[0].Qtype, m.Question[0].Qclass})
				require.Len(t, m.Extra, 1)
				require.EqualValues(t, 1232, m.IsEdns0().UDPSize())

				tag := p.Tag(probe.UDP)
				letters := spelling(m.Question[0].Name)
				require.Equal(t, tag&(1<<len(letters)-1), number(letters))
				options := m.IsEdns0().Option
				if q.nsid {
					require.Equal(t, &dns.EDNS0_NSID{}, options[0])
					options = options[1:]
				}
				require.Len(t, options, 2)
				require.Equal(t, hex.EncodeToString(binary.BigEndian.AppendUint64(nil, tag^veil)), options[0].(*dns.EDNS0_COOKIE).Cookie)
				padding := options[1].(*dns.EDNS0_PADDING).Padding
				require.Equal(t, padding, data[len(data)-len(padding):])
				id, got, ok := probe.TrailingIdentity(padding[:probe.IdentityLen])
				require.True(t, ok)
				require.Equal(t, []any{p.ID, tag}, []any{id, got})
			}
		}
	}
}

// spelling returns 'A' for each capital of a name and 'a' for each small letter.
func spelling(name string) (letters string) {
	for _, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			letters += "A"
		case c >= 'a' && c <= 'z':
			letters += "a"
		}
	}
	return letters
}

func number(letters string) (n uint64) {
	for i, c := range letters {
		if c == 'A' {
			n += 1 << i
		}
	}
	return n
}

func TestAnswers(t *testing.T) {
	value := func(pairs ...string) (values []probe.Value) {
		for i := 0; i < len(pairs); i += 2 {
			values = append(values, probe.Value{Name: pairs[i], Text: pairs[i+1]})
		}
		return values
	}
	without := func(s server) func([]byte) []byte {
		return func(query []byte) []byte {
			b := s.respond(query)[:headerLen]
			copy(b[4:], make([]byte, 8)) // an old server that knows no EDNS
			return b
		}
	}
	for name, tt := range map[string]struct {
		respond func([]byte) []byte
		bits    uint8
		values  []probe.Value
	}{
		"a name":             {server{site: "fra1"}.respond, 8, value("site", "fra1")},
		"with cookies":       {server{site: "fra1", cookies: true}.respond, 64, value("site", "fra1")},
		"an identifier":      {server{site: "fra1", nsid: "6e7331"}.respond, 8, value("site", "fra1", "nsid", "ns1")},
		"an odd identifier":  {server{nsid: "6e00", cookies: true}.respond, 64, value("nsid", "0x6e00")},
		"a long identifier":  {server{nsid: strings.Repeat("61", 300)}.respond, 8, value("nsid", strings.Repeat("a", probe.MaxValueText))},
		"refused":            {server{rcode: dns.RcodeRefused, nsid: "6e7331"}.respond, 8, value("nsid", "ns1", "rcode", "REFUSED")},
		"a bad cookie":       {server{rcode: dns.RcodeBadCookie, cookies: true}.respond, 64, value("rcode", "BADCOOKIE")},
		"an unknown rcode":   {server{rcode: 4000, cookies: true}.respond, 64, value("rcode", "4000")},
		"come again by TCP":  {server{slip: true}.respond, 8, value("truncated", "true")},
		"no site":            {server{}.respond, 8, nil},
		"what could harm":    {server{site: "\x1b[31mred"}.respond, 8, value("site", `\027[31mred`)},
		"an error, no query": {without(server{rcode: dns.RcodeFormatError}), 0, value("rcode", "FORMERR")},
		"cut in the record":  {func(q []byte) []byte { b := server{site: "fra1"}.respond(q); return b[:len(b)-2] }, 8, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dst := range []string{"203.0.113.10", "2001:db8:fe::10"} {
				p, pr := probeTo(dst), udp.Carry(kinds["id.server and NSID"])
				b, err := pr.Build(nil, p)
				require.NoError(t, err)
				var a probe.Answer
				require.True(t, pr.Match(reply(t, b, tt.respond), &a))
				require.Equal(t, []any{p.ID, tt.bits, probe.UDPReply, p.Dst}, []any{a.ID, a.TagBits, a.Kind, a.From})
				require.Equal(t, tt.values, a.Values)
				require.Equal(t, tt.bits > 0, a.Verified(&p.Key, p.ID))
				require.False(t, a.Verified(&probe.Key{9}, p.ID))
			}
		})
	}
}

// Of what has no cookie, the letters of the longer name prove more.
func TestLetters(t *testing.T) {
	p, pr := probeTo("203.0.113.10"), udp.Carry(kinds["hostname.bind"])
	b, err := pr.Build(nil, p)
	require.NoError(t, err)
	var a probe.Answer
	require.True(t, pr.Match(reply(t, b, server{site: "fra1"}.respond), &a))
	require.EqualValues(t, 12, a.TagBits)
	require.True(t, a.Verified(&p.Key, p.ID))
	require.True(t, pr.Match(reply(t, b, func(q []byte) []byte {
		q = bytes.Clone(q)
		q[headerLen+1] ^= 0x20
		return server{site: "fra1"}.respond(q)
	}), &a))
	require.False(t, a.Verified(&p.Key, p.ID))
}

// What is no answer to the query is not taken for one.
func TestOthers(t *testing.T) {
	q := kinds["id.server"]
	query, err := q.AppendPayload(nil, probeTo("203.0.113.10"))
	require.NoError(t, err)
	query = append(query, make([]byte, probe.IdentityLen)...)
	change := func(f func(m *dns.Msg)) []byte {
		var m dns.Msg
		require.NoError(t, m.Unpack(server{site: "fra1"}.respond(query)))
		f(&m)
		b, err := m.Pack()
		require.NoError(t, err)
		return b
	}
	var a probe.Answer
	require.True(t, q.ReadAnswer(change(func(*dns.Msg) {}), &a))
	for name, data := range map[string][]byte{
		"nothing":           {},
		"the query":         query,
		"half a header":     change(func(*dns.Msg) {})[:7],
		"a header":          change(func(m *dns.Msg) { m.Question, m.Answer = nil, nil }),
		"another name":      change(func(m *dns.Msg) { m.Question[0].Name = "hostname.bind." }),
		"another type":      change(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }),
		"another class":     change(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassINET }),
		"another operation": change(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
		"two questions":     change(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
	} {
		require.False(t, q.ReadAnswer(data, &a), name)
	}
	// Records beside the answer say nothing of the site.
	for name, f := range map[string]func(h *dns.RR_Header){
		"class": func(h *dns.RR_Header) { h.Class = dns.ClassINET },
		"name":  func(h *dns.RR_Header) { h.Name = "version.bind." },
	} {
		a = probe.Answer{}
		require.True(t, q.ReadAnswer(change(func(m *dns.Msg) { f(m.Answer[0].Header()) }), &a), name)
		require.Empty(t, a.Values, name)
	}
}

func TestOptions(t *testing.T) {
	pr := udp.Carry(kinds["id.server"]).(probe.Optioner)
	typ := probe.Describe(pr)
	require.NoError(t, typ.Check())
	set, err := pr.With(map[string]string{"name": "hostname.bind", "nsid": "true"})
	require.NoError(t, err)
	b, err := set.Build(nil, probeTo("203.0.113.10"))
	require.NoError(t, err)
	same, err := udp.Carry(kinds["hostname.bind with NSID"]).Build(nil, probeTo("203.0.113.10"))
	require.NoError(t, err)
	require.Equal(t, same, b)
	other, err := pr.Build(nil, probeTo("203.0.113.10"))
	require.NoError(t, err)
	require.NotEqual(t, other, b)
	for name, value := range map[string]string{"name": "version.bind", "nsid": "yes", "zone": "example."} {
		_, err := pr.With(map[string]string{name: value})
		require.ErrorIs(t, err, probe.ErrOption)
		require.ErrorContains(t, err, value)
	}
}

func TestBuildDoesNotAllocate(t *testing.T) {
	p, pr := probeTo("203.0.113.10"), udp.Carry(kinds["id.server"])
	b := make([]byte, 0, 1500)
	require.Zero(t, testing.AllocsPerRun(100, func() { b, _ = pr.Build(b[:0], p) }))
}
