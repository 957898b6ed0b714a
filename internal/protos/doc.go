// Package protos holds the protocol definitions of the gRPC transport. The
// code under gen is generated from them; CI fails when it is stale.
package protos

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
