package simnet

import "fmt"

// Error is what is wrong with a scenario.
type Error struct {
	// Where leads to the value as in its text form: "links[2].delay".
	Where string
	// Reason names the value and what would be right.
	Reason string
}

// Error returns place and reason.
func (e *Error) Error() string {
	if e.Where == "" {
		return "scenario: " + e.Reason
	}
	return fmt.Sprintf("scenario: %s: %s", e.Where, e.Reason)
}

func wrong(where, format string, args ...any) error {
	return &Error{Where: where, Reason: fmt.Sprintf(format, args...)}
}
