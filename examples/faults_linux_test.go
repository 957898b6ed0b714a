package examples_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
	"bitbucket.org/uwpatio/voltadomar/result"
)

// proxyFromB is where b finds the controller in a fleet whose stream to b can
// be cut.
const proxyFromB = "198.51.100.5:50052"

// proxy is a host's TCP port that leads to another one of it.
type proxy struct {
	host     *netlab.Host
	from, to string
	carriers sync.WaitGroup

	mu       sync.Mutex // guards all below
	listener net.Listener
	conns    map[*net.TCPConn]struct{}
}

// newProxy opens a proxy until the test ends.
func newProxy(t *testing.T, host *netlab.Host, from, to string) *proxy {
	t.Helper()
	p := &proxy{host: host, from: from, to: to, conns: map[*net.TCPConn]struct{}{}}
	t.Cleanup(func() {
		p.cut()
		p.carriers.Wait()
	})
	p.open(t)
	return p
}

// open has the proxy accept connections.
func (p *proxy) open(t *testing.T) {
	t.Helper()
	var l net.Listener
	require.NoError(t, p.host.Do(func() (err error) {
		l, err = net.Listen("tcp", p.from)
		return err
	}))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = l
	p.carriers.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			p.carriers.Go(func() { p.carry(l, near.(*net.TCPConn)) })
		}
	})
}

// carry joins a connection with one of its own.
func (p *proxy) carry(l net.Listener, near *net.TCPConn) {
	defer near.Close()
	var far net.Conn
	err := p.host.Do(func() (err error) {
		far, err = net.Dial("tcp", p.to)
		return err
	})
	if err != nil {
		return
	}
	defer far.Close()
	ends := []*net.TCPConn{near, far.(*net.TCPConn)}
	p.mu.Lock()
	if p.listener != l {
		p.mu.Unlock()
		return
	}
	for _, c := range ends {
		p.conns[c] = struct{}{}
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	for i, c := range ends {
		both.Go(func() {
			_, _ = io.Copy(ends[1-i], c)
			_ = ends[1-i].CloseWrite()
		})
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range ends {
		delete(p.conns, c)
	}
}

// proxiedFleet is a fleet whose stream to b can be cut.
func proxiedFleet(t *testing.T) (*siteFleet, *proxy) {
	t.Helper()
	f := newSiteFleet(t)
	f.toB = proxyFromB
	p := newProxy(t, f.control, proxyFromB, controllerFromB)
	f.join("a")
	f.join("b")
	return f, p
}

// cut resets the connections and refuses others.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return
	}
	_ = p.listener.Close()
	p.listener = nil
	for c := range p.conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// captureSockets returns copies of the sockets by which an agent process
// captures, until the test ends.
func captureSockets(t *testing.T, agent *process) (fds []int) {
	t.Helper()
	pid := agent.cmd.Process.Pid
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", pid))
	require.NoError(t, err)
	// Fields 4 and 9 are the protocol and the inode.
	capturing := map[string]bool{}
	for line := range bytes.Lines(table) {
		if s := strings.Fields(string(line)); len(s) >= 9 && (s[3] == "0800" || s[3] == "86dd") {
			capturing["socket:["+s[8]+"]"] = true
		}
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		to, err := os.Readlink(dir + "/" + e.Name())
		if err != nil || !capturing[to] {
			continue
		}
		n, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		fds = append(fds, fd)
	}
	require.Len(t, fds, 2, "a socket of each family: %s", table)
	return fds
}

// resize sets how many bytes the sockets may hold; the kernel allows no less
// than one packet.
func resize(t *testing.T, fds []int, size int) {
	t.Helper()
	for _, fd := range fds {
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size))
	}
}

// answerFrom is an ICMP error to the anycast address, as a router sends it.
func (f *siteFleet) answerFrom(router netip.Addr, quoted []byte) []byte {
	f.t.Helper()
	m, err := packet.AppendICMPv4Error(nil, packet.ICMPError{Type: packet.ICMPv4TimeExceeded, Quote: quoted})
	require.NoError(f.t, err)
	h := packet.IPv4{TTL: 64, Protocol: probe.ICMP, Src: router, Dst: f.Anycast4}
	b, err := h.Append(nil, len(m))
	require.NoError(f.t, err)
	return append(b, m...)
}

// forger is where forged answers come from.
var forger = netip.MustParseAddr("198.18.66.6")

// forged returns n answers to a probe towards dst that nobody has sent.
func (f *siteFleet) forged(n int, id uint16, dst netip.Addr) (all [][]byte) {
	f.t.Helper()
	for i := range n {
		p := probe.Probe{ID: id, Src: f.Anycast4, Dst: dst, DstPort: 33434, TTL: 1, Key: probe.Key{byte(i), byte(i >> 8), 1}}
		quote, err := udp.Prober{}.Build(nil, &p)
		require.NoError(f.t, err)
		all = append(all, f.answerFrom(forger, quote))
	}
	return all
}

// probes returns the probes to the target that came in among captured packets.
func (f *siteFleet) probes(ps []netlab.Packet) (all [][]byte) {
	for _, p := range ps {
		if h, _, err := packet.ParseIPv4(p.Data); err == nil && !p.Outgoing && h.Protocol == probe.UDP && h.Dst == f.Target4 {
			all = append(all, p.Data)
		}
	}
	return all
}

// slow is a measurement of a probe a hop, one after the other, of which the
// fourth hop does not answer.
type slow struct {
	*siteFleet
	path     *proxy
	client   *process
	probe    []byte          // to the fourth hop, as it came there
	atTarget *netlab.Capture // sees the last one
}

// begins starts it and returns when the fourth hop has got its probe.
func begins(f *siteFleet, path *proxy, options string) *slow {
	f.t.Helper()
	f.R4.Silence()
	s := &slow{siteFleet: f, path: path, atTarget: f.Target.Capture()}
	atR4 := f.R4.Capture()
	s.client = f.begin(f.Target4.String() + " -n -m 5 -q 1 -N 1 " + options)
	ps, ok := atR4.Wait(patience, func(ps []netlab.Packet) bool { return len(f.probes(ps)) > 0 })
	require.True(f.t, ok)
	atR4.Stop()
	s.probe = f.probes(ps)[0]
	return s
}

// id is that of the probe to the fourth hop.
func (s *slow) id() uint16 {
	h, _, err := packet.ParseIPv4(s.probe)
	require.NoError(s.t, err)
	return h.ID
}

// wrong returns n answers to that probe whose tags, the UDP checksum, are wrong
// for sure.
func (s *slow) wrong(n int) (all [][]byte) {
	sum := binary.BigEndian.Uint16(s.probe[26:])
	for tag := uint16(1); len(all) < n; tag++ {
		if tag != sum {
			quote := bytes.Clone(s.probe[:28]) // the data carries the tag too
			binary.BigEndian.PutUint16(quote[26:], tag)
			all = append(all, s.answerFrom(forger, quote))
		}
	}
	return all
}

// last returns when the target has got its probe.
func (s *slow) last() {
	s.t.Helper()
	_, ok := s.atTarget.Wait(patience, func(ps []netlab.Packet) bool { return len(s.probes(ps)) > 0 })
	require.True(s.t, ok)
}

// pass lets a part of a schedule pass.
func pass(d time.Duration) { <-time.After(d) }

// gapsOf names the gaps of a trace.
func gapsOf(trace *result.Trace) (all []string) {
	for _, g := range trace.Account.Gaps {
		gap := fmt.Sprintf("%s %s", g.Agent, g.Kind)
		if !g.To.IsZero() {
			gap += ", for a time"
		}
		all = append(all, gap)
	}
	return all
}

// waited is for how long threads of the fleet's processes that are there were
// ready to run, and did not.
func (f *siteFleet) waited() (sum time.Duration) {
	for _, p := range []*process{f.controller, f.agents["a"], f.agents["b"]} {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
		require.NoError(f.t, err)
		for _, file := range files {
			text, _ := os.ReadFile(file) // the thread may just have ended
			var onProcessor, waiting int64
			_, _ = fmt.Sscan(string(text), &onProcessor, &waiting)
			sum += time.Duration(waiting)
		}
	}
	return sum
}

// TestFaults has one thing go wrong in the middle of a measurement, and it is
// named.
func TestFaults(t *testing.T) {
	const outage = 2 * time.Second
	noAnswer := func(n int) result.Loss { return result.Loss{Reason: result.NoAnswer, Count: n} }
	away := func(agent string, n int) result.Loss {
		return result.Loss{Reason: result.ReceiverAway, Detail: agent, Count: n}
	}
	for name, tt := range map[string]struct {
		options  string // default: -w 1.5,0,0
		fault    func(s *slow)
		answered int
		want     []result.Loss
		or       []result.Loss // what else may be said
		gaps     []string
		partial  string
		counts   result.Counts // but for those of the probes themselves
	}{
		"none": {answered: 4, want: []result.Loss{noAnswer(1)}},

		"a link of the path loses its carrier": {
			fault:    func(s *slow) { s.R4.Cut(s.R3) },
			answered: 3, want: []result.Loss{noAnswer(2)},
		},
		"a link of the path is down, and its router says so": {
			fault:    func(s *slow) { s.R3.Cut(s.R4) },
			answered: 4, want: []result.Loss{noAnswer(1)},
		},
		"the receiver's link to the path is down": {
			fault:    func(s *slow) { s.B.Cut(s.R3) },
			answered: 3, want: []result.Loss{noAnswer(2)},
		},
		"the source's link is down": {
			fault:    func(s *slow) { s.A.Cut(s.R1) },
			answered: 3, want: []result.Loss{
				{Reason: result.NotSent, Detail: "send to 203.0.113.10: network is unreachable", Count: 1}, noAnswer(1),
			},
		},

		"the receiver is killed": {
			fault:    func(s *slow) { s.agents["b"].signal(syscall.SIGKILL) },
			answered: 3, want: []result.Loss{away("b", 2)},
			gaps: []string{"b disconnected"},
		},
		"the source is killed": {
			fault:    func(s *slow) { s.agents["a"].signal(syscall.SIGKILL) },
			answered: 3, want: []result.Loss{{Reason: result.SourceLost, Detail: "a after a while", Count: 1}},
			gaps:    []string{"a disconnected"},
			partial: `agent "a" disconnected`,
		},
		"the receiver is stopped": {
			fault:    func(s *slow) { s.agents["b"].freeze() },
			answered: 3, want: []result.Loss{away("b", 2)},
			gaps: []string{"b unresponsive"},
		},
		"the receiver is stopped and killed": {
			fault: func(s *slow) {
				s.agents["b"].freeze()
				s.last()
				s.agents["b"].signal(syscall.SIGKILL)
			},
			answered: 3, want: []result.Loss{away("b", 2)},
			gaps: []string{"b disconnected"},
		},
		"the receiver is stopped and goes on": {
			options: "-w 2,0,0", // longer than an agent may take
			fault: func(s *slow) {
				s.agents["b"].freeze()
				s.last()
				s.agents["b"].thaw()
			},
			answered: 4, want: []result.Loss{away("b", 1)},
			gaps: []string{"b unresponsive, for a time"},
		},
		"the source is stopped": {
			fault:    func(s *slow) { s.agents["a"].freeze() },
			answered: 3, want: []result.Loss{{Reason: result.Unreported, Detail: "a", Count: 1}, away("a", 1)},
			or:   []result.Loss{{Reason: result.Unreported, Detail: "a", Count: 2}}, // before it reported what has left
			gaps: []string{"a unresponsive"},
		},

		"the link to the receiver's controller is down for a while": {
			options: "-w 6,0,0",
			fault: func(s *slow) {
				mend := s.control.Cut(s.B)
				pass(outage)
				mend()
			},
			answered: 4, want: []result.Loss{away("b", 1)},
			gaps: []string{"b unresponsive, for a time"},
		},
		"the stream to the receiver is cut for a while": {
			options: "-w 6,0,0",
			fault: func(s *slow) {
				s.path.cut()
				pass(outage)
				s.path.open(s.t)
			},
			answered: 4, want: []result.Loss{away("b", 1)},
			gaps: []string{"b disconnected, for a time"},
		},

		"the receiver's kernel drops captured packets": {
			fault: func(s *slow) {
				b := s.agents["b"]
				fds := captureSockets(s.t, b)
				flood := s.wrong(500)
				put := s.R3.Wire(s.B)
				b.freeze()
				resize(s.t, fds, 1)
				require.NoError(s.t, put(flood...))
				b.thaw()
			},
			answered: 4, want: []result.Loss{{Reason: result.Dropped, Detail: "b", Count: 1}},
			gaps:   []string{"b kernel drops, for a time"},
			counts: result.Counts{Unverified: -1},
		},
		"a flood that the receiver bears": {
			fault: func(s *slow) {
				put := s.R3.Wire(s.B)
				require.NoError(s.t, put(s.wrong(300)...))
				require.NoError(s.t, put(s.forged(200, s.id(), s.Hops4[4].Next())...))
			},
			answered: 4, want: []result.Loss{noAnswer(1)},
			counts: result.Counts{Unverified: 300, Foreign: 200},
		},
		"answers that come again and again": {
			fault: func(s *slow) {
				s.Target.Silence() // so that it lasts until all have come
				put := s.R3.Wire(s.B)
				fourth := s.answerFrom(s.Hops4[3], s.probe)
				require.NoError(s.t, put(fourth, fourth, fourth))
			},
			answered: 4, want: []result.Loss{noAnswer(1)}, counts: result.Counts{Duplicate: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			if tt.options == "" {
				tt.options = "-w 1.5,0,0"
			}
			f, path := proxiedFleet(t)
			s := begins(f, path, tt.options)
			if tt.fault != nil {
				tt.fault(s)
			}
			trace, status := f.trace(s.client)
			t.Logf("%s\n%+v", trace.Text(), trace.Account)
			gaps := slices.Compact(gapsOf(trace))
			for _, gap := range gaps {
				if strings.Contains(gap, string(result.Unresponsive)) && !slices.Contains(tt.gaps, gap) {
					if waited := f.waited(); waited > 200*time.Millisecond {
						t.Skipf("this host let the fleet wait for a processor for %v, and that is named: %s", waited, gap)
					}
				}
			}
			require.Equal(t, tt.partial, trace.Partial)
			require.Equal(t, tt.partial != "", status != 0)
			require.Equal(t, tt.answered, trace.Account.Answered)
			for i, l := range trace.Account.Unanswered {
				if l.Reason == result.SourceLost {
					require.Regexp(t, `^a after [0-9.]+m?s$`, l.Detail)
					trace.Account.Unanswered[i].Detail = "a after a while"
				}
			}
			if tt.or == nil || !slices.Equal(tt.or, trace.Account.Unanswered) {
				require.Equal(t, tt.want, trace.Account.Unanswered)
			}
			require.Equal(t, tt.gaps, gaps)
			if tt.counts.Unverified < 0 {
				tt.counts.Unverified = trace.Counts.Unverified
			}
			tt.counts.Sent, tt.counts.Matched = trace.Counts.Sent, trace.Counts.Matched
			require.Equal(t, tt.counts, trace.Counts)
		})
	}
}

// TestStoppedNearTheEnd has the receiver stop, and go on when the measurement
// has given up what it still holds: that was late then, and not missing.
func TestStoppedNearTheEnd(t *testing.T) {
	f := twoSiteFleet(t, ownClocks)
	for range 6 {
		atA, atB, atR2 := f.A.Capture(), f.B.Capture(), f.R2.Capture()
		client := f.begin(f.Target4.String() + " -n -m 5 -q 1 -N 1 -w 0.1,0,0")
		_, ok := atR2.Wait(patience, func(ps []netlab.Packet) bool { return len(f.probes(ps)) > 0 })
		require.True(t, ok)
		f.agents["b"].freeze()
		pass(350 * time.Millisecond)
		f.agents["b"].thaw()
		trace, status := f.trace(client)
		require.Zero(t, status, client.stderr.String())
		atR2.Stop()
		t.Logf("%s\n%+v", trace.Text(), trace.Account)
		requireHonest(t, trace, arrivals(trace.Destination, atA, atB))
	}
}
