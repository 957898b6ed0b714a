package plugins

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// socketDir is where a plugin listens until it is connected to. It is locked as
// long as its host lives.
type socketDir struct {
	path string
	lock *os.File // nil once it is removed
}

const socketDirs = "voltadomar-plugin-"

func newSocketDir() (*socketDir, error) {
	path, err := os.MkdirTemp("", socketDirs)
	if err != nil {
		return nil, err
	}
	d := &socketDir{path: path}
	if d.lock, err = lockDir(path); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return d, nil
}

func (d *socketDir) remove() error {
	if d.lock == nil {
		return nil
	}
	err := os.RemoveAll(d.path)
	d.lock.Close()
	d.lock = nil
	return err
}

// sweep removes what hosts left that were killed while a plugin of theirs
// started.
func sweep() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), socketDirs+"*"))
	if err != nil {
		return // a strange name of the directory
	}
	for _, path := range dirs {
		info, err := os.Lstat(path)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue // one that may not be locked yet
		}
		if lock, err := lockDir(path); err == nil {
			_ = os.RemoveAll(path)
			lock.Close()
		}
	}
}
