package contract

import (
	"slices"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// SplitDatagrams calls each with every datagram of a request, without room
// behind it. The error is [ErrMalformed].
func SplitDatagrams(m *pluginv1.Match, each func(i int, datagram []byte)) error {
	if len(m.Lengths) > MaxBatch {
		return malformed("more than %d datagrams", MaxBatch)
	}
	return split(m.Datagrams, m.Lengths, func(i int, datagram []byte) error {
		each(i, datagram)
		return nil
	})
}

// AppendMatched appends to m what datagram i says, with values as they may be.
func AppendMatched(m *pluginv1.Matched, i int, a *probe.Answer) {
	m.Indexes = append(m.Indexes, uint32(i))
	m.Ids = append(m.Ids, uint32(a.ID))
	m.Tags = append(m.Tags, a.Tag)
	m.TagBits = append(m.TagBits, a.TagBits)
	clean := probe.CleanValues(slices.Clone(a.Values))
	if len(clean) == 0 {
		return
	}
	values := make([]*pluginv1.Value, len(clean))
	for k, v := range clean {
		values[k] = &pluginv1.Value{Name: v.Name, Text: v.Text}
	}
	m.Values = append(m.Values, &pluginv1.Values{Index: uint32(i), Values: values})
}

// Said is what a plugin says of a datagram.
type Said struct {
	ID      uint16 // not 0
	Tag     uint64
	TagBits uint8 // 0 to 64
	Values  []probe.Value
}

// ReadMatched calls each with what is said of some of n datagrams, in order.
// The error is [ErrMalformed].
func ReadMatched(m *pluginv1.Matched, n int, each func(i int, said *Said)) error {
	if len(m.Ids) != len(m.Indexes) || len(m.Tags) != len(m.Indexes) || len(m.TagBits) != len(m.Indexes) {
		return malformed("columns of %d indexes, %d IDs, %d tags and %d lengths of tags", len(m.Indexes), len(m.Ids), len(m.Tags), len(m.TagBits))
	}
	values := m.Values
	next := uint32(0)
	for k, i := range m.Indexes {
		switch {
		case i < next || uint64(i) >= uint64(n):
			return malformed("an answer to datagram %d, want one of %d to %d", i, next, n-1)
		case m.Ids[k] == 0 || m.Ids[k] > 0xFFFF:
			return malformed("identifier %d, want 1 to 65535", m.Ids[k])
		case m.TagBits[k] > 64:
			return malformed("%d bits of a tag, want 64 at most", m.TagBits[k])
		}
		next = i + 1
		said := Said{ID: uint16(m.Ids[k]), Tag: m.Tags[k], TagBits: m.TagBits[k]}
		said.Tag &= 1<<said.TagBits - 1
		if len(values) > 0 && values[0].GetIndex() == i {
			var err error
			if said.Values, err = readValues(values[0].GetValues()); err != nil {
				return err
			}
			values = values[1:]
		}
		each(int(i), &said)
	}
	if len(values) > 0 {
		return malformed("values of datagram %d, which has none", values[0].GetIndex())
	}
	return nil
}

// readValues takes names as they have to be. Texts may come from the network:
// they are made fit.
func readValues(values []*pluginv1.Value) ([]probe.Value, error) {
	if len(values) == 0 || len(values) > probe.MaxValues {
		return nil, malformed("%d values, want 1 to %d", len(values), probe.MaxValues)
	}
	out := make([]probe.Value, len(values))
	for i, v := range values {
		out[i] = probe.Value{Name: v.GetName(), Text: v.GetText()}
	}
	clean := probe.CleanValues(slices.Clone(out))
	for i := range out {
		if i >= len(clean) || clean[i].Name != out[i].Name {
			return nil, malformed("a value is called %.64q, want 1 to %d lower-case letters, digits or '-'", out[i].Name, probe.MaxValueName)
		}
	}
	return clean, nil
}
