// Package sandbox runs a program that is not trusted, with as few rights as
// the operating system lets the caller take from it.
//
// On Linux the program
//   - runs from a sealed copy in memory, so that it is what was checked;
//   - has no capabilities, in none of its sets, and cannot gain any: also
//     no_new_privs is set;
//   - is another user than root: the one asked for if the caller is root, else
//     the caller itself;
//   - has resource limits before its first instruction, and is the first to be
//     killed where memory runs out;
//   - is a session of its own, in / and with an empty environment but what is
//     given; its standard input is empty, and nothing else is open that the
//     caller did not open for it;
//   - is killed when the caller's process ends, however that ends;
//   - where the kernel lets the caller make namespaces (root, and most users),
//     is alone in process, network and IPC namespaces of its own: it has no
//     network, and its children are killed when it ends;
//   - where the kernel has Landlock, can write to its directory alone, and
//     since Linux 6.12 signal only itself and its children.
//
// Elsewhere it has the environment, the working directory, the empty input and
// on Unix the session, and nothing of the rest: its rights are the caller's,
// it runs from its path, and it outlives a caller that is killed.
package sandbox

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// Command is a program and how to run it.
type Command struct {
	// Program is the whole file: an executable, or a script that begins with
	// #!. Where it cannot run from memory, Path runs instead.
	Program []byte
	Path    string
	Env     []string // all of its environment
	// Dir is a directory that the program may write to. Its owner becomes the
	// program's user.
	Dir string
	// User is who the program runs as, which takes root; nil is the caller.
	User   *User
	Limits Limits
	// Stdout and Stderr are the program's. They stay the caller's to close.
	Stdout, Stderr *os.File
}

// User is a user of the operating system.
type User struct {
	Name     string
	UID, GID uint32
}

// Limits are what a program may use. Zero is no limit of our own.
type Limits struct {
	Memory       int64 // private memory that can be written to, in bytes (RLIMIT_DATA)
	AddressSpace int64 // in bytes (RLIMIT_AS)
	OpenFiles    int   // (RLIMIT_NOFILE)
	// Processes is how many processes and threads its user may have
	// (RLIMIT_NPROC).
	Processes int
	CPU       time.Duration // processor time, in whole seconds (RLIMIT_CPU)
}

// LookupUser finds a user by name or number. The number need not have a name;
// its group has the same number then, as it has for the name "nobody" where
// there is no such user.
func LookupUser(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err == nil {
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return notRoot(&User{Name: u.Username, UID: uint32(uid), GID: uint32(gid)})
		}
	}
	if name == "nobody" {
		name = "65534"
	}
	uid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %q: want the name or number of a user", name)
	}
	return notRoot(&User{Name: name, UID: uint32(uid), GID: uint32(uid)})
}

func notRoot(u *User) (*User, error) {
	if u.UID == 0 || u.GID == 0 {
		return nil, fmt.Errorf("user %q: want one that is neither root nor of root's group", u.Name)
	}
	return u, nil
}

// environment tells a script, which cannot find itself, where it came from.
func environment(c *Command) []string {
	return append(c.Env[:len(c.Env):len(c.Env)], "VOLTADOMAR_PLUGIN="+c.Path)
}

// missing are the protections that a process does without.
type missing []string

func (m missing) String() string { return strings.Join(m, "; ") }
