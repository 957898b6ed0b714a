package simnet_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/packet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// onPaper is the network of kernels as a scenario, with a service.
func onPaper() *simnet.Scenario {
	s := netlab.OnPaper()
	s.Hosts[0].Services = map[uint16]func([]byte) []byte{7: func(b []byte) []byte { return b }}
	return s
}

// step is datagrams that leave site a together, and what happens until the next
// step, at once or in a while.
type step struct {
	name  string
	sends [][]byte
	while time.Duration
}

// ends are the nodes at which everything that arrives is compared.
var ends = []string{"a", "b", "target"}

// arrived is what arrived at a node in a step, masked and sorted.
type arrived map[string][]string

// TestLikeKernels sends the same datagrams through a network of kernels and a
// simulated one, and compares every byte that arrives anywhere.
func TestLikeKernels(t *testing.T) {
	real := netlab.NewTwoSites(t)
	real.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	real.Target.EchoUDP(netip.AddrPortFrom(h4, 7))
	real.Target.EchoUDP(netip.AddrPortFrom(h6, 7))
	t.Run("plain", func(t *testing.T) {
		compare(t, real, onPaper(), slices.Concat(probes(t), oddities(), elsewhere()))
	})
	t.Run("unreachable", func(t *testing.T) {
		s := onPaper()
		for _, a := range []netip.Addr{addr("203.0.113.11"), addr("2001:db8:fe::11")} {
			p := netip.PrefixFrom(a, a.BitLen())
			real.R4.Unreachable(p)
			s.Routes = append(s.Routes, simnet.Route{At: "r4", To: p, Drop: simnet.Unreachable})
			for _, name := range []string{"r1", "r2", "r3"} {
				next := map[string]string{"r1": "r2", "r2": "r3", "r3": "r4"}
				s.Routes = append(s.Routes, simnet.Route{At: name, To: p, Via: []string{next[name]}})
			}
		}
		var steps []step
		for _, d := range []datagram{udp4.to(addr("203.0.113.11")), udp6.to(addr("2001:db8:fe::11"))} {
			// A Linux router says so five times, then once a second.
			steps = append(steps, d.step("unreachable", 3, 4, 5), d.echo().step("unreachable", 4), d.syn(80, 1).step("unreachable", 4), d.size(1400).step("1400 bytes unreachable", 4))
		}
		compare(t, real, s, steps)
	})
	t.Run("MTU", func(t *testing.T) {
		real.R3.SetMTU("r4", 1280)
		real.R4.SetMTU("r3", 1280)
		s := onPaper()
		s.Links[3].MTU = 1280
		compare(t, real, s, lengths(1280, 1281, 1288, 1400, 1500))
	})
	t.Run("small MTU", func(t *testing.T) {
		real.R3.SetMTU("r4", 300) // ends IPv6
		real.R4.SetMTU("r3", 300)
		s := onPaper()
		s.Links[3].MTU = 300
		steps := slices.DeleteFunc(lengths(300, 301, 308, 576, 600, 1500), func(s step) bool { return s.sends[0][0]>>4 == 6 })
		compare(t, real, s, steps)
	})
	t.Run("prohibited", func(t *testing.T) {
		real.R2.ProhibitFrom(netip.PrefixFrom(a4, 32))
		real.R2.ProhibitFrom(netip.PrefixFrom(a6, 128))
		s := onPaper()
		s.Routes = []simnet.Route{
			{At: "r2", To: netip.MustParsePrefix("203.0.113.0/24"), Drop: simnet.Prohibited},
			{At: "r2", To: netip.MustParsePrefix("2001:db8:fe::/48"), Drop: simnet.Prohibited},
		}
		compare(t, real, s, []step{udp4.step("prohibited", 1, 2, 5), udp6.step("prohibited", 1, 2, 5)})
	})
}

// TestHandshakesLikeKernels has sites that are silent: they do not reset the
// connections that they hear of.
func TestHandshakesLikeKernels(t *testing.T) {
	t.Parallel()
	real := netlab.NewTwoSites(t)
	real.Target.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	_, _ = real.A.Silence(), real.B.Silence()
	s := onPaper()
	s.Sites[0].Silent, s.Sites[1].Silent = true, true
	compare(t, real, s, handshakes())
}

func compare(t *testing.T, real *netlab.TwoSites, s *simnet.Scenario, steps []step) {
	t.Helper()
	got := inScenario(t, s, steps)
	want := inKernels(t, real, steps, got)
	for i, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			for _, node := range ends {
				require.Equal(t, want[i][node], got[i][node], node)
			}
		})
	}
}

// inScenario returns what arrives in each step in the simulated network.
func inScenario(t *testing.T, s *simnet.Scenario, steps []step) (all []arrived) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now := arrived{}
		n, err := s.StartWatched(func(s simnet.Sighting) {
			mu.Lock()
			defer mu.Unlock()
			if s.From != "" && slices.Contains(ends, s.Node) && (!s.Dropped || s.Reason == simnet.DropNotOurs) {
				now[s.Node] = append(now[s.Node], mask(t, s.Node, s.Datagram))
			}
		})
		require.NoError(t, err)
		defer n.Close()
		for _, step := range steps {
			for _, b := range step.sends {
				require.NoError(t, n.Inject("a", b))
			}
			time.Sleep(max(step.while, time.Millisecond))
			synctest.Wait()
			mu.Lock()
			all = append(all, now)
			now = arrived{}
			mu.Unlock()
		}
	})
	for _, a := range all {
		for _, list := range a {
			slices.Sort(list)
		}
	}
	return all
}

// inKernels returns what arrives in each step in the network of kernels. It
// waits for as much as expect says; what else arrives is found in the next
// step.
func inKernels(t *testing.T, real *netlab.TwoSites, steps []step, expect []arrived) (all []arrived) {
	t.Helper()
	captures := map[string]*netlab.Capture{"a": real.A.Capture(), "b": real.B.Capture(), "target": real.Target.Capture()}
	seen := map[string]int{}
	inject := real.A.Wire(real.R1)
	for i, step := range steps {
		require.NoError(t, inject(step.sends...))
		now := arrived{}
		for _, node := range ends {
			var list []string
			captures[node].Wait(5*time.Second, func(ps []netlab.Packet) bool {
				list = nil
				for _, p := range ps {
					if !p.Outgoing && !isNeighbours(p.Data) {
						list = append(list, mask(t, node, p.Data))
					}
				}
				list = list[seen[node]:]
				return len(list) >= len(expect[i][node])
			})
			seen[node] += len(list)
			if len(list) > 0 {
				slices.Sort(list)
				now[node] = list
			}
		}
		all = append(all, now)
	}
	return all
}

// isNeighbours tells whether b is what hosts say to find neighbours.
func isNeighbours(b []byte) bool {
	if b[0]>>4 != 6 {
		return false
	}
	h, payload, err := packet.ParseIPv6(b)
	return err == nil && h.Protocol == probe.ICMPv6 && (payload[0] >= 130 && payload[0] <= 137 || payload[0] == 143)
}

// mask describes a datagram without what is left to chance: the
// identifications, flow labels and initial sequence numbers that hosts choose.
// Checksums of UDP and TCP between namespaces are left to a device that there
// is not.
func mask(t testing.TB, node string, b []byte) string {
	d := slices.Clone(b)
	var transport []byte
	var sum packet.Sum
	var protocol uint8
	var whole bool
	v6 := d[0]>>4 == 6
	if v6 {
		h, payload, err := packet.ParseIPv6(d)
		require.NoError(t, err)
		transport, protocol, whole = payload, h.Protocol, !h.MoreFragments && h.FragmentOffset == 0
		sum = packet.PseudoHeader(h.Src, h.Dst, protocol, len(payload))
	} else {
		h, payload, err := packet.ParseIPv4(d)
		require.NoError(t, err)
		require.Zero(t, packet.Checksum(d[:20+len(h.Options)]), "%x", d)
		transport, protocol, whole = payload, h.Protocol, !h.MoreFragments && h.FragmentOffset == 0
		d = d[:h.TotalLen]
		clear(d[10:12])
		if protocol != probe.ICMP {
			sum = packet.PseudoHeader(h.Src, h.Dst, protocol, len(payload))
		}
	}
	name := fmt.Sprintf("%v>%v", ipSrc(d), ipDst(d))
	isError := whole && (protocol == probe.ICMP && transport[0] == 3 || protocol == probe.ICMPv6 && transport[0] < 128)
	isReset := whole && protocol == probe.TCP && len(transport) >= 20 && packet.TCPFlags(transport[13])&packet.RST != 0
	if node == "target" && !isError && !isReset {
		return fmt.Sprintf("%s %x", name, d) // a probe
	}
	switch {
	case v6:
		d[1], d[2], d[3] = d[1]&0xF0, 0, 0
	case protocol != probe.TCP:
		clear(d[4:6])
	}
	switch {
	case !whole:
	case protocol == probe.UDP:
		clear(transport[6:8])
	case protocol == probe.TCP && len(transport) >= 20:
		if !isReset {
			clear(transport[4:8])
		}
		clear(transport[16:18])
	case node == "target" && isError: // about what the target answered
		return fmt.Sprintf("%s %x, %x...", name, d[:len(d)-len(transport)], transport[:2])
	default:
		require.Zero(t, sum.Add(transport).Checksum(), "%x", d)
	}
	return fmt.Sprintf("%s %x", name, d)
}

func ipSrc(b []byte) netip.Addr {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16([16]byte(b[8:]))
}

func ipDst(b []byte) netip.Addr {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[16:]))
	}
	return netip.AddrFrom16([16]byte(b[24:]))
}

// probes are those of the built-in probers, in all their variety.
func probes(t *testing.T) (steps []step) {
	id := uint16(10000)
	key := probe.Key{1, 2, 3}
	add := func(name string, pr probe.Prober, p probe.Probe, ttls ...uint8) {
		for _, dst := range []netip.Addr{h4, h6} {
			p, src := p, a4
			if dst.Is6() {
				src = a6
			}
			if !p.Src.IsValid() || p.Src.Is4() != src.Is4() {
				p.Src = src
			}
			p.Dst, p.Key = dst, key
			step := step{name: fmt.Sprintf("%s %s to %v", pr.Name(), name, dst)}
			for _, ttl := range ttls {
				id++
				p.ID, p.TTL = id, ttl
				b, err := pr.Build(nil, &p)
				require.NoError(t, err, step.name)
				step.sends = append(step.sends, b)
			}
			steps = append(steps, step)
		}
	}
	all := []uint8{1, 2, 3, 4, 5, 6, 255}
	for _, pr := range []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}} {
		add("plain", pr, probe.Probe{DstPort: 33434}, all...)
		add("flow 2", pr, probe.Probe{DstPort: 33434, Flow: 2}, all...)
		add("DF", pr, probe.Probe{DstPort: 33434, DontFragment: true}, all...)
		for _, tos := range []uint8{1, 2, 3, 0x10, 0x1C, 0xB8, 0xE0, 0xFF} {
			add(fmt.Sprintf("TOS %#x", tos), pr, probe.Probe{DstPort: 33434, TOS: tos}, 2, 4, 5)
		}
		if pr.Name() == "tcp" {
			continue
		}
		for _, size := range []int{60, 61, 127, 128, 129, 548, 549, 555, 576, 577, 1231, 1232, 1233, 1240, 1280, 1281, 1499, 1500} {
			add(fmt.Sprintf("size %d", size), pr, probe.Probe{DstPort: 33434, Size: size}, 1, 4, 5)
		}
	}
	add("echo port", udp.Prober{}, probe.Probe{DstPort: 7, TOS: 2}, 4, 5)
	add("classic", udp.Prober{}, probe.Probe{DstPort: 33434, Mode: probe.Classic}, all...)
	add("open port", tcp.Prober{}, probe.Probe{DstPort: 80}, 1, 4, 5)
	add("open port, TOS", tcp.Prober{}, probe.Probe{DstPort: 80, TOS: 2, Flow: 1}, 1, 4, 5)
	return steps
}

// oddities are datagrams that no prober sends.
func oddities() (steps []step) {
	id := uint16(30000)
	add := func(name string, ds ...datagram) {
		step := step{name: name}
		for _, d := range ds {
			step.sends = append(step.sends, d.bytes())
		}
		steps = append(steps, step)
	}
	for _, d := range []datagram{udp4, udp6} {
		family := map[bool]string{false: "IPv4", true: "IPv6"}[d.v6()]
		// each sends a variant of d with several TTLs.
		each := func(name string, change func(d *datagram), ttls ...uint8) {
			var ds []datagram
			for _, ttl := range ttls {
				id++
				d := d
				d.ttl, d.id = ttl, id
				change(&d)
				ds = append(ds, d)
			}
			add(family+" "+name, ds...)
		}
		broken := func(b []byte, at int) []byte { b[at] ^= 0x55; return b }
		each("TTL 0", func(*datagram) {}, 0)
		each("UDP, wrong checksum", func(d *datagram) { d.raw = broken(d.transport(), 6) }, 2, 4, 5)
		each("UDP, length too long", func(d *datagram) { d.raw = broken(d.transport(), 4) }, 2, 4, 5)
		each("UDP, no checksum", func(d *datagram) { d.raw = d.transport(); clear(d.raw[6:8]) }, 2, 4, 5)
		each("UDP, cut short", func(d *datagram) { d.raw = d.transport()[:5] }, 2, 4, 5)
		each("UDP without payload", func(d *datagram) { d.body = nil }, 2, 4, 5)
		each("echo, wrong checksum", func(d *datagram) { *d = d.echo(); d.raw = broken(d.transport(), 3) }, 2, 4, 5)
		each("echo, code 3", func(d *datagram) { *d = d.echo(); d.code = 3 }, 2, 4, 5)
		each("echo with TOS", func(d *datagram) { *d = d.echo(); d.tos = 0xFF }, 2, 4, 5)
		each("echo, no payload", func(d *datagram) { *d = d.echo(); d.body = nil }, 5)
		each("echo, must not be cut", func(d *datagram) { *d = d.echo(); d.df = true }, 5)
		each("echo reply", func(d *datagram) { *d = d.echo(); d.icmp = map[bool]uint8{false: 0, true: 129}[d.v6()] }, 2, 4, 5)
		each("ICMP error", func(d *datagram) { *d = d.echo(); d.icmp = 3; d.body = d.transport() }, 2, 4, 5)
		each("ICMP of an unknown type", func(d *datagram) { *d = d.echo(); d.icmp = 200 }, 2, 4, 5)
		each("unknown protocol", func(d *datagram) { d.proto, d.raw = 253, []byte("experiment") }, 2, 4, 5)
		each("no next header", func(d *datagram) { d.proto, d.raw = 59, []byte{} }, 2, 4, 5)
		for _, port := range []uint16{80, 81} {
			for flags := range packet.TCPFlags(64) {
				if flags&(packet.SYN|packet.ACK|packet.RST) == packet.SYN && port == 80 {
					continue // opens a connection, or not: see below
				}
				each(fmt.Sprintf("TCP port %d, flags %#x", port, uint8(flags)), func(d *datagram) {
					*d = d.syn(port, 1000)
					d.flags, d.ack, d.tos = flags, 2000, 0x12
					if flags&packet.URG != 0 {
						d.body = []byte("payload")
					}
				}, 5)
			}
		}
		each("TCP, wrong checksum", func(d *datagram) { *d = d.syn(81, 1); d.raw = broken(d.transport(), 16) }, 2, 4, 5)
		each("TCP, cut short", func(d *datagram) { *d = d.syn(81, 1); d.raw = d.transport()[:12] }, 2, 4, 5)
		each("first fragment", func(d *datagram) { *d = d.cut(0, 32) }, 1, 2, 4)
		each("other fragment", func(d *datagram) { *d = d.cut(32, 40) }, 1, 2, 4)
		each("atomic fragment", func(d *datagram) { *d = d.cut(0, 40) }, 1, 2, 4, 5)
		for _, d := range []datagram{d, d.echo()} {
			name := fmt.Sprintf("%s protocol %d", family, d.proto)
			var parts [3][]datagram
			for i := range parts {
				id++
				d.id, d.label = id, uint32(id)
				one, two := d.cut(0, 24), d.cut(24, 40)
				one.tos, two.tos, two.ttl = 4, 8, 60
				parts[i] = []datagram{one, two}
			}
			add(name+" in two fragments", parts[0]...)
			add(name+" in two fragments, backwards", parts[1][1], parts[1][0])
			add(name+" in two fragments, one twice", parts[2][0], parts[2][0], parts[2][1])
		}
	}
	return steps
}

// transport returns what follows the IP header.
func (d datagram) transport() []byte {
	d.options = nil
	if d.v6() {
		return d.bytes()[40:]
	}
	return d.bytes()[20:]
}

// cut returns the fragment of d that holds what is at from up to to.
func (d datagram) cut(from, to int) datagram {
	t := d.transport()
	d.raw = t[from:to]
	if !d.v6() {
		d.offset, d.more = uint16(from), to < len(t)
		return d
	}
	d.next = packet.Fragment
	d.options, _ = packet.AppendFragment(nil, d.proto, uint16(from), to < len(t), uint32(d.id))
	return d
}

// step is d sent with several TTLs.
func (d datagram) step(name string, ttls ...uint8) step {
	s := step{name: fmt.Sprintf("%s %v>%v %d", name, d.src, d.dst, d.proto)}
	for i, ttl := range ttls {
		d.ttl, d.id, d.label = ttl, uint16(i+1), uint32(i+1)
		s.sends = append(s.sends, d.bytes())
	}
	return s
}

// elsewhere are datagrams to and from other addresses.
func elsewhere() (steps []step) {
	for _, pair := range [][2]string{
		{"192.0.2.1", "198.18.2.2"}, {"192.0.2.1", "198.18.3.1"}, {"198.18.0.1", "198.18.4.2"}, {"198.18.0.1", "203.0.113.10"}, {"198.18.0.1", "198.18.5.2"},
		{"2001:db8:ff::1", "2001:db8:2::2"}, {"2001:db8:ff::1", "2001:db8:3::1"}, {"2001:db8::1", "2001:db8:4::2"}, {"2001:db8::1", "2001:db8:fe::10"}, {"2001:db8::1", "2001:db8:5::2"},
	} {
		d := udp4.from(addr(pair[0])).to(addr(pair[1]))
		for _, d := range []datagram{d, d.echo(), d.syn(81, 1000)} {
			steps = append(steps, d.step("elsewhere", 1, 2, 3, 4, 5, 6))
		}
	}
	for _, d := range []datagram{udp4, udp6} {
		d.options = []byte{1, 1, 1, 0}
		if d.v6() {
			d.next, d.options = packet.DestinationOptions, []byte{d.proto, 0, 1, 4, 0, 0, 0, 0}
		}
		steps = append(steps, d.step("options", 1, 4, 5))
	}
	return steps
}

// handshakes are segments to an open port from sites that do not answer.
func handshakes() (steps []step) {
	port := uint16(1000)
	for _, d := range []datagram{udp4, udp6} {
		syn := d.syn(80, 5000)
		with := func(change func(d *datagram)) datagram {
			d := syn
			change(&d)
			return d
		}
		for _, tt := range []struct {
			name string
			next []datagram
		}{
			{"SYN again", []datagram{syn, syn, syn}},
			{"SYN of another number", []datagram{d.syn(80, 9000), d.syn(80, 9000)}},
			{"SYN of an old number", []datagram{d.syn(80, 1)}},
			{"SYN far ahead", []datagram{d.syn(80, 5000+70000)}},
			{"RST in the window", []datagram{with(func(d *datagram) { d.flags, d.seq = packet.RST, 5001 }), d.syn(80, 7000)}},
			{"RST outside", []datagram{with(func(d *datagram) { d.flags, d.seq = packet.RST, 4000 }), d.syn(80, 7000)}},
			{"wrong ACK", []datagram{with(func(d *datagram) { d.flags, d.seq, d.ack = packet.ACK, 5001, 77 }), syn}},
			{"wrong ACK outside", []datagram{with(func(d *datagram) { d.flags, d.seq, d.ack = packet.ACK, 4001, 77 })}},
			{"no flags", []datagram{with(func(d *datagram) { d.flags, d.seq = 0, 5001 })}},
			{"FIN", []datagram{with(func(d *datagram) { d.flags, d.seq = packet.FIN, 5001 })}},
			{"SYN+RST", []datagram{with(func(d *datagram) { d.flags |= packet.RST })}},
			{"SYN+FIN", []datagram{with(func(d *datagram) { d.flags |= packet.FIN; d.seq = 5001 })}},
		} {
			port++
			for i, d := range append([]datagram{syn}, tt.next...) {
				d.sport, d.tos = port, 0x12
				steps = append(steps, step{fmt.Sprintf("%s, segment %d from %v", tt.name, i, d.src), [][]byte{d.bytes()}, 0})
			}
		}
		for _, flags := range []packet.TCPFlags{packet.SYN | packet.FIN, packet.SYN | packet.PSH | packet.URG, packet.SYN | packet.ECE | packet.CWR, packet.SYN | packet.ECE} {
			for _, tos := range []uint8{0, 2} {
				port++
				d := syn
				d.sport, d.flags, d.tos = port, flags, tos
				steps = append(steps, step{fmt.Sprintf("flags %#x with TOS %d from %v", flags, tos, d.src), [][]byte{d.bytes()}, 0})
			}
		}
		port++
		data := syn
		data.sport, data.body = port, []byte("data")
		steps = append(steps, step{fmt.Sprint("SYN with data from ", d.src), [][]byte{data.bytes()}, 0})
	}
	return append(steps, step{"SYN-ACKs again", nil, 1500 * time.Millisecond})
}

// lengths are datagrams around the MTU of a link.
func lengths(sizes ...int) (steps []step) {
	for _, size := range sizes {
		for _, d := range []datagram{udp4, udp6} {
			for _, df := range []bool{false, true} {
				d.df = df
				steps = append(steps, d.size(size).step(fmt.Sprintf("%d bytes, DF %v", size, df), 3, 4, 5))
			}
			if size == sizes[len(sizes)-1] || !d.v6() {
				steps = append(steps, d.echo().size(size).step(fmt.Sprintf("%d bytes", size), 5))
			}
		}
	}
	return steps
}
