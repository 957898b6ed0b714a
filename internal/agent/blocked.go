package agent

import (
	"errors"
	"fmt"
	"net/netip"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// blocked is why a probe was not sent that a rule forbids.
type blocked struct{ rule netip.Prefix }

func (b blocked) Error() string { return fmt.Sprintf("blocked by rule %v", b.rule) }

// ruleOf is the rule behind an error, if there is one.
func ruleOf(err error) netip.Prefix {
	b, _ := errors.AsType[blocked](err)
	return b.rule
}

// allowed leaves out of sent, the datagrams of those orders without an error,
// what a rule forbids. It is the last thing done before they leave.
func (s *sender) allowed(orders []order, errs []error, sent []probe.Outgoing) []probe.Outgoing {
	kept := sent[:0]
	for i := range orders {
		if errs[i] != nil {
			continue
		}
		if rule, ok := s.cfg.Blocklist.Lookup(orders[i].job.Dst); ok {
			errs[i] = blocked{rule}
		} else {
			kept = append(kept, sent[0])
		}
		sent = sent[1:]
	}
	return kept
}
