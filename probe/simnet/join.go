package simnet

import (
	"fmt"
	"net/netip"
)

// join makes the interfaces.
func (c *compiler) join() error {
	for i := range c.links {
		l := &c.links[i]
		a, b := c.n.nodes[c.n.byName[l.a]], c.n.nodes[c.n.byName[l.b]]
		if len(l.prefixes) == 0 && !a.unnumbered() && !b.unnumbered() {
			var err error
			if l.prefixes, err = c.number(i); err != nil {
				return wrong(l.where, "%v", err)
			}
		}
		l.there.normalize()
		l.back.normalize()
		l.at, l.bt = int32(len(a.ifaces)), int32(len(b.ifaces))
		if a.router != nil && b.router != nil {
			a.core, b.core = append(a.core, l.at), append(b.core, l.bt)
		}
		a.ifaces = append(a.ifaces, iface{peer: b.index, remote: l.bt, out: &direction{id: uint64(2 * i), Properties: l.there}})
		b.ifaces = append(b.ifaces, iface{peer: a.index, remote: l.at, out: &direction{id: uint64(2*i + 1), Properties: l.back}})
		a.narrow = a.narrow || l.there.MTU < maxError4
		b.narrow = b.narrow || l.back.MTU < maxError4
		for _, p := range l.prefixes {
			f := family(p.Addr())
			a.ifaces[l.at].addr[f], b.ifaces[l.bt].addr[f] = pair(p)
		}
	}
	return nil
}

// number returns the prefixes of the i-th link.
func (c *compiler) number(i int) ([]netip.Prefix, error) {
	if len(c.links) <= ample {
		return []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>8), byte(i), 0}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i >> 8), byte(i)}), 64),
		}, nil
	}
	if i >= 1<<16 {
		return nil, fmt.Errorf("no address left for link %d, want at most 65536 links with addresses: give routers some of their own", i)
	}
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>15), byte(i >> 7), byte(i << 1)}), 31),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i >> 8), byte(i)}), 127),
	}, nil
}

// pair returns the first two addresses of a prefix: those of a link's ends.
func pair(p netip.Prefix) (first, second netip.Addr) {
	first = p.Masked().Addr()
	if p.Bits() < p.Addr().BitLen()-1 {
		first = first.Next()
	}
	return first, first.Next()
}

func (nd *node) unnumbered() bool { return nd.router != nil && len(nd.router.Addresses) > 0 }

// own enters every address with its owner.
func (c *compiler) own() error {
	claim := func(nd *node, p netip.Prefix, where string) error {
		e := c.n.table.add(p.Masked(), nd.index)
		if len(e.owners) == 1 {
			return nil
		}
		if len(e.owners) > maxSharers {
			return wrong(where, "%v belongs to %d others already, want no more", p, len(e.owners)-1)
		}
		if first := c.n.nodes[e.owners[0]]; nd.router != nil || first.router != nil {
			return wrong(where, "%v belongs to %q already, want another: only sites and hosts may share", p, first.name)
		}
		return nil
	}
	for i, nd := range c.n.nodes {
		var addresses []netip.Addr
		where := c.where[i]
		if nd.router != nil {
			addresses = nd.router.Addresses
		} else {
			addresses = nd.host.Addresses
		}
		for j, a := range addresses {
			if err := claim(nd, single(a), fmt.Sprintf("%s.addresses[%d]", where, j)); err != nil {
				return err
			}
			nd.setOwn(a)
		}
		if nd.router != nil {
			continue
		}
		for j, p := range nd.host.Prefixes {
			if err := claim(nd, p, fmt.Sprintf("%s.prefixes[%d]", where, j)); err != nil {
				return err
			}
			first, _ := pair(p)
			nd.setOwn(first)
		}
	}
	for i := range c.links {
		l := &c.links[i]
		for _, end := range []struct {
			name  string
			iface int32
		}{{l.a, l.at}, {l.b, l.bt}} {
			nd := c.n.nodes[c.n.byName[end.name]]
			for _, a := range nd.ifaces[end.iface].addr {
				if !a.IsValid() {
					continue
				}
				if err := claim(nd, single(a), l.where); err != nil {
					return err
				}
				nd.setOwn(a)
			}
		}
	}
	return nil
}

// setOwn notes an address to send from, if there is none of its family yet.
func (nd *node) setOwn(a netip.Addr) {
	if f := family(a); !nd.own[f].IsValid() {
		nd.own[f] = a
	}
}
