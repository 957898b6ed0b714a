package hostclock

// Share takes hold of the token in a directory until release.
func Share(path string) (token string, release func(), err error) {
	token, hold, err := share(path)
	return token, hold.release, err
}

// NameOf makes a name.
var NameOf = nameOf

// Patience is the longest wait for other processes.
const Patience = patience
