package modelservice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/jobs"
)

// The refusals of what is asked about a host.
var (
	ErrHostNotFound = errors.New("there is no such host")
	ErrHostAlive    = errors.New("the host is alive")
)

// Hosts are the machines with workers, for those who run them. They belong to the installation and to no account.
type Hosts struct{ db *pgxpool.Pool }

// NewHosts returns the hosts that db knows, with the rights of the control plane.
func NewHosts(db *pgxpool.Pool) *Hosts { return &Hosts{db} }

// HostState is a host as it was when it was last heard of.
type HostState struct {
	Name         string        `json:"name"`
	Alive        bool          `json:"alive"`
	Draining     bool          `json:"draining"`
	EngineAddr   string        `json:"engineAddr"`
	Accelerators int           `json:"accelerators"` // 0: its AI nodes are simulated
	AINodes      int           `json:"aiNodes"`
	Bound        int           `json:"bound"` // of the AI nodes: model services have them
	Replicas     int           `json:"replicas"`
	Silent       time.Duration `json:"-"` // since the last heartbeat
	HeartbeatAt  time.Time     `json:"heartbeatAt"`
}

// List returns all hosts by name.
func (h *Hosts) List(ctx context.Context) ([]HostState, error) {
	rows, err := h.db.Query(ctx, `
		SELECT h.name, h.heartbeat_at > now() - $1::interval, h.draining, h.engine_addr, jsonb_array_length(h.accelerators),
			(SELECT count(*) FROM ai_node n WHERE n.host = h.name),
			(SELECT count(*) FROM ai_node n WHERE n.host = h.name AND n.model_service_id IS NOT NULL),
			(SELECT count(*) FROM replica r WHERE r.host = h.name), now() - h.heartbeat_at, h.heartbeat_at
		FROM host h ORDER BY h.name`, hostLease)
	if err != nil {
		return nil, fmt.Errorf("read the hosts: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[HostState])
}

// Drain has nothing new placed on the host, and what is there moves to AI nodes of its services on other hosts; or ends
// that. Nothing is interrupted: a replica whose service has no free AI node elsewhere stays until it has.
func (h *Hosts) Drain(ctx context.Context, name string, drain bool) error {
	tag, err := h.db.Exec(ctx, `UPDATE host SET draining = $2 WHERE name = $1`, name, drain)
	if err != nil {
		return fmt.Errorf("drain host %s: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return hostNotFound(name)
	}
	return nil
}

// Remaining is a replica on a host that is drained.
type Remaining struct {
	ServiceID    string
	DBInstanceID string
	Ordinal      int
	NodeName     string
	Status       string
	Missing      int // AI nodes that its service has too few on other hosts; 0: it moves
}

// Remaining returns the replicas that are on the host.
func (h *Hosts) Remaining(ctx context.Context, name string) ([]Remaining, error) {
	rows, err := h.db.Query(ctx, `
		SELECT r.model_service_id, s.db_instance_id, r.ordinal, r.node_name, r.status,
			CASE WHEN r.status IN ('draining', 'removing') OR s.status = 'deleting' THEN 0 ELSE greatest(0, s.replicas - (
				SELECT count(*) FROM ai_node n JOIN host o ON o.name = n.host
				WHERE n.model_service_id = s.id AND NOT n.leaving AND NOT o.draining AND o.heartbeat_at > now() - $2::interval)) END
		FROM replica r JOIN model_service s ON s.id = r.model_service_id
		WHERE r.host = $1 ORDER BY r.model_service_id, r.ordinal`, name, hostLease)
	if err != nil {
		return nil, fmt.Errorf("read what is on host %s: %w", name, err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Remaining])
}

// Remove forgets a host that is gone for good, with its AI nodes and the replicas on them. Their services go on with what
// they have on other hosts. A host that is alive is refused: its engines would go on.
func (h *Hosts) Remove(ctx context.Context, name string) error {
	return pgx.BeginFunc(ctx, h.db, func(tx pgx.Tx) error {
		var alive bool
		err := tx.QueryRow(ctx, `
			SELECT heartbeat_at > now() - $2::interval FROM host WHERE name = $1 FOR UPDATE`, name, hostLease).Scan(&alive)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return hostNotFound(name)
		case err != nil:
			return err
		case alive:
			return fmt.Errorf("%w: drain %s, stop its worker, and ask again %s later", ErrHostAlive, name, hostLease)
		}
		return removeHost(ctx, tx, name)
	})
}

// removeHost removes the host's rows. The reconcile loop finds what its services lack, and that gateways are to be told.
func removeHost(ctx context.Context, tx pgx.Tx, name string) error {
	rows, err := tx.Query(ctx, `
		UPDATE model_service SET version = version + 1
		WHERE id IN (SELECT s.id FROM model_service s JOIN ai_node n ON n.model_service_id = s.id WHERE n.host = $1 ORDER BY s.id FOR UPDATE OF s)
		RETURNING id`, name)
	if err != nil {
		return err
	}
	services, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("lock the model services of host %s: %w", name, err)
	}
	for _, id := range services {
		if err := record(ctx, tx, id, EventPlacement, "Host %s is removed, with the AI nodes on it.", name); err != nil {
			return err
		}
	}
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM replica WHERE host = $1`, name)
	batch.Queue(`DELETE FROM ai_node WHERE host = $1`, name)
	batch.Queue(`DELETE FROM host WHERE name = $1`, name)
	batch.Queue(`DELETE FROM river_job WHERE queue = $1`, jobs.HostQueue(name)) // nobody would ever work them
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("remove host %s: %w", name, err)
	}
	return nil
}

func hostNotFound(name string) error {
	return fmt.Errorf("%w: %s", ErrHostNotFound, name)
}
