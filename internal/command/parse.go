package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	shellquote "github.com/kballard/go-shellquote"
	"github.com/spf13/pflag"
)

const synopsis = "volta <source> <destination> [options] [packetlen]"

// Parse reads a command line that begins with "volta". Words are split and
// quoted as in a shell. The error is a [*UsageError].
func Parse(line string) (Spec, error) {
	if len(line) > MaxLine {
		return Spec{}, tooLong(len(line))
	}
	if !utf8.ValidString(line) {
		return Spec{}, &UsageError{Reason: "the command is not valid UTF-8"}
	}
	words, err := shellquote.Split(strings.TrimSpace(line))
	switch {
	case errors.Is(err, shellquote.UnterminatedSingleQuoteError):
		return Spec{}, &UsageError{Reason: "the command has a single quote (') without its partner"}
	case errors.Is(err, shellquote.UnterminatedDoubleQuoteError):
		return Spec{}, &UsageError{Reason: `the command has a double quote (") without its partner`}
	case errors.Is(err, shellquote.UnterminatedEscapeError):
		return Spec{}, &UsageError{Reason: `the command ends in a backslash (\) that quotes nothing`}
	case err != nil:
		return Spec{}, &UsageError{Reason: "the command cannot be split into words: " + err.Error()}
	case len(words) == 0:
		return Spec{}, &UsageError{Reason: "the command is empty; it must be " + synopsis}
	case words[0] != "volta":
		return Spec{}, &UsageError{Option: "command", Value: given(words[0]), Reason: "it must begin with volta: " + synopsis}
	}
	return ParseArgs(words[1:])
}

// ParseArgs reads a command that is split into words already and does not
// have the leading "volta". Where an option is given twice the last one
// counts. The error is a [*UsageError].
func ParseArgs(args []string) (Spec, error) {
	if err := checkWords(args); err != nil {
		return Spec{}, err
	}
	p := parser{Spec: Defaults()}
	operands, err := p.options(args)
	if err != nil {
		return Spec{}, err
	}
	if err := p.operands(operands); err != nil {
		return Spec{}, err
	}
	if p.dns && p.Port == 0 {
		p.Port = dnsPort
	}
	if err := p.Validate(); err != nil {
		return Spec{}, err
	}
	return p.Spec, nil
}

func checkWords(args []string) error {
	size := 0
	for _, a := range args {
		size += len(a) + 1
	}
	if size > MaxLine {
		return tooLong(size)
	}
	for _, a := range args {
		if !utf8.ValidString(a) {
			return &UsageError{Reason: show(a) + " is not valid UTF-8"}
		}
		for _, r := range a {
			if !unicode.IsPrint(r) {
				return &UsageError{Reason: fmt.Sprintf("%s holds the character %U; only printable ones are allowed", show(a), r)}
			}
		}
	}
	return nil
}

func tooLong(n int) error {
	return &UsageError{Reason: fmt.Sprintf("the command has %d bytes, it must have at most %d", n, MaxLine)}
}

// parser is a Spec in the making.
type parser struct {
	Spec
	dns    bool   // -U was given
	method string // the option that chose the prober
	last   string // the option that was read last
}

func (p *parser) prober(name, option string) error {
	if p.method != "" && p.method != option {
		return &UsageError{Option: p.method + " and " + option, Reason: "choose one kind of probe"}
	}
	p.method, p.Prober = option, name
	return nil
}

func (p *parser) family(f int) error {
	if p.Family != 0 && p.Family != f {
		return &UsageError{Option: "-4 and -6", Reason: "choose one address family"}
	}
	p.Family = f
	return nil
}

// options reads all options and returns the operands.
func (p *parser) options(args []string) ([]string, error) {
	set := pflag.NewFlagSet("volta", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if long, ok := aliases[name]; ok {
			name = long
		}
		return pflag.NormalizedName(name)
	})
	for _, o := range options {
		p.define(set, o)
	}
	for short, same := range synonyms {
		i := slices.IndexFunc(options, func(o option) bool { return o.short == same })
		p.define(set, option{short: short, arg: options[i].arg, set: options[i].set})
	}
	for _, r := range refused {
		name := "-" + r.short
		if r.short == "" || r.long != "" && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--"+r.long) }) {
			name = "--" + r.long
		}
		f := set.VarPF(&value{set: func(string) error { return refuse(name, r.what) }}, longName(r.short, r.long), r.short, "")
		f.NoOptDefVal = none
	}
	if err := set.Parse(args); err != nil {
		return nil, p.explain(err)
	}
	return set.Args(), nil
}

// define adds an option to the set.
func (p *parser) define(set *pflag.FlagSet, o option) {
	name := "-" + o.short
	if o.short == "" {
		name = "--" + o.long
	}
	f := set.VarPF(&value{set: func(v string) error {
		if o.arg == "" && v != none {
			return &UsageError{Option: name, Value: given(v), Reason: "the option takes no value"}
		}
		p.last = name
		return o.set(p, v)
	}}, longName(o.short, o.long), o.short, "")
	if o.arg == "" {
		f.NoOptDefVal = none
	}
}

// none is the value of an option that was given without one. checkWords keeps
// it from being typed.
const none = "\x00"

// longName returns the long form, or one that cannot be typed.
func longName(short, long string) string {
	if long == "" {
		return "-" + short
	}
	return long
}

// explain says in the language's words what the flag set found.
func (p *parser) explain(err error) error {
	if usage, ok := errors.AsType[*UsageError](err); ok {
		return usage
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		name := "--" + e.GetSpecifiedName()
		if e.GetSpecifiedShortnames() != "" {
			name = "-" + e.GetSpecifiedName()
		}
		return &UsageError{Option: name, Reason: "the option needs a value"}
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		rest := e.GetSpecifiedShortnames()
		if rest == "" {
			return unknown("--" + e.GetSpecifiedName())
		}
		if p.last == "-U" && rest[0] == 'L' {
			return refuse("-UL", "UDP-Lite probes")
		}
		r, _ := utf8.DecodeRuneInString(rest)
		return unknown("-" + string(r))
	}
	if e, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return unknown(e.GetSpecifiedFlag())
	}
	if errors.Is(err, pflag.ErrHelp) {
		return unknown("-h")
	}
	return &UsageError{Reason: err.Error()}
}

func unknown(name string) error {
	return &UsageError{Option: name, Reason: "unknown option"}
}

func (p *parser) operands(words []string) error {
	switch len(words) {
	case 0:
		return &UsageError{Reason: "source and destination are missing; a command is " + synopsis}
	case 1:
		return &UsageError{Reason: "the destination is missing after the source " + show(words[0]) + "; a command is " + synopsis}
	case 2:
	case 3:
		if err := packetLen.parse(&p.Size, words[2]); err != nil {
			return err
		}
	default:
		return &UsageError{Option: "operand", Value: given(words[3]), Reason: "one too many; a command is " + synopsis}
	}
	p.Source, p.Target = words[0], words[1]
	return nil
}

// value is a pflag.Value that hands on what was given.
type value struct{ set func(string) error }

func (*value) String() string       { return "" }
func (*value) Type() string         { return "" }
func (v *value) Set(s string) error { return v.set(s) }
