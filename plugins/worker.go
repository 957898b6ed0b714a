package plugins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// maxSet is how many settings of its options a plugin keeps.
const maxSet = 64

// worker answers a host's requests with a prober.
type worker struct {
	prober probe.Prober

	mu  sync.Mutex // guards set
	set map[string]probe.Prober
}

// serve answers requests until the host ends the stream. What the prober still
// does then ends with the program.
func (w *worker) serve(stream pluginv1.Plugin_SessionServer) error {
	var sending sync.Mutex
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil // the host has gone, or wants us to go
		}
		select {
		case free <- struct{}{}:
		case <-stream.Context().Done():
			return nil
		}
		go func() {
			defer func() { <-free }()
			answer := w.answer(stream.Context(), m)
			sending.Lock()
			defer sending.Unlock()
			_ = stream.Send(answer) // Recv fails too
		}()
	}
}

// answer answers a request, whatever it says.
func (w *worker) answer(ctx context.Context, m *pluginv1.ToPlugin) *pluginv1.ToHost {
	answer := &pluginv1.ToHost{Request: m.GetRequest()}
	var err error
	switch m := m.GetMessage().(type) {
	case *pluginv1.ToPlugin_Check:
		checked := &pluginv1.Checked{}
		if pr, err := w.with(m.Check.GetValues()); err != nil {
			checked.Wrong = contract.Wrong(err)
		} else if p, ok := pr.(probe.Porter); ok {
			checked.Port = uint32(p.DefaultPort())
		}
		answer.Message = &pluginv1.ToHost_Checked{Checked: checked}
	case *pluginv1.ToPlugin_Build:
		var built *pluginv1.Built
		built, err = w.build(ctx, m.Build)
		answer.Message = &pluginv1.ToHost_Built{Built: built}
	case *pluginv1.ToPlugin_Match:
		var matched *pluginv1.Matched
		matched, err = w.match(ctx, m.Match)
		answer.Message = &pluginv1.ToHost_Matched{Matched: matched}
	default:
		err = errors.New("a request that this version does not know")
	}
	if err != nil {
		answer.Message = &pluginv1.ToHost_Failure{Failure: contract.Line(err.Error(), 255)}
	}
	return answer
}

// with returns the prober set to values.
func (w *worker) with(values map[string]string) (probe.Prober, error) {
	if len(values) == 0 {
		return w.prober, nil
	}
	o, ok := w.prober.(probe.Optioner)
	if !ok {
		_, err := probe.CheckOptions(nil, values)
		return nil, err
	}
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&key, "%q=%q,", name, values[name])
	}
	w.mu.Lock()
	pr := w.set[key.String()]
	w.mu.Unlock()
	if pr != nil {
		return pr, nil
	}
	pr, err := o.With(values)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.set) >= maxSet {
		clear(w.set)
	}
	w.set[key.String()] = pr
	return pr, nil
}

func (w *worker) build(ctx context.Context, m *pluginv1.Build) (*pluginv1.Built, error) {
	pr, err := w.with(m.GetValues())
	if err != nil {
		return nil, err
	}
	ps, err := contract.AppendProbes(nil, m.GetGroups())
	if err != nil {
		return nil, err
	}
	if b, ok := pr.(probe.Batcher); ok {
		return buildAll(ctx, b, ps)
	}
	var b []byte
	if len(ps) > 0 {
		b = make([]byte, 0, len(ps)*max(64, min(ps[0].Size, contract.MaxDefaultSize)))
	}
	lengths := make([]uint32, len(ps))
	errs := map[int]error{}
	for i := range ps {
		start := len(b)
		out, err := pr.Build(b, &ps[i])
		if errors.Is(err, probe.ErrProber) {
			return nil, err
		}
		if err == nil {
			err = acceptable(&ps[i], len(out)-start)
		}
		if err != nil {
			errs[i] = err
			continue
		}
		b, lengths[i] = out, uint32(len(out)-start)
	}
	return contract.Built(b, lengths, errs), nil
}

func buildAll(ctx context.Context, pr probe.Batcher, ps []probe.Probe) (*pluginv1.Built, error) {
	out := make([]probe.Built, len(ps))
	if err := pr.BuildAll(ctx, ps, out); err != nil {
		return nil, err
	}
	var b []byte
	lengths := make([]uint32, len(ps))
	errs := map[int]error{}
	for i := range out {
		err := out[i].Err
		if err == nil {
			err = acceptable(&ps[i], len(out[i].Data))
		}
		if err != nil {
			errs[i] = err
			continue
		}
		b, lengths[i] = append(b, out[i].Data...), uint32(len(out[i].Data))
	}
	return contract.Built(b, lengths, errs), nil
}

// acceptable refuses a datagram of n bytes that the host would not take, lest
// it take it for malice.
func acceptable(p *probe.Probe, n int) error {
	switch {
	case n <= 0:
		return errors.New("the prober built nothing, and gave no reason")
	case p.Size == 0 && n > contract.MaxDefaultSize:
		return fmt.Errorf("the prober built %d bytes, want %d at most where no size is asked for", n, contract.MaxDefaultSize)
	case p.Size != 0 && n != p.Size:
		return fmt.Errorf("the prober built %d bytes, want %d", n, p.Size)
	}
	return nil
}

func (w *worker) match(ctx context.Context, m *pluginv1.Match) (*pluginv1.Matched, error) {
	pr, err := w.with(m.GetValues())
	if err != nil {
		return nil, err
	}
	matched := &pluginv1.Matched{}
	if b, ok := pr.(probe.Batcher); ok {
		return matched, matchAll(ctx, b, m, matched)
	}
	var a probe.Answer
	err = contract.SplitDatagrams(m, func(i int, datagram []byte) {
		a = probe.Answer{}
		if pr.Match(datagram, &a) {
			contract.AppendMatched(matched, i, &a)
		}
	})
	return matched, err
}

func matchAll(ctx context.Context, pr probe.Batcher, m *pluginv1.Match, matched *pluginv1.Matched) error {
	var datagrams [][]byte
	if err := contract.SplitDatagrams(m, func(_ int, datagram []byte) { datagrams = append(datagrams, datagram) }); err != nil {
		return err
	}
	out := make([]probe.Matched, len(datagrams))
	if err := pr.MatchAll(ctx, datagrams, out); err != nil {
		return err
	}
	for i := range out {
		if out[i].OK {
			contract.AppendMatched(matched, i, &out[i].Answer)
		}
	}
	return nil
}
