package plugins

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	goplugin "github.com/hashicorp/go-plugin"

	"bitbucket.org/uwpatio/voltadomar/plugins/internal/contract"
)

// handshake is the line that a plugin prints when it is ready.
type handshake struct {
	version     int
	address     string
	certificate string // DER in base64 without padding
}

// looksLikeHandshake tells the line from what else may be printed.
func looksLikeHandshake(line string) bool {
	fields := strings.Split(line, "|")
	_, err := strconv.ParseUint(fields[0], 10, 16)
	return err == nil && len(fields) >= 4
}

// network is what plugins listen on.
var network = map[bool]string{false: "unix", true: "tcp"}[runtime.GOOS == "windows"]

// parseHandshake reads the line. The error is [ErrVersion] or [ErrProtocol].
func parseHandshake(line string) (*handshake, error) {
	fields := strings.Split(strings.TrimSpace(line), "|")
	bad := func(what, want string) error {
		return fmt.Errorf("%w: handshake %.200q: %s, want %s", ErrProtocol, line, what, want)
	}
	if fields[0] != strconv.Itoa(goplugin.CoreProtocolVersion) {
		return nil, fmt.Errorf("%w: the handshake is of version %.20q, this host knows %d", ErrVersion, fields[0], goplugin.CoreProtocolVersion)
	}
	if len(fields) < 5 {
		return nil, bad(fmt.Sprintf("%d fields", len(fields)), "6")
	}
	h := &handshake{address: fields[3]}
	var err error
	if h.version, err = strconv.Atoi(fields[1]); err != nil {
		return nil, bad("a version that is no number", strconv.Itoa(contract.Version))
	}
	if h.version != contract.Version {
		return nil, fmt.Errorf("%w: the plugin speaks version %d, this host %d: build the plugin anew, or run another version of the agent", ErrVersion, h.version, contract.Version)
	}
	switch {
	case fields[2] != network:
		return nil, bad(fmt.Sprintf("network %.20q", fields[2]), network)
	case fields[4] != string(goplugin.ProtocolGRPC):
		return nil, bad(fmt.Sprintf("protocol %.20q", fields[4]), string(goplugin.ProtocolGRPC))
	case len(fields) < 6:
		return nil, bad("no certificate", "one: the connection is always with TLS")
	}
	h.certificate = fields[5]
	der, err := base64.RawStdEncoding.DecodeString(h.certificate)
	if err == nil {
		_, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, bad("no certificate ("+contract.Line(err.Error(), 100)+")", "one in DER, in base64 without padding")
	}
	return h, nil
}

// check makes sure that the plugin listens where it was told to, in dir or on
// loopback.
func (h *handshake) check(dir string) error {
	if network == "unix" {
		if filepath.Dir(h.address) != filepath.Clean(dir) {
			return fmt.Errorf("%w: it listens on %.200q, want a socket in %s", ErrProtocol, h.address, dir)
		}
		return nil
	}
	addr, err := netip.ParseAddrPort(h.address)
	if err != nil || !addr.Addr().IsLoopback() {
		return fmt.Errorf("%w: it listens on %.200q, want a port of 127.0.0.1", ErrProtocol, h.address)
	}
	return nil
}

// line is the handshake as go-plugin reads it.
func (h *handshake) line() string {
	return fmt.Sprintf("%d|%d|%s|%s|%s|%s\n", goplugin.CoreProtocolVersion, h.version, network, h.address, goplugin.ProtocolGRPC, h.certificate)
}

// certificate returns a new key and certificate for one run of a plugin. They
// are as those of go-plugin's AutoMTLS, but for the curve: many TLS libraries,
// and with them gRPC in most languages, do not know P-521.
func certificate() (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return tls.Certificate{}, "", err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour), // clocks are set
		NotAfter:              time.Now().AddDate(30, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}
