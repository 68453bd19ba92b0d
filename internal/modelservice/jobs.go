package modelservice

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/engineshed/engineshed/internal/jobs"
)

// StepArgs asks the replica's host for the replica's next step.
type StepArgs struct {
	ReplicaID string `json:"replicaId"`
}

// Kind names the job.
func (StepArgs) Kind() string { return "replica_step" }

// PublishArgs asks for the service to be published as it is when the job runs, if it is not by then.
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
