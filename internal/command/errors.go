package command

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// UsageError says what is wrong with a command, and what would be right.
type UsageError struct {
	Option string // what it is about, e.g. "-m" or "destination"; may be empty
	Value  string // as given; may be empty
	Reason string
}

// Error returns e.g. "-m 300: max hops must be 1 to 255". A long value is cut,
// an unprintable one quoted.
func (e *UsageError) Error() string {
	var parts []string
	if e.Option != "" {
		parts = append(parts, show(e.Option))
	}
	if e.Value != "" {
		parts = append(parts, show(e.Value))
	}
	if len(parts) == 0 {
		return e.Reason
	}
	return strings.Join(parts, " ") + ": " + e.Reason
}

// longest is how many bytes of a user's word an error repeats.
const longest = 64

// show is how an error repeats what a user wrote.
func show(s string) string {
	cut := ""
	if len(s) > longest {
		n := longest
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s, cut = s[:n], "..."
	}
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' }) {
		s = strconv.Quote(s)
	}
	return s + cut
}
