package scenario

import (
	"errors"
	"fmt"
	"strings"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

// Error is what is wrong with a scenario's text.
type Error struct {
	File string // as given to Parse or Load
	Line int    // from 1; 0 if it is about the file as a whole
	// Where leads to the value: "links[2].delay". It is empty where the text
	// is no YAML, or no scenario at all.
	Where string
	// Reason names the value and what would be right.
	Reason string
	// Err is the cause: an [*simnet.Error], or why a file could not be read.
	// It may be nil.
	Err error
}

// Error returns file, line, place and reason: `two-site.yaml:14:
// links[0].delay: "5", want a duration such as 5ms`.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Where != "" {
		b.WriteString(": " + e.Where)
	}
	b.WriteString(": " + e.Reason)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// locate says where in the text a scenario is wrong.
func locate(t *text, err error) error {
	var wrong *simnet.Error
	if !errors.As(err, &wrong) {
		return &Error{File: t.file, Reason: err.Error(), Err: err}
	}
	return &Error{File: t.file, Line: t.line(wrong.Where), Where: wrong.Where, Reason: wrong.Reason, Err: wrong}
}
