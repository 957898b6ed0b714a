package probe

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Describer is implemented by probers that say in a line what they measure.
type Describer interface {
	Help() string
}

// Optioner is implemented by probers with options of their own.
type Optioner interface {
	Prober
	// Options lists them. It always returns the same.
	Options() []Option
	// With returns a prober of the same name that is set to the values, by
	// name; what is missing has its default. It does not change the receiver.
	// The error is an [*OptionError].
	With(values map[string]string) (Prober, error)
}

// OptionKind is what values an option takes.
type OptionKind uint8

// The kinds.
const (
	StringOption   OptionKind = iota // any text
	IntOption                        // a whole number
	BoolOption                       // true or false
	DurationOption                   // such as 5ms
	ChoiceOption                     // one of Choices
)

var optionKinds = [...]string{"string", "int", "bool", "duration", "choice"}

// String returns the kind in lower case, e.g. "duration".
func (k OptionKind) String() string {
	if int(k) < len(optionKinds) {
		return optionKinds[k]
	}
	return ""
}

// MarshalText writes the kind as String does. The error is [ErrType] for one
// that there is not.
func (k OptionKind) MarshalText() ([]byte, error) {
	if k.String() == "" {
		return nil, fmt.Errorf("%w: kind %d: must be 0 to %d", ErrType, k, len(optionKinds)-1)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what MarshalText wrote. The error is [ErrType].
func (k *OptionKind) UnmarshalText(text []byte) error {
	i := slices.Index(optionKinds[:], string(text))
	if i < 0 {
		return fmt.Errorf("%w: kind %.64q: must be one of %s", ErrType, text, strings.Join(optionKinds[:], ", "))
	}
	*k = OptionKind(i)
	return nil
}

// Option is one that a prober has.
type Option struct {
	Name    string     `json:"name"` // 1 to 32 lower-case letters, digits or '-'
	Kind    OptionKind `json:"kind"`
	Choices []string   `json:"choices,omitempty"` // of a ChoiceOption
	Default string     `json:"default"`
	Help    string     `json:"help,omitempty"` // a line
}

// ErrOption says that an option, or its value, is wrong.
var ErrOption = errors.New("wrong option")

// OptionError is a wrong option, or a wrong value of one. It is [ErrOption].
type OptionError struct {
	Name, Value string
	Want        string // what would be right
}

// Error names the option, its value and what would be right.
func (e *OptionError) Error() string {
	return fmt.Sprintf("option %.64q: %.64q: %s", e.Name, e.Value, e.Want)
}

// Unwrap returns [ErrOption].
func (e *OptionError) Unwrap() error { return ErrOption }

// CheckOptions returns values with the defaults of what is missing. The error
// is an [*OptionError] for a name that is not among the options, or a value
// that is not of its kind.
func CheckOptions(options []Option, values map[string]string) (map[string]string, error) {
	all := make(map[string]string, len(options))
	names := make([]string, 0, len(options))
	for _, o := range options {
		all[o.Name] = o.Default
		names = append(names, o.Name)
	}
	for name, value := range values {
		i := slices.IndexFunc(options, func(o Option) bool { return o.Name == name })
		if i < 0 {
			want := "there are no options"
			if len(names) > 0 {
				want = "must be one of " + strings.Join(names, ", ")
			}
			return nil, &OptionError{name, value, want}
		}
		if want := options[i].want(value); want != "" {
			return nil, &OptionError{name, value, want}
		}
		all[name] = value
	}
	return all, nil
}

// want says what is missing in a value, or nothing.
func (o *Option) want(value string) string {
	var err error
	want := ""
	switch o.Kind {
	case IntOption:
		_, err = strconv.ParseInt(value, 10, 64)
		want = "must be a whole number"
	case BoolOption:
		want = "must be true or false"
		if value == "true" || value == "false" {
			return ""
		}
		return want
	case DurationOption:
		_, err = time.ParseDuration(value)
		want = "must be a duration such as 5ms"
	case ChoiceOption:
		if !slices.Contains(o.Choices, value) {
			return "must be one of " + strings.Join(o.Choices, ", ")
		}
	}
	if err != nil {
		return want
	}
	return ""
}
