package simnet

import (
	"fmt"
	"strings"
	"time"
)

// segment is one link of a drawing.
type segment struct {
	a, b  string
	delay time.Duration // 0: not given
}

// parseDrawing reads chains such as "a -- b --5ms-- c", a line each.
func parseDrawing(drawing string) ([]segment, error) {
	var all []segment
	for line := range strings.Lines(drawing) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) < 3 || len(words)%2 == 0 {
			return nil, fmt.Errorf("%q, want names with dashes between them, such as a -- b --5ms-- c", strings.TrimSpace(line))
		}
		for i := 0; i+2 < len(words); i += 2 {
			s := segment{a: words[i], b: words[i+2]}
			for _, name := range []string{s.a, s.b} {
				if err := checkName(name); err != nil {
					return nil, err
				}
			}
			if s.a == s.b {
				return nil, fmt.Errorf("%q is linked to itself, want two different nodes", s.a)
			}
			var err error
			if s.delay, err = parseDash(words[i+1]); err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%q, want at least one link, such as a -- b", drawing)
	}
	return all, nil
}

func parseDash(dash string) (time.Duration, error) {
	inner, ok := strings.CutPrefix(dash, "--")
	if ok && inner == "" {
		return 0, nil
	}
	inner, closed := strings.CutSuffix(inner, "--")
	d, err := time.ParseDuration(inner)
	if !ok || !closed || err != nil || d <= 0 || d > maxDelay {
		return 0, fmt.Errorf("dash %q, want -- or one with a delay from 1ns to 1h, such as --5ms--", dash)
	}
	return d, nil
}

const maxName = 64

func checkName(name string) error {
	ok := name != "" && len(name) <= maxName && name[0] != '-'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("name %.80q, want 1 to %d letters, digits, '.', '_' or '-', not beginning with '-'", name, maxName)
	}
	return nil
}
