package ingress_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// cert writes the pair NAME.crt, NAME.key for the hosts and returns both.
func (w *world) cert(t *testing.T, name string, expires time.Time, hosts ...string) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: expires.Add(-time.Hour), NotAfter: expires}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	require.NoError(t, os.WriteFile(filepath.Join(w.certs, name+".crt"), []byte(certPEM), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(w.certs, name+".key"), []byte(keyPEM), 0o600))
	return certPEM, keyPEM
}

// work publishes what was asked for and returns the ids.
func (w *world) work(t *testing.T) []string {
	t.Helper()
	rows, err := w.Owner.Query(t.Context(), `DELETE FROM river_job WHERE kind = 'publish_item' RETURNING args->>'id'`)
	require.NoError(t, err)
	asked := []string{}
	var id string
	for rows.Next() {
		require.NoError(t, rows.Scan(&id))
		asked = append(asked, id)
	}
	require.NoError(t, rows.Err())
	for _, id := range asked {
		require.NoError(t, w.publisher.Publish(t.Context(), snapshot.KindDomain, id))
	}
	return asked
}

// shown is what a gateway sees of the domain; nil is a tombstone.
func (w *world) shown(t *testing.T, id string) *snapshot.Domain {
	t.Helper()
	var deleted bool
	var body []byte
	require.NoError(t, w.Gateway.QueryRow(t.Context(), `
		SELECT deleted, body FROM published_item WHERE kind = 'domain' AND id = $1`, id).Scan(&deleted, &body))
	if deleted {
		require.Empty(t, body)
		return nil
	}
	view := new(snapshot.Domain)
	require.NoError(t, json.Unmarshal(body, view))
	return view
}

func (w *world) requireConverged(t *testing.T) {
	t.Helper()
	require.NoError(t, w.publisher.Reconcile(t.Context()))
	require.Empty(t, w.work(t))
}

func soon() time.Time { return time.Now().Add(time.Minute) }

func TestAnHTTPSDomainIsPublishedWithItsCertificateAndTheSealedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	certPEM, keyPEM := w.cert(t, "api", soon(), "api.example.com")
	d, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{
		Name: "API.Example.com", Protocol: "HTTPS", ForceHTTPS: true, CertIdentifier: "api", TLSMin: "TLS 1.2", TLSMax: "TLS1.3",
	})
	require.NoError(t, err)
	require.True(t, ids.Valid(ids.Domain, d.ID))
	require.Equal(t, "api.example.com", d.Name)
	require.Equal(t, "GlobalConfig", d.HTTP2)
	got, err := w.ingress.GetDomain(t.Context(), account, d.ID)
	require.NoError(t, err)
	require.Equal(t, d, got)

	require.Equal(t, []string{d.ID}, w.work(t))
	view := w.shown(t, d.ID)
	opened, err := w.snapshot.Open(snapshot.DomainKeyPurpose(d.ID), view.SealedKey)
	require.NoError(t, err)
	require.Equal(t, keyPEM, opened.Reveal())
	_, err = tls.X509KeyPair([]byte(view.CertPEM), []byte(opened.Reveal()))
	require.NoError(t, err)
	view.SealedKey = nil
	require.Equal(t, &snapshot.Domain{
		ID: d.ID, Name: "api.example.com", ForceHTTPS: true, HTTP2: true, CertPEM: certPEM,
		MinTLS: tls.VersionTLS12, MaxTLS: tls.VersionTLS13,
	}, view)

	var stored string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT d::text || encode(cert_key_sealed, 'escape') || (SELECT string_agg(convert_from(body, 'UTF8'), '') FROM published_item)
		FROM domain d`).Scan(&stored))
	require.NotContains(t, stored, "PRIVATE KEY")
	w.requireConverged(t)
}

func TestADomainFollowsItsUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, _ := w.cert(t, "wild", soon(), "*.example.com")
	d, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{Name: "*.example.com", Protocol: "HTTP"})
	require.NoError(t, err)
	w.work(t)
	require.Equal(t, &snapshot.Domain{ID: d.ID, Name: "*.example.com"}, w.shown(t, d.ID))
	update := func(change ingress.DomainChange) *snapshot.Domain {
		require.NoError(t, w.ingress.UpdateDomain(t.Context(), account, d.ID, change))
		require.Equal(t, []string{d.ID}, w.work(t))
		return w.shown(t, d.ID)
	}
	view := update(ingress.DomainChange{Protocol: to("HTTPS"), CertIdentifier: to("wild"), ForceHTTPS: to(true)})
	require.Equal(t, old, view.CertPEM)
	require.True(t, view.ForceHTTPS)

	renewed, _ := w.cert(t, "wild", soon().Add(time.Minute), "*.example.com")
	require.Equal(t, old, update(ingress.DomainChange{HTTP2: to("Close"), TLSMin: to("TLS1.3")}).CertPEM, "the pair is read when it is named")
	view = update(ingress.DomainChange{CertIdentifier: to("wild")})
	require.Equal(t, renewed, view.CertPEM)
	require.False(t, view.HTTP2)
	require.EqualValues(t, tls.VersionTLS13, view.MinTLS)

	for name, c := range map[string]struct {
		change ingress.DomainChange
		want   string
	}{
		"no certificate":    {ingress.DomainChange{CertIdentifier: to("")}, "MissingParameter"},
		"unknown pair":      {ingress.DomainChange{CertIdentifier: to("unknown")}, "there is no pair"},
		"bad TLS":           {ingress.DomainChange{TLSMax: to("TLS1.2")}, "tlsMin"},
		"HTTP and its cert": {ingress.DomainChange{Protocol: to("HTTP"), CertIdentifier: to("wild")}, "certIdentifier"},
		"HTTP and forced":   {ingress.DomainChange{Protocol: to("HTTP"), ForceHTTPS: to(true)}, "forceHttps"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, w.ingress.UpdateDomain(t.Context(), account, d.ID, c.change), c.want)
		})
	}
	require.Empty(t, w.work(t), "what is refused publishes nothing")

	require.Equal(t, &snapshot.Domain{ID: d.ID, Name: "*.example.com"}, update(ingress.DomainChange{Protocol: to("HTTP")}))
	got, err := w.ingress.GetDomain(t.Context(), account, d.ID)
	require.NoError(t, err)
	require.Empty(t, got.CertIdentifier)
	w.requireConverged(t)

	require.NoError(t, w.ingress.DeleteDomain(t.Context(), account, d.ID))
	require.Equal(t, []string{d.ID}, w.work(t))
	require.Nil(t, w.shown(t, d.ID))
	_, err = w.ingress.CreateDomain(t.Context(), stranger, ingress.DomainSpec{Name: "*.example.com", Protocol: "HTTP"})
	require.NoError(t, err, "the name is free again")
}

func TestBadDomainsAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cert(t, "api", soon(), "api.example.com")
	w.cert(t, "old", time.Now().Add(-time.Second), "api.example.com")
	require.NoError(t, os.WriteFile(filepath.Join(w.certs, "half.crt"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(w.certs, "junk.crt"), []byte("junk"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(w.certs, "junk.key"), []byte("junk"), 0o600))
	_, err := w.ingress.CreateDomain(t.Context(), stranger, ingress.DomainSpec{Name: "taken.example.com", Protocol: "HTTP"})
	require.NoError(t, err)
	before := w.rows(t)

	for _, name := range []string{
		"", ".", "a..b", ".a", "a.", "-a.com", "a-.com", "a_b.com", "a b.com", "a.com\n", "*", "*.", "a.*.com", "*a.com", "*.*.com",
		"münchen.de", "a.com:80", "http://a.com", "127.0.0.1", "*.base.test", "base.test", "env-0.Base.Test",
		strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 127) + "com",
	} {
		_, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{Name: name, Protocol: "HTTP"})
		require.ErrorIs(t, err, ingress.ErrName, name)
	}
	https := func(change func(*ingress.DomainSpec)) ingress.DomainSpec {
		s := ingress.DomainSpec{Name: "api.example.com", Protocol: "HTTPS", CertIdentifier: "api"}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		spec ingress.DomainSpec
		want string
	}{
		"taken":            {ingress.DomainSpec{Name: "TAKEN.example.com", Protocol: "HTTP"}, "Conflict.DomainNameDuplicate"},
		"protocol":         {https(func(s *ingress.DomainSpec) { s.Protocol = "https" }), "protocol"},
		"no certificate":   {https(func(s *ingress.DomainSpec) { s.CertIdentifier = "" }), "MissingParameter"},
		"no such pair":     {https(func(s *ingress.DomainSpec) { s.CertIdentifier = "none" }), "there is no pair none.crt, none.key"},
		"half a pair":      {https(func(s *ingress.DomainSpec) { s.CertIdentifier = "half" }), "there is no pair"},
		"outside":          {https(func(s *ingress.DomainSpec) { s.CertIdentifier = "../certs/api" }), "does not name a pair"},
		"junk":             {https(func(s *ingress.DomainSpec) { s.CertIdentifier = "junk" }), "no certificate in PEM"},
		"expired":          {https(func(s *ingress.DomainSpec) { s.CertIdentifier = "old" }), "expired"},
		"another name":     {https(func(s *ingress.DomainSpec) { s.Name = "www.example.com" }), "not for www.example.com"},
		"a wildcard":       {https(func(s *ingress.DomainSpec) { s.Name = "*.example.com" }), "not for *.example.com"},
		"HTTP with cert":   {https(func(s *ingress.DomainSpec) { s.Protocol = "HTTP" }), "certIdentifier"},
		"HTTP forced":      {ingress.DomainSpec{Name: "a.com", Protocol: "HTTP", ForceHTTPS: true}, "forceHttps"},
		"HTTP2":            {https(func(s *ingress.DomainSpec) { s.HTTP2 = "on" }), "http2Option"},
		"TLS version":      {https(func(s *ingress.DomainSpec) { s.TLSMin = "SSL3" }), "tlsMin"},
		"TLS max":          {https(func(s *ingress.DomainSpec) { s.TLSMax = "1.3" }), "tlsMax"},
		"TLS upside down":  {https(func(s *ingress.DomainSpec) { s.TLSMin, s.TLSMax = "TLS1.3", "TLS1.2" }), "above tlsMax"},
		"TLS default":      {https(func(s *ingress.DomainSpec) { s.TLSMax = "TLS1.1" }), "above tlsMax"},
		"another group":    {https(func(s *ingress.DomainSpec) { s.ResourceGroupID = "rg" }), "InvalidResourceGroupId.NotFound"},
		"nothing but name": {ingress.DomainSpec{Name: "a.com"}, "protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.ingress.CreateDomain(t.Context(), account, c.spec)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), w.certs)
		})
	}
	_, err = ingress.New(ingress.Config{DB: w.Control}).CreateDomain(t.Context(), account, https(func(*ingress.DomainSpec) {}))
	require.ErrorContains(t, err, "--cert-dir")
	require.Equal(t, before, w.rows(t))
}

func TestGoodDomainNamesAreTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a.com", "localhost", "*.a.com", "xn--mnchen-3ya.de", "1.2.example", "a--b.com", "mybase.test", strings.Repeat("a", 63) + ".com"} {
		_, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{Name: name, Protocol: "HTTP"})
		require.NoError(t, err, name)
	}
	found, total, err := w.ingress.ListDomains(t.Context(), account, ingress.DomainFilter{
		NameLike: "A.com", ResourceGroupID: "rg-default", Page: instance.Page{Number: 2, Size: 1},
	})
	require.NoError(t, err)
	require.Equal(t, 3, total)
	require.Equal(t, "*.a.com", found[0].Name)
}

func TestReconcileFindsTheDomainsThatGatewaysSeeOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	create := func(name string) string {
		d, err := w.ingress.CreateDomain(t.Context(), account, ingress.DomainSpec{Name: name, Protocol: "HTTP"})
		require.NoError(t, err)
		return d.ID
	}
	shown, behind, gone := create("shown.com"), create("behind.com"), create("gone.com")
	w.work(t)
	w.requireConverged(t)
	unseen := create("unseen.com")
	w.exec(t, `UPDATE domain SET version = version + 1 WHERE id = $1`, behind)
	w.exec(t, `DELETE FROM domain WHERE id = $1`, gone)
	w.exec(t, `DELETE FROM river_job`)
	require.NoError(t, w.publisher.Reconcile(t.Context()))
	require.ElementsMatch(t, []string{unseen, behind, gone}, w.work(t))
	require.Nil(t, w.shown(t, gone))
	require.NotNil(t, w.shown(t, shown))
	w.requireConverged(t)
}
