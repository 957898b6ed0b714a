package examples_test

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/internal/netlab"
)

// serveDNS runs a DNS server at an address of a host, for a site of the name
// and with an identifier, until the test ends.
func serveDNS(t *testing.T, host *netlab.Host, addr netip.Addr, site, nsid string) {
	t.Helper()
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		r.Answer = []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{site},
		}}
		if asked := q.IsEdns0(); asked != nil {
			opt := r.SetEdns0(1232, false).IsEdns0()
			for _, o := range asked.Option {
				switch o := o.(type) {
				case *dns.EDNS0_NSID:
					opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: fmt.Sprintf("%x", nsid)})
				case *dns.EDNS0_COOKIE:
					opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: o.Cookie + "0123456789abcdef"})
				}
			}
		}
		_ = w.WriteMsg(r)
	}
	mux := dns.NewServeMux()
	mux.HandleFunc("id.server.", answer)
	var conn net.PacketConn
	require.NoError(t, host.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", netip.AddrPortFrom(addr, 53).String())
		return err
	}))
	started, done := make(chan struct{}), make(chan error, 1)
	server := &dns.Server{PacketConn: conn, Handler: mux, NotifyStartedFunc: func() { close(started) }}
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown())
		require.NoError(t, <-done)
	})
}

// TestDNSOverTwoSites asks a DNS server with a plugin at a alone. The server's
// answers land at b.
func TestDNSOverTwoSites(t *testing.T) {
	lab := netlab.NewTwoSites(t)
	control := lab.Host("control")
	lab.Link(control, lab.A, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.1/30"), B: netip.MustParsePrefix("198.51.100.2/30")})
	lab.Link(control, lab.B, netlab.IfAddrs{A: netip.MustParsePrefix("198.51.100.5/30"), B: netip.MustParsePrefix("198.51.100.6/30")})
	for _, target := range []netip.Addr{lab.Target4, lab.Target6} {
		serveDNS(t, lab.Target, target, "fra1", "ns1.fra")
	}
	plugin := filepath.Join(t.TempDir(), "dns")
	out, err := exec.Command("go", "build", "-o", plugin, "./plugin-dns").CombinedOutput()
	require.NoError(t, err, string(out))

	controller, _ := startController(t, control, "--port", "50051", "--insecure")
	sources := []string{"--insecure", "--source", lab.Anycast4.String(), "--source", lab.Anycast6.String()}
	startAgent(t, lab.A, controller, "a", controllerFromA, append(sources, "--plugin", plugin)...)
	startAgent(t, lab.B, controller, "b", controllerFromB, sources...)

	for target, hops := range map[netip.Addr][5]netip.Addr{lab.Target4: lab.Hops4, lab.Target6: lab.Hops6} {
		for options, says := range map[string]string{
			"":                      "site=fra1",
			"-o nsid=true":          "site=fra1,nsid=ns1.fra",
			"-o name=hostname.bind": "rcode=REFUSED", // the server has no such name
		} {
			args := append([]string{"-c", "127.0.0.1:50051", "a", target.String(), "-n", "-P", "dns"}, strings.Fields(options)...)
			status, stdout, stderr := run(t, control, "simple-client", args...)
			require.Zero(t, status, stderr)
			t.Log("\n" + stdout)
			for i, receiver := range []string{"a", "a", "b", "b", "b [" + says + "]"} {
				require.Contains(t, stdout, fmt.Sprintf("\n%d  %s %s  ", i+1, hops[i], receiver))
			}
			require.NotContains(t, stdout, "*")
		}
		status, stdout, stderr := run(t, control, "simple-client", "-c", "127.0.0.1:50051", "a", target.String(), "-n", "-P", "dns", "-f", "64", "-m", "64")
		require.Zero(t, status, stderr)
		require.Contains(t, stdout, fmt.Sprintf("\n64  %s b [site=fra1]  ", target))
	}
}
