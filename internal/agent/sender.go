package agent

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// sender does the jobs of one connection.
type sender struct {
	cfg    Config
	conn   transport.Conn
	clock  *clock
	status func(*transport.Check)
	queue  chan order
	jobs   map[uint64]*job // touched by receive only
	paced  sync.WaitGroup
	probe  probe.Probe // the one being built, by run only
}

// job is one measurement's share of this agent.
type job struct {
	transport.Job
	prober    probe.Prober
	src       netip.Addr
	cancelled atomic.Bool
	stop      context.CancelFunc
	tickets   chan transport.Ticket // nil unless paced
}

// fill sets p to the probe of a ticket.
func (j *job) fill(p *probe.Probe, t transport.Ticket) {
	*p = probe.Probe{
		ID: t.ID, Key: j.Key, Src: j.src, Dst: j.Dst, DstPort: j.DstPort,
		Flow: t.Flow, Mode: j.Mode, TTL: t.TTL, TOS: j.TOS,
		DontFragment: j.DontFragment, Size: j.Size,
	}
}

// order is one probe to be sent.
type order struct {
	job    *job
	ticket transport.Ticket
}

const (
	queueLen = 1024
	maxJobs  = 1 << 16
)

func newSender(cfg Config, conn transport.Conn, clock *clock, status func(*transport.Check)) *sender {
	return &sender{cfg: cfg, conn: conn, clock: clock, status: status, queue: make(chan order, queueLen), jobs: map[uint64]*job{}}
}

// receive takes the controller's messages until the connection ends.
func (s *sender) receive(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.paced.Wait()
	defer cancel()
	for {
		m, err := s.conn.Receive(ctx)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *transport.Job:
			if f := s.start(ctx, m); f != nil {
				err = s.conn.Send(ctx, &transport.Failed{Session: m.Session, Code: f.Code, Reason: f.Reason})
			}
		case *transport.Ask:
			s.ask(ctx, m)
		case *transport.Cancel:
			s.cancel(m.Session)
		case *transport.Check:
			s.status(m)
		}
		if err != nil {
			return err
		}
	}
}

func (s *sender) start(ctx context.Context, m *transport.Job) *fault.Error {
	j := &job{Job: *m}
	for _, p := range s.cfg.Probers {
		if p.Name() == m.Prober {
			j.prober = p
		}
	}
	if j.prober == nil {
		return fault.New(fault.BadRequest, nil, "agent %q has no prober %q", s.cfg.ID, m.Prober)
	}
	if len(s.jobs) >= maxJobs {
		return fault.New(fault.TooManyRequests, nil, "agent %q runs %d jobs already", s.cfg.ID, len(s.jobs))
	}
	var err error
	if j.src, err = s.cfg.Port.Source(m.Dst); err != nil {
		return fault.New(fault.BadRequest, err, "agent %q cannot send to %s: %v", s.cfg.ID, m.Dst, err)
	}
	var sample probe.Probe
	j.fill(&sample, transport.Ticket{ID: 1, TTL: 1})
	if _, err := j.prober.Build(nil, &sample); err != nil {
		return fault.New(fault.BadRequest, err, "%v", err)
	}
	s.cancel(m.Session)
	ctx, j.stop = context.WithCancel(ctx)
	if m.Interval > 0 {
		j.tickets = make(chan transport.Ticket, queueLen)
		s.paced.Go(func() { s.pace(ctx, j) })
	}
	s.jobs[m.Session] = j
	return nil
}

func (s *sender) cancel(session uint64) {
	if j := s.jobs[session]; j != nil {
		j.cancelled.Store(true)
		j.stop()
		delete(s.jobs, session)
	}
}

func (s *sender) ask(ctx context.Context, m *transport.Ask) {
	j := s.jobs[m.Session]
	if j == nil {
		return
	}
	for _, t := range m.Probes {
		if j.tickets != nil {
			select {
			case j.tickets <- t:
			case <-ctx.Done():
			}
			continue
		}
		select {
		case s.queue <- order{j, t}:
		case <-ctx.Done():
		}
	}
}

// pace passes a job's tickets on, no two closer than its interval.
func (s *sender) pace(ctx context.Context, j *job) {
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-j.tickets:
			if wait := time.Until(next); wait > 0 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(wait):
				}
			}
			next = time.Now().Add(j.Interval)
			select {
			case <-ctx.Done():
				return
			case s.queue <- order{j, t}:
			}
		}
	}
}

// run sends until ctx ends, as many probes at once as are waiting.
func (s *sender) run(ctx context.Context) {
	orders := make([]order, 0, batch)
	out := make([]probe.Outgoing, batch)
	bufs := make([][]byte, batch)
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-s.queue:
			orders = append(orders[:0], o)
		}
	more:
		for len(orders) < batch {
			select {
			case o := <-s.queue:
				orders = append(orders, o)
			default:
				break more
			}
		}
		if err := s.send(ctx, orders, out, bufs); err != nil {
			s.conn.Close()
			return
		}
	}
}

// send builds and sends orders and reports what became of them.
func (s *sender) send(ctx context.Context, orders []order, out []probe.Outgoing, bufs [][]byte) error {
	n := 0
	for _, o := range orders {
		if !o.job.cancelled.Load() {
			orders[n] = o
			n++
		}
	}
	orders = orders[:n]
	errs := make([]error, n)
	sent := out[:0]
	for i, o := range orders {
		j := o.job
		j.fill(&s.probe, o.ticket)
		b, err := j.prober.Build(bufs[i][:0], &s.probe)
		if errs[i] = err; err == nil {
			bufs[i] = b
			sent = append(sent, probe.Outgoing{Data: b})
		}
	}
	if len(sent) > 0 {
		if err := s.cfg.Port.Send(sent); err != nil {
			return fmt.Errorf("port: %w", err)
		}
	}
	return s.report(ctx, orders, errs, sent)
}

// report tells the controller, one message per job.
func (s *sender) report(ctx context.Context, orders []order, errs []error, sent []probe.Outgoing) error {
	reports := map[*job]*transport.Sent{}
	_, step := s.clock.now()
	for i, o := range orders {
		r := reports[o.job]
		if r == nil {
			r = &transport.Sent{Session: o.job.Session, Source: o.job.src, Step: step, Probes: make([]transport.SentProbe, 0, len(orders)-i)}
			reports[o.job] = r
		}
		p := transport.SentProbe{ID: o.ticket.ID}
		err := errs[i]
		if err == nil {
			p.Time, p.Stamp, err = sent[0].Time, sent[0].Stamp, sent[0].Err
			sent = sent[1:]
		}
		if err != nil {
			p.Err = err.Error()
		}
		r.Probes = append(r.Probes, p)
	}
	for _, r := range reports {
		if err := s.conn.Send(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
