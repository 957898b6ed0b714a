package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bitbucket.org/uwpatio/voltadomar/internal/fault"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Limits of what an agent may say that it can do.
const (
	maxTypes     = 64
	maxTypesSize = 64 << 10 // bytes of all words
	maxNamed     = 16       // agents or types that an error lists
)

// checkTypes says what is wrong with the types that an agent announces.
func checkTypes(types []probe.Type) error {
	if len(types) > maxTypes {
		return fmt.Errorf("%d measurement types: must be at most %d", len(types), maxTypes)
	}
	seen, size := map[string]bool{}, 0
	for i := range types {
		t := &types[i]
		if err := t.Check(); err != nil {
			return err
		}
		if seen[t.Name] {
			return fmt.Errorf("two measurement types are called %s", t.Name)
		}
		seen[t.Name] = true
		size += len(t.Name) + len(t.Help)
		for _, o := range t.Options {
			size += len(o.Name) + len(o.Default) + len(o.Help)
			for _, c := range o.Choices {
				size += len(c)
			}
		}
	}
	if size > maxTypesSize {
		return fmt.Errorf("the measurement types are described in %d bytes: must be at most %d", size, maxTypesSize)
	}
	return nil
}

func (a *agent) typeOf(name string) (probe.Type, bool) {
	i := slices.IndexFunc(a.Types, func(t probe.Type) bool { return t.Name == name })
	if i < 0 {
		return probe.Type{}, false
	}
	return a.Types[i], true
}

// Types returns what the connected agents can measure, by their ids.
func (c *Controller) Types() map[string][]probe.Type {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string][]probe.Type, len(c.agents))
	for id, a := range c.agents {
		all[id] = slices.Clone(a.Types)
		for i := range all[id] {
			t := &all[id][i]
			t.Options = slices.Clone(t.Options)
			for j := range t.Options {
				t.Options[j].Choices = slices.Clone(t.Options[j].Choices)
			}
		}
	}
	return all
}

// choose finds the type that a measurement asks for, and says what is wrong
// with its options.
func (c *Controller) choose(spec *Spec, a *agent) (probe.Type, error) {
	t, ok := a.typeOf(spec.Prober)
	if !ok {
		var names []string
		for _, t := range a.Types {
			names = append(names, t.Name)
		}
		return t, fault.New(fault.BadRequest, errors.Join(fault.ErrUsage, fault.ErrUnknownProber),
			"agent %q has no prober %q: it has %s; %s", a.Agent, spec.Prober, some(names), c.whoHas(spec.Prober))
	}
	if _, err := probe.CheckOptions(t.Options, spec.Options); err != nil {
		return t, fault.New(fault.BadRequest, errors.Join(fault.ErrUsage, err), "prober %s: %v", t.Name, err)
	}
	return t, nil
}

func (c *Controller) whoHas(prober string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		if _, ok := c.agents[id].typeOf(prober); ok {
			ids = append(ids, id)
		}
	}
	switch len(ids) {
	case 0:
		return "no connected agent has " + prober
	case 1:
		return "agent " + ids[0] + " has " + prober
	}
	return "agents " + some(ids) + " have " + prober
}

// some lists names, not too many.
func some(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	if more := len(names) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}
