package probetest

// Seal sets the checksums of a datagram right.
var Seal = seal
