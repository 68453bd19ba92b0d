package ingress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// pair is a certificate with its key, sealed for the gateways. An HTTP domain has an empty one.
type pair struct {
	certPEM   string
	sealedKey []byte
}

// certName keeps a CertIdentifier inside the certificate directory.
var certName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// pairOf reads the domain's pair and checks that it covers the domain today.
func (i *Ingress) pairOf(d Domain) (pair, error) {
	if d.Protocol == HTTP {
		return pair{sealedKey: []byte{}}, nil
	}
	certPEM, keyPEM, err := i.readPair(d.CertIdentifier)
	if err != nil {
		return pair{}, err
	}
	loaded, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return pair{}, badCert("the files %s.crt and %[1]s.key hold no certificate in PEM with the key that belongs to it.", d.CertIdentifier)
	}
	if err := covers(loaded.Leaf, d); err != nil {
		return pair{}, err
	}
	sealed, err := i.snapshot.Seal(snapshot.DomainKeyPurpose(d.ID), secret.New(string(keyPEM)))
	return pair{string(certPEM), sealed}, err
}

func badCert(format string, args ...any) error {
	return fault.InvalidParameter("certIdentifier", fmt.Sprintf(format, args...))
}

func (i *Ingress) readPair(name string) (certPEM, keyPEM []byte, err error) {
	if i.certDir == "" {
		return nil, nil, badCert("this control plane has no certificate directory; start it with --cert-dir.")
	}
	if !certName.MatchString(name) {
		return nil, nil, badCert("%.80q does not name a pair of files NAME.crt and NAME.key.", name)
	}
	certPEM, err = os.ReadFile(filepath.Join(i.certDir, name+".crt"))
	if err == nil {
		keyPEM, err = os.ReadFile(filepath.Join(i.certDir, name+".key"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, badCert("there is no pair %s.crt, %[1]s.key in the certificate directory of the control plane.", name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate %s: %w", name, err)
	}
	return certPEM, keyPEM, nil
}

func covers(leaf *x509.Certificate, d Domain) error {
	if now := time.Now(); now.After(leaf.NotAfter) {
		return badCert("the certificate %s expired at %s.", d.CertIdentifier, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	wildcard := strings.HasPrefix(d.Name, "*.")
	if wildcard && slices.ContainsFunc(leaf.DNSNames, func(name string) bool { return strings.EqualFold(name, d.Name) }) {
		return nil
	}
	if wildcard || leaf.VerifyHostname(d.Name) != nil {
		return badCert("the certificate %s is for %s, not for %s.", d.CertIdentifier, strings.Join(leaf.DNSNames, ", "), d.Name)
	}
	return nil
}

var tlsVersions = map[string]uint16{
	"":       0,
	"TLS1.0": tls.VersionTLS10,
	"TLS1.1": tls.VersionTLS11,
	"TLS1.2": tls.VersionTLS12,
	"TLS1.3": tls.VersionTLS13,
}

// defaultTLSMin is what gateways ask for where a domain says nothing.
const defaultTLSMin uint16 = tls.VersionTLS12

// tlsVersion reads "TLS1.2" or "TLS 1.2".
func tlsVersion(parameter, text string) (uint16, error) {
	version, known := tlsVersions[strings.Replace(text, "TLS ", "TLS", 1)]
	if !known {
		return 0, fault.InvalidParameter(parameter, "it must be TLS1.0, TLS1.1, TLS1.2 or TLS1.3.")
	}
	return version, nil
}
