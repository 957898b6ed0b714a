package volta_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
	"bitbucket.org/uwpatio/voltadomar/probe/simnet/scenario"
)

// go test -run TestScenarios . -update writes what the measurements print into
// the scenarios' files. Read the difference before you keep it.
var update = flag.Bool("update", false, "write the results of the named scenarios into their files")

// TestScenarios runs what the built-in scenarios expect, each measurement over a
// network of its own.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("probe/simnet/scenario/named/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, len(scenario.Names()))
	for _, file := range append(files, "probe/simnet/scenario/reference.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s, err := scenario.Load(file)
			require.NoError(t, err)
			require.NotEmpty(t, s.Expect)
			var outputs []string
			for _, e := range s.Expect {
				output := simulate(t, s, e)
				outputs = append(outputs, output)
				if !*update {
					require.Equal(t, e.Output, output, "volta %s", e.Command)
				}
			}
			if *update {
				updateScenario(t, file, outputs)
			}
		})
	}
}

// simulate runs a measurement over a scenario, in virtual time, with an agent
// at each site, and returns what it prints.
func simulate(t *testing.T, s *simnet.Scenario, e simnet.Expectation) (output string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network, err := s.Start()
		require.NoError(t, err)
		began := time.Now()
		t.Cleanup(func() { require.NoError(t, network.Close()) })
		f := newFleet(t, false, &volta.ControllerConfig{Resolver: network})
		for _, site := range network.Sites() {
			port, err := network.Port(site)
			require.NoError(t, err)
			f.join(t, volta.AgentConfig{ID: site, Port: port})
		}
		time.Sleep(time.Until(began.Add(e.At)))
		code, text := f.Command(f.ctx, "volta "+e.Command)
		require.Equal(t, 200, code, text)
		output = text + "\n"
	})
	return output
}

// updateScenario puts the outputs into a file, one after each "output: |", and
// leaves the rest of it as it is.
func updateScenario(t *testing.T, path string, outputs []string) {
	t.Helper()
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	var b bytes.Buffer
	n, within := 0, false
	for line := range strings.Lines(string(old)) {
		const key = "    output: |\n"
		if within && strings.HasPrefix(line, "      ") {
			continue
		}
		b.WriteString(line)
		if within = line == key; within {
			require.Less(t, n, len(outputs))
			for l := range strings.Lines(outputs[n]) {
				fmt.Fprintf(&b, "      %s", l)
			}
			n++
		}
	}
	require.Len(t, outputs, n, "%s has an output after each command", path)
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
}
