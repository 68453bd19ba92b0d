package gateway_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writeCertificate makes a certificate for 127.0.0.1 and returns its files and who trusts it.
func writeCertificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	certPEM, keyPEM := newCertificate(t)
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	roots = x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(certPEM))
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, keyPEM, 0o600))
	return certFile, keyFile, roots
}

// newCertificate makes a certificate for 127.0.0.1 and the names.
func newCertificate(t testing.TB, names ...string) (certPEM, keyPEM []byte) {
	t.Helper()
	certPEM, keyPEM, err := makeCertificate(names...)
	require.NoError(t, err)
	return certPEM, keyPEM
}

func makeCertificate(names ...string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: names,
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), err
}

func TestStreamsOverTLS(t *testing.T) {
	t.Parallel()
	g := prepareRig(t, newDB(t))
	var roots *x509.CertPool
	g.settings.TLSCert, g.settings.TLSKey, roots = writeCertificate(t)
	g.start()
	g.awaitReady()
	received := make(chan struct{})
	e := newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for k := range 5 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", k)
			_ = http.NewResponseController(w).Flush()
			<-received
		}
	})
	s := g.service(e.addr)
	g.serve(s)
	for _, http2 := range []bool{false, true} {
		client := &http.Client{Timeout: 2 * deadline, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2, DisableKeepAlives: true,
		}}
		resp, err := client.Do(request(t, http.MethodPost, "https://"+g.Addr()+"/services/"+s.ID+"/v1/chat/completions", "{}"))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http2, resp.ProtoMajor == 2)
		lines := bufio.NewScanner(resp.Body)
		for k := range 5 {
			require.True(t, lines.Scan(), lines.Err())
			require.Equal(t, fmt.Sprintf("data: %d", k), lines.Text())
			require.True(t, lines.Scan())
			received <- struct{}{}
		}
		require.False(t, lines.Scan())
		require.NoError(t, lines.Err())
	}
}
