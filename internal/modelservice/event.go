package modelservice

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/instance"
)

// EventKind says what an event is about.
type EventKind string

// The kinds of events.
const (
	EventState     EventKind = "state"     // of the service
	EventReplica   EventKind = "replica"   // of one engine
	EventPlacement EventKind = "placement" // where engines run
	EventChange    EventKind = "change"    // what was asked for
)

// Event is one thing that happened to a service.
type Event struct {
	ID      int64
	At      time.Time
	Kind    EventKind
	Message string
}

const (
	eventsKept   = 1000 // of each service
	eventsKeep   = 7 * 24 * time.Hour
	maxMessage   = 4 << 10
	eventsAtOnce = 10_000 // rows that one housekeeping drops
)

// record adds an event of the service in the caller's transaction.
func record(ctx context.Context, tx pgx.Tx, serviceID string, kind EventKind, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	if _, err := tx.Exec(ctx, `
		INSERT INTO model_service_event (account_id, db_instance_id, model_service_id, kind, message)
		SELECT account_id, db_instance_id, id, $2, $3 FROM model_service WHERE id = $1`,
		serviceID, kind, message[:min(len(message), maxMessage)]); err != nil {
		return fmt.Errorf("record an event of %s: %w", serviceID, err)
	}
	return nil
}

// Events returns one page of the service's events, the newest first, and how many there are in all. A service that is
// gone has events as long as they are kept.
func (s *Services) Events(ctx context.Context, accountID, dbInstanceID, id string, page instance.Page) ([]Event, int, error) {
	if err := instance.Exists(ctx, s.db, accountID, dbInstanceID); err != nil {
		return nil, 0, err
	}
	var total int
	var exists bool
	if err := s.db.QueryRow(ctx, `
		SELECT count(*), EXISTS (SELECT FROM model_service WHERE id = $1 AND db_instance_id = $2 AND account_id = $3)
		FROM model_service_event WHERE model_service_id = $1 AND db_instance_id = $2 AND account_id = $3`,
		id, dbInstanceID, accountID).Scan(&total, &exists); err != nil {
		return nil, 0, err
	}
	if total == 0 && !exists {
		return nil, 0, notFound(id)
	}
	rows, err := s.db.Query(ctx, `
		SELECT id, at, kind, message FROM model_service_event
		WHERE model_service_id = $1 AND db_instance_id = $2 AND account_id = $3
		ORDER BY id DESC OFFSET $4 LIMIT $5`, id, dbInstanceID, accountID, (page.Number-1)*page.Size, page.Size)
	if err != nil {
		return nil, 0, err
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
	return events, total, err
}

// Forget drops events that are too old or too many, and logs that nobody asks for any more.
func (s *Services) Forget(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, `
		DELETE FROM model_service_event WHERE id IN (
			SELECT id FROM model_service_event WHERE at < now() - $1::interval
			UNION ALL
			SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY model_service_id ORDER BY id DESC) AS nth
				FROM model_service_event) numbered WHERE nth > $2
			LIMIT $3)`, eventsKeep, eventsKept, eventsAtOnce); err != nil {
		return fmt.Errorf("drop old events of model services: %w", err)
	}
	if _, err := s.db.Exec(ctx, `DELETE FROM replica_log WHERE wanted_until < now()`); err != nil {
		return fmt.Errorf("drop logs that nobody asks for: %w", err)
	}
	return nil
}
