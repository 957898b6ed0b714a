package simnet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// Sequence numbers of the tests below: ours, and what we would send next.
const isn = 5000000

// handshake is a path to a host with port 80 open, from a site whose own stack
// keeps quiet.
func handshake() *simnet.Scenario {
	s := path("a -- r -- h")
	s.Sites[0].TCP.Rest = simnet.Filtered
	s.Hosts[0].TCP.Open = ports(80, 80)
	return s
}

// segment is a segment on the way from a to port 80 of h.
func (d datagram) segment(flags packet.TCPFlags, seq, ack uint32) datagram {
	d = d.syn(80, seq)
	d.flags, d.ack = flags, ack
	return d
}

// A SYN-ACK comes again after 1, 2, 4, 8 and 16 seconds, and never more.
func TestSYNACKAgain(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		simulate(t, handshake(), func(l *lab) {
			l.send(d.syn(80, isn))
			got := l.pass(time.Hour)
			require.Len(t, got, 6)
			for i, at := range []time.Duration{0, 1, 3, 7, 15, 31} {
				require.Equal(t, at*time.Second, got[i].at.Truncate(time.Microsecond))
				require.Equal(t, packet.SYN|packet.ACK, got[i].flags)
				require.Equal(t, []uint32{got[0].seq, isn + 1}, []uint32{got[i].seq, got[i].ack})
				require.Equal(t, map[bool]bool{false: true, true: false}[d.v6()], got[i].df)
			}
			require.NotZero(t, got[0].seq)
		})
	})
}

// What segments do to a connection that was asked for, as in Linux.
func TestHandshake(t *testing.T) {
	const synAck, rstAck = packet.SYN | packet.ACK, packet.RST | packet.ACK
	type reply struct {
		flags    packet.TCPFlags
		seq, ack uint32 // less the host's initial sequence number, less ours
	}
	again := reply{synAck, 0, 1}
	challenge := reply{packet.ACK, 1, 1}
	for _, c := range []struct {
		name     string
		segments func(d datagram, theirs uint32) []datagram
		want     []reply // at once
		stays    bool    // and the SYN-ACK is repeated
	}{
		{"acknowledged", func(d datagram, theirs uint32) []datagram {
			return []datagram{d.segment(packet.ACK, isn+1, theirs+1)}
		}, nil, false},
		{"reset", func(d datagram, _ uint32) []datagram {
			return []datagram{d.segment(packet.RST, isn+1, 0)}
		}, nil, false},
		{"reset in the window", func(d datagram, _ uint32) []datagram {
			return []datagram{d.segment(packet.RST, isn+30000, 0)}
		}, nil, false},
		{"reset outside of the window", func(d datagram, _ uint32) []datagram {
			return []datagram{d.segment(packet.RST, isn, 0), d.segment(packet.RST, isn+100000, 0)}
		}, nil, true},
		{"the same SYN", func(d datagram, _ uint32) []datagram {
			return []datagram{d.syn(80, isn)}
		}, []reply{again}, true},
		{"the same SYN thrice", func(d datagram, _ uint32) []datagram {
			return []datagram{d.syn(80, isn), d.syn(80, isn), d.syn(80, isn)}
		}, []reply{again}, true},
		{"another SYN", func(d datagram, _ uint32) []datagram {
			return []datagram{d.syn(80, isn+1e6), d.syn(80, isn-1e6)}
		}, []reply{challenge}, true},
		{"another SYN in the window", func(d datagram, _ uint32) []datagram {
			return []datagram{d.syn(80, isn+500)}
		}, []reply{{rstAck, 0, 501}}, false},
		{"wrong acknowledgment", func(d datagram, theirs uint32) []datagram {
			return []datagram{d.segment(packet.ACK, isn+1, theirs+2)}
		}, []reply{{packet.RST, 2, 0}}, true},
		{"wrong acknowledgment outside of the window", func(d datagram, theirs uint32) []datagram {
			return []datagram{d.segment(packet.ACK, isn+1e6, theirs)}
		}, []reply{{packet.RST, 0, 0}}, true},
		{"reset with wrong acknowledgment", func(d datagram, theirs uint32) []datagram {
			return []datagram{d.segment(packet.RST|packet.ACK, isn+1, theirs)}
		}, nil, true},
		{"no acknowledgment", func(d datagram, _ uint32) []datagram {
			return []datagram{d.segment(packet.PSH, isn+1, 0)}
		}, nil, true},
		{"acknowledged outside of the window", func(d datagram, theirs uint32) []datagram {
			return []datagram{d.segment(packet.ACK, isn+1e6, theirs+1)}
		}, []reply{challenge}, true},
		{"data outside of the window", func(d datagram, theirs uint32) []datagram {
			s := d.segment(packet.ACK, isn+1e6, theirs+1)
			s.body = []byte("data")
			return []datagram{s, s}
		}, []reply{challenge, challenge}, true},
		{"a SYN on an established connection", func(d datagram, theirs uint32) []datagram {
			return []datagram{d.segment(packet.ACK, isn+1, theirs+1), d.syn(80, isn), d.syn(80, isn+7)}
		}, []reply{challenge}, false},
		{"a connection established and reset", func(d datagram, theirs uint32) []datagram {
			return []datagram{d.segment(packet.ACK, isn+1, theirs+1), d.segment(packet.RST, isn+1, 0), d.segment(packet.ACK, isn+1, theirs+1)}
		}, []reply{{packet.RST, 1, 0}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				simulate(t, handshake(), func(l *lab) {
					l.send(d.syn(80, isn))
					first := l.pass(time.Millisecond)
					require.Len(t, first, 1)
					theirs := first[0].seq
					l.send(c.segments(d, theirs)...)
					var got []reply
					for _, g := range l.pass(time.Millisecond) {
						r := reply{g.flags, g.seq - theirs, g.ack - isn}
						if g.flags&packet.ACK == 0 {
							r.ack = g.ack
						}
						if g.seq == 0 {
							r.seq = 0
						}
						got = append(got, r)
					}
					require.Equal(t, c.want, got)
					require.Equal(t, c.stays, len(l.pass(time.Hour)) > 0)
				})
			})
		})
	}
}

// The window ends where the host said.
func TestWindow(t *testing.T) {
	for beyond, ends := range map[uint32]bool{0: true, 1: false} {
		simulate(t, handshake(), func(l *lab) {
			l.send(udp4.syn(80, isn))
			first := l.pass(time.Millisecond)[0]
			h, _, err := packet.ParseTCP(first.whole[20:])
			require.NoError(t, err)
			l.send(udp4.segment(packet.RST, isn+1+uint32(h.Window)+beyond, 0))
			require.Equal(t, ends, len(l.pass(time.Hour)) == 0)
		})
	}
}

// A host has so many connections, and no more.
func TestConnectionsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := handshake()
		n := start(t, s)
		const most, more = 1 << 16, 100
		d := udp4.syn(80, isn)
		for i := range most + more {
			d.sport, d.src = uint16(i), addr([]string{"192.0.2.1", "192.0.2.2"}[i>>16])
			require.NoError(t, n.Inject("a", d.bytes()))
		}
		time.Sleep(time.Millisecond)
		require.EqualValues(t, most+more+most, n.Stats().Sent)
	})
}

// A SYN sent again is answered twice a second at most, and puts the next
// repetition off.
func TestSYNAgain(t *testing.T) {
	simulate(t, handshake(), func(l *lab) {
		var at []time.Duration
		for range 10 {
			l.send(udp4.syn(80, isn))
			for _, g := range l.pass(100 * time.Millisecond) {
				at = append(at, g.at.Truncate(time.Microsecond))
			}
		}
		for _, g := range l.pass(time.Minute) {
			at = append(at, g.at.Truncate(time.Microsecond))
		}
		ms := time.Millisecond
		require.Equal(t, []time.Duration{0, 100 * ms, 600 * ms, 1600 * ms, 3600 * ms, 7600 * ms, 15600 * ms, 31600 * ms}, at)
	})
}

// An established connection is forgotten two minutes after the last segment.
func TestIdle(t *testing.T) {
	simulate(t, handshake(), func(l *lab) {
		l.send(udp4.syn(80, isn))
		theirs := l.pass(time.Millisecond)[0].seq
		ack := udp4.segment(packet.ACK, isn+1, theirs+1)
		l.send(ack)
		require.Empty(t, l.pass(119*time.Second))
		l.silent(ack)
		require.Empty(t, l.pass(118*time.Second))
		l.silent(ack)
		require.Empty(t, l.pass(2*time.Minute))
		require.Equal(t, packet.RST, l.ask(ack).flags)
	})
}

// What a port says to a segment that is not of any connection.
func TestStray(t *testing.T) {
	const rstAck = packet.RST | packet.ACK
	for _, c := range []struct {
		name         string
		flags        packet.TCPFlags
		body         string
		closed, open packet.TCPFlags // 0: nothing
		seq, ack     uint32          // of a reset
	}{
		{"SYN", packet.SYN, "", rstAck, packet.SYN | packet.ACK, 0, isn + 1},
		{"SYN with data", packet.SYN, "data", rstAck, packet.SYN | packet.ACK, 0, isn + 5},
		{"SYN FIN", packet.SYN | packet.FIN, "", rstAck, 0, 0, isn + 2},
		{"SYN-ACK", packet.SYN | packet.ACK, "", packet.RST, packet.RST, 77, 0},
		{"ACK", packet.ACK, "", packet.RST, packet.RST, 77, 0},
		{"RST", packet.RST, "", 0, 0, 0, 0},
		{"RST-ACK", rstAck, "", 0, 0, 0, 0},
		{"FIN", packet.FIN, "", rstAck, 0, 0, isn + 1},
		{"nothing", 0, "12", rstAck, 0, 0, isn + 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			families(t, func(t *testing.T, d datagram) {
				simulate(t, handshake(), func(l *lab) {
					for port, want := range map[uint16]packet.TCPFlags{80: c.open, 81: c.closed} {
						d := d.segment(c.flags, isn, 77)
						d.dport, d.body = port, []byte(c.body)
						l.send(d)
						got := l.pass(time.Millisecond)
						if want == 0 {
							require.Empty(t, got)
							continue
						}
						require.Len(t, got, 1)
						require.Equal(t, want, got[0].flags)
						if want&packet.RST != 0 {
							require.Equal(t, []uint32{c.seq, c.ack}, []uint32{got[0].seq, got[0].ack})
						}
					}
				})
			})
		})
	}
}

// ECN is agreed on (RFC 3168 section 6.1.1).
func TestECNSetup(t *testing.T) {
	simulate(t, handshake(), func(l *lab) {
		for i, c := range []struct {
			flags packet.TCPFlags
			tos   uint8
			want  packet.TCPFlags
		}{
			{packet.ECE | packet.CWR, 0, packet.ECE},
			{packet.ECE, 0, 0},
			{packet.CWR, 0, 0},
			{packet.ECE | packet.CWR, 2, 0},
		} {
			d := udp4.syn(80, isn)
			d.sport, d.tos = uint16(100+i), c.tos
			d.flags |= c.flags
			l.send(d)
			require.Equal(t, packet.SYN|packet.ACK|c.want, l.pass(time.Millisecond)[0].flags)
		}
	})
}

// The site that catches a SYN-ACK for which it did not ask resets the
// connection.
func TestCaughtSYNACK(t *testing.T) {
	families(t, func(t *testing.T, d datagram) {
		s := twoSites()
		simulate(t, s, func(l *lab) {
			l.send(d.syn(80, isn))
			b := l.sites["b"].pass(time.Hour)
			require.Len(t, b, 1, "the reset ends the repetition")
			require.Equal(t, packet.SYN|packet.ACK, b[0].flags)
			require.Empty(t, l.pass(0))
		})
		// A silent catcher does not.
		s = twoSites()
		s.Sites[1].Silent = true
		simulate(t, s, func(l *lab) {
			l.send(d.syn(80, isn))
			require.Len(t, l.sites["b"].pass(time.Hour), 6)
		})
	})
}

// Connections of different peers are apart, and of another seed have other
// sequence numbers.
func TestSequenceNumbers(t *testing.T) {
	seen := map[uint32]bool{}
	for seed := range uint64(3) {
		s := handshake()
		s.Seed = seed
		simulate(t, s, func(l *lab) {
			for port := range uint16(10) {
				d := udp4.syn(80, isn)
				d.sport = 2000 + port
				l.send(d)
			}
			for _, g := range l.pass(time.Millisecond) {
				seen[g.seq] = true
			}
		})
	}
	require.Len(t, seen, 30)
}

// A host that falls silent repeats nothing.
func TestSilentHandshake(t *testing.T) {
	s := handshake()
	s.Changes = []simnet.Change{{At: 2 * time.Second, Silence: "h"}}
	simulate(t, s, func(l *lab) {
		l.send(udp4.syn(80, isn))
		require.Len(t, l.pass(time.Hour), 2)
	})
}

// The segment size is that of the host's link.
func TestMSS(t *testing.T) {
	for mtu, want := range map[int][2]uint16{1500: {1460, 1440}, 1400: {1360, 1340}, 9000: {8960, 8940}} {
		families(t, func(t *testing.T, d datagram) {
			s := handshake()
			s.Links[0].MTU = mtu
			simulate(t, s, func(l *lab) {
				l.send(d.syn(80, isn))
				got := l.pass(time.Millisecond)[0]
				h, _, err := packet.ParseTCP(got.whole[header(d):])
				require.NoError(t, err)
				mss, ok := h.MSS()
				require.True(t, ok)
				require.Equal(t, want[map[bool]int{false: 0, true: 1}[d.v6()]], mss)
			})
		})
	}
}
