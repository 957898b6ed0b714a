// Package grpctransport joins agents, controllers and users over gRPC.
//
// A [Server] stands on the controller's side: it is the accepting half of a
// [transport.Transport], and serves users through a [Users]. A [Dialer] is the
// agents' half. A [Client] is for users.
//
// The user's doors are two: a typed, streaming service, and the original
// Voltadomar's AnycastService, whose clients work unchanged.
package grpctransport
