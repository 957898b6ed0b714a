//go:build unix

package plugins_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"bitbucket.org/uwpatio/voltadomar/plugins"
)

// The test binary is also the plugins of the tests, and hosts that are killed.
func TestMain(m *testing.M) {
	if mode := os.Getenv("MODE"); mode != "" {
		roles[mode]()
		return
	}
	if err := plugins.Supported(); err != nil {
		fmt.Println("skipped:", err) // nearly every test starts one
		return
	}
	dir, err := os.MkdirTemp("", "plugins-test")
	must(err)
	must(os.Chmod(dir, 0o755)) // other users go through it
	must(os.Setenv("TMPDIR", dir))
	must(os.Setenv("PLUGIN", install()))
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		must(os.RemoveAll(filepath.Dir(os.Getenv("PLUGIN"))))
		if slices.ContainsFunc(os.Args, func(arg string) bool { return strings.HasPrefix(arg, "-test.fuzz") }) {
			must(os.RemoveAll(dir)) // with what the killed workers leave
			os.Exit(code)
		}
		left, err := os.ReadDir(dir)
		must(err)
		if running := running(mark("")); len(left) > 0 || len(running) > 0 {
			fmt.Fprintln(os.Stderr, "left behind: files", left, "processes", running)
			code = 1
		}
		must(os.RemoveAll(dir))
		os.Exit(code)
	}))
}

// install puts a plugin where all users may run it, which is this binary: a
// script, since it costs little to check and copy.
func install() (path string) {
	self, err := os.Executable()
	must(err)
	binary, err := os.ReadFile(self)
	must(err)
	dir, err := os.MkdirTemp("", "plugin")
	must(err)
	must(os.Chmod(dir, 0o755))
	must(os.WriteFile(filepath.Join(dir, "binary"), binary, 0o755))
	path = filepath.Join(dir, "plugin")
	must(os.WriteFile(path, []byte("#!/bin/sh\nexec "+dir+"/binary\n"), 0o755))
	return path
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
}

// mark is in the environment of all processes that a test starts, and so in
// that of theirs.
func mark(test string) string { return fmt.Sprintf("MARK=%d/%s", os.Getpid(), test) }

// running returns the processes with a mark. Where there is no /proc it knows of
// none.
func running(mark string) (pids []int) {
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	must(err)
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte(mark)) {
			continue // it has ended, or is somebody else's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		must(err)
		pids = append(pids, pid)
	}
	return pids
}
