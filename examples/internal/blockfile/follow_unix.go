//go:build unix

package blockfile

import (
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Follow reads the file again at every SIGHUP until stop is called, and tells
// log how many rules there are. Without a list it does nothing.
func Follow(path string, list *probe.Blocklist, log *slog.Logger) (stop func()) {
	if list == nil {
		return func() {}
	}
	hup, end := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hup:
				reload(path, list, log)
			case <-end:
				return
			}
		}
	})
	return func() {
		signal.Stop(hup)
		close(end)
		wg.Wait()
	}
}
