package grpctransport

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"bitbucket.org/uwpatio/voltadomar/internal/protos/gen/voltadomarv1"
	"bitbucket.org/uwpatio/voltadomar/probe"
)

func encodeTypes(in []probe.Type) []*voltadomarv1.Type {
	var out []*voltadomarv1.Type
	for _, t := range in {
		m := &voltadomarv1.Type{Name: text(t.Name), Help: text(t.Help), Port: uint32(t.Port), Remote: t.Remote}
		for _, o := range t.Options {
			m.Options = append(m.Options, &voltadomarv1.Option{
				Name: text(o.Name), Kind: uint32(o.Kind), Choices: texts(o.Choices), Default: text(o.Default), Help: text(o.Help),
			})
		}
		out = append(out, m)
	}
	return out
}

func (d *decoder) types(in []*voltadomarv1.Type) []probe.Type {
	var out []probe.Type
	for _, m := range in {
		t := probe.Type{Name: m.GetName(), Help: m.GetHelp(), Port: d.uint16("type: port", m.GetPort()), Remote: m.GetRemote()}
		for _, o := range m.GetOptions() {
			t.Options = append(t.Options, probe.Option{
				Name: o.GetName(), Kind: probe.OptionKind(d.uint8("option: kind", o.GetKind())), Choices: o.GetChoices(),
				Default: o.GetDefault(), Help: o.GetHelp(),
			})
		}
		out = append(out, t)
	}
	return out
}

func encodeOptions(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, len(in))
	for name, value := range in {
		out[text(name)] = text(value)
	}
	return out
}

func decodeOptions(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	return in
}

func (s *measurements) ListTypes(_ *voltadomarv1.ListTypesRequest, stream voltadomarv1.Measurements_ListTypesServer) error {
	all := s.users.Types()
	for _, agent := range slices.Sorted(maps.Keys(all)) {
		if err := stream.Send(&voltadomarv1.AgentTypes{Agent: text(agent), Types: encodeTypes(all[agent])}); err != nil {
			return err
		}
	}
	return nil
}

// Types tells what each agent that is connected to the controller can
// measure, by its id. The error is an [*Error], or ctx's.
func (c *Client) Types(ctx context.Context) (map[string][]probe.Type, error) {
	// A call that is not read to its end has to be cancelled.
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := voltadomarv1.NewMeasurementsClient(c.conn).ListTypes(calling, &voltadomarv1.ListTypesRequest{})
	if err != nil {
		return nil, c.decodeError(ctx, err)
	}
	all := map[string][]probe.Type{}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, c.decodeError(ctx, err)
		}
		var d decoder
		all[m.GetAgent()] = d.types(m.GetTypes())
		if d.err != nil {
			return nil, c.malformed(d.err)
		}
	}
}
