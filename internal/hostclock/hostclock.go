// Package hostclock names the clock of the host, so that processes that read
// one clock can tell.
//
// No identifier of a machine will do: machines that were restored from one
// snapshot share them all, the boot identifier included, and yet have clocks of
// their own. So the name rests on a random token besides, that lives no longer
// than the processes that share it. It is kept in a file of the user's own in
// [os.TempDir], which each of them holds locked; who finds it locked by nobody
// draws a new one. Two processes have the same name only if
//
//   - their kernels have the same boot identifier, and
//   - the token has passed from one to the other among processes that were
//     alive, with a lock that only one kernel can hand out.
//
// That two names differ proves nothing: they do for other users, another
// temporary directory, and after somebody has removed the file. A process that
// is copied or moved to another machine while it runs takes its name along.
package hostclock

import "sync"

// Name returns the name of this host's clock, at most 64 letters, digits and
// '-'. It is the same for the life of the process, and so is the lock behind
// it: two descriptors, which programs that are started do not inherit.
// The error says why there is none; that does not change either. Waiting for
// other processes that start may take some milliseconds, two seconds at most.
func Name() (string, error) { return name() }

var name = sync.OnceValues(acquire)
