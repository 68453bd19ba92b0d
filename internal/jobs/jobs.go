// Package jobs makes the River clients: one that inserts, one that works.
package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
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

// maxHostName leaves a queue name within River's 64 characters.
const maxHostName = 58

var hostName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

var notInHostNames = regexp.MustCompile(`[^a-z0-9]+`)

// HostName turns a machine's name into one that can name a host.
func HostName(machine string) string {
	short, _, _ := strings.Cut(strings.ToLower(machine), ".")
	name := notInHostNames.ReplaceAllString(short, "-")
	if name = strings.Trim(name[:min(len(name), maxHostName)], "-"); name != "" {
		return name
	}
	return "localhost"
}

// ValidHost reports whether name can name a host and so its queue: at most 58 of a-z, 0-9 and single dashes inside.
func ValidHost(name string) bool { return len(name) <= maxHostName && hostName.MatchString(name) }

const (
	fetchCooldown = 5 * time.Millisecond   // a chain of jobs must not wait between its links
	notifyAgain   = time.Millisecond       // an inserter stays silent this long after a notification of the same queue
	pollInterval  = 200 * time.Millisecond // the truth where NOTIFY is lost, and how soon a snoozed step comes back
	pollPublish   = time.Second            // likewise; every worker asks, and nothing is snoozed there
	stepsAtOnce   = 16
	jobTimeout    = 15 * time.Second
	rescueAfter   = time.Minute // only a backstop: the reconcile loop does not wait for it
	maxAttempts   = 3           // likewise
)

// NewInserter returns a client that only inserts.
func NewInserter(db *pgxpool.Pool) (*Client, error) {
	return river.NewClient(riverpgxv5.New(db), &river.Config{MaxAttempts: maxAttempts, FetchCooldown: notifyAgain})
}

// NewWorker returns a client that works the publish queue and the queues of the named hosts.
func NewWorker(db *pgxpool.Pool, workers *river.Workers, log *slog.Logger, hosts ...string) (*Client, error) {
	queues := map[string]river.QueueConfig{PublishQueue: {MaxWorkers: 4, FetchPollInterval: pollPublish}}
	for _, host := range hosts {
		queues[HostQueue(host)] = river.QueueConfig{MaxWorkers: stepsAtOnce}
	}
	client, err := river.NewClient(riverpgxv5.New(db), &river.Config{
		Queues: queues, Workers: workers, Logger: slog.New(warnings{log.Handler()}), MaxAttempts: maxAttempts,
		FetchCooldown: fetchCooldown, FetchPollInterval: pollInterval,
		JobTimeout: jobTimeout, RescueStuckJobsAfter: rescueAfter,
		CompletedJobRetentionPeriod: time.Hour,
		ReindexerIndexNames:         []string{}, // the control role owns no index
	})
	if err != nil {
		return nil, fmt.Errorf("make the River client: %w", err)
	}
	return client, nil
}

// warnings passes on what an operator has to know; River also tells how it is doing every few seconds.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
