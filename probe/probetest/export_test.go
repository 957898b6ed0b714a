package probetest

import "time"

// Seal sets the checksums of a datagram right.
var Seal = seal

// SetPatience sets how long the suite waits for what should have ended.
func SetPatience(d time.Duration) { patience = d }
