package result

// Event is news of a running measurement. One of its fields is set.
type Event struct {
	// Probe is a probe whose fate was decided: it was answered, given up or
	// refused by its host. The same probe may come again with more in it, e.g.
	// when the time of sending or a late answer arrived.
	Probe *Probe
	// Trace is the whole result. It is the last event of a measurement.
	Trace *Trace
}
