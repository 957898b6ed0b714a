package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/sitetest"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// What is captured and what is sent costs no memory, also where an agent has
// types in other processes and keeps watches.
func TestHotPathAllocatesNothing(t *testing.T) {
	synctest.Test(t, testHotPathAllocatesNothing)
}

func testHotPathAllocatesNothing(t *testing.T) {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.10")
	p := &probe.Probe{ID: 101, Src: src, Dst: dst, DstPort: sitetest.Port, TTL: 1}
	builtin := []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}}
	a := New(Config{Probers: append(builtin, sitetest.Remote{Prober: sitetest.Prober()})})
	probes, err := udp.Prober{}.Build(nil, p)
	require.NoError(t, err)
	echo := sitetest.UDP(dst, src, p.Port(), probes[28:])
	unknown := sitetest.Reply(sitetest.Prober(), p, "fra1")
	noAllocs := func(what string, known bool, datagram []byte) {
		t.Helper()
		in, ans := &probe.Incoming{Data: datagram}, &probe.Answer{}
		require.Equal(t, known, a.match(in, ans), what)
		require.Zero(t, testing.AllocsPerRun(100, func() { a.match(in, ans) }), what)
	}
	noAllocs("no watch", false, unknown)
	for i := range uint64(1000) {
		a.watches.start(t.Context(), &transport.Watch{Number: i, Prober: "site", Dst: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})})
	}
	defer a.watches.close()
	synctest.Wait() // starting them costs memory
	noAllocs("watches for others", false, unknown)
	noAllocs("known", true, echo)
	noAllocs("nothing", false, nil)

	j := &job{Job: transport.Job{Dst: dst}, src: src, header: string(src.AsSlice()) + string(dst.AsSlice())}
	require.NoError(t, j.misdirected(probes))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = j.misdirected(probes) }))
}

// Whatever becomes of datagrams that wait, what they hold is let go of.
func TestHeldIsReleased(t *testing.T) {
	var o outbox
	o.wake = make(chan struct{}, 1)
	ws := newWatches(map[string]probe.Prober{"site": sitetest.Remote{Prober: sitetest.Prober()}}, &o)
	o.open(0, 1<<16)
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.10")
	d := sitetest.Reply(sitetest.Prober(), &probe.Probe{ID: 101, Src: src, Dst: dst, TTL: 1}, "fra1")
	for i := range uint64(100) {
		ws.start(t.Context(), &transport.Watch{Number: i % 7, Prober: "site", Dst: dst})
		for range 50 {
			ws.offer(&probe.Incoming{Data: d}, &probe.Answer{})
		}
	}
	ws.close()
	require.Zero(t, ws.held.Load())
	require.Zero(t, ws.active.Load())
	require.False(t, ws.offer(&probe.Incoming{Data: d}, &probe.Answer{}))
	ws.start(t.Context(), &transport.Watch{Number: 1, Prober: "site", Dst: dst})
	r := ws.byNumber[1].reader
	ws.end(1)
	ws.end(1)
	ws.close()
	r.add(pending{data: d}) // capture may have looked before the end
	require.Zero(t, ws.held.Load())
	require.Zero(t, ws.active.Load())
	require.Empty(t, ws.byDst)
}
