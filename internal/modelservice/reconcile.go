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

// reconcileServices removes deleted services that have no replica left, and lets those go on that have other replicas
// than they should, or some on a host that is lost or drained.
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
	return s.reconcileArrangements(ctx, tx)
}

func (s *Services) reconcileArrangements(ctx context.Context, tx pgx.Tx) error {
	// Every table is read once, however many services there are.
	rows, err := tx.Query(ctx, `
		WITH have AS (
			SELECT model_service_id, count(*) AS replicas FROM replica WHERE status NOT IN ('draining', 'removing') GROUP BY 1
		), unsettled AS (
			SELECT model_service_id AS id FROM ai_node WHERE leaving
			UNION ALL
			SELECT s.id FROM model_service s LEFT JOIN have h ON h.model_service_id = s.id
			WHERE s.status <> 'deleting' AND s.replicas <> coalesce(h.replicas, 0)
			UNION ALL
			SELECT s.id FROM replica r JOIN model_service s ON s.id = r.model_service_id LEFT JOIN host h ON h.name = r.host
			WHERE r.model_params <> s.model_params OR h.draining AND r.status NOT IN ('draining', 'removing')
				OR coalesce(h.heartbeat_at, '-infinity') < now() - $1::interval
		)
		SELECT s.id, s.status FROM model_service s WHERE s.id IN (SELECT id FROM unsettled)
		FOR UPDATE OF s SKIP LOCKED`, s.lostAfter)
	if err != nil {
		return err
	}
	type unsettled struct {
		ID     string
		Status Status
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unsettled])
	if err != nil {
		return err
	}
	for _, u := range found {
		if err := s.settle(ctx, tx, u.ID, u.Status, false); err != nil {
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
			AND (p.id IS NOT NULL OR EXISTS (SELECT FROM replica r WHERE r.model_service_id = s.id AND r.status IN ('active', 'silent')))
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
