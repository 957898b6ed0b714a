package rawsock

import "golang.org/x/net/bpf"

// Filter returns the program for a family, without the check that only a
// kernel can make.
func Filter(ipv6 bool) ([]bpf.Instruction, error) {
	filter := filter4
	if ipv6 {
		filter = filter6
	}
	_, body, err := filter()
	return body, err
}

// FilterOut returns the program for departures, likewise.
func FilterOut() ([]bpf.Instruction, error) {
	_, body, err := filterOut()
	return body, err
}
