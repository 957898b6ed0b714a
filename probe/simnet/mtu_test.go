package simnet_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// narrow is a path whose second link takes 1300 bytes.
func narrow() *simnet.Scenario {
	s := path("a -- r1\nr2 -- h")
	s.Links = append(s.Links, simnet.Link{Draw: "r1 -- r2", Properties: simnet.Properties{MTU: 1300}})
	return s
}

func TestTooBig(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		d.df = true
		simulate(t, narrow(), func(l *lab) {
			require.Equal(t, d.dst, l.ask(d.size(1300)).src, "it just fits")

			got := l.ask(d.size(1301))
			e := requireError(t, got, tooBig, uint8(map[bool]int{false: 4}[d.v6()]))
			require.Equal(t, uint32(1300), e.MTU)
			require.Nil(t, e.Extension)
			require.Equal(t, uint64(1), l.Stats().Dropped[simnet.DropTooBig])

			// The TTL comes first.
			requireError(t, l.ask(d.size(1301).hops(1)), expired, 0)
		})
	})
}

// Path MTU discovery is not rate limited, and may say more than the MTU.
func TestTooBigAlways(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		d.df = true
		s := router(narrow(), simnet.Router{Name: "r1", InterfaceInfo: true, Stack: simnet.Stack{Errors: simnet.RateLimit{Rate: 0.001}}})
		simulate(t, s, func(l *lab) {
			for range 5 {
				e := l.ask(d.size(1400)).isError(t)
				require.Equal(t, uint32(1300), e.MTU)
				require.Equal(t, d.v6(), e.Extension == nil, "packet too big has no room for an extension")
			}
			requireError(t, l.ask(d.hops(1)), expired, 0)
			l.silent(d.hops(1))
		})
	})
}

// An IPv4 datagram without DF comes in pieces, which the host puts together.
func TestFragments(t *testing.T) {
	s := narrow()
	s.Sites = append(s.Sites, simnet.Site{Host: simnet.Host{Name: "b", Addresses: addrs("192.0.2.2")}})
	s.Links = append(s.Links, simnet.Link{Draw: "r2 -- b", Properties: simnet.Properties{MTU: 600}})
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return bytes.Clone(b) }}
	record := []byte{7, 7, 4, 0, 0, 0, 0, 1} // record route, of which later fragments keep the room, and a NOP
	alert := []byte{0x94, 4, 0, 0}           // router alert, which all fragments carry
	simulate(t, s, func(l *lab) {
		d := udp4.echo().size(1500)
		l.send(d)
		pieces := l.pass(time.Second)
		require.Len(t, pieces, 2, "the reply is cut on its way back")
		require.Equal(t, d.body, reassembled(t, pieces)[8:])

		d = udp4.size(1500)
		d.dport = 7
		l.silent(d) // answers over UDP must not be cut
		require.Equal(t, uint64(1), l.Stats().Dropped[simnet.DropTooBig])
		require.Equal(t, d.size(1300).body, l.ask(d.size(1300)).body)

		d = udp4.to(addr("192.0.2.2"))
		d.options = slices.Concat(record, alert)
		d = d.size(1500)
		l.send(d)
		pieces = l.sites["b"].pass(time.Second)
		require.Len(t, pieces, 4)
		require.Equal(t, d.bytes()[32:], reassembled(t, pieces))
		for i, p := range pieces {
			require.LessOrEqual(t, len(p.whole), 600)
			require.Equal(t, []any{d.id, d.ttl - 2, i < 3}, []any{p.id, p.ttl, p.more})
			want := d.options
			if i > 0 {
				want = append(bytes.Repeat([]byte{1}, 8), alert...)
			}
			require.Equal(t, want, p.options)
		}
		// The host's error quotes the datagram, not a piece of it.
		got := l.pass(0)
		require.Len(t, got, 1)
		requireError(t, got[0], unreachable, 3)
		q := got[0].quoted(t)
		require.Equal(t, []any{false, uint16(0), d.options, 548}, []any{q.more, q.offset, q.options, len(q.whole)})
		require.Equal(t, uint16(1500), binary.BigEndian.Uint16(q.whole[2:]))
	})
}

// reassembled puts pieces together that are in order.
func reassembled(t *testing.T, pieces []arrival) (all []byte) {
	t.Helper()
	for i, p := range pieces {
		require.Equal(t, len(all), int(p.offset))
		require.Equal(t, i < len(pieces)-1, p.more)
		all = append(all, p.raw...)
	}
	return all
}

// A fragment is cut again where it must be.
func TestFragmentsOfFragments(t *testing.T) {
	s := path("a -- r1\nr3 -- h")
	s.Links = append(s.Links,
		simnet.Link{Draw: "r1 -- r2", Properties: simnet.Properties{MTU: 1000}},
		simnet.Link{Draw: "r2 -- r3", Properties: simnet.Properties{MTU: 68}})
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return b[:1] }}
	simulate(t, s, func(l *lab) {
		d := udp4.size(1500)
		d.dport = 7
		require.Equal(t, d.body[:1], l.ask(d).body)
	})
}

// cut cuts a datagram's payload into pieces of size bytes.
func cut(d datagram, size int) (pieces []datagram) {
	whole := d.bytes()
	header := 20
	if d.v6() {
		header = 40
	}
	payload := whole[header:]
	for at := 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		pieces = append(pieces, pieceOf(d, at, payload[at:end], end < len(payload)))
	}
	return pieces
}

func pieceOf(d datagram, at int, data []byte, more bool) datagram {
	d.raw, d.offset, d.more = data, uint16(at), more
	if d.v6() {
		d.next = packet.Fragment
		d.options, _ = packet.AppendFragment(nil, d.proto, uint16(at), more, uint32(d.id))
	}
	return d
}

// What hosts do with the pieces of an echo request.
func TestReassembly(t *testing.T) {
	for _, c := range []struct {
		name  string
		order func(p []datagram) []datagram
		whole bool
	}{
		{"in order", func(p []datagram) []datagram { return p }, true},
		{"backwards", func(p []datagram) []datagram { slices.Reverse(p); return p }, true},
		{"twice", func(p []datagram) []datagram { return []datagram{p[1], p[1], p[0], p[2], p[3]} }, true},
		{"one missing", func(p []datagram) []datagram { return []datagram{p[0], p[2], p[3]} }, false},
		{"last missing", func(p []datagram) []datagram { return p[:3] }, false},
		// As many bytes as there should be, but not all of them.
		{"overlap with the one before", func(p []datagram) []datagram {
			return []datagram{p[0], pieceOf(p[0], 8, p[0].raw, true), p[2], p[3]}
		}, false},
		{"overlap with the one after", func(p []datagram) []datagram {
			return []datagram{pieceOf(p[0], 8, p[0].raw, true), p[0], p[2], p[3]}
		}, false},
		{"beyond the end instead", func(p []datagram) []datagram {
			return []datagram{p[3], pieceOf(p[1], 64, p[1].raw, true), p[0], p[1]}
		}, false},
		{"all, but ended before", func(p []datagram) []datagram {
			return []datagram{pieceOf(p[2], 32, p[2].raw, false), p[3], p[0], p[1]}
		}, false},
		{"overlap", func(p []datagram) []datagram {
			return []datagram{p[0], p[1], pieceOf(p[1], 24, p[1].raw[8:], true), p[2], p[3]}
		}, false},
		{"overlap at the front", func(p []datagram) []datagram {
			return []datagram{p[1], pieceOf(p[1], 0, make([]byte, 24), true), p[0], p[2], p[3]}
		}, false},
		{"beyond the end", func(p []datagram) []datagram {
			return []datagram{p[3], pieceOf(p[1], 80, make([]byte, 16), true), p[0], p[1], p[2]}
		}, false},
		{"two ends", func(p []datagram) []datagram {
			return []datagram{p[3], pieceOf(p[1], 80, make([]byte, 16), false), p[0], p[1], p[2]}
		}, false},
		{"odd middle", func(p []datagram) []datagram {
			return []datagram{p[0], pieceOf(p[1], 16, p[1].raw[:15], true), p[2], p[3]}
		}, false},
		{"too far", func(p []datagram) []datagram {
			return []datagram{p[0], p[1], p[2], pieceOf(p[3], 65528, make([]byte, 16), false)}
		}, false},
		{"of two", func(p []datagram) []datagram {
			p[1].id++
			p[1] = pieceOf(p[1], 16, p[1].raw, true)
			return p
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				d = d.echo()
				d.body = []byte("fifty-six bytes of payload, so that four pieces make it up")[:56]
				pieces := c.order(cut(d, 16))
				simulate(t, path("a -- r -- h"), func(l *lab) {
					for _, p := range pieces {
						l.send(p)
						time.Sleep(time.Millisecond)
					}
					got := l.pass(time.Second)
					wrong := uint64(0)
					if c.name == "odd middle" || c.name == "too far" {
						wrong = 1
					}
					require.Equal(t, wrong, l.Stats().Dropped[simnet.DropMalformed])
					if !c.whole {
						require.Empty(t, got)
						return
					}
					require.Len(t, got, 1)
					require.Equal(t, d.body, got[0].body)
				})
			})
		})
	}
}

// After 30 seconds, 60 over IPv6, a host gives up, and says so if it has the
// first piece (RFC 792, RFC 8200 section 4.5).
func TestReassemblyTime(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		wait := 30 * time.Second
		if d.v6() {
			wait = time.Minute
		}
		d = d.echo()
		d.body = make([]byte, 92)
		pieces := cut(d, 40)
		simulate(t, path("a -- r -- h"), func(l *lab) {
			l.send(pieces[0])
			time.Sleep(10 * time.Second)
			l.send(pieces[1])
			got := l.pass(wait)
			require.Len(t, got, 1)
			requireError(t, got[0], expired, 1)
			require.Equal(t, pieces[0].raw, got[0].quoted(t).whole[len(got[0].quoted(t).whole)-40:])
			require.Equal(t, wait+4*time.Nanosecond, got[0].at)

			l.send(pieces[2])
			require.Empty(t, l.pass(2*wait), "without the first piece")

			l.send(pieces[0])
			time.Sleep(wait - time.Millisecond)
			l.send(pieces[1:]...)
			got = l.pass(time.Second)
			require.Len(t, got, 1)
			require.Equal(t, d.body, got[0].body)
		})
	})
}

// A host keeps a bounded number of unfinished datagrams.
func TestReassemblyBounded(t *testing.T) {
	simulate(t, path("a -- r -- h"), func(l *lab) {
		d := udp4.echo().size(120)
		for id := range 200 {
			d.id = uint16(id)
			l.send(cut(d, 40)[:2]...)
		}
		time.Sleep(time.Second)
		for id := range 200 {
			d.id = uint16(id)
			l.send(cut(d, 40)[2])
		}
		require.Len(t, l.pass(time.Second), 64)
		time.Sleep(time.Minute)
		l.pass(0)
		l.send(cut(d, 40)...)
		require.Len(t, l.pass(time.Second), 1)
	})
}

// No error is sent about a later IPv4 fragment (RFC 1122 section 3.2.2), but
// one is about an IPv6 one.
func TestErrorAboutFragment(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		pieces := cut(d.size(200).hops(1), 80)
		simulate(t, path("a -- r -- h"), func(l *lab) {
			requireError(t, l.ask(pieces[0]), expired, 0)
			if d.v6() {
				requireError(t, l.ask(pieces[1]), expired, 0)
			} else {
				l.silent(pieces[1])
			}
		})
	})
}

// Headers before the fragment header and after it come through.
func TestReassemblyExtensions(t *testing.T) {
	simulate(t, path("a -- r -- h"), func(l *lab) {
		inner, err := packet.AppendOptions(nil, probe.UDP, nil)
		require.NoError(t, err)
		outer, err := packet.AppendOptions(nil, packet.Fragment, nil)
		require.NoError(t, err)
		payload := append(inner, udp6.bytes()[40:]...)
		for _, at := range []int{0, 24} {
			d := udp6
			d.raw, d.next = payload[at:min(at+24, len(payload))], packet.DestinationOptions
			d.options, err = packet.AppendFragment(outer, packet.DestinationOptions, uint16(at), at == 0, 9)
			require.NoError(t, err)
			l.send(d)
		}
		got := l.pass(time.Second)
		require.Len(t, got, 1)
		requireError(t, got[0], unreachable, 4)
		q := got[0].quoted(t)
		require.Equal(t, udp6.body, q.body)
		outer[0] = packet.DestinationOptions
		require.Equal(t, append(outer, inner...), q.options)
	})
}
