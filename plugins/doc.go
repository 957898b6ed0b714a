// Package plugins runs measurement types as programs of their own, so that one
// can be added without touching or rebuilding Voltadomar, and what goes wrong
// in it stays in it.
//
// # For who writes one
//
// A plugin is a [probe.Prober], the same as the built-in ones, and one line of
// main:
//
//	package main
//
//	func main() { plugins.Serve(udp.Carry(question{})) }
//
// Most types are a payload on UDP or ICMP echo, a [probe.Payload]: the data of
// a probe, and the reading of a direct answer. udp.Carry and icmp.Carry make a
// prober of it, with headers, identity and the matching of ICMP errors:
//
//	type question struct{}
//
//	func (question) Name() string { return "hello" }
//
//	func (question) AppendPayload(b []byte, p *probe.Probe) ([]byte, error) {
//		return append(b, "who are you?"...), nil
//	}
//
//	func (question) ReadAnswer(data []byte, a *probe.Answer) bool {
//		id, tag, ok := probe.TrailingIdentity(data)
//		a.ID, a.Tag, a.TagBits = id, tag, 64
//		return ok
//	}
//
// It may have options ([probe.Optioner]), help ([probe.Describer]) and a port
// ([probe.Porter]) of its own, and say more with an answer ([probe.Value]).
// Package probetest checks it, in process or behind [Open]. Build it, and give
// an agent its path:
//
//	go build -o hello . && simple-agent --plugin ./hello ...
//
// Run by hand, the program says so, with its checksum.
//
// plugins/README.md is a tutorial, from an empty folder to a measurement on a
// simulated network.
//
// In other languages than Go, the contract is all there is to know:
// plugins/proto/voltadomar/plugin/v1/plugin.proto. examples/plugin-python knows
// nothing else.
//
// # For who runs one
//
// [Open] starts a plugin and returns a prober. Agent and plugin talk gRPC with
// TLS, by way of github.com/hashicorp/go-plugin, on one stream that carries
// batches: [Plugin.BuildAll] and [Plugin.MatchAll] cost well under a
// microsecond by the probe, a call for one probe a hundred times that.
//
// The plugin builds and reads bytes, nothing else. On Linux it
//   - runs from a copy of its file in memory, the one that was checked
//     ([Config.SHA256]);
//   - has no capabilities and cannot gain any; is [Config.User] if the host is
//     root, else the host's own user;
//   - has an environment, standard input and directory with nothing in them,
//     [Limits] of memory, processes and files, and a session of its own;
//   - has no network and no way to other processes, and writes to no file,
//     where the kernel has namespaces and Landlock and lets the host use them
//     ([State.Missing] says what is not so);
//   - is killed when the host's process ends, even if that is killed, and its
//     children with it, where it has a namespace. In a container that allows
//     none, and on hosts that let only root make them, children that leave the
//     plugin's session can outlive it.
//
// Nothing is left of it on disk once it has started; what a host leaves in
// [os.TempDir] that is killed in that moment, the next Open removes. On a host
// that is root, others need the way through that directory.
//
// On other systems it has the environment, input and session, but the rights of
// the host's user, and is not killed with the host: a plugin that uses [Serve]
// ends by itself.
//
// What it builds is checked before it is returned: that it is one whole
// datagram from the source and to the destination that was asked for, of the
// protocol, size, TTL, TOS and ports, with checksums that are right and with the
// identity where every agent looks for it. One that is not is an error of that
// probe, [ErrDatagram]. ICMP errors are read without the plugin. Of direct
// answers the plugin says which probe they belong to, and what they say
// besides; the rest the host reads itself.
//
// A plugin that crashes, hangs or breaks the contract is killed and started
// again, after a delay that doubles each time. Calls fail meanwhile with one of
// this package's errors, all of them [probe.ErrProber].
package plugins
