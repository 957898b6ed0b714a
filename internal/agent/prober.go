package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/icmp"
	"bitbucket.org/uwpatio/voltadomar/probe/tcp"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// probers are what an agent measures with and knows answers by.
type probers struct {
	byName map[string]probe.Prober
	// first match what is captured before all others: the built-in ones, also
	// where the agent cannot send such probes. What they know no other prober
	// can take from them.
	first []probe.Prober
	// own are the other ones of this process.
	own []probe.Prober
}

func newProbers(all []probe.Prober) probers {
	p := probers{byName: map[string]probe.Prober{}}
	for _, pr := range all {
		p.byName[pr.Name()] = pr
	}
	builtin := map[string]bool{}
	for _, pr := range []probe.Prober{udp.Prober{}, icmp.Prober{}, tcp.Prober{}} {
		name := pr.Name()
		builtin[name] = true
		if mine := p.byName[name]; mine != nil && !remote(mine) {
			pr = mine
		}
		p.first = append(p.first, pr)
	}
	for _, pr := range all {
		if !builtin[pr.Name()] && !remote(pr) {
			p.own = append(p.own, pr)
		}
	}
	return p
}

func remote(p probe.Prober) bool {
	_, ok := p.(probe.Batcher)
	return ok
}

func match(all []probe.Prober, datagram []byte, a *probe.Answer) bool {
	for _, p := range all {
		if p.Match(datagram, a) {
			a.Values = probe.CleanValues(a.Values)
			return true
		}
	}
	return false
}

// configure sets a prober's options.
func configure(p probe.Prober, values map[string]string) (probe.Prober, *fault.Error) {
	if len(values) == 0 {
		return p, nil
	}
	var err error
	if o, ok := p.(probe.Optioner); ok {
		p, err = o.With(values)
	} else {
		_, err = probe.CheckOptions(nil, values)
	}
	switch {
	case errors.Is(err, probe.ErrProber):
		return nil, fault.New(fault.Internal, err, "%v", err)
	case err != nil:
		return nil, fault.New(fault.BadRequest, err, "%v", err)
	}
	return p, nil
}

// buildAll builds ps into out, which is as long, within a time.
func buildAll(ctx context.Context, p probe.Prober, ps []probe.Probe, out []probe.Built) error {
	b, ok := p.(probe.Batcher)
	if !ok {
		for i := range ps {
			out[i].Data, out[i].Err = p.Build(nil, &ps[i])
			if errors.Is(out[i].Err, probe.ErrProber) {
				return out[i].Err
			}
		}
		return nil
	}
	return patiently(ctx, buildWait, "build probes", func(ctx context.Context) error { return b.BuildAll(ctx, ps, out) })
}

// matchAll reads datagrams into out, which is as long, within a time.
func matchAll(ctx context.Context, p probe.Prober, datagrams [][]byte, out []probe.Matched) error {
	b, ok := p.(probe.Batcher)
	if !ok {
		for i, d := range datagrams {
			out[i].OK = p.Match(d, &out[i].Answer)
		}
		return nil
	}
	return patiently(ctx, readWait, "read answers", func(ctx context.Context) error { return b.MatchAll(ctx, datagrams, out) })
}

// patiently does what may take so long and no longer.
func patiently(ctx context.Context, wait time.Duration, what string, do func(context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := do(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: it did not %s within %v: %w", probe.ErrProber, what, wait, err)
	}
	return err
}

// misdirected says what is wrong with the addresses of a datagram that is
// about to be sent for a job.
func (j *job) misdirected(b []byte) error {
	var src, dst []byte
	if j.Dst.Is4() && len(b) >= 20 && b[0]>>4 == 4 {
		src, dst = b[12:16], b[16:20]
	} else if j.Dst.Is6() && len(b) >= 40 && b[0]>>4 == 6 {
		src, dst = b[8:24], b[24:40]
	}
	if string(src) == j.header[:len(src)] && string(dst) == j.header[len(src):] {
		return nil
	}
	return fmt.Errorf("%w: it built a datagram that is not from %s to %s", probe.ErrProber, j.src, j.Dst)
}
