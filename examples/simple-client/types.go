package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// kind is a measurement type and the agents that have it just so.
type kind struct {
	probe.Type
	agents []string
}

// kinds sorts what agents have by type.
func kinds(all map[string][]probe.Type) (list []kind) {
	for _, agent := range slices.Sorted(maps.Keys(all)) {
		for _, t := range all[agent] {
			i := slices.IndexFunc(list, func(k kind) bool { return reflect.DeepEqual(k.Type, t) })
			if i < 0 {
				list = append(list, kind{Type: t})
				i = len(list) - 1
			}
			list[i].agents = append(list[i].agents, agent)
		}
	}
	slices.SortStableFunc(list, func(a, b kind) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// typesText tells users which types there are, where, and with what options.
func typesText(all map[string][]probe.Type) string {
	var b strings.Builder
	for _, k := range kinds(all) {
		fmt.Fprintf(&b, "%s  at %s\n", safe(k.Name), safe(strings.Join(k.agents, ", ")))
		what := k.Help
		if k.Port != 0 {
			what = strings.TrimSpace(fmt.Sprintf("%s (port %d)", what, k.Port))
		}
		if what != "" {
			fmt.Fprintf(&b, "    %s\n", safe(what))
		}
		for _, o := range k.Options {
			b.WriteString("    " + safe(optionText(o)) + "\n")
		}
	}
	if b.Len() == 0 {
		return "no agent is connected\n"
	}
	return b.String()
}

// optionText is e.g. "-o edns=true|false (true): ask with EDNS".
func optionText(o probe.Option) string {
	values := strings.ToUpper(o.Kind.String())
	switch o.Kind {
	case probe.BoolOption:
		values = "true|false"
	case probe.ChoiceOption:
		values = strings.Join(o.Choices, "|")
	}
	text := "-o " + o.Name + "=" + values
	if o.Default != "" {
		text += " (" + o.Default + ")"
	}
	if o.Help != "" {
		text += ": " + o.Help
	}
	return text
}

// safe replaces what a terminal might act on: these are words of others.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
