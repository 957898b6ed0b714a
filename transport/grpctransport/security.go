package grpctransport

import (
	"fmt"
	"net"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/transport"
)

// plainAllowed tells whether plain text to or on a host:port address stays on
// this host. Of names only "localhost" is trusted to; no host means all.
func plainAllowed(addr string) (bool, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fmt.Errorf("address %q: want host:port: %w", addr, err)
	}
	if host == "localhost" {
		return true, nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback(), nil
}

// staysHere is plainAllowed for an address that a socket has.
func staysHere(addr net.Addr) bool {
	if addr.Network() == "unix" {
		return true
	}
	ok, err := plainAllowed(addr.String())
	return ok && err == nil
}

func refusePlain(verb, addr string) error {
	return fmt.Errorf("%s %s: %w: set TLS, or Insecure (--insecure) if plain text is meant", verb, addr, transport.ErrInsecure)
}
