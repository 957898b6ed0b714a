//go:build !linux

package simnet

import "time"

// preciseWithin is 0: only Linux has devices to attach to.
const preciseWithin = 0

func rest(time.Duration, <-chan struct{}) {}
