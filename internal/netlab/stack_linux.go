package netlab

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Bridge puts the interface that leads to a neighbour under a new bridge, on
// which the host may then have addresses.
func (h *Host) Bridge(name string, neighbour *Host) {
	h.lab.t.Helper()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	h.lab.check(h.nl.LinkAdd(bridge), "bridge %s in %s", name, h.Name)
	port, err := h.nl.LinkByName(neighbour.Name)
	h.lab.check(err, "interface %s of %s", neighbour.Name, h.Name)
	h.lab.check(h.nl.LinkSetMaster(port, bridge), "%s under bridge %s of %s", neighbour.Name, name, h.Name)
	h.up(name)
	h.running(name)
}

// MACVLAN puts a new interface with a hardware address of its own on the one
// that leads to a neighbour.
func (h *Host) MACVLAN(name string, neighbour *Host) {
	h.lab.t.Helper()
	err := h.nl.LinkAdd(&netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: h.Interface(neighbour)},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	})
	h.lab.check(err, "macvlan %s in %s", name, h.Name)
	h.up(name)
	h.running(name)
}

// VXLAN makes a tunnel from one address of the host to another host's. Both
// ends need one.
func (h *Host) VXLAN(name string, from, to netip.Addr) {
	h.lab.t.Helper()
	err := h.nl.LinkAdd(&netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: name},
		VxlanId:   1, Port: 4789,
		SrcAddr: net.IP(from.AsSlice()), Group: net.IP(to.AsSlice()),
	})
	h.lab.check(err, "tunnel %s in %s", name, h.Name)
	h.up(name)
}

// Throttle lets no more than rate bytes a second out to a neighbour; packets
// wait for their turn. A burst is one packet.
func (h *Host) Throttle(neighbour *Host, rate int) {
	h.lab.t.Helper()
	const burst, limit = 1600, 1 << 20 // bytes
	// The buffer is a time in ticks, which netlink tells how to make.
	err := h.nl.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: h.Interface(neighbour), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       uint64(rate), Limit: limit,
		Buffer: netlink.Xmittime(uint64(rate), burst),
	})
	h.lab.check(err, "throttle %s of %s", neighbour.Name, h.Name)
}

// Index returns the index of an interface by its name.
func (h *Host) Index(dev string) int {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(dev)
	h.lab.check(err, "interface %s of %s", dev, h.Name)
	return link.Attrs().Index
}
