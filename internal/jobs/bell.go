package jobs

import (
	"context"
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

// Bell inserts jobs in silence and wakes their workers after the commit. A transaction that notifies commits alone: the
// notifying ones wait for each other while their logs reach the disk. Outside of it a notification costs a round trip
// and nobody waits for it.
type Bell struct {
	silent *Client
	rope   riverdriver.Executor

	mu      sync.Mutex
	due     map[string]bool // the queues to be woken
	ringing bool
}

// silentDriver is River's driver for a database without NOTIFY.
type silentDriver struct{ *riverpgxv5.Driver }

func (silentDriver) SupportsListenNotify() bool { return false }

// NewBell returns a Bell for the jobs of db.
func NewBell(db *pgxpool.Pool) (*Bell, error) {
	driver := riverpgxv5.New(db)
	silent, err := river.NewClient(silentDriver{driver}, &river.Config{MaxAttempts: maxAttempts})
	if err != nil {
		return nil, fmt.Errorf("make the River client: %w", err)
	}
	return &Bell{silent: silent, rope: driver.GetExecutor(), due: map[string]bool{}}, nil
}

// InsertTx inserts jobs in the caller's transaction. Ring their queues when it has committed.
func (b *Bell) InsertTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) error {
	_, err := b.silent.InsertManyTx(ctx, tx, params)
	return err
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
