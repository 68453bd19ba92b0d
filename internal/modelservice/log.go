package modelservice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
)

// The refusals of a question for a log.
var (
	ErrReplicaNotFound = fault.New(fault.NotFound, "InvalidReplica.NotFound",
		"The model service has no such replica.", "Call DescribeModelService for the numbers of those it has.")
	errLogNotRead = fault.New(fault.Unavailable, "ServiceUnavailable",
		"The replica's host has not read the log in time.", "Check that its worker runs and reaches the database.")
)

const (
	logBytes   = 64 << 10
	logWanted  = 15 * time.Second // how long a host goes on after the last question
	logWait    = 4 * time.Second  // for a host that has not begun
	logPoll    = 100 * time.Millisecond
	logRefresh = time.Second // how often a host reads
)

// Log is the end of an engine's log, as its host read it last.
type Log struct {
	Ordinal    int
	NodeName   string
	Generation int64  // of the engine: another one has a log of its own
	Offset     int64  // how many bytes the log had
	Text       string // its end
	Previous   string // the end of the log of the engine before
	ReadAt     time.Time
}

// Log asks the host of a replica for its log and returns what the host has read; ordinal nil is the lowest there is. It
// waits for a host that was not asked before.
func (s *Services) Log(ctx context.Context, accountID, dbInstanceID, id string, ordinal *int) (Log, error) {
	if err := instance.Exists(ctx, s.db, accountID, dbInstanceID); err != nil {
		return Log{}, err
	}
	replicaID, err := s.replicaOf(ctx, accountID, dbInstanceID, id, ordinal)
	if err != nil {
		return Log{}, err
	}
	if _, err := s.db.Exec(ctx, `
		INSERT INTO replica_log (replica_id, wanted_until) VALUES ($1, now() + $2::interval)
		ON CONFLICT (replica_id) DO UPDATE SET wanted_until = excluded.wanted_until,
			read_at = CASE WHEN replica_log.wanted_until > now() THEN replica_log.read_at END`, replicaID, logWanted); err != nil {
		return Log{}, fmt.Errorf("ask for the log of %s: %w", replicaID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, logWait)
	defer cancel()
	for {
		log, read, err := s.readLog(ctx, replicaID)
		if err == nil && read {
			return log, nil
		}
		if err != nil && ctx.Err() == nil {
			return Log{}, err
		}
		select {
		case <-ctx.Done():
			return Log{}, errLogNotRead
		case <-time.After(logPoll):
		}
	}
}

func (s *Services) replicaOf(ctx context.Context, accountID, dbInstanceID, id string, ordinal *int) (replicaID string, err error) {
	var exists bool
	err = s.db.QueryRow(ctx, `
		SELECT s.id IS NOT NULL, coalesce((SELECT id FROM replica r
			WHERE r.model_service_id = s.id AND ($4::int IS NULL OR r.ordinal = $4) ORDER BY r.ordinal LIMIT 1), '')
		FROM model_service s WHERE s.id = $1 AND s.db_instance_id = $2 AND s.account_id = $3`,
		id, dbInstanceID, accountID, ordinal).Scan(&exists, &replicaID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", notFound(id)
	case err == nil && replicaID == "":
		return "", ErrReplicaNotFound
	}
	return replicaID, err
}

func (s *Services) readLog(ctx context.Context, replicaID string) (log Log, read bool, err error) {
	var at *time.Time
	err = s.db.QueryRow(ctx, `
		SELECT r.ordinal, r.node_name, l.generation, l.offset_bytes, l.log, l.previous, l.read_at
		FROM replica_log l JOIN replica r ON r.id = l.replica_id WHERE r.id = $1`, replicaID).Scan(
		&log.Ordinal, &log.NodeName, &log.Generation, &log.Offset, &log.Text, &log.Previous, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return log, false, ErrReplicaNotFound
	}
	if at != nil {
		log.ReadAt = *at
	}
	return log, at != nil, err
}

// CopyLogs writes down the logs of this host that somebody asks for.
func (w *Watcher) CopyLogs(ctx context.Context) error {
	ticker := time.NewTicker(logRefresh)
	defer ticker.Stop()
	for {
		if err := w.copyLogs(ctx); err != nil && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "logs of engines cannot be copied", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (w *Watcher) copyLogs(ctx context.Context) error {
	rows, err := w.Services.db.Query(ctx, `
		SELECT l.replica_id FROM replica_log l JOIN replica r ON r.id = l.replica_id
		WHERE r.host = $1 AND l.wanted_until > now()`, w.Name)
	if err != nil {
		return err
	}
	wanted, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, id := range wanted {
		log, err := w.Driver.Log(ctx, id, logBytes)
		if err != nil {
			return fmt.Errorf("read the log of %s: %w", id, err)
		}
		if _, err := w.Services.db.Exec(ctx, `
			UPDATE replica_log SET read_at = now(), generation = $2, offset_bytes = $3, log = $4, previous = $5
			WHERE replica_id = $1`, id, log.Generation, log.Offset, log.Text, log.Previous); err != nil {
			return fmt.Errorf("write the log of %s: %w", id, err)
		}
	}
	return nil
}
