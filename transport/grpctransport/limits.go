package grpctransport

import (
	"time"

	"google.golang.org/grpc/keepalive"
)

const (
	// maxMessage is how long one gRPC message may be, in bytes.
	maxMessage = 8 << 20
	// maxCommand is how long a user's command may be, in bytes.
	maxCommand = maxMessage / 2
	// maxBatch is when a batch of messages is long enough to be sent, in bytes.
	maxBatch = 256 << 10
	// maxSingle is how long a message may be that stands in a batch: whatever
	// the batch held before, it stays below maxMessage.
	maxSingle = maxMessage - 2*maxBatch
	// maxBatched is how many messages go into one batch at most.
	maxBatched = 64
	// sendQueue and receiveQueue are how many messages wait per connection.
	sendQueue    = 64
	receiveQueue = 256
	// window is what may be on its way unread, in bytes per connection.
	window = 1 << 20
	// maxEvents is how many events of a measurement wait for a slow user: as
	// many as there are probe identifiers.
	maxEvents = 1 << 16
	// maxReason is how much of an error's text is sent, in bytes. It travels
	// in HTTP/2 trailers, which peers limit to 8 KiB.
	maxReason = 1 << 10

	// linger is how long Close waits for the peer to take what was sent.
	linger = time.Second

	// A dead peer is found within pingAfter+pingWait.
	pingAfter      = 10 * time.Second
	pingWait       = 4 * time.Second
	pingLeast      = 5 * time.Second // a client may not ping more often
	connectTimeout = 10 * time.Second
	longestBackoff = 2 * time.Second

	// maxStreams is how many calls one connection may make at once.
	maxStreams = 1 << 10
)

var (
	clientPings = keepalive.ClientParameters{Time: pingAfter, Timeout: pingWait, PermitWithoutStream: true}
	serverPings = keepalive.ServerParameters{Time: pingAfter, Timeout: pingWait}
	pingPolicy  = keepalive.EnforcementPolicy{MinTime: pingLeast, PermitWithoutStream: true}
)
