package result

// Event is news of a running measurement. One of its fields is set.
type Event struct {
	// Probe is a probe whose fate was decided: it was answered, given up or
	// refused by its host. One that was given up comes again when its answer is
	// told of after that. Host names are in the Trace alone.
	Probe *Probe
	// Trace is the whole result. It is the last event of a measurement.
	Trace *Trace
}
