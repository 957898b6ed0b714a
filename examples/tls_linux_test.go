package examples_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority issues certificates into a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   string // the file with its own certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = template("authority")
	a.cert.IsCA, a.cert.BasicConstraintsValid, a.cert.KeyUsage = true, true, x509.KeyUsageCertSign
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.ca = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

// issue returns the arguments that name a new certificate and its key.
func (a *authority) issue(name string, addrs ...net.IP) []string {
	a.t.Helper()
	c, key := template(name), newKey(a.t)
	c.IPAddresses = addrs
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	return []string{
		"--cert", a.write(name+".pem", "CERTIFICATE", der),
		"--key", a.write(name+".key", "PRIVATE KEY", private),
	}
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

var loopback = net.IPv4(127, 0, 0, 1)

// Who is let in, seen by a client: the controller answers that it knows no
// such agent, or the connection fails.
func TestTLSClient(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	server := ours.issue("controller", loopback)
	_, open := startController(t, nil, append([]string{"--port", "0"}, server...)...)
	_, closed := startController(t, nil, append([]string{"--port", "0", "--ca", ours.ca}, server...)...)
	_, elsewhere := startController(t, nil, append(ours.issue("elsewhere", net.IPv4(192, 0, 2, 1)), "--port", "0")...)
	_, plain := startController(t, nil, "--port", "0")
	const in = `unknown agent "nobody"`
	for name, tt := range map[string]struct {
		controller string
		args       []string
		stderr     string
	}{
		"authority":                       {open, []string{"--ca", ours.ca}, in},
		"needless certificate":            {open, append(ours.issue("client"), "--ca", ours.ca), in},
		"no authority":                    {open, ours.issue("client"), "unknown authority"},
		"another authority":               {open, []string{"--ca", other.ca}, "unknown authority"},
		"another host's certificate":      {elsewhere, []string{"--ca", ours.ca}, "certificate is valid for 192.0.2.1, not 127.0.0.1"},
		"plain text to TLS":               {open, nil, "simple-client: controller "},
		"TLS to plain text":               {plain, []string{"--ca", ours.ca}, "first record does not look like a TLS handshake"},
		"client certificate":              {closed, append(ours.issue("client"), "--ca", ours.ca), in},
		"no client certificate":           {closed, []string{"--ca", ours.ca}, "simple-client: controller "},
		"another authority's certificate": {closed, append(other.issue("client"), "--ca", ours.ca), "simple-client: controller "},
	} {
		t.Run(name, func(t *testing.T) {
			_, port, err := net.SplitHostPort(tt.controller)
			require.NoError(t, err)
			args := append([]string{"-c", net.JoinHostPort("127.0.0.1", port)}, tt.args...)
			status, stdout, stderr := run(t, nil, "simple-client", append(args, "nobody", "127.0.0.1")...)
			require.Equal(t, 1, status)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.stderr)
			if tt.stderr != in {
				require.NotContains(t, stderr, "unknown agent")
			}
		})
	}
}

// A whole measurement where everybody shows a certificate.
func TestTLSFleet(t *testing.T) {
	needPort(t)
	ours := newAuthority(t)
	with := func(name string) []string { return append(ours.issue(name, loopback), "--ca", ours.ca) }
	controller, addr := startController(t, nil, append(with("controller"), "--listen", "127.0.0.1:0")...)
	startAgent(t, nil, controller, "here", addr, with("agent")...)
	status, stdout, stderr := run(t, nil, "simple-client", append(append(with("client"), "-c", addr), "here", "127.0.0.1", "-n")...)
	require.Zero(t, status, stderr)
	require.Contains(t, stdout, "\n1  127.0.0.1 here  ")

	stranger := start(t, nil, "simple-agent", "-i", "stranger", "-c", addr, "--ca", ours.ca)
	stranger.await(&stranger.stderr, "trying again", 2)
	status, _, stderr = run(t, nil, "simple-client", append(append(with("client"), "-c", addr), "stranger", "127.0.0.1")...)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, `unknown agent "stranger": connected are [here]`)
}
