package timing

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/slewing"
)

const (
	// remembered is how many exchanges of a client the server knows the times of.
	remembered = 16
	// errorPause keeps a socket that always fails from taking the processor.
	errorPause = 10 * time.Millisecond
)

// Server answers those that it has let in, and nobody else. It is safe for
// concurrent use.
type Server struct {
	sock *socket
	port uint16
	wall wall
	done chan struct{} // closed when its goroutine is gone

	mu      sync.Mutex // guards the map
	members map[uint64]*Member
}

// Member is a client as its server sees it. It is safe for concurrent use.
type Member struct {
	server *Server
	offer  Offer

	mu    sync.Mutex // guards all below
	last  uint64     // exchange; they count up
	taken [remembered]Stamps
	next  int
}

// Serve answers what comes in at c until the server is closed, which closes c
// too.
func Serve(c *net.UDPConn) *Server {
	s := &Server{
		sock:    newSocket(c),
		port:    c.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
		done:    make(chan struct{}),
		members: make(map[uint64]*Member),
	}
	s.wall.look(time.Now())
	go s.run()
	return s
}

// Admit lets a client in that knows what the member's offer says.
func (s *Server) Admit() *Member {
	m := &Member{server: s}
	// It does not fail.
	_, _ = rand.Read(m.offer.Key[:])
	m.offer.ID, m.offer.Port = random(), s.port
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[m.offer.ID] = m
	return m
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// Offer returns what the client has to know.
func (m *Member) Offer() Offer { return m.offer }

// Leave turns the client out.
func (m *Member) Leave() {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	delete(m.server.members, m.offer.ID)
}

// Served returns the server's times of an exchange with this client, once.
func (m *Member) Served(exchange uint64) (Stamps, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.find(exchange)
	if t == nil {
		return Stamps{}, false
	}
	got := *t
	*t = Stamps{}
	return got, true
}

// Close ends the server and waits for its goroutine. It is idempotent.
func (s *Server) Close() {
	_ = s.sock.Close()
	<-s.done
}

func (s *Server) run() {
	defer close(s.done)
	var b [datagramLen + 1]byte
	for {
		before := time.Now()
		n, a, err := s.sock.receive(b[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(errorPause)
			continue
		}
		s.answer(b[:n], a, before)
	}
}

// answer answers a request and remembers its times.
func (s *Server) answer(b []byte, a arrival, before time.Time) {
	id, exchange, ok := decode(b, request)
	if !ok {
		return
	}
	s.mu.Lock()
	m := s.members[id]
	s.mu.Unlock()
	if m == nil || !genuine(b, &m.offer.Key) {
		return
	}
	// Whoever asks for the times of an exchange waits until they are known.
	m.mu.Lock()
	defer m.mu.Unlock()
	// A repeated request gets no second answer, ever: it would make one
	// exchange of two.
	if exchange <= m.last {
		return
	}
	m.last = exchange
	slewed := slewing.Read()
	got := Stamps{Exchange: exchange, Received: a.at, Kernel: true}
	// What was waiting when this began to look came in a little earlier.
	if at, ok := s.wall.place(a.stamp, before.Add(-time.Second), a.at); ok {
		got.Received = at
	} else {
		got.Kernel = false
	}
	var out [datagramLen]byte
	encode(&out, reply, id, exchange, &m.offer.Key)
	got.Sent = time.Now()
	stamp, err := s.sock.send(out[:], a.from, a.local)
	if err != nil {
		return
	}
	if at, ok := s.wall.place(stamp, got.Sent, time.Now()); ok {
		got.Sent = at
	} else {
		got.Kernel = false
	}
	if after := slewing.Read(); slewed.Known && after.Known {
		if after.Sum != slewed.Sum {
			return // this may have taken long since: the next exchange will do
		}
		got.Slewed = &after.Sum
	}
	m.taken[m.next] = got
	m.next = (m.next + 1) % remembered
}

// find returns what is remembered of an exchange, or nil. m.mu is held.
func (m *Member) find(exchange uint64) *Stamps {
	for i := range m.taken {
		if t := &m.taken[i]; t.Exchange == exchange && !t.Sent.IsZero() {
			return t
		}
	}
	return nil
}
