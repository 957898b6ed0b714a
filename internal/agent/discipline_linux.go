package agent

import (
	"time"

	"golang.org/x/sys/unix"
)

// timeError is the state of adjtimex(2) in which nothing disciplines the
// clock.
const timeError = 5

// discipline asks the kernel what it knows of its clock.
func discipline() (state string, maxError, estError time.Duration) {
	var t unix.Timex
	got, err := unix.Adjtimex(&t) // with no modes set it only reads
	if err != nil {
		return "", 0, 0
	}
	state = "synchronized"
	if got == timeError || t.Status&unix.STA_UNSYNC != 0 {
		state = "unsynchronized"
	}
	return state, time.Duration(t.Maxerror) * time.Microsecond, time.Duration(t.Esterror) * time.Microsecond
}
