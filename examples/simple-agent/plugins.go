package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	volta "bitbucket.org/uwpatio/voltadomar"
	"bitbucket.org/uwpatio/voltadomar/plugins"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

// plugin reads the value of --plugin: PATH or PATH,sha256=HEX.
func plugin(value string) (plugins.Config, error) {
	c := plugins.Config{Path: value}
	const mark = ",sha256="
	if i := strings.LastIndex(value, mark); i >= 0 {
		c.Path, c.SHA256 = value[:i], value[i+len(mark):]
		if sum, err := hex.DecodeString(c.SHA256); err != nil || len(sum) != 32 {
			return c, fmt.Errorf("--plugin %q: %q: a checksum must be 64 hexadecimal digits", value, c.SHA256)
		}
	}
	if c.Path == "" {
		return c, fmt.Errorf("--plugin %q: must be PATH or PATH,sha256=HEX", value)
	}
	return c, nil
}

// load starts plugins and returns all measurement types, with what ends the
// plugins. One that does not start, or is called like another type, is an
// error.
func load(ctx context.Context, configs []plugins.Config, log *slog.Logger) (types []probe.Prober, closing func(), err error) {
	types = volta.DefaultProbers()
	var started []*plugins.Plugin
	end := func() {
		for _, p := range started {
			_ = p.Close()
		}
	}
	for _, c := range configs {
		c.Logger = log
		p, err := plugins.Open(ctx, c)
		if err != nil {
			end()
			return nil, nil, errors.Join(context.Cause(ctx), fmt.Errorf("plugin %s: %w", c.Path, err))
		}
		started = append(started, p)
		if slices.ContainsFunc(types, func(t probe.Prober) bool { return t.Name() == p.Name() }) {
			end()
			return nil, nil, fmt.Errorf("plugin %s: its measurement type is called %s, as another one is", c.Path, p.Name())
		}
		types = append(types, p)
	}
	return types, end, nil
}
