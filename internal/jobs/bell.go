package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// Bell wakes the workers of jobs that were inserted in silence, after their commit. A transaction that notifies commits
// alone: the notifying ones wait for each other while their logs reach the disk. Outside of it a notification costs one
// round trip, and no caller waits for it.
type Bell struct {
	rope riverdriver.Executor

	mu      sync.Mutex
	due     map[string]bool // the queues to be woken
	ringing bool
}

// NewBell returns a Bell for the jobs of db.
func NewBell(db *pgxpool.Pool) *Bell {
	return &Bell{rope: riverpgxv5.New(db).GetExecutor(), due: map[string]bool{}}
}

// Queued is a job and the queue it is for.
type Queued struct {
	Queue string
	Args  river.JobArgs
}

// Insert adds jobs of one kind to a batch, as River's client would insert them but in silence. Ring their queues when the
// batch has committed.
func Insert(batch *pgx.Batch, queued []Queued) error {
	queues, args := make([]string, len(queued)), make([]string, len(queued))
	for i, q := range queued {
		encoded, err := json.Marshal(q.Args)
		if err != nil {
			return fmt.Errorf("encode the job %s: %w", q.Args.Kind(), err)
		}
		queues[i], args[i] = q.Queue, string(encoded)
	}
	batch.Queue(`
		INSERT INTO river_job (kind, max_attempts, queue, args)
		SELECT $1, $2, j.queue, j.args::jsonb FROM unnest($3::text[], $4::text[]) AS j (queue, args)`,
		queued[0].Args.Kind(), maxAttempts, queues, args)
	return nil
}

// Ring wakes the workers of a queue, soon and without waiting. A ring that is lost, with the process or the connection,
// costs one poll interval.
func (b *Bell) Ring(queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due[queue] = true
	if !b.ringing {
		b.ringing = true
		go b.ringAll()
	}
}

const (
	ringLimit = 5 * time.Second
	ringPause = fetchCooldown // workers do not look more often
	// What River calls a notification about new jobs.
	insertTopic   = "river_insert"
	insertPayload = `{"queue": %q}`
)

// ringAll rings until nothing is due.
func (b *Bell) ringAll() {
	for queues := b.take(); len(queues) > 0; queues = b.take() {
		payloads := make([]string, len(queues))
		for i, queue := range queues {
			payloads[i] = fmt.Sprintf(insertPayload, queue)
		}
		ctx, cancel := context.WithTimeout(context.Background(), ringLimit)
		_ = b.rope.NotifyMany(ctx, &riverdriver.NotifyManyParams{Topic: insertTopic, Payload: payloads}) // the poll finds the jobs
		cancel()
		time.Sleep(ringPause)
	}
}

func (b *Bell) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	queues := slices.Collect(maps.Keys(b.due))
	clear(b.due)
	b.ringing = len(queues) > 0
	return queues
}
