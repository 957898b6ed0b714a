package rawsock

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// localFor is how long an address is believed to be this host's, or not.
	localFor = time.Second
	maxLocal = 1024
)

// localCache knows which addresses are this host's. A packet socket on a
// router also sees what is on its way to others.
type localCache struct {
	check [2]int // raw sockets that try to bind
	known map[netip.Addr]bool
	until time.Time // then everything is asked anew
}

func (c *localCache) has(a netip.Addr, now time.Time) bool {
	if !a.IsValid() {
		return false
	}
	if now.After(c.until) || len(c.known) >= maxLocal {
		if c.known == nil {
			c.known = make(map[netip.Addr]bool, maxLocal)
		}
		clear(c.known)
		c.until = now.Add(localFor)
	}
	local, ok := c.known[a]
	if !ok {
		local = bindRaw(c.check[family(a)], a) == nil
		c.known[a] = local
	}
	return local
}

// bindRaw binds a raw socket, which succeeds for an address of this host.
// Unlike others, raw sockets can be bound again and again.
func bindRaw(fd int, a netip.Addr) error {
	if a.Is4() {
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: a.As4()})
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: a.As16()})
}
