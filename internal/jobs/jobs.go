// Package jobs makes the River clients: one that inserts, one that works.
package jobs

import (
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// Client inserts jobs in a caller's transaction.
type Client = river.Client[pgx.Tx]

// PublishQueue is worked by every worker.
const PublishQueue = "publish"

// HostQueue is worked by the worker of the named host alone.
func HostQueue(host string) string { return "host_" + host }

var hostName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// ValidHost reports whether name can name a host and so its queue: at most 58 of a-z, 0-9 and single dashes inside.
func ValidHost(name string) bool { return len(name) <= 58 && hostName.MatchString(name) }

const (
	fetchCooldown = 5 * time.Millisecond   // a chain of jobs must not wait between its links
	notifyAgain   = time.Millisecond       // an inserter stays silent this long after a notification of the same queue
	pollInterval  = 200 * time.Millisecond // the truth where NOTIFY is lost, and how soon a snoozed step comes back
	stepsAtOnce   = 16
	jobTimeout    = 15 * time.Second
	rescueAfter   = time.Minute // only a backstop: the reconcile loop does not wait for it
	maxAttempts   = 3           // likewise
)

// NewInserter returns a client that only inserts.
func NewInserter(db *pgxpool.Pool) (*Client, error) {
	return river.NewClient(riverpgxv5.New(db), &river.Config{MaxAttempts: maxAttempts, FetchCooldown: notifyAgain})
}

// NewWorker returns a client that works the publish queue and, unless host is empty, the queue of that host.
func NewWorker(db *pgxpool.Pool, host string, workers *river.Workers, log *slog.Logger) (*Client, error) {
	queues := map[string]river.QueueConfig{PublishQueue: {MaxWorkers: 4}}
	if host != "" {
		queues[HostQueue(host)] = river.QueueConfig{MaxWorkers: stepsAtOnce}
	}
	client, err := river.NewClient(riverpgxv5.New(db), &river.Config{
		Queues: queues, Workers: workers, Logger: log, MaxAttempts: maxAttempts,
		FetchCooldown: fetchCooldown, FetchPollInterval: pollInterval,
		JobTimeout: jobTimeout, RescueStuckJobsAfter: rescueAfter,
		CompletedJobRetentionPeriod: time.Hour,
	})
	if err != nil {
		return nil, fmt.Errorf("make the River client: %w", err)
	}
	return client, nil
}
