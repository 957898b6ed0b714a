// Package blockfile keeps a blocklist as a file says, for the example programs.
package blockfile

import (
	"fmt"
	"log/slog"
	"os"

	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Open reads the rules in a file. Without a path there is no list.
func Open(path string) (*probe.Blocklist, error) {
	if path == "" {
		return nil, nil
	}
	list := &probe.Blocklist{}
	return list, read(path, list)
}

func read(path string, list *probe.Blocklist) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--blocklist: %w", err)
	}
	defer f.Close()
	rules, err := probe.ParseBlocklist(f)
	if err != nil {
		return fmt.Errorf("--blocklist %s: %w", path, err)
	}
	list.Set(rules)
	return nil
}

// reload reads the file again. One that is wrong changes nothing.
func reload(path string, list *probe.Blocklist, log *slog.Logger) {
	if err := read(path, list); err != nil {
		log.Error("blocklist not read, the old one holds", "error", err, "rules", list.Len())
		return
	}
	log.Info("blocklist read", "file", path, "rules", list.Len())
}
