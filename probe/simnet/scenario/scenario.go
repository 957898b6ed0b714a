package scenario

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"bitbucket.org/uwpatio/voltadomar/probe/simnet"
)

//go:embed named/*.yaml
var named embed.FS

//go:embed reference.yaml
var reference string

// Reference returns a scenario that has every key there is, with comments that
// give its meaning, unit and default.
func Reference() string { return reference }

// Names returns the names of the built-in scenarios, sorted.
func Names() []string {
	files, err := named.ReadDir("named")
	if err != nil {
		panic(err) // cannot be: it is embedded
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Text returns the commented text of a built-in scenario, to begin one's own
// with. The error for a name that is none of [Names] is [fs.ErrNotExist].
func Text(name string) ([]byte, error) {
	if !slices.Contains(Names(), name) {
		return nil, &Error{File: name, Reason: "no such scenario, want one of " + strings.Join(Names(), ", "), Err: fs.ErrNotExist}
	}
	return named.ReadFile("named/" + name + ".yaml")
}

// Named returns a new copy of a built-in scenario. The error for a name that is
// none of [Names] is [fs.ErrNotExist].
func Named(name string) (*simnet.Scenario, error) {
	b, err := Text(name)
	if err != nil {
		return nil, err
	}
	return Parse(name+".yaml", b)
}

// Load returns the built-in scenario of that name or, if there is none, reads
// the file of that path. Errors are as those of [Parse]; if the file cannot be
// read they unwrap to why.
func Load(nameOrPath string) (*simnet.Scenario, error) {
	if slices.Contains(Names(), nameOrPath) {
		return Named(nameOrPath)
	}
	b, err := readFile(nameOrPath)
	if errors.Is(err, fs.ErrNotExist) {
		reason := fmt.Sprintf("no such scenario or file, want one of %s, or a path", strings.Join(Names(), ", "))
		return nil, &Error{File: nameOrPath, Reason: reason, Err: err}
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, &Error{File: nameOrPath, Reason: err.Error(), Err: err}
	}
	return Parse(nameOrPath, b)
}

// readFile reads a little more of a file than [Parse] takes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// Parse reads a scenario from its text and checks it. The name is that of the
// text in errors, such as its file name; it does not become the scenario's.
//
// A text has at most 16 MiB and about a million values. Every error is an
// [*Error]; the first one that is found is returned.
func Parse(name string, b []byte) (*simnet.Scenario, error) {
	s, t, err := parse(name, b)
	if err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, locate(t, err)
	}
	return s, nil
}

func parse(name string, b []byte) (*simnet.Scenario, *text, error) {
	t, err := read(name, b)
	if err != nil {
		return nil, nil, err
	}
	s := new(simnet.Scenario)
	d := decoder{text: t, schema: schema{}}
	if err := d.value(t.root, reflect.ValueOf(s).Elem()); err != nil {
		return nil, nil, err
	}
	return s, t, nil
}
