package netlab

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Inject sends whole IP datagrams from the host, routed by it. The kernel
// fills in the IPv4 header checksum, total length, and an identification of 0.
func (h *Host) Inject(datagrams ...[]byte) error {
	return h.Do(func() error {
		for _, d := range datagrams {
			if err := inject(d); err != nil {
				return err
			}
		}
		return nil
	})
}

func inject(d []byte) error {
	var family int
	var to unix.Sockaddr
	switch {
	case len(d) >= 20 && d[0]>>4 == 4:
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte(d[16:20])}
	case len(d) >= 40 && d[0]>>4 == 6:
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(d[24:40])}
	default:
		return fmt.Errorf("netlab: inject %d bytes: no IP header", len(d))
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("netlab: inject: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, d, 0, to); err != nil {
		return fmt.Errorf("netlab: inject: %w", err)
	}
	return nil
}

// InjectTo puts frames with exactly these contents on the link to a
// neighbour, as IPv6 if the first nibble is 6 and as IPv4 otherwise: truncated
// packets and nonsense arrive as they are.
func (h *Host) InjectTo(neighbour *Host, payloads ...[]byte) error {
	there, err := neighbour.nl.LinkByName(h.Name)
	if err != nil {
		return fmt.Errorf("netlab: %s is no neighbour of %s: %w", neighbour.Name, h.Name, err)
	}
	here, err := h.nl.LinkByName(neighbour.Name)
	if err != nil {
		return fmt.Errorf("netlab: %s is no neighbour of %s: %w", neighbour.Name, h.Name, err)
	}
	return h.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("netlab: inject: %w", err)
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Ifindex: here.Attrs().Index, Halen: 6}
		copy(to.Addr[:], there.Attrs().HardwareAddr)
		for _, p := range payloads {
			to.Protocol = bigEndian(unix.ETH_P_IP)
			if len(p) > 0 && p[0]>>4 == 6 {
				to.Protocol = bigEndian(unix.ETH_P_IPV6)
			}
			if err := unix.Sendto(fd, p, 0, to); err != nil {
				return fmt.Errorf("netlab: inject: %w", err)
			}
		}
		return nil
	})
}

// Interface returns the index of the interface that leads to a neighbour.
func (h *Host) Interface(neighbour *Host) int {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(neighbour.Name)
	h.lab.check(err, "interface %s of %s", neighbour.Name, h.Name)
	return link.Attrs().Index
}
