package config

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// Domain is a host name of Model APIs.
type Domain struct {
	*snapshot.Domain
	TLS *tls.Config // nil: it has no certificate
	source
}

// Domain returns the domain that a host name belongs to, nil when none claims it.
func (c *Config) Domain(host string) *Domain {
	d, _ := c.names.Find(host)
	return d
}

func (b *builder) domain(item Item, _ *Domain) (*Domain, error) {
	published := new(snapshot.Domain)
	if err := decode(item, published, &published.ID); err != nil {
		return nil, err
	}
	if published.Name == "" {
		return nil, errors.New("a domain without a name")
	}
	d := &Domain{Domain: published, source: sourceOf(item)}
	if published.CertPEM == "" {
		return d, nil
	}
	key, err := b.box.Open(snapshot.DomainKeyPurpose(published.ID), published.SealedKey)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair([]byte(published.CertPEM), []byte(key.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("domain %s: %w", published.ID, err)
	}
	d.TLS = &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   cmp.Or(published.MinTLS, tls.VersionTLS12),
		MaxVersion:   published.MaxTLS,
		NextProtos:   []string{"http/1.1"},
	}
	if published.HTTP2 {
		d.TLS.NextProtos = []string{"h2", "http/1.1"}
	}
	return d, nil
}
