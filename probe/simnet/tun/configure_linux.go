package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// check refuses what the kernel would take for something else.
func (c *Config) check() error {
	if len(c.Name) >= unix.IFNAMSIZ || c.Name == "." || c.Name == ".." || strings.ContainsFunc(c.Name, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '/' || r == ':' || r == '%'
	}) {
		return fmt.Errorf("device name %q, want 1 to %d printable ASCII characters without '/', ':', '%%' and spaces", c.Name, unix.IFNAMSIZ-1)
	}
	for _, p := range c.Routes {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("route to %v, want a prefix such as 192.0.2.0/24 or 2001:db8::/32", p)
		}
	}
	return nil
}

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: no link-local
// address.
const addrGenModeNone = 1

// configure makes the device the site's link.
func (d *Device) configure(routes []netip.Prefix) error {
	name := d.Name()
	v6, err := enableIPv6(name)
	if err != nil {
		return err
	}
	// Without these the kernel would look for routers and multicast groups.
	if err := d.nl.LinkSetMulticastOff(d.link); err != nil {
		return fmt.Errorf("turn multicast off on %s: %w", name, err)
	}
	if v6 {
		if err := d.nl.LinkSetIP6AddrGenMode(d.link, addrGenModeNone); err != nil {
			return fmt.Errorf("turn address generation off on %s: %w", name, err)
		}
	}
	if err := d.nl.LinkSetMTU(d.link, d.site.MTU()); err != nil {
		return fmt.Errorf("set MTU %d on %s: %w", d.site.MTU(), name, err)
	}
	if err := d.nl.LinkSetTxQLen(d.link, queue); err != nil {
		return fmt.Errorf("set queue length on %s: %w", name, err)
	}
	if err := d.nl.LinkSetUp(d.link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	source, err := d.address(v6)
	if err != nil {
		return err
	}
	for _, p := range routes {
		src := source[family(p.Addr())]
		if p.Addr().Is6() && !v6 || !src.IsValid() {
			continue
		}
		switch err := d.nl.RouteAdd(&netlink.Route{
			LinkIndex: d.link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipNet(p.Masked()), Src: src.AsSlice(),
		}); {
		case errors.Is(err, unix.EEXIST):
			return fmt.Errorf("route to %v: %w: this host, or network namespace, sends that elsewhere", p, ErrTaken)
		case err != nil:
			return fmt.Errorf("route to %v over %s: %w", p, name, err)
		}
	}
	return nil
}

// address gives the device the site's addresses. It returns, by family, the
// one from which this host speaks by default: that of the site's link or, if
// links have none, its first one.
func (d *Device) address(v6 bool) (source [2]netip.Addr, err error) {
	for _, a := range d.site.Links() {
		if err := d.add(netip.PrefixFrom(a, a.BitLen()), v6); err != nil {
			return source, err
		}
		if f := family(a); !source[f].IsValid() {
			source[f] = a
		}
	}
	for _, p := range d.site.Addresses() {
		if err := d.add(p, v6); err != nil {
			return source, err
		}
		if f := family(p.Addr()); !source[f].IsValid() {
			source[f] = p.Addr()
		}
	}
	return source, nil
}

// add makes the addresses of a prefix this host's own.
func (d *Device) add(p netip.Prefix, v6 bool) error {
	if p.Addr().Is6() && !v6 {
		return nil
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Addr().BitLen(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := d.nl.AddrAdd(d.link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("address %v on %s: %w", p.Addr(), d.Name(), err)
	}
	if p.IsSingleIP() {
		return nil
	}
	err := d.nl.RouteAdd(&netlink.Route{
		LinkIndex: d.link.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST, Dst: ipNet(p),
	})
	if err != nil {
		return fmt.Errorf("addresses %v on %s: %w", p, d.Name(), err)
	}
	return nil
}

// enableIPv6 tells whether the device can have IPv6, which it turns on.
func enableIPv6(name string) (bool, error) {
	path := "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6"
	value, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && strings.TrimSpace(string(value)) != "0" {
		err = os.WriteFile(path, []byte("0"), 0)
	}
	if err != nil {
		return false, fmt.Errorf("turn IPv6 on: %w", err)
	}
	return true, nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
