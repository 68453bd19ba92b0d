package modelapi

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Serving is what one gateway process serves of an API.
type Serving struct {
	ProcessID  string
	GatewayID  string // the one gateway that the process serves; "": all
	Revision   *int64 // of the API; 0: none; nil: an earlier one than what is published, and which is not known
	Newest     bool   // it is the deployed one
	ReportedAt time.Time
}

// ServedEverywhere reports whether every gateway process serves the deployed revision, and there is one at all.
func (a *API) ServedEverywhere() bool {
	for _, s := range a.Serving {
		if !s.Newest {
			return false
		}
	}
	return len(a.Serving) > 0
}

// serving compares what the processes have fetched with when the API was published last.
func serving(ctx context.Context, db queryer, s *stored) ([]Serving, error) {
	gateway := s.DeployConfig.GatewayID
	if s.deployed != nil {
		gateway = s.deployed.DeployConfig.GatewayID
	}
	rows, err := db.Query(ctx, `
		SELECT g.process_id, g.gateway_id, g.reported_at,
			g.revision >= coalesce(p.revision, 0) AND NOT $1 = ANY (g.refused),
			CASE WHEN p.deleted THEN 0 ELSE coalesce((convert_from(p.body, 'UTF8')::jsonb ->> 'revision')::bigint, 0) END
		FROM gateway_status g LEFT JOIN published_item p ON p.kind = $2 AND p.id = $1
		WHERE g.gateway_id IN ('', $3) AND g.reported_at > now() - $4::interval
		ORDER BY g.started_at, g.process_id`, s.ID, snapshot.KindModelAPI, gateway, publish.HeardWithin)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Serving, err error) {
		var fetched bool
		var published int64
		err = row.Scan(&r.ProcessID, &r.GatewayID, &r.ReportedAt, &fetched, &published)
		if fetched {
			r.Revision, r.Newest = &published, published == s.DeployedRevision
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what serves %s: %w", s.ID, err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	return found, nil
}
