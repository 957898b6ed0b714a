package agent

import (
	"context"
	"errors"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/transport"
)

// buildWait is how long a prober may take for a batch of probes. The
// controller waits a little longer for the report that they were sent.
const buildWait = 3 * time.Second

// aside builds the probes of a job whose prober may take its time, as many at
// once as are waiting, and queues them to be sent.
func (s *sender) aside(ctx context.Context, j *job) {
	p, f := configure(j.prober, j.Options)
	if f != nil {
		_ = s.fail(ctx, j, f.Code, f.Err)
		return
	}
	var tickets []transport.Ticket
	ps, out := make([]probe.Probe, batch), make([]probe.Built, batch)
	for first := true; ; first = false {
		if tickets = j.next(ctx, tickets[:0]); len(tickets) == 0 {
			return
		}
		for i, t := range tickets {
			j.fill(&ps[i], t)
		}
		clear(out)
		err := buildAll(ctx, p, ps[:len(tickets)], out)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			_ = s.fail(ctx, j, fault.Internal, err)
			return
		}
		if first && refusesAll(out[:len(tickets)]) {
			_ = s.fail(ctx, j, fault.BadRequest, out[0].Err)
			return
		}
		if !s.built(ctx, j, tickets, out) {
			return
		}
		if !j.rest(ctx) {
			return
		}
	}
}

// next waits for a ticket and takes what else there is, one alone if the job is
// paced.
func (j *job) next(ctx context.Context, tickets []transport.Ticket) []transport.Ticket {
	select {
	case <-ctx.Done():
		return nil
	case t := <-j.tickets:
		tickets = append(tickets, t)
	}
	for j.Interval == 0 && len(tickets) < batch {
		select {
		case t := <-j.tickets:
			tickets = append(tickets, t)
		default:
			return tickets
		}
	}
	return tickets
}

// rest waits for the job's interval.
func (j *job) rest(ctx context.Context) bool {
	if j.Interval == 0 {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(j.Interval):
		return true
	}
}

// refusesAll tells whether none of the first probes can be built: then none
// ever will.
func refusesAll(out []probe.Built) bool {
	for _, b := range out {
		if !errors.Is(b.Err, probe.ErrProbe) {
			return false
		}
	}
	return true
}

// built queues what was built.
func (s *sender) built(ctx context.Context, j *job, tickets []transport.Ticket, out []probe.Built) bool {
	for i, t := range tickets {
		o := order{job: j, ticket: t, data: out[i].Data, err: out[i].Err}
		if o.data == nil && o.err == nil {
			o.data = []byte{} // not to be built again
		}
		select {
		case <-ctx.Done():
			return false
		case s.queue <- o:
		}
	}
	return true
}
