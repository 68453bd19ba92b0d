package modelservice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// StepArgs asks the replica's host for the replica's next step.
type StepArgs struct {
	ReplicaID string `json:"replicaId"`
}

// Kind names the job.
func (StepArgs) Kind() string { return "replica_step" }

// PublishArgs asks for the service to be published as it is when the job runs.
type PublishArgs struct {
	ServiceID string `json:"serviceId"`
}

// Kind names the job.
func (PublishArgs) Kind() string { return "publish_model_service" }

// steps are the jobs that take the replicas a step further.
func steps(replicas []plannedReplica) []river.InsertManyParams {
	params := make([]river.InsertManyParams, len(replicas))
	for n, r := range replicas {
		params[n] = river.InsertManyParams{Args: StepArgs{r.id}, InsertOpts: &river.InsertOpts{Queue: jobs.HostQueue(r.host)}}
	}
	return params
}

func (s *Services) enqueueSteps(ctx context.Context, tx pgx.Tx, replicas []plannedReplica) error {
	if len(replicas) == 0 {
		return nil
	}
	if _, err := s.jobs.InsertManyFastTx(ctx, tx, steps(replicas)); err != nil {
		return fmt.Errorf("insert the jobs of %d replicas: %w", len(replicas), err)
	}
	return nil
}

// ring wakes the hosts of replicas.
func (s *Services) ring(replicas []plannedReplica) {
	for _, r := range replicas {
		s.bell.Ring(jobs.HostQueue(r.host))
	}
}

func (s *Services) enqueuePublish(ctx context.Context, tx pgx.Tx, id string) error {
	if _, err := s.jobs.InsertTx(ctx, tx, PublishArgs{id}, &river.InsertOpts{Queue: jobs.PublishQueue}); err != nil {
		return fmt.Errorf("insert the job that publishes %s: %w", id, err)
	}
	return nil
}

// AddWorkers registers the job kinds of this package. stepper may be nil where no host is worked.
func AddWorkers(workers *river.Workers, services *Services, stepper *Stepper) {
	river.AddWorker(workers, &publishWorker{services: services})
	if stepper != nil {
		river.AddWorker(workers, &stepWorker{stepper: stepper})
	}
}

type stepWorker struct {
	river.WorkerDefaults[StepArgs]
	stepper *Stepper
}

// Timeout leaves room for one claim, one call of the driver and one write.
func (*stepWorker) Timeout(*river.Job[StepArgs]) time.Duration { return driverLimit + stepLease/2 }

// NextRetry is soon: what failed is mostly a database that is coming back.
func (*stepWorker) NextRetry(*river.Job[StepArgs]) time.Time { return time.Now().Add(time.Second) }

func (w *stepWorker) Work(ctx context.Context, job *river.Job[StepArgs]) error {
	again, err := w.stepper.Step(ctx, job.Args.ReplicaID)
	if err == nil && again > 0 {
		return river.JobSnooze(again)
	}
	return err
}

type publishWorker struct {
	river.WorkerDefaults[PublishArgs]
	services *Services
}

// Timeout is generous: a publication waits for the ones before it.
func (*publishWorker) Timeout(*river.Job[PublishArgs]) time.Duration { return 10 * time.Second }

func (*publishWorker) NextRetry(*river.Job[PublishArgs]) time.Time {
	return time.Now().Add(time.Second)
}

func (w *publishWorker) Work(ctx context.Context, job *river.Job[PublishArgs]) error {
	return w.services.Publish(ctx, job.Args.ServiceID)
}

// Publish brings what gateways serve of the service in line with its rows.
func (s *Services) Publish(ctx context.Context, id string) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		item, ready, err := s.compile(ctx, tx, id)
		if err != nil || !ready {
			return err
		}
		return publish.Put(ctx, tx, item)
	})
}

// compile renders the service as gateways see it, and locks its row until the transaction ends. A service whose first
// replica has not answered yet is not ready.
func (s *Services) compile(ctx context.Context, tx pgx.Tx, id string) (item publish.Item, ready bool, err error) {
	item = publish.Item{Kind: snapshot.KindModelService, ID: id}
	view := snapshot.ModelService{ID: id}
	var status Status
	var sealed []byte
	var instanceID string
	err = tx.QueryRow(ctx, `
		SELECT version, status, model_name, public, api_key_sealed, db_instance_id,
			(SELECT account_id FROM db_instance WHERE id = db_instance_id)
		FROM model_service WHERE id = $1 FOR UPDATE`,
		id).Scan(&item.SourceVersion, &status, &view.ModelName, &view.Public, &sealed, &instanceID, &view.AccountID)
	if errors.Is(err, pgx.ErrNoRows) || status == Deleting {
		return item, true, nil
	}
	if err != nil {
		return item, false, err
	}
	key, err := s.master.Open(apiKeyPurpose(id), sealed)
	if err != nil {
		return item, false, err
	}
	view.KeyHash = snapshot.HashKey(key.Reveal())
	if ready, err = readTargets(ctx, tx, instanceID, &view); err != nil || !ready {
		return item, ready, err
	}
	item.Body, err = view.Encode()
	return item, true, err
}

// readTargets fills in who may call the service and which engines answer. A service that was published once stays so,
// with no engine if none answers.
func readTargets(ctx context.Context, tx pgx.Tx, dbInstanceID string, view *snapshot.ModelService) (ready bool, err error) {
	var entries []string
	err = tx.QueryRow(ctx, `
		SELECT coalesce((SELECT entries FROM ip_array WHERE db_instance_id = $2 AND name IN ($1, $3)
				ORDER BY name = $3 LIMIT 1), '{}'),
			(SELECT coalesce(jsonb_agg(jsonb_build_object('id', id, 'addr', engine_addr,
					'sealedKey', encode(published_key, 'base64')) ORDER BY ordinal), '[]')
				FROM replica WHERE model_service_id = $1 AND status IN ('active', 'silent')),
			EXISTS (SELECT FROM published_item WHERE kind = $4 AND id = $1)`,
		view.ID, dbInstanceID, instance.DefaultIPArray, snapshot.KindModelService).Scan(&entries, &view.Replicas, &ready)
	if err != nil {
		return false, err
	}
	view.Allow, err = instance.Prefixes(entries)
	return ready || len(view.Replicas) > 0, err
}
