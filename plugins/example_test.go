package plugins_test

import (
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
	"bitbucket.org/uwpatio/voltadomar/probe/udp"
)

// question is a measurement type: UDP datagrams that ask, of which a server
// sends back what it got with its name in front.
type question struct{}

func (question) Name() string { return "who" }

func (question) Help() string { return "asks who is there" }

func (question) AppendPayload(b []byte, _ *probe.Probe) ([]byte, error) {
	return append(b, "who are you?"...), nil
}

func (question) ReadAnswer(data []byte, a *probe.Answer) bool {
	id, tag, ok := probe.TrailingIdentity(data)
	if !ok || id == 0 {
		return false
	}
	a.ID, a.Tag, a.TagBits = id, tag, 64
	a.Values = []probe.Value{{Name: "server", Text: string(data[:min(len(data), 16)])}}
	return true
}

// All of a plugin's main.
func ExampleServe() {
	plugins.Serve(udp.Carry(question{}))
}
