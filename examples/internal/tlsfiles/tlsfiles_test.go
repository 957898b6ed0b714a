package tlsfiles_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"bitbucket.org/uwpatio/voltadomar/examples/internal/tlsfiles"
)

// files writes a certificate, its key, another key and an empty file.
func files(t *testing.T) (cert, key, otherKey, empty string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	newKey := func(name string) (*ecdsa.PrivateKey, string) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(k)
		require.NoError(t, err)
		return k, write(name, "PRIVATE KEY", der)
	}
	k, key := newKey("key.pem")
	_, otherKey = newKey("other.pem")
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	require.NoError(t, err)
	empty = filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	return write("cert.pem", "CERTIFICATE", der), key, otherKey, empty
}

func parse(t *testing.T, args ...string) *tlsfiles.Flags {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := tlsfiles.Add(fs, "vouch for the test")
	require.NoError(t, fs.Parse(args))
	return f
}

func TestPlainText(t *testing.T) {
	f := parse(t)
	for _, make := range []func() (*tls.Config, error){f.Server, f.Client} {
		c, err := make()
		require.NoError(t, err)
		require.Nil(t, c)
	}
}

func TestConfigs(t *testing.T) {
	cert, key, _, _ := files(t)
	pair := []string{"--cert", cert, "--key", key}

	c, err := parse(t, pair...).Server()
	require.NoError(t, err)
	require.Len(t, c.Certificates, 1)
	require.Equal(t, tls.NoClientCert, c.ClientAuth)

	c, err = parse(t, append(pair, "--ca", cert)...).Server()
	require.NoError(t, err)
	require.Equal(t, tls.RequireAndVerifyClientCert, c.ClientAuth)
	require.NotNil(t, c.ClientCAs)

	c, err = parse(t, "--ca", cert).Client()
	require.NoError(t, err)
	require.Empty(t, c.Certificates)
	require.NotNil(t, c.RootCAs)

	c, err = parse(t, pair...).Client()
	require.NoError(t, err)
	require.Len(t, c.Certificates, 1)
	require.Nil(t, c.RootCAs, "the system's")
}

func TestErrorsNameTheFile(t *testing.T) {
	cert, key, otherKey, empty := files(t)
	for name, tt := range map[string]struct {
		args []string
		err  []string
	}{
		"certificate without key":    {[]string{"--cert", cert}, []string{"--key is missing"}},
		"key without certificate":    {[]string{"--key", key}, []string{"--cert"}},
		"no such certificate":        {[]string{"--cert", "/nonexistent", "--key", key}, []string{"--cert", "/nonexistent"}},
		"no such key":                {[]string{"--cert", cert, "--key", "/nonexistent"}, []string{"--key", "/nonexistent"}},
		"another certificate's key":  {[]string{"--cert", cert, "--key", otherKey}, []string{cert, otherKey, "does not match"}},
		"certificate instead of key": {[]string{"--cert", cert, "--key", cert}, []string{"--key", cert}},
		"no such authority":          {[]string{"--cert", cert, "--key", key, "--ca", "/nonexistent"}, []string{"--ca", "/nonexistent"}},
		"authority without PEM":      {[]string{"--cert", cert, "--key", key, "--ca", empty}, []string{"--ca", empty, "no PEM certificate"}},
		"authority is a key":         {[]string{"--cert", cert, "--key", key, "--ca", key}, []string{"--ca", key, "no PEM certificate"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := parse(t, tt.args...)
			for _, make := range []func() (*tls.Config, error){f.Server, f.Client} {
				c, err := make()
				require.Error(t, err)
				require.Nil(t, c, "nothing that could be used by mistake")
				for _, s := range tt.err {
					require.ErrorContains(t, err, s)
				}
			}
		})
	}
	_, err := parse(t, "--ca", cert).Server()
	require.ErrorContains(t, err, "--cert and --key")
}
