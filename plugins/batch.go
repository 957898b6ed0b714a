package plugins

import (
	"context"
	"errors"
	"fmt"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

const (
	// chunk is how many probes or datagrams are in a message, so that host and
	// plugin both have something to do.
	chunk = 256
	// room is how many bytes of datagrams are asked for, or sent, in a message.
	room = contract.MaxMessage / 2
	// ahead is how many messages a batch has on their way.
	ahead = 4
)

// check asks the plugin about the values, and for the port that goes with them.
func (pr *prober) check(ctx context.Context) error {
	in, err := pr.p.current()
	if err != nil {
		return err
	}
	c, err := in.ask(ctx, &pluginv1.ToPlugin{Message: &pluginv1.ToPlugin_Check{Check: &pluginv1.Check{Values: pr.values}}})
	if err != nil {
		return err
	}
	m, err := c.wait(ctx)
	if err != nil {
		return err
	}
	if m.GetChecked() == nil {
		return in.lied(errors.New("another answer than that to a check"))
	}
	if pr.port, err = contract.ReadPort(m.GetChecked().GetPort()); err != nil {
		return in.lied(err)
	}
	return contract.ReadWrong(m.GetChecked(), pr.values)
}

// BuildAll implements [probe.Batcher]. The datagrams are new.
func (pr *prober) BuildAll(ctx context.Context, ps []probe.Probe, out []probe.Built) error {
	in, err := pr.p.current()
	if err != nil {
		return err
	}
	tags := contract.AppendTags(make([]uint64, 0, len(ps)), ps, pr.d.Protocol)
	sort := contract.Sort{Protocol: pr.d.Protocol, Port: pr.port}
	var w window
	for i := 0; i < len(ps); {
		n := fitting(ps[i:])
		ps, tags, out := ps[i:i+n], tags[i:i+n:i+n], out[i:i+n]
		c, err := in.ask(ctx, &pluginv1.ToPlugin{Message: &pluginv1.ToPlugin_Build{Build: &pluginv1.Build{
			Values: pr.values, Groups: contract.Groups(ps, tags),
		}}})
		if err != nil {
			return err
		}
		err = w.add(ctx, c, func(m *pluginv1.ToHost) error {
			if m.GetBuilt() == nil {
				return in.lied(errors.New("another answer than that to a build"))
			}
			if err := contract.ReadBuilt(m.GetBuilt(), sort, ps, tags, out); err != nil {
				return in.lied(err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		i += n
	}
	return w.rest(ctx)
}

// fitting returns how many probes make a message whose answer is not too long.
func fitting(ps []probe.Probe) int {
	bytes := 0
	for n := range min(len(ps), chunk) {
		size := ps[n].Size
		if size <= 0 || size > 0xFFFF {
			size = contract.MaxDefaultSize
		}
		if bytes += size; bytes > room && n > 0 {
			return n
		}
	}
	return min(len(ps), chunk)
}

// MatchAll implements [probe.Batcher].
func (pr *prober) MatchAll(ctx context.Context, datagrams [][]byte, out []probe.Matched) error {
	in, err := pr.p.current()
	if err != nil {
		return err
	}
	var w window
	var q question
	flush := func() error {
		if len(q.indexes) == 0 {
			return nil
		}
		asked := q
		q = question{}
		c, err := in.ask(ctx, &pluginv1.ToPlugin{Message: &pluginv1.ToPlugin_Match{Match: &pluginv1.Match{
			Values: pr.values, Datagrams: asked.bytes, Lengths: asked.lengths,
		}}})
		if err != nil {
			return err
		}
		return w.add(ctx, c, func(m *pluginv1.ToHost) error { return in.matched(m.GetMatched(), asked.indexes, datagrams, out) })
	}
	for i, d := range datagrams {
		out[i] = probe.Matched{}
		if len(d) > 0xFFFF {
			continue // no datagram
		}
		switch contract.Judge(d, pr.d.Protocol, &out[i].Answer) {
		case contract.Answer:
			out[i].OK = true
		case contract.NoAnswer:
			out[i].Answer = probe.Answer{}
		case contract.Direct:
			if q.full(d) {
				if err := flush(); err != nil {
					return err
				}
			}
			q.add(i, d)
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return w.rest(ctx)
}

// matched completes the answers that the plugin knows, of the datagrams with
// these indexes.
func (in *instance) matched(m *pluginv1.Matched, indexes []int, datagrams [][]byte, out []probe.Matched) error {
	if m == nil {
		return in.lied(errors.New("another answer than that to a match"))
	}
	var wrong error
	err := contract.ReadMatched(m, len(indexes), func(k int, said *contract.Said) {
		i := indexes[k]
		ok, err := contract.Complete(&out[i].Answer, datagrams[i], said)
		out[i].OK = ok
		wrong = errors.Join(wrong, err)
	})
	if err := errors.Join(err, wrong); err != nil {
		return in.lied(err)
	}
	for _, i := range indexes {
		if !out[i].OK {
			out[i].Answer = probe.Answer{}
		}
	}
	return nil
}

// question is a message about datagrams in the making.
type question struct {
	bytes   []byte
	lengths []uint32
	indexes []int // of the datagrams in the batch
}

func (q *question) full(datagram []byte) bool {
	return len(q.indexes) == chunk || len(q.indexes) > 0 && len(q.bytes)+len(datagram) > room
}

func (q *question) add(i int, datagram []byte) {
	if q.bytes == nil {
		q.bytes = make([]byte, 0, chunk*64)
	}
	q.bytes = append(q.bytes, datagram...)
	q.lengths = append(q.lengths, uint32(len(datagram)))
	q.indexes = append(q.indexes, i)
}

// window is the messages of a batch that are on their way.
type window struct {
	calls []*call
	reads []func(m *pluginv1.ToHost) error
}

func (w *window) add(ctx context.Context, c *call, read func(m *pluginv1.ToHost) error) error {
	w.calls, w.reads = append(w.calls, c), append(w.reads, read)
	if len(w.calls) < ahead {
		return nil
	}
	return w.next(ctx)
}

func (w *window) next(ctx context.Context) error {
	c, read := w.calls[0], w.reads[0]
	w.calls, w.reads = w.calls[1:], w.reads[1:]
	m, err := c.wait(ctx)
	if err != nil {
		return err
	}
	return read(m)
}

func (w *window) rest(ctx context.Context) error {
	for len(w.calls) > 0 {
		if err := w.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lied ends a process that broke the contract.
func (in *instance) lied(err error) error {
	in.fail(fmt.Errorf("%w: %s: %w", ErrProtocol, in.name, err))
	return in.err()
}
