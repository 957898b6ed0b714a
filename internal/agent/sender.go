package agent

import (
	"context"
	"errors"
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
	*Agent
	conn  transport.Conn
	queue chan order
	asks  chan struct{}   // has keepTime ask for the time; nil: there is none
	jobs  map[uint64]*job // touched by receive only
	side  sync.WaitGroup  // goroutines of jobs
	// checks holds the one to be answered next. Who asks again before that
	// wants no other answer.
	checks chan *transport.Status
	probe  probe.Probe // the one being built, by run only
}

// job is one measurement's share of this agent.
type job struct {
	transport.Job
	prober    probe.Prober
	src       netip.Addr
	header    string // the bytes of both addresses, as in an IP header
	cancelled atomic.Bool
	stop      context.CancelFunc
	tickets   chan transport.Ticket // nil unless paced or built aside
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
	data   []byte // nil: to be built
	err    error  // why there is no data
}

const (
	queueLen = 1024
	asideLen = 4096 // tickets that wait for a slow prober
	maxJobs  = 1 << 16
)

func newSender(a *Agent, conn transport.Conn) *sender {
	return &sender{Agent: a, conn: conn, queue: make(chan order, queueLen), checks: make(chan *transport.Status, 1), jobs: map[uint64]*job{}}
}

// receive takes the controller's messages until the connection ends.
func (s *sender) receive(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.side.Wait()
	defer cancel()
	for {
		m, err := s.conn.Receive(ctx)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *transport.Job:
			if f := s.start(ctx, m); f != nil {
				err = s.conn.Send(ctx, &transport.Failed{Session: m.Session, Code: f.Code, Reason: f.Reason, Blocked: ruleOf(f)})
			}
		case *transport.Ask:
			s.ask(ctx, m)
		case *transport.Cancel:
			s.cancel(m.Session)
		case *transport.Check:
			s.check(m)
			s.askTime()
		case *transport.Watch:
			s.watches.start(ctx, m)
		case *transport.Unwatch:
			s.watches.end(m.Number)
		case *transport.Read:
			s.watches.read(m)
		}
		if err != nil {
			return err
		}
	}
}

func (s *sender) start(ctx context.Context, m *transport.Job) *fault.Error {
	j := &job{Job: *m, prober: s.probers.byName[m.Prober]}
	if j.prober == nil {
		return fault.New(fault.BadRequest, nil, "agent %q has no prober %q", s.cfg.ID, m.Prober)
	}
	if len(s.jobs) >= maxJobs {
		return fault.New(fault.TooManyRequests, nil, "agent %q runs %d jobs already", s.cfg.ID, len(s.jobs))
	}
	if rule, ok := s.cfg.Blocklist.Lookup(m.Dst); ok {
		return fault.New(fault.Forbidden, blocked{rule}, "agent %q must not send to %s: %v", s.cfg.ID, m.Dst, blocked{rule})
	}
	var err error
	if j.src, err = s.cfg.Port.Source(m.Dst); err != nil {
		return fault.New(fault.BadRequest, err, "agent %q cannot send to %s: %v", s.cfg.ID, m.Dst, err)
	}
	j.header = string(j.src.AsSlice()) + string(m.Dst.AsSlice())
	aside := remote(j.prober)
	if !aside {
		if f := j.prepare(); f != nil {
			return f
		}
	}
	s.cancel(m.Session)
	ctx, j.stop = context.WithCancel(ctx)
	switch {
	case aside:
		j.tickets = make(chan transport.Ticket, asideLen)
		s.side.Go(func() { s.aside(ctx, j) })
	case m.Interval > 0:
		j.tickets = make(chan transport.Ticket, queueLen)
		s.side.Go(func() { s.pace(ctx, j) })
	}
	s.jobs[m.Session] = j
	return nil
}

// prepare sets the options of the job's prober and tries whether it can build
// what is going to be asked.
func (j *job) prepare() (f *fault.Error) {
	if j.prober, f = configure(j.prober, j.Options); f != nil {
		return f
	}
	var sample probe.Probe
	j.fill(&sample, transport.Ticket{ID: 1, TTL: 1})
	_, err := j.prober.Build(nil, &sample)
	switch {
	case errors.Is(err, probe.ErrProber):
		return fault.New(fault.Internal, err, "%v", err)
	case err != nil:
		return fault.New(fault.BadRequest, err, "%v", err)
	}
	return nil
}

// fail tells the controller that a job cannot go on, once.
func (s *sender) fail(ctx context.Context, j *job, code int, err error) error {
	if j.cancelled.Swap(true) {
		return nil
	}
	reason := fmt.Sprintf("prober %s of agent %s: %v", j.Prober, s.cfg.ID, err)
	if code < fault.Internal {
		reason = err.Error()
	}
	return s.conn.Send(ctx, &transport.Failed{Session: j.Session, Code: code, Reason: reason})
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
		switch {
		case remote(j.prober):
			// A slow prober must not hold up the other jobs.
			select {
			case j.tickets <- t:
			default:
				_ = s.fail(ctx, j, fault.Unavailable, fmt.Errorf("%w: %d probes wait to be built", probe.ErrProber, asideLen))
				return
			}
		case j.tickets != nil:
			select {
			case j.tickets <- t:
			case <-ctx.Done():
			}
		default:
			select {
			case s.queue <- order{job: j, ticket: t}:
			case <-ctx.Done():
			}
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
			case s.queue <- order{job: j, ticket: t}:
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
		b, err := o.data, o.err
		if b == nil && err == nil {
			o.job.fill(&s.probe, o.ticket)
			if b, err = o.job.prober.Build(bufs[i][:0], &s.probe); err == nil {
				bufs[i] = b
			}
		}
		if err == nil {
			err = o.job.misdirected(b)
		}
		if errors.Is(err, probe.ErrProber) {
			if failed := s.fail(ctx, o.job, fault.Internal, err); failed != nil {
				return failed
			}
		}
		if errs[i] = err; err == nil {
			sent = append(sent, probe.Outgoing{Data: b})
		}
	}
	if sent = s.allowed(orders, errs, sent); len(sent) > 0 {
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
		p.Blocked = ruleOf(err)
		r.Probes = append(r.Probes, p)
	}
	for _, r := range reports {
		if err := s.conn.Send(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
