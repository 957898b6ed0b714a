package tun

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// Device is a site of a simulated network as a TUN device. Its methods are
// safe for concurrent use.
type Device struct {
	site *simnet.Attachment
	nl   *netlink.Handle // of the device's namespace
	link netlink.Link
	fd   int // of the device, does not block
	wake int // eventfd that ends the reader

	up      atomic.Bool
	refused atomic.Uint64 // packets that the kernel did not take
	reader  sync.WaitGroup

	closing sync.Once
	mu      sync.Mutex // guards what follows
	closed  bool
	unread  uint64 // packets of the kernel that found the queue full
}

// Open makes a device in the network namespace of the calling thread and
// attaches a site of n to it. The error is [simnet.ErrUnknown] or
// [simnet.ErrTaken] for the site, [net.ErrClosed] for the network,
// [ErrPermission], [ErrUnsupported], [ErrTaken], or says what the kernel
// refused.
func Open(n *simnet.Network, cfg Config) (_ *Device, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Routes == nil {
		cfg.Routes = n.Prefixes()
	}
	d := &Device{fd: -1, wake: -1}
	if d.site, err = n.Attach(cfg.Site, d.deliver); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if err := n.KeepTime(); err != nil {
		return nil, err
	}
	if err := d.create(cfg.Name); err != nil {
		return nil, err
	}
	if err := d.configure(cfg.Routes); err != nil {
		return nil, err
	}
	d.up.Store(true)
	d.reader.Go(d.read)
	return d, nil
}

// Name returns the name of the device.
func (d *Device) Name() string { return d.link.Attrs().Name }

// deliver hands a packet of the network to the kernel, which takes it or not.
func (d *Device) deliver(datagram []byte, _ time.Time) {
	if !d.up.Load() {
		return
	}
	if _, err := unix.Write(d.fd, datagram); err != nil {
		d.refused.Add(1)
	}
}

// read hands packets of the kernel to the network.
func (d *Device) read() {
	// Until a packet is read it is on no clock: be quick where that is allowed.
	// The thread ends with the goroutine.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, highest)

	buf := make([]byte, 1<<16)
	for {
		k, err := unix.Read(d.fd, buf)
		at := time.Now()
		switch {
		case err == nil:
			// Only a closed network refuses what a kernel sends, but for
			// packets that no network would take.
			_ = d.site.Send(buf[:k], at)
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN) || !d.wait():
			return
		}
	}
}

// wait returns true when there is something to read, false when the device is
// closed.
func (d *Device) wait() bool {
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.wake), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || fds[1].Revents != 0:
			return false
		default:
			return true
		}
	}
}

// Dropped returns how many packets were lost on the way between the network
// and the kernel, in either direction.
func (d *Device) Dropped() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.count()
	}
	return d.refused.Load() + d.unread
}

// count asks the kernel what it could not hand out. The mutex is held.
func (d *Device) count() {
	if link, err := d.nl.LinkByIndex(d.link.Attrs().Index); err == nil && link.Attrs().Statistics != nil {
		d.unread = link.Attrs().Statistics.TxDropped
	}
}

// Close frees the site and removes the device. When it returns nothing of it
// runs any longer. It may be called again.
func (d *Device) Close() error {
	d.closing.Do(func() {
		_ = d.site.Close()
		if d.wake >= 0 {
			_, _ = unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		}
		d.reader.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.closed = true
		if d.link != nil {
			d.count()
		}
		for _, fd := range []int{d.fd, d.wake} {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
		if d.nl != nil {
			d.nl.Close()
		}
	})
	return nil
}

const (
	highest = -20 // of the priorities of threads
	clone   = "/dev/net/tun"
	// queue is how many packets of the kernel wait for the reader.
	queue = 4096
)

// create makes the device, which ends with its file.
func (d *Device) create(name string) (err error) {
	if name == "" {
		name = "sim%d"
	}
	if d.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("open eventfd: %w", err)
	}
	switch d.fd, err = unix.Open(clone, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: open %s: %w", ErrPermission, clone, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: open %s: %w", ErrUnsupported, clone, err)
	case err != nil:
		return fmt.Errorf("open %s: %w", clone, err)
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("device name %q: %w", name, err)
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
	switch err := unix.IoctlIfreq(d.fd, unix.TUNSETIFF, r); {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: make device %q: %w", ErrPermission, name, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("device name %q: %w", name, ErrTaken)
	case err != nil:
		return fmt.Errorf("make device %q: %w", name, err)
	}
	if d.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	if d.link, err = d.nl.LinkByName(r.Name()); err != nil {
		return fmt.Errorf("find device %s: %w", r.Name(), err)
	}
	return nil
}
