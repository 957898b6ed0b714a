package probe

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what a [Type] says. Names have up to [MaxValueName] bytes.
const (
	MaxOptions     = 64
	MaxChoices     = 64
	MaxHelp        = maxText // bytes
	MaxOptionValue = maxText // bytes, of a choice, a default, or what a user gives

	maxText = MaxValueText
)

// Type describes a measurement type to those who do not have its [Prober].
type Type struct {
	Name    string   `json:"name"`
	Help    string   `json:"help,omitempty"` // a line
	Options []Option `json:"options,omitempty"`
	// Port is the destination port of its own, 0: none, see [Porter].
	Port uint16 `json:"port,omitempty"`
	// Remote says that it is a [Batcher]: it reads no more than it is asked to.
	Remote bool `json:"remote,omitempty"`
}

// Describe returns the type of a prober.
func Describe(p Prober) Type {
	t := Type{Name: p.Name()}
	if d, ok := p.(Describer); ok {
		t.Help = d.Help()
	}
	if o, ok := p.(Optioner); ok {
		t.Options = o.Options()
	}
	if o, ok := p.(Porter); ok {
		t.Port = o.DefaultPort()
	}
	_, t.Remote = p.(Batcher)
	return t
}

// ErrType says that a measurement type is not described as one can be.
var ErrType = errors.New("wrong measurement type")

// Check says what is wrong with t: names, lengths, characters that a terminal
// might act on, choices and defaults that do not go with their kind. The error
// is [ErrType].
func (t *Type) Check() error {
	if !WellNamed(t.Name) {
		return fmt.Errorf("%w: name %.64q: must be %s", ErrType, t.Name, nameRule)
	}
	if err := t.check(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrType, t.Name, err)
	}
	return nil
}

func (t *Type) check() error {
	if !printable(t.Help) {
		return fmt.Errorf("help %.64q: must be a line of at most %d bytes", t.Help, MaxHelp)
	}
	if len(t.Options) > MaxOptions {
		return fmt.Errorf("%d options: must be at most %d", len(t.Options), MaxOptions)
	}
	seen := map[string]bool{}
	for i := range t.Options {
		o := &t.Options[i]
		switch {
		case !WellNamed(o.Name):
			return fmt.Errorf("option %.64q: must be %s", o.Name, nameRule)
		case seen[o.Name]:
			return fmt.Errorf("option %s: there are two", o.Name)
		}
		seen[o.Name] = true
		if err := o.check(); err != nil {
			return fmt.Errorf("option %s: %w", o.Name, err)
		}
	}
	return nil
}

func (o *Option) check() error {
	switch {
	case o.Kind.String() == "":
		return fmt.Errorf("kind %d: must be 0 to %d", o.Kind, len(optionKinds)-1)
	case !printable(o.Help):
		return fmt.Errorf("help %.64q: must be a line of at most %d bytes", o.Help, MaxHelp)
	case (o.Kind == ChoiceOption) != (len(o.Choices) > 0) || len(o.Choices) > MaxChoices:
		return fmt.Errorf("%d choices: must be 1 to %d for kind choice, and none for others", len(o.Choices), MaxChoices)
	}
	for _, c := range o.Choices {
		if c == "" || !printable(c) {
			return fmt.Errorf("choice %.64q: must be 1 to %d bytes, printable", c, MaxOptionValue)
		}
	}
	if !printable(o.Default) {
		return fmt.Errorf("default %.64q: must be at most %d bytes, printable", o.Default, MaxOptionValue)
	}
	if want := o.want(o.Default); o.Default != "" && want != "" {
		return fmt.Errorf("default %.64q: %s", o.Default, want)
	}
	return nil
}

const nameRule = "1 to 32 lower-case letters, digits or '-', a letter first"

// WellNamed tells whether s can name a measurement type or an option: 1 to 32
// lower-case letters, digits or '-', a letter first.
func WellNamed(s string) bool { return namesValue(s) && s[0] >= 'a' }

// namesValue tells whether s can name a value: a digit or '-' may come first.
func namesValue(s string) bool {
	return s != "" && len(s) <= MaxValueName && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

func printable(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// CleanValues returns values fit to be stored and shown, whoever made them: at
// most [MaxValues] of them, each with a good name, and with what a terminal
// might act on replaced in their texts. It does not change values, and returns
// them themselves if they are fit.
func CleanValues(values []Value) []Value {
	fit := func(v Value) bool { return namesValue(v.Name) && printable(v.Text) }
	if len(values) <= MaxValues && !slices.ContainsFunc(values, func(v Value) bool { return !fit(v) }) {
		return values
	}
	var kept []Value
	for _, v := range values {
		if namesValue(v.Name) && len(kept) < MaxValues {
			kept = append(kept, Value{v.Name, cleanText(v.Text)})
		}
	}
	return kept
}

func cleanText(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > MaxValueText {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
