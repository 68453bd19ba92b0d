package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// domain is a name with a certificate of its own, and who trusts it.
func (r *rig) domain(name string) (snapshot.Domain, *x509.CertPool) {
	r.t.Helper()
	certPEM, keyPEM := newCertificate(r.t, name)
	roots := x509.NewCertPool()
	require.True(r.t, roots.AppendCertsFromPEM(certPEM))
	d := snapshot.Domain{ID: ids.New(ids.Domain), Name: name, CertPEM: string(certPEM)}
	sealed, err := r.box.Seal(snapshot.DomainKeyPurpose(d.ID), secret.New(string(keyPEM)))
	require.NoError(r.t, err)
	d.SealedKey = sealed
	return d, roots
}

// over asks a host over TLS and returns the status and the major version of HTTP.
func (r *rig) over(t *testing.T, host string, config *tls.Config) (status, version int, err error) {
	t.Helper()
	config.ServerName = host
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	ask := request(t, http.MethodGet, "https://"+r.HTTPSAddr()+"/v1/models", "")
	ask.Host = host
	resp, err := transport.RoundTrip(ask)
	if err != nil {
		return 0, 0, err
	}
	return resp.StatusCode, resp.ProtoMajor, resp.Body.Close()
}

func TestDomainsAreServedWithTheirCertificates(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.outside(e.URL)
	one, oneRoots := g.domain("one.example.com")
	one.HTTP2, one.ForceHTTPS = true, true
	wild, wildRoots := g.domain("*.example.com")
	wild.MinTLS = tls.VersionTLS13
	a := apiOf(s.ID, "OpenAI/v1 GET Exact /v1/models")
	a.AnyHost, a.Hosts = false, []string{one.Name, wild.Name}
	private := g.service(e.addr)
	g.serveAll(s, a, one, wild, private)

	status, version, err := g.over(t, "one.example.com", &tls.Config{RootCAs: oneRoots})
	require.NoError(t, err)
	require.Equal(t, []int{200, 2}, []int{status, version})
	status, version, err = g.over(t, "two.example.com", &tls.Config{RootCAs: wildRoots})
	require.NoError(t, err)
	require.Equal(t, []int{200, 1}, []int{status, version}, "HTTP/2 is off")
	_, _, err = g.over(t, "two.example.com", &tls.Config{RootCAs: wildRoots, MaxVersion: tls.VersionTLS12})
	require.Error(t, err)
	_, _, err = g.over(t, "elsewhere.example.org", &tls.Config{InsecureSkipVerify: true})
	require.Error(t, err, "no name, no certificate")
	hidden, err := (&http.Transport{TLSClientConfig: &tls.Config{RootCAs: oneRoots, ServerName: one.Name}, DisableKeepAlives: true}).
		RoundTrip(request(t, http.MethodGet, "https://"+g.HTTPSAddr()+"/services/"+private.ID+"/v1/models", ""))
	require.NoError(t, err)
	defer hidden.Body.Close()
	require.Equal(t, 404, hidden.StatusCode, "private services are not served here")

	g.serveAll(item{kind: snapshot.KindDomain, id: one.ID})
	rotated, newRoots := g.domain("one.example.com")
	g.serveAll(rotated)
	_, _, err = g.over(t, "one.example.com", &tls.Config{RootCAs: oneRoots})
	require.Error(t, err, "the old certificate is gone")
	status, version, err = g.over(t, "one.example.com", &tls.Config{RootCAs: newRoots})
	require.NoError(t, err)
	require.Equal(t, []int{200, 1}, []int{status, version})
}

func TestForcedHTTPSRedirects(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	e := newEngine(t, says("hello"))
	s := g.outside(e.URL)
	forced, _ := g.domain("forced.example.com")
	forced.ForceHTTPS = true
	free, _ := g.domain("free.example.com")
	a := apiOf(s.ID, "OpenAI/v1 GET Exact /v1/models")
	a.AnyHost, a.Hosts = false, []string{forced.Name, free.Name}
	https := a
	https.ID, https.BasePath, https.Schemes = ids.New(ids.HTTPAPI), "/secure", []string{"https"}
	service := g.service(e.addr)
	g.serveAll(s, a, https, forced, free, service)
	ask := func(host, path string) answer {
		r := request(t, http.MethodGet, g.at(path), "")
		r.Host = host
		resp, err := client.Transport.RoundTrip(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		return answer{status: resp.StatusCode, header: resp.Header}
	}
	got := ask("Forced.example.com:80", "/v1/models?a=%20b")
	require.Equal(t, http.StatusPermanentRedirect, got.status)
	_, port, err := net.SplitHostPort(g.HTTPSAddr())
	require.NoError(t, err)
	require.Equal(t, "https://forced.example.com:"+port+"/v1/models?a=%20b", got.header.Get("Location"))
	require.Equal(t, 200, ask("free.example.com", "/v1/models").status)
	require.Equal(t, 404, ask("free.example.com", "/secure/v1/models").status, "HTTPS only")
	require.Equal(t, 200, ask("forced.example.com", "/services/"+service.ID+"/v1/models").status, "services are no part of it")
	require.EqualValues(t, 2, e.calls.Load())
}

func TestServicesCertificateIsVerified(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	answers := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Proto) })
	start := func(certPEM, keyPEM []byte) *httptest.Server {
		certificate, err := tls.X509KeyPair(certPEM, keyPEM)
		require.NoError(t, err)
		server := httptest.NewUnstartedServer(answers)
		server.EnableHTTP2 = true
		server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	trusted, stranger := start(trustedCertificate()), start(newCertificate(t))
	good, bad := g.outside(trusted.URL), g.outside(stranger.URL)
	a, b := apiOf(good.ID, chatRoute), apiOf(bad.ID, chatRoute)
	b.BasePath = "/bad"
	g.serveAll(good, bad, a, b)
	require.Equal(t, "HTTP/2.0", g.chat("{}").body)
	require.Equal(t, 502, do(t, request(t, http.MethodPost, g.at("/bad/v1/chat/completions"), "{}")).status)
}

// trustDirectory holds a certificate that this process trusts as it does those of the system.
var trustDirectory string

// trustCertificate makes it. It must run before the first certificate is verified.
func trustCertificate() error {
	var err error
	if trustDirectory, err = os.MkdirTemp("", "gateway-test-*"); err != nil {
		return err
	}
	certPEM, keyPEM, err := makeCertificate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(trustDirectory, "key.pem"), keyPEM, 0o600); err != nil {
		return err
	}
	file := filepath.Join(trustDirectory, "cert.pem")
	if err := os.WriteFile(file, certPEM, 0o600); err != nil {
		return err
	}
	return os.Setenv("SSL_CERT_FILE", file)
}

func trustedCertificate() (certPEM, keyPEM []byte) {
	certPEM, _ = os.ReadFile(filepath.Join(trustDirectory, "cert.pem"))
	keyPEM, _ = os.ReadFile(filepath.Join(trustDirectory, "key.pem"))
	return certPEM, keyPEM
}
