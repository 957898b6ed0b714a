package scenario

import "bitbucket.org/uwpatio/voltadomar/probe/simnet"

// ParseUnchecked is Parse of what need not be a valid network.
func ParseUnchecked(name string, b []byte) (*simnet.Scenario, error) {
	s, _, err := parse(name, b)
	return s, err
}
