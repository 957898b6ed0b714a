//go:build !linux

package simnet

import "time"

// bell is never made: other systems make do with the timers of the runtime.
type bell struct{}

func newBell() (*bell, error) { return nil, nil }

func (*bell) ring()              {}
func (*bell) close()             {}
func (*bell) rest(time.Duration) {}

func punctual() {}
