// Package tlsfiles makes TLS configurations from PEM files for the example
// programs.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
)

// Flags are the names of PEM files.
type Flags struct {
	cert, key, ca string
}

// Add declares --cert, --key and --ca; caHelp says whom the CA vouches for.
func Add(fs *pflag.FlagSet, caHelp string) *Flags {
	f := &Flags{}
	fs.StringVar(&f.cert, "cert", "", "`FILE` with this side's TLS certificate (PEM)")
	fs.StringVar(&f.key, "key", "", "`FILE` with its private key (PEM)")
	fs.StringVar(&f.ca, "ca", "", "`FILE` with the CA certificates that "+caHelp+" (PEM)")
	return f
}

// Server returns the configuration of a server, nil without --cert. With --ca
// clients must show a certificate.
func (f *Flags) Server() (*tls.Config, error) {
	if f.cert == "" && f.ca == "" && f.key == "" {
		return nil, nil
	}
	if f.cert == "" {
		return nil, errors.New("TLS needs --cert and --key on the controller")
	}
	c, pool, err := f.load()
	if pool != nil {
		c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return c, err
}

// Client returns the configuration of a client, nil without --ca and --cert.
func (f *Flags) Client() (*tls.Config, error) {
	if f.cert == "" && f.ca == "" && f.key == "" {
		return nil, nil
	}
	c, pool, err := f.load()
	if err == nil {
		c.RootCAs = pool
	}
	return c, err
}

func (f *Flags) load() (*tls.Config, *x509.CertPool, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case f.cert == "" && f.key != "":
		return nil, nil, fmt.Errorf("--key %q: --cert is missing", f.key)
	case f.cert != "" && f.key == "":
		return nil, nil, fmt.Errorf("--cert %q: --key is missing", f.cert)
	case f.cert != "":
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, nil, fmt.Errorf("--cert %q, --key %q: %w", f.cert, f.key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.ca == "" {
		return c, nil, nil
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("--ca %s: no PEM certificate in it", f.ca)
	}
	return c, pool, nil
}
