package aiservice

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

var _ publish.Source = (*Services)(nil)

// Kind names the published items that are made here.
func (*Services) Kind() string { return snapshot.KindAIService }

// Compile renders the service as gateways see it, and locks its row until the transaction ends.
func (*Services) Compile(ctx context.Context, tx pgx.Tx, id string) (item publish.Item, ready bool, err error) {
	item = publish.Item{Kind: snapshot.KindAIService, ID: id}
	r := row{id: id}
	err = tx.QueryRow(ctx, `
		SELECT version, name, source_type, addresses, model_service_id, config, published_keys
		FROM ai_service WHERE id = $1 FOR UPDATE`, id).Scan(
		&item.SourceVersion, &r.name, &r.sourceType, &r.addresses, &r.modelServiceID, &r.config, &r.keys.published)
	if errors.Is(err, pgx.ErrNoRows) {
		return item, true, nil
	}
	if err != nil {
		return item, false, err
	}
	view, err := r.view()
	if err != nil {
		return item, false, err
	}
	if err := view.Validate(); err != nil {
		return item, false, err
	}
	item.Body, err = snapshot.Encode(view)
	return item, true, err
}

// view is what gateways see of the service.
func (r *row) view() (*snapshot.AIService, error) {
	view := &snapshot.AIService{ID: r.id, Name: r.name, ModelServiceID: r.modelServiceID}
	switch r.sourceType {
	case DNS, VIP:
		for _, address := range r.addresses {
			view.URLs = append(view.URLs, scheme(address)+"://"+address)
		}
	case AI:
		p, known := provider(r.config.Provider)
		if !known {
			return nil, fmt.Errorf("service %s: the provider %q is unknown", r.id, r.config.Provider)
		}
		u, err := url.Parse(r.config.Address)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", r.id, err)
		}
		u.Path, view.Paths = p.at(u.Path)
		view.URLs = []string{u.String()}
		view.KeyHeader, view.KeyPrefix, view.Headers = p.KeyHeader, p.KeyPrefix, p.Headers
		view.SealedKeys, view.DefaultModel = r.keys.published, r.config.DefaultModelName
	}
	return view, nil
}

// scheme is how a plain address is spoken to: with TLS on its port.
func scheme(address string) string {
	if strings.HasSuffix(address, ":443") {
		return "https"
	}
	return "http"
}

// Stale returns the services that gateways see otherwise than they are.
func (*Services) Stale(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT s.id FROM ai_service s
		LEFT JOIN published_item p ON p.kind = $1 AND p.id = s.id
		WHERE p.source_version IS DISTINCT FROM s.version
		UNION ALL
		SELECT p.id FROM published_item p
		WHERE p.kind = $1 AND NOT p.deleted AND NOT EXISTS (SELECT FROM ai_service s WHERE s.id = p.id)`, snapshot.KindAIService)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
