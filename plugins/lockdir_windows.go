package plugins

import "os"

// lockDir does not lock: plugins listen on a port here, and nobody misses an
// empty directory.
func lockDir(string) (*os.File, error) { return os.Open(os.DevNull) }
