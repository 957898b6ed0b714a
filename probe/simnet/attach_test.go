package simnet_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// outside is what is attached to a site: it keeps what it gets.
type outside struct {
	*simnet.Attachment
	mu  sync.Mutex
	got []arrival
}

func attach(t *testing.T, n *simnet.Network, site string) *outside {
	t.Helper()
	began := time.Now().Round(0)
	o := &outside{}
	var err error
	o.Attachment, err = n.Attach(site, func(b []byte, at time.Time) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.got = append(o.got, arrival{readDatagram(t, b), at.Sub(began)})
	})
	require.NoError(t, err)
	return o
}

func (o *outside) take() []arrival {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.got
	o.got = nil
	return got
}

// What is attached gets everything as it is, fragments too.
func TestAttachedGetsFragments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, path("a --1ms-- h"))
		o := attach(t, n, "a")
		piece := echo4.from(h4).to(a4)
		piece.raw, piece.more = make([]byte, 16), true
		require.NoError(t, n.Inject("h", piece.bytes()))
		time.Sleep(time.Second)
		got := o.take()
		require.Len(t, got, 1)
		require.True(t, got[0].more)
		require.EqualValues(t, 1, n.Stats().Delivered)
	})
}

func TestAttachedToClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, path("a --1ms-- h"))
		o := attach(t, n, "a")
		require.NoError(t, n.Close())
		require.ErrorIs(t, o.Send(udp4.bytes(), time.Now()), net.ErrClosed)
		require.ErrorIs(t, n.KeepTime(), net.ErrClosed)
		require.NoError(t, o.Close())
		require.NoError(t, o.Close())
	})
}

// A packet is on its way from when it left the outside, but never from before
// something else that has happened, nor from a time to come.
func TestAttachedSendTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := path("a --10ms-- h").Start()
		require.NoError(t, err)
		defer n.Close()
		began := time.Now()
		o := attach(t, n, "a")
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, o.Send(echo4.bytes(), began.Add(95*time.Millisecond)))
		require.NoError(t, o.Send(echo4.bytes(), began.Add(120*time.Millisecond)))
		time.Sleep(time.Second)
		got := o.take()
		require.Len(t, got, 2)
		require.Equal(t, 115*time.Millisecond, got[0].at)
		require.Equal(t, 120*time.Millisecond, got[1].at)
		require.NoError(t, o.Send(echo4.bytes(), began)) // the last thing happened at 120 ms
		time.Sleep(time.Second)
		require.Equal(t, 140*time.Millisecond, o.take()[0].at)
	})
}

// What stands for a site is told what the site has.
func TestAttachmentKnowsItsSite(t *testing.T) {
	s := path("a -- r1 -- h")
	s.Sites[0].Prefixes = prefixes("192.0.2.128/25")
	s.Links = append(s.Links, simnet.Link{Draw: "a -- r1", Prefixes: prefixes("198.51.100.0/30"), Properties: simnet.Properties{MTU: 1400}})
	n, err := s.Start()
	require.NoError(t, err)
	defer n.Close()
	o := attach(t, n, "a")
	require.Equal(t, prefixes("192.0.2.1/32", "2001:db8:ff::1/128", "192.0.2.128/25"), o.Addresses())
	require.Equal(t, addrs("198.18.0.1", "2001:db8::1", "198.51.100.1"), o.Links())
	require.Equal(t, 1400, o.MTU())
}

func TestPrefixes(t *testing.T) {
	s := &simnet.Scenario{
		Sites: []simnet.Site{{Host: simnet.Host{Name: "a", Addresses: addrs("192.0.2.1")}}},
		Hosts: []simnet.Host{{
			Name: "h", Addresses: addrs("203.0.113.8", "203.0.113.9", "203.0.113.10", "203.0.113.11", "203.0.113.12", "2001:db8:fe::1"),
			Prefixes: prefixes("198.51.100.0/25", "198.51.100.128/26", "198.51.100.7/32", "2001:db8:fe::/64"),
		}},
		Links: []simnet.Link{{Draw: "a -- r1", Prefixes: prefixes("198.18.0.0/31")}, {Draw: "r1 -- h", Prefixes: prefixes("198.18.0.2/31")}},
		Routes: []simnet.Route{
			{At: "r1", To: netip.MustParsePrefix("198.51.100.192/26"), Drop: simnet.Blackhole},
			{At: "r1", To: netip.MustParsePrefix("0.0.0.0/0"), Drop: simnet.Blackhole},
			{At: "r1", To: netip.MustParsePrefix("::/0"), Drop: simnet.Blackhole},
		},
		Changes: []simnet.Change{{Route: &simnet.Route{At: "r1", To: netip.MustParsePrefix("128.0.0.0/1"), Drop: simnet.Blackhole}}},
	}
	n, err := s.Start()
	require.NoError(t, err)
	defer n.Close()
	require.Equal(t, prefixes("128.0.0.0/1", "2001:db8:fe::/64"), n.Prefixes())
	require.NoError(t, n.Close())

	s.Changes = nil
	n, err = s.Start()
	require.NoError(t, err)
	defer n.Close()
	require.Equal(t, prefixes("192.0.2.1/32", "198.18.0.0/30", "198.51.100.0/24", "203.0.113.8/30", "203.0.113.12/32", "2001:db8:fe::/64"), n.Prefixes())

	// Halves are joined, but never to a default route.
	s.Routes = []simnet.Route{
		{At: "r1", To: netip.MustParsePrefix("0.0.0.0/1"), Drop: simnet.Blackhole},
		{At: "r1", To: netip.MustParsePrefix("128.0.0.0/2"), Drop: simnet.Blackhole},
		{At: "r1", To: netip.MustParsePrefix("192.0.0.0/2"), Drop: simnet.Blackhole},
	}
	n, err = s.Start()
	require.NoError(t, err)
	defer n.Close()
	require.Equal(t, prefixes("0.0.0.0/1", "128.0.0.0/1", "2001:db8:fe::/64"), n.Prefixes())
}

// A long IPv6 answer is cut where it is made, and no two alike.
func TestAnswerInPieces(t *testing.T) {
	s := path("a -- r1 -- h")
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return append(make([]byte, 4000), b...) }}
	simulate(t, s, func(l *lab) {
		var ids []uint32
		for i := range 2 {
			d := udp6
			d.dport, d.body = 7, []byte{byte(i)}
			l.send(d)
			got := l.pass(time.Second)
			require.Len(t, got, 3)
			var whole []byte
			for k, piece := range got {
				require.LessOrEqual(t, len(piece.whole), 1500)
				require.Equal(t, packet.Fragment, piece.next)
				require.Equal(t, len(whole), int(piece.offset))
				require.Equal(t, k < 2, piece.more)
				id := binary.BigEndian.Uint32(piece.options[4:])
				if k == 0 {
					ids = append(ids, id)
				}
				require.Equal(t, ids[i], id)
				whole = append(whole, piece.raw...)
			}
			require.Len(t, whole, 8+4000+1)
			require.Equal(t, byte(i), whole[len(whole)-1])
			require.Zero(t, packet.PseudoHeader(h6, a6, probe.UDP, len(whole)).Add(whole).Checksum())
		}
		require.NotEqual(t, ids[0], ids[1])
	})
}
