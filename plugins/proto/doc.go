// Package proto holds the public contract between Voltadomar and plugins,
// voltadomar/plugin/v1/plugin.proto, from which a plugin can be written in any
// language that has gRPC. In Go, package plugins is all it takes.
package proto

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
