package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

func routerNotes(r *simnet.Router) []string {
	var notes []string
	if len(r.ECMP.Hash) > 0 {
		var names []string
		for _, f := range r.ECMP.Hash {
			b, _ := f.MarshalText()
			names = append(names, string(b))
		}
		if slices.Equal(r.ECMP.Hash, simnet.FlowFields()) {
			names = []string{"flow"}
		}
		notes = append(notes, "hashes "+strings.Join(names, ", "))
	}
	if r.Rewrite.DSCP != nil {
		notes = append(notes, fmt.Sprintf("sets DSCP %d", *r.Rewrite.DSCP))
	}
	if r.Rewrite.BleachECN {
		notes = append(notes, "bleaches ECN")
	}
	if r.NAT != nil {
		notes = append(notes, "NAT "+r.NAT.Address.String())
	}
	if len(r.Filters) > 0 {
		notes = append(notes, "filters")
	}
	return append(notes, stackNotes(&r.Stack)...)
}

func stackNotes(s *simnet.Stack) []string {
	var notes []string
	if s.Silent {
		notes = append(notes, "silent")
	}
	if s.Errors.Rate > 0 {
		notes = append(notes, number(s.Errors.Rate)+" errors/s")
	}
	for _, q := range s.Quirks {
		b, _ := q.MarshalText()
		notes = append(notes, string(b))
	}
	return notes
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', 4, 64) }

func propertyNotes(p simnet.Properties) []string {
	var notes []string
	if p.Delay > 1 {
		notes = append(notes, duration(p.Delay))
	}
	if p.Jitter > 0 {
		notes = append(notes, "jitter "+duration(p.Jitter))
	}
	for _, c := range []struct {
		what string
		p    float64
	}{{"loss", p.Loss}, {"twice", p.Duplicate}, {"late", p.Reorder}} {
		if c.p > 0 {
			notes = append(notes, c.what+" "+number(100*c.p)+"%")
		}
	}
	if p.MTU > 0 && p.MTU != 1500 {
		notes = append(notes, fmt.Sprintf("MTU %d", p.MTU))
	}
	if p.Cost > 1 {
		notes = append(notes, fmt.Sprintf("cost %d", p.Cost))
	}
	return notes
}

// happenings says in words what changes, and when.
func happenings(s *simnet.Scenario) []string {
	const most = 10
	var all []string
	for i, c := range s.Changes {
		if i == most {
			all = append(all, fmt.Sprintf("and %d more", len(s.Changes)-most))
			break
		}
		when := "at " + duration(c.At)
		if c.Every > 0 {
			when += " and every " + duration(c.Every)
		}
		all = append(all, when+": "+happening(&c))
	}
	return all
}

func happening(c *simnet.Change) string {
	switch {
	case c.Withdraw != "":
		return "withdraw " + c.Withdraw
	case c.Announce != "":
		return "announce " + c.Announce
	case c.Down != "":
		return "down " + c.Down
	case c.Up != "":
		return "up " + c.Up
	case c.Silence != "":
		return "silence " + c.Silence
	case c.Speak != "":
		return "speak " + c.Speak
	case c.Forget != nil:
		return fmt.Sprintf("%s forgets its route to %v", c.Forget.At, c.Forget.To)
	}
	if c.Route.Drop != simnet.NoDrop {
		return fmt.Sprintf("%s drops what goes to %v", c.Route.At, c.Route.To)
	}
	return fmt.Sprintf("%s routes %v via %s", c.Route.At, c.Route.To, strings.Join(c.Route.Via, ", "))
}
