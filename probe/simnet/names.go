package simnet

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// LookupNetIP returns the addresses of the node whose domain name is host.
// network is "ip", "ip4" or "ip6". A name that nobody has is a
// [*net.DNSError].
func (n *Network) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	var found []netip.Addr
	host = strings.TrimSuffix(host, ".")
	for _, nd := range n.nodes {
		if name := nd.dns(); name == "" || !strings.EqualFold(name, host) {
			continue
		}
		for f, a := range nd.own {
			if a.IsValid() && (network == "ip" || network == [...]string{"ip4", "ip6"}[f]) && !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
	}
	if len(found) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return found, nil
}

// LookupAddr returns the domain name of the node that owns an address; of
// several the first. An address without one is a [*net.DNSError].
func (n *Network) LookupAddr(_ context.Context, addr string) ([]string, error) {
	if a, err := netip.ParseAddr(addr); err == nil {
		if e := n.table.lookup(a.Unmap()); e != nil {
			for _, o := range e.owners {
				if name := n.nodes[o].dns(); name != "" {
					return []string{name + "."}, nil
				}
			}
		}
	}
	return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
}

func (nd *node) dns() string {
	if nd.router != nil {
		return nd.router.DNS
	}
	return nd.host.DNS
}
