package plugins

import (
	"context"
	"log/slog"
	"strings"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/pluginv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// HandshakeConfig is for plugins of the tests that use go-plugin by themselves.
var HandshakeConfig = handshakeConfig

// ServiceName is what they have to serve.
const ServiceName = serviceName

// Certificate is for hosts of the tests.
var Certificate = certificate

// Handshake returns the line that go-plugin gets for one that a plugin prints.
func Handshake(line, dir string) (string, error) {
	looksLikeHandshake(line)
	h, err := parseHandshake(line)
	if err == nil {
		err = h.check(dir)
	}
	if err != nil {
		return "", err
	}
	return h.line(), nil
}

// Print logs what a plugin prints, and returns its last words.
func Print(log *slog.Logger, text string) string {
	o := newOutput(log)
	o.readAll("stderr", strings.NewReader(text), nil)
	return o.last()
}

// Answerer returns how a plugin with a prober answers.
func Answerer(pr probe.Prober) func(*pluginv1.ToPlugin) *pluginv1.ToHost {
	w := worker{prober: pr, set: map[string]probe.Prober{}}
	return func(m *pluginv1.ToPlugin) *pluginv1.ToHost { return w.answer(context.Background(), m) }
}

// Kept returns how many settings a plugin with a prober keeps that was asked
// for all of them.
func Kept(pr probe.Prober, settings []map[string]string) (int, error) {
	w := worker{prober: pr, set: map[string]probe.Prober{}}
	for _, values := range settings {
		if _, err := w.with(values); err != nil {
			return 0, err
		}
	}
	return len(w.set), nil
}
