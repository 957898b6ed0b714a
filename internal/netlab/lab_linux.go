package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Lab is a set of hosts. Its methods, and those of its hosts, end the test on
// failure, so they belong on the test's own goroutine unless they say
// otherwise.
type Lab struct {
	t       testing.TB
	stamped bool // the kernel stamps packets
}

// New returns an empty lab that ends with t. It skips t, with the reason, if
// this process may not make network namespaces.
func New(t testing.TB) *Lab {
	t.Helper()
	if ns, err := newNamespace(); err != nil {
		t.Skipf("network namespaces cannot be made here (they need root): %v", err)
	} else {
		_ = ns.Close()
	}
	return &Lab{t: t}
}

// newNamespace makes a namespace without entering it for good.
func newNamespace() (netns.NsHandle, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), err
	}
	defer home.Close()
	ns, err := netns.New()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), err
	}
	if err := netns.Set(home); err != nil {
		// The thread stays locked, so that it ends with this goroutine.
		_ = ns.Close()
		return netns.None(), err
	}
	runtime.UnlockOSThread()
	return ns, nil
}

// Host is one network namespace. Do may be called by any number of goroutines
// at a time.
type Host struct {
	Name string

	lab *Lab
	ns  netns.NsHandle
	nl  *netlink.Handle
}

// Host adds a host that does not forward. Name also names the interfaces that
// lead to it, so it has at most 15 bytes and is used once.
func (l *Lab) Host(name string) *Host { return l.host(name, false) }

// Router adds a host that forwards IPv4 and IPv6.
func (l *Lab) Router(name string) *Host { return l.host(name, true) }

func (l *Lab) host(name string, forward bool) *Host {
	l.t.Helper()
	ns, err := newNamespace()
	l.check(err, "new namespace for %s", name)
	l.t.Cleanup(func() { _ = ns.Close() })
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	l.check(err, "netlink in %s", name)
	l.t.Cleanup(nl.Close)
	h := &Host{Name: name, lab: l, ns: ns, nl: nl}

	h.Sysctl("net.ipv4.icmp_ratelimit", "0")
	h.Sysctl("net.ipv4.icmp_ratemask", "0")
	h.Sysctl("net.ipv4.icmp_msgs_per_sec", "10000000")
	h.Sysctl("net.ipv4.icmp_msgs_burst", "1000000")
	h.Sysctl("net.ipv6.icmp.ratelimit", "0")
	h.Sysctl("net.ipv4.ip_nonlocal_bind", "0")
	for _, dev := range []string{"all", "default", "lo"} {
		h.Sysctl("net.ipv4.conf."+dev+".rp_filter", "0")
		h.Sysctl("net.ipv6.conf."+dev+".accept_dad", "0")
		h.Sysctl("net.ipv6.conf."+dev+".disable_ipv6", "0")
	}
	if forward {
		// IPv4 errors come from where IPv6 errors come from by default.
		h.Sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr", "1")
		h.Sysctl("net.ipv4.ip_forward", "1")
		h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	}
	h.up("lo")
	return h
}

// awaitStamps makes the kernel stamp packets, and keeps it at that until the
// test ends. It begins a while after it is told to, and what is captured before
// has no time of its own.
func (h *Host) awaitStamps() {
	h.lab.t.Helper()
	if h.lab.stamped {
		return
	}
	h.lab.stamped = true
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		h.lab.t.Cleanup(func() { _ = unix.Close(fd) })
		loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		if err := unix.Bind(fd, loopback); err != nil {
			return err
		}
		self, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING,
				unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
		if err != nil {
			return err
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		oob := make([]byte, 128)
		for range 5000 {
			if err := unix.Sendto(fd, nil, 0, self); err != nil {
				return err
			}
			_, n, _, _, err := unix.Recvmsg(fd, nil, oob, 0)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			if n > 0 {
				return nil
			}
			<-tick.C
		}
		return errors.New("the kernel does not stamp packets")
	})
	h.lab.check(err, "await receive stamps")
}

func (l *Lab) check(err error, format string, args ...any) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("netlab: %s: %v", fmt.Sprintf(format, args...), err)
	}
}

// Do runs f on a thread inside the host's namespace and returns its error.
// Sockets that f opens stay in the namespace; goroutines that it starts do not.
func (h *Host) Do(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("netlab: current namespace: %w", err)
	}
	defer home.Close()
	if err := netns.Set(h.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("netlab: enter %s: %w", h.Name, err)
	}
	defer func() {
		if back := netns.Set(home); back != nil {
			// Never unlocked, the thread dies with its goroutine instead of
			// running others in the wrong namespace.
			err = errors.Join(err, fmt.Errorf("netlab: leave %s: %w", h.Name, back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// Sysctl sets a variable of the host's namespace, e.g. "net.ipv4.ip_forward".
// One that this kernel does not have per namespace is left alone.
func (h *Host) Sysctl(name, value string) {
	h.lab.t.Helper()
	err := h.Do(func() error {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
		return os.WriteFile(path, []byte(value), 0)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	h.lab.check(err, "set %s=%s in %s", name, value, h.Name)
}

// IfAddrs are the two addresses of a link: of its first and its second host.
type IfAddrs struct{ A, B netip.Prefix }

// Link joins a and b with a veth pair, each end named after the host that it
// leads to, gives the ends their addresses, and returns once both are up.
// Neighbour entries are fixed, so that no packet waits for ARP or NDP.
func (l *Lab) Link(a, b *Host, addrs ...IfAddrs) {
	l.t.Helper()
	err := a.nl.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: b.Name},
		PeerName:      a.Name,
		PeerNamespace: netlink.NsFd(b.ns),
	})
	l.check(err, "link %s with %s", a.Name, b.Name)
	a.up(b.Name)
	b.up(a.Name)
	a.running(b.Name)
	b.running(a.Name)
	for _, p := range addrs {
		a.AddAddr(b.Name, p.A)
		b.AddAddr(a.Name, p.B)
		a.Neighbour(p.B.Addr(), b)
		b.Neighbour(p.A.Addr(), a)
	}
}

func (h *Host) up(dev string) {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(dev)
	h.lab.check(err, "interface %s of %s", dev, h.Name)
	h.lab.check(h.nl.LinkSetUp(link), "set %s of %s up", dev, h.Name)
}

// Down takes an interface of the host out of service.
func (h *Host) Down(dev string) {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(dev)
	h.lab.check(err, "interface %s of %s", dev, h.Name)
	h.lab.check(h.nl.LinkSetDown(link), "set %s of %s down", dev, h.Name)
}

// Cut takes the host's end of its link to a neighbour out of service: the
// kernel then has no routes by it, while the neighbour, whose end has no carrier
// any more, keeps its own and drops what goes there. The returned function
// undoes all of that.
func (h *Host) Cut(neighbour *Host) (mend func()) {
	h.lab.t.Helper()
	dev := neighbour.Name
	link, err := h.nl.LinkByName(dev)
	h.lab.check(err, "interface %s of %s", dev, h.Name)
	index := link.Attrs().Index
	// What goes with the interface and does not come back with it.
	addrs, err := h.nl.AddrList(link, unix.AF_UNSPEC)
	h.lab.check(err, "addresses of %s of %s", dev, h.Name)
	routes, err := h.nl.RouteList(link, unix.AF_UNSPEC)
	h.lab.check(err, "routes by %s of %s", dev, h.Name)
	neighbours, err := h.nl.NeighList(index, unix.AF_UNSPEC)
	h.lab.check(err, "neighbours on %s of %s", dev, h.Name)
	h.lab.check(h.nl.LinkSetDown(link), "set %s of %s down", dev, h.Name)
	return func() {
		h.lab.t.Helper()
		h.lab.check(h.nl.LinkSetUp(link), "set %s of %s up", dev, h.Name)
		h.running(dev)
		neighbour.running(h.Name)
		for _, a := range addrs {
			if a.Scope == unix.RT_SCOPE_UNIVERSE {
				h.lab.check(h.nl.AddrReplace(link, &netlink.Addr{IPNet: a.IPNet, Flags: unix.IFA_F_NODAD}), "address %v of %s", a, h.Name)
			}
		}
		for _, n := range neighbours {
			if n.State == netlink.NUD_PERMANENT {
				h.lab.check(h.nl.NeighSet(&n), "neighbour %v of %s", n, h.Name)
			}
		}
		for _, r := range routes {
			if r.Gw != nil {
				h.lab.check(h.nl.RouteReplace(&r), "route %v of %s", r, h.Name)
			}
		}
	}
}

// running waits until dev carries packets: the kernel starts its queue a
// moment after both ends are up.
func (h *Host) running(dev string) {
	h.lab.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		link, err := h.nl.LinkByName(dev)
		h.lab.check(err, "interface %s of %s", dev, h.Name)
		if link.Attrs().OperState == netlink.OperUp {
			return
		}
		<-tick.C
	}
	h.lab.t.Fatalf("netlab: %s of %s does not come up", dev, h.Name)
}

// Neighbour fixes that an address is to be found at another host's end of the
// link to it.
func (h *Host) Neighbour(addr netip.Addr, other *Host) {
	h.lab.t.Helper()
	here, err := h.nl.LinkByName(other.Name)
	h.lab.check(err, "interface %s of %s", other.Name, h.Name)
	there, err := other.nl.LinkByName(h.Name)
	h.lab.check(err, "interface %s of %s", h.Name, other.Name)
	err = h.nl.NeighSet(&netlink.Neigh{
		LinkIndex:    here.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           addr.AsSlice(),
		HardwareAddr: there.Attrs().HardwareAddr,
	})
	h.lab.check(err, "neighbour %s of %s", addr, h.Name)
}

// AddAddr gives an interface of the host ("lo", or the name of the host at the
// other end) an address, usable at once.
func (h *Host) AddAddr(dev string, addr netip.Prefix) {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(dev)
	h.lab.check(err, "interface %s of %s", dev, h.Name)
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	h.lab.check(h.nl.AddrAdd(link, a), "address %s on %s of %s", addr, dev, h.Name)
}

// DelAddr takes an address away from an interface.
func (h *Host) DelAddr(dev string, addr netip.Prefix) {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(dev)
	h.lab.check(err, "interface %s of %s", dev, h.Name)
	h.lab.check(h.nl.AddrDel(link, &netlink.Addr{IPNet: ipNet(addr)}), "remove %s from %s of %s", addr, dev, h.Name)
}

// SetMTU sets the MTU of an interface in bytes.
func (h *Host) SetMTU(dev string, mtu int) {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(dev)
	h.lab.check(err, "interface %s of %s", dev, h.Name)
	h.lab.check(h.nl.LinkSetMTU(link, mtu), "MTU %d on %s of %s", mtu, dev, h.Name)
}

// Route sends what goes to dst by way of via, replacing an earlier route to
// the same prefix.
func (h *Host) Route(dst netip.Prefix, via netip.Addr) {
	h.lab.t.Helper()
	err := h.nl.RouteReplace(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
	h.lab.check(err, "route %s via %s in %s", dst, via, h.Name)
}

// Unreachable makes the host refuse what goes to dst, which a router answers
// with ICMP and a sender learns as EHOSTUNREACH.
func (h *Host) Unreachable(dst netip.Prefix) {
	h.lab.t.Helper()
	err := h.nl.RouteReplace(&netlink.Route{Dst: ipNet(dst), Type: unix.RTN_UNREACHABLE})
	h.lab.check(err, "unreachable %s in %s", dst, h.Name)
}

// ProhibitFrom makes the host's routing rules refuse what it sends from an
// address in src, which a sender learns as EACCES.
func (h *Host) ProhibitFrom(src netip.Prefix) {
	h.lab.t.Helper()
	r := netlink.NewRule()
	r.Family, r.Src, r.Type, r.Priority = unix.AF_INET, ipNet(src), unix.FR_ACT_PROHIBIT, 20
	if src.Addr().Is6() {
		r.Family = unix.AF_INET6
	}
	h.lab.check(h.nl.RuleAdd(r), "prohibit from %s in %s", src, h.Name)
}

// Silence makes the host send nothing of its own any more, not even an ICMP
// error, while it goes on forwarding. The returned function undoes it.
func (h *Host) Silence() (restore func()) {
	h.lab.t.Helper()
	// Only what a host sends itself comes in by lo in the routing rules.
	var rules []*netlink.Rule
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		r := netlink.NewRule()
		r.Family, r.IifName, r.Type, r.Priority = family, "lo", unix.FR_ACT_BLACKHOLE, 10
		h.lab.check(h.nl.RuleAdd(r), "silence %s", h.Name)
		rules = append(rules, r)
	}
	return func() {
		h.lab.t.Helper()
		for _, r := range rules {
			h.lab.check(h.nl.RuleDel(r), "end the silence of %s", h.Name)
		}
	}
}
