package modelservice

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// reconcileLock lets one worker of all reconcile at a time.
const reconcileLock = 7054

// Reconcile inserts a job for every row that differs from what it should be and that no step is working on. It finds
// what a lost job, a killed worker or a hand in the database left behind, and writes nothing in a converged world.
func (s *Services) Reconcile(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, reconcileLock).Scan(&mine); err != nil || !mine {
			return err
		}
		if err := s.reconcileReplicas(ctx, tx); err != nil {
			return fmt.Errorf("reconcile replicas: %w", err)
		}
		if err := s.reconcileServices(ctx, tx); err != nil {
			return fmt.Errorf("reconcile services: %w", err)
		}
		if err := s.reconcilePublications(ctx, tx); err != nil {
			return fmt.Errorf("reconcile publications: %w", err)
		}
		return nil
	})
}

// reconcileReplicas finds the replicas that wait for a step. The running ones are watched by their hosts.
func (s *Services) reconcileReplicas(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT id, host FROM replica
		WHERE lease_until < now() AND (status IN ('pending', 'removing') OR status = 'failed' AND restart_at <= now())`)
	if err != nil {
		return err
	}
	waiting, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r plannedReplica, err error) {
		return r, row.Scan(&r.id, &r.host)
	})
	if err != nil || len(waiting) == 0 {
		return err
	}
	return s.enqueueSteps(ctx, tx, waiting)
}

// reconcileServices gives a service the replicas it lacks, and removes a deleted one that has none left.
func (s *Services) reconcileServices(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT s.id FROM model_service s
		WHERE s.status = 'deleting' AND NOT EXISTS (SELECT FROM replica r WHERE r.model_service_id = s.id)
		FOR UPDATE SKIP LOCKED`)
	if err != nil {
		return err
	}
	done, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range done {
		if err := removeService(ctx, tx, id); err != nil {
			return err
		}
	}
	return s.restoreReplicas(ctx, tx)
}

// restoreReplicas inserts the replicas that a service should have and has not, on bound nodes that hold none.
func (s *Services) restoreReplicas(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT s.id, missing.ordinal, spare.name, spare.host
		FROM model_service s
		CROSS JOIN LATERAL (
			SELECT g AS ordinal, row_number() OVER (ORDER BY g) AS nth FROM generate_series(0, s.replicas - 1) g
			WHERE NOT EXISTS (SELECT FROM replica r WHERE r.model_service_id = s.id AND r.ordinal = g)) missing
		JOIN LATERAL (
			SELECT n.name, n.host, row_number() OVER (ORDER BY n.name) AS nth FROM ai_node n
			WHERE n.model_service_id = s.id
				AND NOT EXISTS (SELECT FROM replica r WHERE r.model_service_id = s.id AND r.node_name = n.name)) spare
			ON spare.nth = missing.nth
		WHERE s.status <> 'deleting'`)
	if err != nil {
		return err
	}
	type gap struct {
		serviceID string
		ordinal   int
		node      string
		host      string
	}
	gaps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g gap, err error) {
		return g, row.Scan(&g.serviceID, &g.ordinal, &g.node, &g.host)
	})
	if err != nil {
		return err
	}
	for _, g := range gaps {
		r, err := s.planReplica(g.node)
		if err != nil {
			return err
		}
		r.host = g.host
		if _, err := tx.Exec(ctx, `
			INSERT INTO replica (id, model_service_id, ordinal, node_name, host, status, engine_key_sealed, published_key)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT DO NOTHING`,
			r.id, g.serviceID, g.ordinal, r.node, r.host, pending, r.sealedKey, r.publishedKey); err != nil {
			return err
		}
		if err := s.enqueueSteps(ctx, tx, []plannedReplica{r}); err != nil {
			return err
		}
	}
	return nil
}

// reconcilePublications finds the services that gateways see otherwise than they are.
func (s *Services) reconcilePublications(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT s.id FROM model_service s
		LEFT JOIN published_item p ON p.kind = 'model_service' AND p.id = s.id
		WHERE p.source_version IS DISTINCT FROM s.version
			AND (p.id IS NOT NULL OR EXISTS (SELECT FROM replica r WHERE r.model_service_id = s.id AND r.status = 'active'))
		UNION ALL
		SELECT p.id FROM published_item p
		WHERE p.kind = 'model_service' AND NOT p.deleted AND NOT EXISTS (SELECT FROM model_service s WHERE s.id = p.id)`)
	if err != nil {
		return err
	}
	stale, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range stale {
		if err := s.enqueuePublish(ctx, tx, id); err != nil {
			return err
		}
	}
	return nil
}
