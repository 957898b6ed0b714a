package netlab

import (
	"fmt"
	"net/netip"
	"testing"
)

// TwoSites is an anycast network of two sites:
//
//	A -- R1 -- R2 -- R3 -- R4 -- Target
//	                 |
//	                 B
//
// A and B own the same addresses. R1 and R2 route these to A; R3, R4 and
// Target route them to B. So of the five hops from A to the target the first
// two answer to A and the others to B. Every host reaches every other one's
// own addresses.
type TwoSites struct {
	*Lab
	A, B, R1, R2, R3, R4, Target *Host

	// Anycast4 and Anycast6 are the shared addresses, on lo of A and B.
	Anycast4, Anycast6 netip.Addr
	// Target4 and Target6 are on lo of Target.
	Target4, Target6 netip.Addr
	// Hops4[i] and Hops6[i] are the addresses from which hop i+1 answers
	// probes that A sent: those of the interfaces by which the probes come
	// in, and the target's own.
	Hops4, Hops6 [5]netip.Addr
	// UnicastA4 and so on are the hosts' own addresses, which the kernel
	// chooses as source by default.
	UnicastA4, UnicastA6, UnicastB4, UnicastB6 netip.Addr
}

// Routers returns R1 to R4 and Target: hop i+1 is element i.
func (n *TwoSites) Routers() [5]*Host { return [5]*Host{n.R1, n.R2, n.R3, n.R4, n.Target} }

var (
	all4 = netip.MustParsePrefix("0.0.0.0/0")
	all6 = netip.MustParsePrefix("::/0")
)

// link returns the two ends' addresses of link i.
func link(i int) (v4, v6 IfAddrs) {
	prefix := func(format string, end int) netip.Prefix {
		return netip.MustParsePrefix(fmt.Sprintf(format, i, end))
	}
	return IfAddrs{prefix("198.18.%d.%d/24", 1), prefix("198.18.%d.%d/24", 2)},
		IfAddrs{prefix("2001:db8:%x::%d/64", 1), prefix("2001:db8:%x::%d/64", 2)}
}

// NewTwoSites builds the network. It skips t, with the reason, if this process
// may not make network namespaces.
func NewTwoSites(t testing.TB) *TwoSites {
	t.Helper()
	lab := New(t)
	n := &TwoSites{
		Lab: lab, A: lab.Host("a"), B: lab.Host("b"),
		R1: lab.Router("r1"), R2: lab.Router("r2"), R3: lab.Router("r3"), R4: lab.Router("r4"),
		Target:   lab.Host("target"),
		Anycast4: netip.MustParseAddr("192.0.2.1"), Anycast6: netip.MustParseAddr("2001:db8:ff::1"),
		Target4: netip.MustParseAddr("203.0.113.10"), Target6: netip.MustParseAddr("2001:db8:fe::10"),
	}
	for _, site := range []*Host{n.A, n.B} {
		site.AddAddr("lo", full(n.Anycast4))
		site.AddAddr("lo", full(n.Anycast6))
	}
	n.Target.AddAddr("lo", full(n.Target4))
	n.Target.AddAddr("lo", full(n.Target6))

	line := []*Host{n.A, n.R1, n.R2, n.R3, n.R4, n.Target}
	const toB = 5 // the link after those of the line
	var v4, v6 [toB + 1]IfAddrs
	for i := range v4 {
		v4[i], v6[i] = link(i)
		if i < toB {
			lab.Link(line[i], line[i+1], v4[i], v6[i])
		}
	}
	lab.Link(n.R3, n.B, v4[toB], v6[toB])

	for _, f := range []struct {
		links                [toB + 1]IfAddrs
		all, anycast, target netip.Prefix
	}{
		{v4, all4, full(n.Anycast4), full(n.Target4)},
		{v6, all6, full(n.Anycast6), full(n.Target6)},
	} {
		left := func(i int) netip.Addr { return f.links[i-1].A.Addr() }
		right := func(i int) netip.Addr { return f.links[i].B.Addr() }
		for i := range 4 {
			line[i].Route(f.all, right(i))
		}
		for i := 1; i < 4; i++ {
			for j := range i - 1 {
				line[i].Route(f.links[j].A.Masked(), left(i))
			}
		}
		n.R4.Route(f.all, left(4))
		n.R4.Route(f.target, right(4))
		n.Target.Route(f.all, left(5))
		n.B.Route(f.all, f.links[toB].A.Addr())

		n.R1.Route(f.anycast, left(1))
		n.R2.Route(f.anycast, left(2))
		n.R3.Route(f.anycast, f.links[toB].B.Addr())
		n.R4.Route(f.anycast, left(4))
	}

	hops := func(l [toB + 1]IfAddrs, target netip.Addr) [5]netip.Addr {
		return [5]netip.Addr{l[0].B.Addr(), l[1].B.Addr(), l[2].B.Addr(), l[3].B.Addr(), target}
	}
	n.Hops4, n.Hops6 = hops(v4, n.Target4), hops(v6, n.Target6)
	n.UnicastA4, n.UnicastA6 = v4[0].A.Addr(), v6[0].A.Addr()
	n.UnicastB4, n.UnicastB6 = v4[toB].B.Addr(), v6[toB].B.Addr()
	return n
}

func full(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
