package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// certificate writes a certificate of 127.0.0.1 and models.example.com that is its own authority, and its key.
func certificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"models.example.com"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
}

func TestVerbsReachAnAPIOverTLSWhoseAuthorityTheyAreTold(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	certificate(t, s.path("api.crt"), s.path("api.key"))
	s.flags = []string{"--tls-cert", s.path("api.crt"), "--tls-key", s.path("api.key")}
	api := s.controlPlane("api")
	list := func(environment ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, "engineshed"), "instance", "list")
		cmd.Env = append([]string{
			"ENGINESHED_ENDPOINT=https://" + api.addr, "ENGINESHED_ACCESS_KEY_ID=" + rootKey.id, "ENGINESHED_ACCESS_KEY_SECRET=" + rootKey.secret,
		}, environment...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := list("SSL_CERT_FILE=" + s.path("api.crt"))
	require.NoError(t, err, out)
	require.Equal(t, 1, strings.Count(out, "\n"), "the heading: %s", out)
	out, err = list()
	require.Error(t, err)
	require.Contains(t, out, "certificate")
}
