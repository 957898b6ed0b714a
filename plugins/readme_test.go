//go:build unix

package plugins_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme does what the tutorial says, from an empty folder, and holds it to
// what it promises. Only that it takes this module, and what is downloaded for
// it already, in place of what "go get" and "go mod tidy" would find.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```(go|sh|)\n(.*?)```\n").FindAllStringSubmatch(string(b), -1)
	require.GreaterOrEqual(t, len(blocks), 4)
	var kinds []string
	lines := 0
	for _, block := range blocks[:4] {
		kinds = append(kinds, block[1])
		for l := range strings.Lines(block[2]) {
			if block[1] != "" && strings.TrimSpace(l) != "" {
				lines++
			}
		}
	}
	require.Equal(t, []string{"sh", "go", "sh", ""}, kinds)
	require.Less(t, lines, 50)
	begin, program, run, output := blocks[0][2], blocks[1][2], blocks[2][2], blocks[3][2]

	const get, tidy = "go get bitbucket.org/uwpatio/voltadomar\n", "go mod tidy && "
	require.Contains(t, begin, get)
	require.Contains(t, run, tidy)
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	dir := t.TempDir()
	shell := func(commands string) string {
		cmd := exec.Command("sh", "-euc", commands)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "%s\n%s%s", commands, out, stderr.String())
		return string(out)
	}
	shell(strings.Replace(begin, get, "", 1))
	dir = filepath.Join(dir, "intact")
	mod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	sum, err := os.ReadFile("../go.sum")
	require.NoError(t, err)
	ours := strings.Replace(string(mod), "module bitbucket.org/uwpatio/voltadomar\n", "module intact\n", 1) +
		"\nrequire bitbucket.org/uwpatio/voltadomar v0.0.0\nreplace bitbucket.org/uwpatio/voltadomar => " + root + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(ours), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o644))
	require.Empty(t, shell("gofmt -l ."))
	require.Equal(t, output, shell(strings.Replace(run, tidy, "", 1)))
}
