package simnet_test

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// record runs traffic of all kinds from all sites over a network of everything,
// each site sending from a goroutine of its own, all at the same moments, and
// returns each packet that each site gets, with its time.
func record(t *testing.T, seed uint64, shuffle func(site, round int)) (log string) {
	s := everything()
	s.Seed = seed
	synctest.Test(t, func(t *testing.T) {
		n := start(t, s)
		began := time.Now()
		var sending, receiving sync.WaitGroup
		logs := make([]bytes.Buffer, len(n.Sites()))
		for i, site := range n.Sites() {
			p, err := n.Port(site)
			require.NoError(t, err)
			receiving.Go(func() {
				in := make([]probe.Incoming, 1+i*7)
				for {
					k, err := p.Receive(in)
					if err != nil {
						return
					}
					for _, in := range in[:k] {
						fmt.Fprintf(&logs[i], "%s %v %x\n", site, in.Time.Sub(began), in.Data)
					}
				}
			})
			sending.Go(func() {
				for round := range 40 {
					shuffle(i, round)
					out := make([]probe.Outgoing, 0, 8)
					for _, d := range traffic(i, round) {
						out = append(out, probe.Outgoing{Data: d.bytes()})
					}
					if p.Send(out) != nil {
						return
					}
					time.Sleep(250 * time.Millisecond)
				}
			})
		}
		sending.Wait()
		time.Sleep(5 * time.Minute)
		require.NoError(t, n.Close())
		receiving.Wait()
		for i := range logs {
			log += logs[i].String()
		}
		log += fmt.Sprintf("%+v\n", n.Stats())
	})
	return log
}

// traffic is what a site sends in one round.
func traffic(site, round int) (all []datagram) {
	for _, d := range []datagram{udp4, udp6} {
		if site == 2 {
			d.src = map[bool]datagram{false: udp4.from(addr("198.51.100.2")), true: udp6.from(addr("2001:db8:55::2"))}[d.v6()].src
		}
		d.id, d.ttl, d.sport, d.tos = uint16(round), uint8(1+round%12), uint16(61440+round%3), uint8(round)
		nine := d.hops(60)
		nine.dport = 9
		all = append(all, d, d.echo(), d.syn(80, uint32(round*1000)), nine)
	}
	return all
}

// The same seed has the same outcome to the byte and nanosecond, in whatever
// order goroutines that do something at the same moment happen to run.
func TestDeterministic(t *testing.T) {
	ways := map[string]func(site, round int){
		"as it comes": func(int, int) {},
		"the first yields": func(site, _ int) {
			for range 50 * (2 - site) {
				runtime.Gosched()
			}
		},
		"the last yields": func(site, _ int) {
			for range 50 * site {
				runtime.Gosched()
			}
		},
		"by turns": func(site, round int) {
			for range 30 * ((site + round) % 3) {
				runtime.Gosched()
			}
		},
	}
	var want string
	for name, shuffle := range ways {
		got := record(t, 1, shuffle)
		require.Greater(t, bytes.Count([]byte(got), []byte("\n")), 200)
		if want == "" {
			want = got
		}
		require.True(t, want == got, name)
	}
	require.NotEqual(t, want, record(t, 2, ways["as it comes"]))
}

// What happens at a site at one moment happens in one order, whether the agent
// or the network wakes up first: here probes leave just when SYN-ACKs arrive,
// which the site resets, over a link whose jitter shows the order.
func TestSendAndArriveAtOnce(t *testing.T) {
	run := func(also []time.Duration, yield int) (log string, arrivals []time.Duration) {
		s := handshake()
		s.Links[0].Jitter, s.Links[0].Back = time.Millisecond, &simnet.Properties{Delay: time.Millisecond}
		s.Sites[0].TCP.Rest = simnet.Closed
		simulateWatched(t, s, func(s simnet.Sighting) {
			log += fmt.Sprintf("%v %s %x\n", s.Time.UnixNano(), s.Node, s.Datagram)
		}, func(l *lab) {
			var wg sync.WaitGroup
			for i, at := range also {
				wg.Go(func() {
					time.Sleep(time.Until(l.began.Add(at)))
					for range yield {
						runtime.Gosched()
					}
					l.sites["a"].mu.Lock() // a port has one sender at a time
					defer l.sites["a"].mu.Unlock()
					d := udp4.echo()
					d.dport = uint16(i)
					require.NoError(t, l.sites["a"].port.Send([]probe.Outgoing{{Data: d.bytes()}}))
				})
			}
			for i := range 20 {
				d := udp4.syn(80, isn)
				d.sport += uint16(i)
				l.send(d)
				time.Sleep(10 * time.Millisecond)
			}
			wg.Wait()
			for _, g := range l.pass(time.Second) {
				arrivals = append(arrivals, g.at)
			}
		})
		return log, arrivals
	}
	_, arrivals := run(nil, 0)
	require.Len(t, arrivals, 20)
	want, _ := run(arrivals, 0)
	for yield := range 20 {
		got, _ := run(arrivals, 5*yield)
		require.True(t, want == got)
	}
}

// An hour with a probe each second takes no time.
func TestHour(t *testing.T) {
	began := time.Now()
	simulate(t, path("a --10ms-- r1 --20ms-- r2 --30ms-- h"), func(l *lab) {
		for range 3600 {
			l.send(udp4)
			time.Sleep(time.Second)
		}
		got := l.pass(0)
		require.Len(t, got, 3600)
		require.Equal(t, 3599*time.Second+120*time.Millisecond, got[3599].at)
	})
	require.Less(t, time.Since(began), 10*time.Second) // some 50 ms
}
