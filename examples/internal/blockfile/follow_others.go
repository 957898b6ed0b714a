//go:build !unix

package blockfile

import (
	"log/slog"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Follow does nothing: there is no SIGHUP here.
func Follow(string, *probe.Blocklist, *slog.Logger) (stop func()) { return func() {} }
