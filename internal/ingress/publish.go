package ingress

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Kind says that domains are what is published of an ingress.
func (i *Ingress) Kind() string { return snapshot.KindDomain }

// Compile renders the domain as gateways see it.
func (i *Ingress) Compile(ctx context.Context, tx pgx.Tx, id string) (item publish.Item, ready bool, err error) {
	item = publish.Item{Kind: snapshot.KindDomain, ID: id}
	view := snapshot.Domain{ID: id}
	var protocol, http2, tlsMin, tlsMax string
	err = tx.QueryRow(ctx, `
		SELECT version, name, protocol, force_https, http2, cert_pem, cert_key_sealed, tls_min, tls_max
		FROM domain WHERE id = $1 FOR NO KEY UPDATE`, id).
		Scan(&item.SourceVersion, &view.Name, &protocol, &view.ForceHTTPS, &http2, &view.CertPEM, &view.SealedKey, &tlsMin, &tlsMax)
	if errors.Is(err, pgx.ErrNoRows) {
		return item, true, nil
	}
	if err != nil {
		return item, false, fmt.Errorf("read the domain: %w", err)
	}
	if protocol == HTTPS {
		view.HTTP2 = http2 != "Close"
		if view.MinTLS, err = tlsVersion("tlsMin", tlsMin); err != nil {
			return item, false, err
		}
		if view.MaxTLS, err = tlsVersion("tlsMax", tlsMax); err != nil {
			return item, false, err
		}
	}
	item.Body, err = snapshot.Encode(view)
	return item, err == nil, err
}

// Stale returns the domains that gateways see otherwise than they are.
func (i *Ingress) Stale(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT d.id FROM domain d LEFT JOIN published_item p ON p.kind = $1 AND p.id = d.id
		WHERE p.deleted IS DISTINCT FROM false OR p.source_version <> d.version
		UNION ALL
		SELECT p.id FROM published_item p
		WHERE p.kind = $1 AND NOT p.deleted AND NOT EXISTS (SELECT FROM domain d WHERE d.id = p.id)`, snapshot.KindDomain)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
