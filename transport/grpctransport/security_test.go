package grpctransport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/transport"
	"bitbucket.org/uwpatio/voltadomar/transport/grpctransport"
)

// pki is a certificate authority with one certificate for each side.
type pki struct {
	pool         *x509.CertPool
	serverC, agC tls.Certificate
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		return k
	}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
	}
	caKey, ca := key(), template(1, "authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	require.NoError(t, err)
	ca, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	issue := func(serial int64, name string) tls.Certificate {
		k := key()
		der, err := x509.CreateCertificate(rand.Reader, template(serial, name), ca, k.Public(), caKey)
		require.NoError(t, err)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	}
	p := &pki{pool: x509.NewCertPool(), serverC: issue(2, "controller"), agC: issue(3, "agent")}
	p.pool.AddCert(ca)
	return p
}

func (p *pki) server(mutual bool) *tls.Config {
	cfg := &tls.Config{Certificates: []tls.Certificate{p.serverC}}
	if mutual {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, p.pool
	}
	return cfg
}

func (p *pki) client(mutual bool) *tls.Config {
	cfg := &tls.Config{RootCAs: p.pool}
	if mutual {
		cfg.Certificates = []tls.Certificate{p.agC}
	}
	return cfg
}

func TestTLS(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	for _, test := range []struct {
		name   string
		mutual bool
		client *tls.Config
		err    string // empty: it works
	}{
		{"tls", false, p.client(false), ""},
		{"client certificate not asked for", false, p.client(true), ""},
		{"mutual", true, p.client(true), ""},
		// In TLS 1.3 a client may find the connection closed before it reads why.
		{"mutual without a certificate", true, p.client(false), "dial controller"},
		{"mutual with another authority's certificate", true, &tls.Config{RootCAs: p.pool, Certificates: []tls.Certificate{other.agC}}, "dial controller"},
		{"another authority's controller", false, other.client(false), "unknown authority"},
		{"plain text to TLS", false, nil, "controller"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := listen(t, grpctransport.ServerConfig{TLS: p.server(test.mutual), Users: &users{}})
			client := newClient(t, grpctransport.ClientConfig{Addr: s.Addr().String(), TLS: test.client})
			d := newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String(), TLS: test.client})
			if test.err == "" {
				connect(t, s, d)
				_, err := client.Agents(within(t))
				require.NoError(t, err)
				return
			}
			_, err := d.Dial(within(t))
			require.ErrorContains(t, err, test.err)
			_, err = client.Agents(within(t))
			require.Error(t, err)
		})
	}
}

func TestTLSToPlain(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{})
	d := newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String(), TLS: newPKI(t).client(false)})
	_, err := d.Dial(within(t))
	require.ErrorContains(t, err, "TLS handshake")
}

func TestPlainTextBeyondLoopback(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "example.com:0", "localhost.example.com:0", "[::ffff:192.0.2.1]:0"} {
		t.Run("listen "+addr, func(t *testing.T) {
			_, err := grpctransport.Listen(grpctransport.ServerConfig{Addr: addr})
			require.ErrorIs(t, err, transport.ErrInsecure)
			require.ErrorContains(t, err, addr)
			require.ErrorContains(t, err, "Insecure (--insecure)")
		})
		t.Run("dial "+addr, func(t *testing.T) {
			cfg := grpctransport.ClientConfig{Addr: addr}
			_, err := grpctransport.NewDialer(cfg)
			require.ErrorIs(t, err, transport.ErrInsecure)
			require.ErrorContains(t, err, addr)
			require.ErrorContains(t, err, "Insecure (--insecure)")
			_, err = grpctransport.NewClient(cfg)
			require.ErrorIs(t, err, transport.ErrInsecure)

			cfg.Insecure = true
			require.NoError(t, newDialer(t, cfg).Close())
			cfg.Insecure, cfg.TLS = false, &tls.Config{}
			require.NoError(t, newClient(t, cfg).Close())
		})
	}
	t.Run("a listener on all addresses", func(t *testing.T) {
		l, err := net.Listen("tcp", "0.0.0.0:0")
		require.NoError(t, err)
		_, err = grpctransport.Listen(grpctransport.ServerConfig{Listener: l})
		require.ErrorIs(t, err, transport.ErrInsecure)
	})
}

func TestPlainTextOnLoopback(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "localhost:0", "[::ffff:127.0.0.1]:0"} {
		t.Run(addr, func(t *testing.T) {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Skipf("this host has no %s: %v", addr, err)
			}
			require.NoError(t, l.Close())
			s := listen(t, grpctransport.ServerConfig{Addr: addr})
			connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: s.Addr().String()}))
		})
	}
}

func TestPlainTextAllowed(t *testing.T) {
	s := listen(t, grpctransport.ServerConfig{Addr: "0.0.0.0:0", Insecure: true})
	_, port, err := net.SplitHostPort(s.Addr().String())
	require.NoError(t, err)
	connect(t, s, newDialer(t, grpctransport.ClientConfig{Addr: net.JoinHostPort("localhost", port)}))
}

func TestAddressWithoutPort(t *testing.T) {
	_, err := grpctransport.Listen(grpctransport.ServerConfig{Addr: "127.0.0.1"})
	require.ErrorContains(t, err, `"127.0.0.1": want host:port`)
	_, err = grpctransport.NewDialer(grpctransport.ClientConfig{Addr: "localhost"})
	require.ErrorContains(t, err, `"localhost": want host:port`)
}
