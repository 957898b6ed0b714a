// Package tun attaches a site of a simulated network to a TUN device of the
// operating system. This host, or a network namespace of it, then is the site:
// its kernel, our own port to it (volta.OpenPort) and any program, such as
// traceroute(8), scamper or ping, see the simulated network with its delays.
//
//	n, err := scenario.Start()
//	...
//	d, err := tun.Open(n, tun.Config{Site: "a"})
//	...
//	defer d.Close()
//
// The device gets the site's addresses and routes to all that the scenario
// has. Packets leave by the address of the site's link unless their program
// asks for another one; an anycast address is asked for:
// "traceroute -s 192.0.2.1 203.0.113.10". Several sites need as many network
// namespaces, for a kernel is one host.
//
// A round trip over the device is longer than in the scenario by what this host
// takes to hand packets over: 10 to 100 µs while a processor is free, and
// milliseconds now and then while none is.
//
// It works on Linux and needs CAP_NET_ADMIN.
package tun

import (
	"errors"
	"net/netip"
)

// Config says which site becomes a device, and how.
type Config struct {
	// Site is its name in the scenario.
	Site string
	// Name is the device's, 1 to 15 bytes. Default "sim0" or, while that is
	// taken, "sim1" and so on.
	Name string
	// Routes are what this host sends into the device. Default all addresses
	// of the simulated network and what its routes are about. Routes to
	// 0.0.0.0/0 and ::/0 send all that there is no other route to.
	Routes []netip.Prefix
}

// Errors of Open.
var (
	// ErrPermission says that CAP_NET_ADMIN is missing.
	ErrPermission = errors.New("TUN devices need CAP_NET_ADMIN")
	// ErrUnsupported says that this operating system, or its kernel, has no
	// TUN devices.
	ErrUnsupported = errors.New("no TUN devices on this system")
	// ErrTaken says that there is a device of that name, or a route to one of
	// the prefixes.
	ErrTaken = errors.New("taken")
)
