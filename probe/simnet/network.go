package simnet

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Network is a scenario at work. Its methods are safe for concurrent use.
//
// Time passes as the clock of the [time] package says: as usual, or within
// testing/synctest as fast as can be computed. What arrives at a site carries
// the exact time of its arrival, even where the computer was late to handle
// it.
type Network struct {
	scenario *Scenario
	seed     uint64
	start    time.Time

	mu      sync.Mutex // guards what follows and all nodes
	nodes   []*node
	routers []*node
	byName  map[string]int32
	table   table
	trees   map[string]*tree
	epoch   uint64
	agenda  agenda
	planned int64 // when the engine wakes up by itself
	current int64 // the time of what happens
	bytes   int   // that packets on their way, or kept for a port, take
	free    []*flight
	scratch []byte // for messages that nodes make
	stats   Stats
	watch   func(Sighting)
	bell    *bell // by KeepTime: packets must be on time
	closed  bool

	wake chan struct{}
	done chan struct{}
}

// Stats counts packets since the start. Sent = Delivered + what was dropped +
// what is on its way; a packet that two things are made of (a duplicate,
// fragments) was sent once more for each.
type Stats struct {
	Sent      uint64 // put on the network: by ports, hosts, routers and spoofers
	Hops      uint64 // links crossed
	Delivered uint64 // arrived at the node that owns the destination
	Dropped   [dropReasons]uint64
}

// DropReason is why a packet went no further.
type DropReason uint8

// The reasons.
const (
	DropMalformed DropReason = iota // not an IP datagram, or a wrong checksum
	DropLoss                        // by chance, on a link
	DropLinkDown                    // the link failed
	DropTTL                         // ran out of hops
	DropTooBig                      // longer than the link's MTU
	DropNoRoute                     // no route, or one that drops
	DropFiltered                    // by a rule
	DropNotOurs                     // arrived at a host that does not own the destination
	DropNATFull                     // no free port for a translation
	DropOverflow                    // more packets on their way than the network holds
	DropMartian                     // over IPv4, arrived with an address of the node itself as its source
	dropReasons   = iota
)

var dropNames = [dropReasons]string{"malformed", "loss", "link-down", "ttl", "too-big", "no-route", "filtered", "not-ours", "nat-full", "overflow", "martian"}

// String returns the reason in lower case, such as "link-down".
func (r DropReason) String() string {
	if int(r) < len(dropNames) {
		return dropNames[r]
	}
	return ""
}

// Sighting is a packet at a node.
type Sighting struct {
	Time     time.Time
	Node     string
	From     string // the neighbour it came from; empty where it is the node's own
	Datagram []byte // valid during the call
	// Dropped says that it ends here, for Reason.
	Dropped bool
	Reason  DropReason
}

// Start checks the scenario and brings it to life. The caller must not change
// it afterwards. The error is an [*Error].
func (s *Scenario) Start() (*Network, error) { return s.StartWatched(nil) }

// StartWatched is [Scenario.Start] with a function that sees every packet at
// every node it passes, in the order of time, and where it is dropped. It is
// called by one goroutine at a time and must neither block nor call the
// network.
func (s *Scenario) StartWatched(watch func(Sighting)) (*Network, error) {
	n, err := compile(s)
	if err != nil {
		return nil, err
	}
	n.watch = watch
	n.start = time.Now()
	n.wake = make(chan struct{}, 1)
	n.done = make(chan struct{})
	go n.run()
	return n, nil
}

// Check tells what is wrong with the scenario, with an [*Error].
func (s *Scenario) Check() error {
	_, err := compile(s)
	return err
}

// now is the time since the start.
func (n *Network) now() int64 { return int64(time.Since(n.start)) }

// date turns a time since the start into one that is stripped of the
// monotonic clock, as it would be read from a packet capture.
func (n *Network) date(at int64) time.Time { return n.start.Add(time.Duration(at)).Round(0) }

// run is the engine: it lets happen what is due.
func (n *Network) run() {
	defer close(n.done)
	timer := time.NewTimer(forever)
	defer timer.Stop()
	tuned := false
	for {
		n.mu.Lock()
		if n.closed {
			n.mu.Unlock()
			return
		}
		wait := n.advance()
		bell := n.bell
		n.mu.Unlock()
		if bell != nil {
			if !tuned {
				punctual()
				tuned = true
			}
			bell.rest(wait)
			continue
		}
		timer.Stop()
		if wait < forever {
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-n.wake:
		}
	}
}

const (
	// stride is how much happens before others may have the lock.
	stride = 1024
	// forever is how long to wait where nothing is to happen. No timer then
	// runs, so that testing/synctest can tell when all wait for each other.
	forever = time.Duration(1<<63 - 1)
)

// advance lets happen what is due, and returns how long to wait for more.
func (n *Network) advance() time.Duration {
	now := n.now()
	for range stride {
		if len(n.agenda.events) == 0 {
			n.planned = int64(forever)
			return forever
		}
		if at := n.agenda.events[0].at; at > now {
			n.planned = at
			return time.Duration(at - now)
		}
		e := n.agenda.pop()
		n.current = e.at
		if e.key&planned == 0 {
			n.current-- // see send
		}
		if e.packet != nil {
			n.arrive(e.packet)
		} else {
			e.do()
		}
	}
	n.planned = now
	return 0
}

// nudge tells the engine of an event that came from outside.
func (n *Network) nudge() {
	if len(n.agenda.events) > 0 && n.agenda.events[0].at < n.planned {
		n.planned = n.agenda.events[0].at
		n.rouse()
	}
}

// rouse lets the engine look again at what is to be done. The mutex is held.
func (n *Network) rouse() {
	if n.bell != nil {
		n.bell.ring()
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *Network) drop(nd *node, f *flight, why DropReason) {
	n.stats.Dropped[why]++
	n.see(nd, f, true, why)
	n.give(f)
}

func (n *Network) see(nd *node, f *flight, dropped bool, why DropReason) {
	if n.watch == nil {
		return
	}
	s := Sighting{Time: n.date(n.current), Node: nd.name, Datagram: f.data, Dropped: dropped, Reason: why}
	if f.in != own {
		s.From = n.nodes[nd.ifaces[f.in].peer].name
	}
	n.watch(s)
}

// Close ends the network and its ports. It returns when nothing of it runs any
// longer.
func (n *Network) Close() error {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		for _, nd := range n.nodes {
			if p, ok := nd.door.(*port); ok {
				p.shut()
			}
		}
		n.rouse()
	}
	n.mu.Unlock()
	<-n.done
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bell != nil {
		n.bell.close()
		n.bell = nil
	}
	return nil
}

// Stats returns the counts so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Scenario returns what the network was started from.
func (n *Network) Scenario() *Scenario { return n.scenario }

// Errors of the methods of a network.
var (
	// ErrUnknown says that there is no node of that name, or that it is not of
	// the kind asked for.
	ErrUnknown = errors.New("unknown node")
	// ErrTaken says that a site's door is in use.
	ErrTaken = errors.New("site in use")
)

// Inject puts a datagram on the network as if the named node had sent it, and
// copies it. The error is [ErrUnknown] or [net.ErrClosed], or that of a
// datagram that is not IP or for which there is no more room.
func (n *Network) Inject(name string, datagram []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	i, ok := n.byName[name]
	switch {
	case n.closed:
		return net.ErrClosed
	case !ok:
		return fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if err := n.send(n.nodes[i], datagram, n.now()); err != nil {
		return err
	}
	n.nudge()
	return nil
}

var (
	errDatagram = errors.New("not a whole IP datagram with a valid header")
	errFull     = errors.New("more packets on their way than the network holds")
)

// send plans that a node sends a copy of the datagram now. It is handled a
// nanosecond later, as if it were now: by then all that is sent now, whatever
// goroutine sends it, is known and in order.
func (n *Network) send(nd *node, datagram []byte, now int64) error {
	f := n.take(len(datagram))
	if f == nil {
		return errFull
	}
	copy(f.data, datagram)
	if !f.read() {
		n.give(f)
		return errDatagram
	}
	nd.sent++
	f.uid = uint64(nd.index)<<40 | nd.sent&(1<<40-1)
	n.stats.Sent++
	f.at = nd.index
	n.agenda.push(event{at: now + 1, key: f.uid, packet: f})
	return nil
}

// Sites returns the names of the sites in the order of the scenario.
func (n *Network) Sites() []string {
	var names []string
	for i := range n.scenario.Sites {
		names = append(names, n.scenario.Sites[i].Name)
	}
	return names
}

// site returns the site of that name. The mutex is held.
func (n *Network) site(name string) (*node, error) {
	i, ok := n.byName[name]
	switch {
	case n.closed:
		return nil, net.ErrClosed
	case !ok || n.nodes[i].kind != siteKind:
		return nil, fmt.Errorf("%w: %q, want one of the sites %s", ErrUnknown, name, strings.Join(n.Sites(), ", "))
	case n.nodes[i].door != nil:
		return nil, fmt.Errorf("%w: %q", ErrTaken, name)
	}
	return n.nodes[i], nil
}

var _ probe.Port = (*port)(nil)
