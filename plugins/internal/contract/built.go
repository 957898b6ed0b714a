package contract

import (
	"errors"
	"fmt"
	"strings"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Built returns the message about datagrams that were built one behind the
// other into b, and their lengths. An error stands for a datagram of no bytes.
func Built(b []byte, lengths []uint32, errs map[int]error) *pluginv1.Built {
	m := &pluginv1.Built{Datagrams: b, Lengths: lengths}
	for i, n := range lengths {
		if n == 0 {
			m.Refusals = append(m.Refusals, &pluginv1.Refusal{Index: uint32(i), Reason: reason(errs[i])})
		}
	}
	return m
}

// reason is what the host will put behind [probe.ErrProbe] again.
func reason(err error) string {
	if err == nil {
		return "nothing was built"
	}
	return Line(strings.TrimPrefix(err.Error(), probe.ErrProbe.Error()+": "), maxLine)
}

// ErrDatagram says that what a plugin built is not what it was asked for.
var ErrDatagram = errors.New("wrong datagram")

// ReadBuilt fills out with what was built for probes of which the tags are
// known. Each datagram is checked: one that is wrong is [probe.ErrProbe] and
// [ErrDatagram]. The error is [ErrMalformed]. It keeps a part of m.
func ReadBuilt(m *pluginv1.Built, sort Sort, ps []probe.Probe, tags []uint64, out []probe.Built) error {
	if len(m.Lengths) != len(ps) {
		return malformed("%d datagrams for %d probes", len(m.Lengths), len(ps))
	}
	refusals := m.Refusals
	err := split(m.Datagrams, m.Lengths, func(i int, datagram []byte) error {
		if len(datagram) == 0 {
			if len(refusals) == 0 || refusals[0].GetIndex() != uint32(i) {
				return malformed("neither a datagram nor a refusal of probe %d", i)
			}
			out[i] = probe.Built{Err: fmt.Errorf("%w: %s", probe.ErrProbe, Line(refusals[0].Reason, maxLine))}
			refusals = refusals[1:]
			return nil
		}
		if what, got, want := sort.wrong(datagram, &ps[i], tags[i]); what != "" {
			out[i] = probe.Built{Err: fmt.Errorf("%w: %w: %s %v, want %v", probe.ErrProbe, ErrDatagram, what, got, want)}
			return nil
		}
		out[i] = probe.Built{Data: datagram}
		return nil
	})
	if err == nil && len(refusals) > 0 {
		err = malformed("a refusal of probe %d, which was built or is none", refusals[0].GetIndex())
	}
	return err
}
