package contract

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// Description is what a plugin says of its measurement type.
type Description struct {
	probe.Type
	Protocol pluginv1.Protocol
}

// Describe returns the message about a prober. The error is [probe.ErrType].
func Describe(pr probe.Prober, protocol pluginv1.Protocol) (*pluginv1.Description, error) {
	t := probe.Describe(pr)
	if err := t.Check(); err != nil {
		return nil, err
	}
	m := &pluginv1.Description{Name: t.Name, Help: t.Help, Protocol: protocol, Port: uint32(t.Port)}
	for _, o := range t.Options {
		m.Options = append(m.Options, &pluginv1.Option{
			Name: o.Name, Kind: pluginv1.Option_Kind(o.Kind), Choices: o.Choices, Default: o.Default, Help: o.Help,
		})
	}
	return m, nil
}

// ReadDescription reads what a plugin says of its type. The error is
// [ErrMalformed].
func ReadDescription(m *pluginv1.Description) (*Description, error) {
	d := &Description{Protocol: m.GetProtocol(), Type: probe.Type{Name: m.GetName(), Help: m.GetHelp(), Remote: true}}
	if d.Protocol < pluginv1.Protocol_PROTOCOL_UDP || d.Protocol > pluginv1.Protocol_PROTOCOL_ICMP {
		return nil, malformed("protocol %d, want 1 (UDP), 2 (TCP) or 3 (ICMP)", d.Protocol)
	}
	var err error
	if d.Port, err = ReadPort(m.GetPort()); err != nil {
		return nil, err
	}
	for _, o := range m.GetOptions() {
		kind := probe.OptionKind(min(math.MaxUint8, uint32(o.GetKind())))
		d.Options = append(d.Options, probe.Option{
			Name: o.GetName(), Kind: kind, Choices: o.GetChoices(), Default: o.GetDefault(), Help: o.GetHelp(),
		})
	}
	if err := d.Check(); err != nil {
		return nil, malformed("%w", err)
	}
	return d, nil
}

// ReadPort reads a port. The error is [ErrMalformed].
func ReadPort(port uint32) (uint16, error) {
	if port > math.MaxUint16 {
		return 0, malformed("port %d, want 0 to 65535", port)
	}
	return uint16(port), nil
}

// Wrong returns the message about values that cannot be set.
func Wrong(err error) *pluginv1.OptionError {
	var wrong *probe.OptionError
	if !errors.As(err, &wrong) {
		wrong = &probe.OptionError{Want: err.Error()}
	}
	return &pluginv1.OptionError{
		Name: Line(wrong.Name, maxLine), Value: Line(wrong.Value, maxLine), Want: Line(wrong.Want, maxLine),
	}
}

// ReadWrong reads what a plugin says of values. The error is a
// [probe.OptionError], or nil.
func ReadWrong(m *pluginv1.Checked, values map[string]string) error {
	wrong := m.GetWrong()
	if wrong == nil {
		return nil
	}
	value, ok := values[wrong.Name]
	if !ok {
		value = Line(wrong.Value, maxLine)
	}
	return &probe.OptionError{Name: Line(wrong.Name, maxLine), Value: value, Want: Line(wrong.Want, maxLine)}
}

// Same says what differs between two descriptions, nil if nothing does.
func (d *Description) Same(other *Description) error {
	if !reflect.DeepEqual(d, other) {
		return fmt.Errorf("%w: the plugin described itself otherwise before: %+v, then %+v", ErrMalformed, *d, *other)
	}
	return nil
}
