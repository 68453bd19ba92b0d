package modelservice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

const (
	stepLease    = 10 * time.Second
	driverLimit  = 5 * time.Second // for one call of the driver, well inside the lease
	removeAgain  = 100 * time.Millisecond
	replaceAgain = 100 * time.Millisecond
	hungLog      = 1 << 10
)

// Stepper takes the steps of one host's replicas: it looks at the world, does one thing, and ends. Two steps of one
// replica may run at any moment; the lease lets one of them through, the generation fences off the one that comes late.
type Stepper struct {
	Host
	worker    string // names this process in leases
	prognosis func(replicaID string, generation int64) prognosis
	changed   func() // tells the watcher that a step of this host ended
}

// NewStepper returns the steps of the host's replicas, which the watcher tells of engines and is told of steps.
func NewStepper(h Host, w *Watcher) *Stepper {
	worker := fmt.Sprintf("%s/%d", h.Name, os.Getpid())
	return &Stepper{Host: h, worker: worker, prognosis: w.prognosis, changed: w.Changed}
}

// replicaState is a replica as a step claimed it.
type replicaState struct {
	ID               string
	ServiceID        string
	Ordinal          int
	NodeName         string
	Status           string
	Reason           string
	EngineAddr       string
	EngineGeneration int64
	Generation       int64
	Restarts         int
	RestartAt        time.Time
	ActiveFor        time.Duration
	Now              time.Time
	Leased           bool // a step is under way; set by the watcher alone

	drainVersion int64
	drainingFor  time.Duration
	idle         bool // while draining: the engine had nothing to do
	idleFor      time.Duration
	modelName    string
	modelParams  map[string]any
	accelerators []int
	fraction     float64
	sealedKey    []byte
}

// Step takes the next step of the replica. again > 0 asks for another one after that time.
func (s *Stepper) Step(ctx context.Context, replicaID string) (again time.Duration, err error) {
	r, err := s.claim(ctx, replicaID)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil // the row is gone, or another step is under way
	}
	if err != nil {
		return 0, fmt.Errorf("claim replica %s: %w", replicaID, err)
	}
	again, err = s.take(ctx, r)
	if errors.Is(err, errFenced) {
		s.Log.InfoContext(ctx, "step came late and wrote nothing", slog.String("replica", r.ID), slog.Int64("generation", r.Generation))
		return 0, nil
	}
	err = errors.Join(err, s.release(ctx, r))
	s.changed()
	return again, err
}

func (s *Stepper) take(ctx context.Context, r replicaState) (again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, driverLimit)
	defer cancel()
	seen, err := s.Driver.Observe(ctx, r.ID, r.EngineAddr)
	if err != nil {
		return 0, fmt.Errorf("observe replica %s: %w", r.ID, err)
	}
	p := s.prognosis(r.ID, r.EngineGeneration)
	p.files = s.supplyOf(r.modelName)
	next := decide(r, seen, p, r.Now)
	s.Log.DebugContext(ctx, "step", slog.String("replica", r.ID), slog.String("action", string(next)), slog.String("seen", string(seen.State)))
	switch next {
	case start:
		return 0, s.start(ctx, r)
	case markStart:
		return 0, s.write(ctx, r, change{status: starting, reason: p.reason})
	case markActive:
		return 0, s.write(ctx, r, change{status: active, reason: p.reason})
	case markSilent:
		return 0, s.write(ctx, r, change{status: silent, reason: p.reason})
	case markHung:
		return s.hang(ctx, r, p.reason)
	case markFailed:
		return s.fail(ctx, r, seen.Reason, seen.Log)
	case markMissing:
		return s.fail(ctx, r, p.files.problem, "")
	case fetch:
		return 0, s.fetch(ctx, r)
	case drain:
		return 0, s.drain(ctx, r, seen)
	case waitRestart:
		return r.RestartAt.Sub(r.Now), nil
	case remove:
		return s.remove(ctx, r)
	case replace:
		_, err := s.Driver.Remove(ctx, r.ID)
		return replaceAgain, err
	}
	return 0, nil
}

// claim takes the lease and the next generation. A machine that has lost its name to another one claims nothing.
func (s *Stepper) claim(ctx context.Context, replicaID string) (r replicaState, err error) {
	err = s.Services.db.QueryRow(ctx, `
		UPDATE replica r SET lease_owner = $2, lease_until = now() + $3::interval, generation = generation + 1
		FROM model_service s, ai_node n
		WHERE r.id = $1 AND r.host = $4 AND r.lease_until < now() AND s.id = r.model_service_id AND n.name = r.node_name
			AND ($5 = '' OR EXISTS (SELECT FROM host h WHERE h.name = r.host AND h.machine IN ('', $5)))
		RETURNING r.id, r.model_service_id, r.ordinal, r.node_name, r.status, r.status_reason, r.engine_addr, r.engine_generation, r.generation,
			r.restarts, coalesce(r.restart_at, now()), now() - r.updated_at, now(),
			r.drain_version, now() - coalesce(r.draining_since, now()), r.idle_since IS NOT NULL, now() - coalesce(r.idle_since, now()),
			s.model_name, r.model_params, n.accelerators, n.memory_fraction, r.engine_key_sealed`,
		replicaID, s.worker, stepLease, s.Name, s.Machine).Scan(
		&r.ID, &r.ServiceID, &r.Ordinal, &r.NodeName, &r.Status, &r.Reason, &r.EngineAddr, &r.EngineGeneration, &r.Generation,
		&r.Restarts, &r.RestartAt, &r.ActiveFor, &r.Now,
		&r.drainVersion, &r.drainingFor, &r.idle, &r.idleFor, &r.modelName, &r.modelParams,
		&r.accelerators, &r.fraction, &r.sealedKey)
	return r, err
}

func (s *Stepper) release(ctx context.Context, r replicaState) error {
	_, err := s.Services.db.Exec(ctx, `
		UPDATE replica SET lease_until = '-infinity' WHERE id = $1 AND generation = $2`, r.ID, r.Generation)
	return err
}

// start writes down what is about to run before it runs, so that whatever is killed in between leaves a row that says so.
func (s *Stepper) start(ctx context.Context, r replicaState) error {
	spec, err := s.spec(r)
	if errors.Is(err, errNoSpec) {
		_, err = s.fail(ctx, r, err.Error(), "")
		return err
	}
	if err != nil {
		return err
	}
	if err := s.write(ctx, r, change{status: starting, addr: spec.Addr, generation: r.Generation}); err != nil {
		return err
	}
	r.Status = starting
	if err := s.Driver.Ensure(ctx, spec); err != nil {
		_, writeErr := s.fail(ctx, r, err.Error(), "")
		return writeErr
	}
	s.Log.InfoContext(ctx, "engine started", slog.String("replica", r.ID), slog.String("addr", spec.Addr), slog.Int64("generation", r.Generation))
	return nil
}

// errNoSpec says that what the row asks for cannot be started here: the catalogue has changed since it was accepted, or this
// host has another one.
var errNoSpec = errors.New("the engine cannot be started")

func noSpec(err error) error {
	why := err.Error()
	if refusal, ok := fault.From(err); ok {
		why = strings.TrimSuffix(refusal.Message, ".")
	}
	return fmt.Errorf("%w: %s", errNoSpec, why)
}

func (s *Stepper) spec(r replicaState) (node.Spec, error) {
	model, err := s.Services.catalog.Find(r.modelName)
	if err != nil {
		return node.Spec{}, noSpec(err)
	}
	key, err := s.Services.master.Open(engineKeyPurpose(r.ID), r.sealedKey)
	if err != nil {
		return node.Spec{}, err
	}
	addr, err := s.FreeAddr()
	if err != nil {
		return node.Spec{}, err
	}
	serve, variables := engine(model, addr, r), environment(model, r.accelerators)
	if err := s.engineSource(model, &serve, variables); err != nil {
		return node.Spec{}, noSpec(err)
	}
	args, err := serve.Args()
	if err != nil {
		return node.Spec{}, noSpec(err)
	}
	return node.Spec{ReplicaID: r.ID, Generation: r.Generation, Addr: addr, Key: key, Env: variables, Args: args}, nil
}

// engine is what the replica's engine is told to serve, but for where the model is. Clients may name the model or the service.
func engine(model catalog.Model, addr string, r replicaState) vllm.Serve {
	serve := vllm.Serve{
		Names: []string{model.Name, r.ServiceID}, Addr: addr, Params: r.modelParams, Arguments: model.Arguments,
		Pooling: model.Task != catalog.Generate, TensorParallel: len(r.accelerators),
	}
	if len(r.accelerators) > 0 {
		serve.MemoryFraction = r.fraction
	}
	return serve
}

// environment is what the model and the accelerators add to the engine's.
func environment(model catalog.Model, accelerators []int) map[string]string {
	variables := maps.Clone(model.Environment)
	if variables == nil {
		variables = map[string]string{}
	}
	if len(accelerators) > 0 {
		names := make([]string, len(accelerators))
		for i, a := range accelerators {
			names[i] = strconv.Itoa(a)
		}
		variables["CUDA_VISIBLE_DEVICES"] = strings.Join(names, ",")
	}
	return variables
}

// fail records that the engine ended, and when it may start again.
func (s *Stepper) fail(ctx context.Context, r replicaState, reason, log string) (again time.Duration, err error) {
	c := failure(r, reason)
	c.log = log
	s.Log.WarnContext(ctx, "engine ended", slog.String("replica", r.ID), slog.String("reason", reason), slog.Duration("again_in", c.restartIn))
	return c.restartIn, s.write(ctx, r, c)
}

// hang disowns an engine that will not answer any more: the row takes a generation that no engine has, so the next steps
// end this one as they end every engine that is not the row's.
func (s *Stepper) hang(ctx context.Context, r replicaState, reason string) (again time.Duration, err error) {
	c := failure(r, reason)
	c.generation = r.Generation
	if log, err := s.Driver.Log(ctx, r.ID, hungLog); err == nil {
		c.log = log.Text // the file goes with the engine
	}
	s.Log.WarnContext(ctx, "engine hangs and is ended", slog.String("replica", r.ID), slog.String("reason", reason))
	return replaceAgain, s.write(ctx, r, c)
}

// failure counts the engine's end.
func failure(r replicaState, reason string) change {
	restarts := r.Restarts + 1
	if serves(r.Status) && r.ActiveFor > quietPeriod {
		restarts = 1
	}
	return change{status: failed, reason: reason, restarts: restarts, restartIn: backoff(restarts)}
}

func (s *Stepper) remove(ctx context.Context, r replicaState) (again time.Duration, err error) {
	done, err := s.Driver.Remove(ctx, r.ID)
	if err != nil || !done {
		return removeAgain, err
	}
	return 0, pgx.BeginFunc(ctx, s.Services.db, func(tx pgx.Tx) error {
		status, err := lockServiceByID(ctx, tx, r.ServiceID)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM replica WHERE id = $1 AND generation = $2`, r.ID, r.Generation)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errFenced
		}
		var left bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM replica WHERE model_service_id = $1)`, r.ServiceID).Scan(&left); err != nil {
			return err
		}
		if !left && status == Deleting {
			return removeService(ctx, tx, r.ServiceID)
		}
		return s.Services.settle(ctx, tx, r.ServiceID, status, false)
	})
}

// errFenced stops a step whose replica was claimed by another one meanwhile.
var errFenced = errors.New("another step has claimed the replica")

// change is what a step writes to a replica. Zero fields stay as they are, but for the reason.
type change struct {
	status     string
	reason     string
	addr       string
	generation int64 // of the row's engine
	restarts   int
	restartIn  time.Duration
	idle       bool   // while draining: the engine has nothing to do
	log        string // of an engine that ended: its last lines, for the event
}

// write changes the replica unless the step was fenced off, and the service with it.
func (s *Stepper) write(ctx context.Context, r replicaState, c change) error {
	return pgx.BeginFunc(ctx, s.Services.db, func(tx pgx.Tx) error {
		current, err := lockServiceByID(ctx, tx, r.ServiceID)
		if err != nil {
			return err
		}
		if err := updateReplica(ctx, tx, r, c); err != nil {
			return err
		}
		if err := recordReplica(ctx, tx, r, c); err != nil {
			return err
		}
		return s.Services.settle(ctx, tx, r.ServiceID, current, serves(r.Status) != serves(c.status))
	})
}

func updateReplica(ctx context.Context, tx pgx.Tx, r replicaState, c change) error {
	if !slices.Contains(transitions[r.Status], c.status) {
		return fmt.Errorf("replica %s may not go from %s to %s", r.ID, r.Status, c.status)
	}
	tag, err := tx.Exec(ctx, `
		UPDATE replica SET status = $3, status_reason = $4,
			engine_addr = coalesce(nullif($5, ''), engine_addr),
			engine_generation = CASE WHEN $6 > 0 THEN $6 ELSE engine_generation END,
			restarts = CASE WHEN $7 > 0 THEN $7 ELSE restarts END,
			restart_at = CASE WHEN $7 > 0 THEN now() + $8::interval ELSE restart_at END,
			idle_since = CASE WHEN $9 THEN coalesce(idle_since, now()) END,
			updated_at = CASE WHEN status = $3 THEN updated_at ELSE now() END
		WHERE id = $1 AND generation = $2`,
		r.ID, r.Generation, c.status, c.reason, c.addr, c.generation, c.restarts, c.restartIn, c.idle)
	if err != nil {
		return fmt.Errorf("write replica %s: %w", r.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return errFenced
	}
	return nil
}

// recordReplica records a change of the replica's state.
func recordReplica(ctx context.Context, tx pgx.Tx, r replicaState, c change) error {
	if c.status == r.Status {
		return nil
	}
	message := fmt.Sprintf("Replica %d on %s was %s and is %s.", r.Ordinal, r.NodeName, r.Status, c.status)
	switch {
	case c.restarts > 0:
		message = fmt.Sprintf("Replica %d on %s failed: %s. It starts again in %s (restart %d).", r.Ordinal, r.NodeName, c.reason, c.restartIn, c.restarts)
	case c.reason != "":
		message = fmt.Sprintf("Replica %d on %s was %s and is %s: %s.", r.Ordinal, r.NodeName, r.Status, c.status, c.reason)
	}
	if c.log != "" {
		message += "\n" + c.log
	}
	return record(ctx, tx, r.ServiceID, EventReplica, "%s", message)
}

func lockServiceByID(ctx context.Context, tx pgx.Tx, id string) (status Status, err error) {
	err = tx.QueryRow(ctx, `SELECT status FROM model_service WHERE id = $1 FOR UPDATE`, id).Scan(&status)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", errFenced
	}
	return status, err
}

// settle makes the next moves of the service, brings its state in line with its replicas, and publishes when the set of
// those that gateways are told of changed.
func (s *Services) settle(ctx context.Context, tx pgx.Tx, id string, current Status, publish bool) error {
	changed, err := s.rearrange(ctx, tx, id)
	if err != nil {
		return err
	}
	publish = publish || changed
	t, err := count(ctx, tx, id)
	if err != nil {
		return err
	}
	status, reason := settle(current, t)
	if status != t.was {
		if err := record(ctx, tx, id, EventState, "The service was %s and is %s%s", t.was, status, because(strings.TrimSuffix(reason, "."))); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `
		UPDATE model_service SET status = $2, status_reason = $3, version = version + CASE WHEN $4 THEN 1 ELSE 0 END, updated_at = now()
		WHERE id = $1 AND ($4 OR (status, status_reason) IS DISTINCT FROM ($2, $3))`, id, status, reason, publish); err != nil {
		return fmt.Errorf("write the state of %s: %w", id, err)
	}
	if !publish {
		return nil
	}
	return s.enqueuePublish(ctx, tx, id)
}

// count reads what the replicas of the service say together.
func count(ctx context.Context, tx pgx.Tx, id string) (t tally, err error) {
	err = tx.QueryRow(ctx, `
		WITH q AS (
			SELECT r.status, r.restarts, r.ordinal, r.model_params = s.model_params AND NOT n.leaving AND h.draining IS NOT TRUE AS fits,
				format('replica %s on %s is %s', r.ordinal, r.node_name, r.status) || CASE
					WHEN r.status_reason <> '' THEN ': ' || r.status_reason
					WHEN h.draining AND r.status NOT IN ('draining', 'removing')
						THEN ': its host ' || h.name || ' is drained, and it moves as soon as an AI node on another host is free for it'
					ELSE '' END AS says,
				r.status_reason <> '' OR h.draining IS TRUE AS talks
			FROM replica r JOIN model_service s ON s.id = r.model_service_id JOIN ai_node n ON n.name = r.node_name
			LEFT JOIN host h ON h.name = r.host
			WHERE s.id = $1)
		SELECT s.status, s.replicas,
			(SELECT count(*) FROM q WHERE status = 'active'),
			(SELECT count(*) FROM q WHERE status = 'failed'),
			coalesce((SELECT max(restarts) FROM q WHERE status NOT IN ('active', 'draining', 'removing')), 0),
			EXISTS (SELECT FROM q WHERE NOT fits OR status IN ('draining', 'removing')),
			coalesce((SELECT says FROM q WHERE status NOT IN ('active', 'draining', 'removing')
				ORDER BY status <> 'failed', status <> 'silent', ordinal LIMIT 1),
				CASE WHEN s.replicas > (SELECT count(*) FROM q WHERE status NOT IN ('draining', 'removing'))
					THEN 'no AI node on a host that is alive is free for the others' ELSE '' END),
			coalesce((SELECT upper(left(says, 1)) || substr(says, 2) || '.' FROM q WHERE talks OR status <> 'active'
				ORDER BY status = 'active', status <> 'failed', ordinal LIMIT 1), '')
		FROM model_service s WHERE s.id = $1`, id).Scan(&t.was, &t.total, &t.active, &t.failed, &t.restarts, &t.changing, &t.reason, &t.note)
	if err != nil {
		return t, fmt.Errorf("count the replicas of %s: %w", id, err)
	}
	return t, nil
}
