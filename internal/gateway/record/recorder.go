package record

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	// maxWaiting is how many records wait at most, in memory, while Postgres is away: about 40 MB of them.
	maxWaiting = 100_000
	// maxContent is how much recorded content waits at most to be logged.
	maxContent = 64 << 20
	// maxRefused is how many refusals a second are recorded: who has no key must not fill the database.
	maxRefused = 1000
	// collectInterval is how long a record waits at most before it is logged.
	collectInterval = 100 * time.Millisecond
	// fewAdded records are collected at once by whoever adds the last of them: few enough to hold up nobody, and enough that
	// it costs each of them little. No goroutine is woken for that: on a busy core each wake-up is paid for by those who wait.
	fewAdded = 8
	// maxCollected is how many records whoever adds one collects at most. More are only there when the log was slow.
	maxCollected = 64
	// finishTimeout is how long the last records may take.
	finishTimeout = 5 * time.Second
)

// Recorder takes the records of a gateway's requests. Adding one never waits.
type Recorder struct {
	log     *slog.Logger
	lines   *requestLog
	store   store
	series  series
	newest  atomic.Pointer[Record] // of those that were added; each knows the one before it
	added   atomic.Int64           // how many those are
	wake    chan struct{}          // there are many lines to write
	waiting atomic.Int64           // records that are not written
	content atomic.Int64           // bytes of content that are not logged
	refused limiter

	dropped [drops]atomic.Uint64

	collecting sync.Mutex // held by the one who collects, so that records keep their order
}

// drop is why a record was not written.
type drop int

const (
	droppedFull    drop = iota // Postgres is away or slow
	droppedRefused             // there were very many refusals
	droppedBad                 // Postgres did not take it
	droppedEnd                 // the gateway ended before it was written
	drops
)

func (d drop) String() string { return [drops]string{"full", "refusals", "rejected", "ended"}[d] }

// pool lends records: at ten thousand requests a second they would be a third of all garbage.
var pool = sync.Pool{New: func() any { return new(Record) }}

// New returns an empty record for Add.
func New() *Record { return pool.Get().(*Record) }

// Open returns a recorder that writes with the gateway's database role. It does not connect yet. process names this
// gateway in what it writes; the lines of requests go to lines.
func Open(databaseURL, process string, lines io.Writer, log *slog.Logger) (*Recorder, error) {
	r := &Recorder{log: log, lines: &requestLog{to: lines}, wake: make(chan struct{}, 1)}
	r.store.log, r.store.process, r.store.written = log, process, r.forget
	r.store.wake = make(chan struct{}, 1)
	return r, r.store.open(databaseURL)
}

// Add takes a record of New, which the caller then forgets. It is dropped, and counted as such, when too many wait.
func (r *Recorder) Add(rec *Record) {
	if rec.EndState == Refused && !r.refused.allows() {
		r.dropped[droppedRefused].Add(1)
		return
	}
	if r.waiting.Add(1) > maxWaiting {
		r.forget(droppedFull, 1)
		return
	}
	rec.ModelAsked, rec.Model = clean(rec.ModelAsked), clean(rec.Model)
	if size := rec.Line.size(); size > 0 && r.content.Add(size) > maxContent {
		r.content.Add(-size)
		rec.Line.Content = []Content{{"content", "[not recorded: too much is waiting to be logged]"}}
		r.content.Add(rec.Line.size())
	}
	for {
		rec.next = r.newest.Load()
		if r.newest.CompareAndSwap(rec.next, rec) {
			break
		}
	}
	if n := r.added.Add(1); n%fewAdded == 0 && n <= maxCollected {
		r.collectFew()
	}
}

// written is no reason to drop a record.
const written drop = -1

// forget counts records out.
func (r *Recorder) forget(why drop, n int) {
	r.waiting.Add(-int64(n))
	if why != written {
		r.dropped[why].Add(uint64(n))
	}
}

// Run logs and writes records until ctx ends, and then those that are left.
func (r *Recorder) Run(ctx context.Context) error {
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { return r.store.run(storeCtx) })
	ticker := time.NewTicker(collectInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-r.wake:
		}
		r.collectAll()
	}
	stopStore()
	_ = group.Wait()
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	r.collectAll()
	if lost := r.store.finish(finish); lost > 0 {
		r.forget(droppedEnd, lost)
		r.log.Error("usage records are lost: they could not be written before the gateway ended", "records", lost)
	}
	return nil
}

// Close ends the connection to the database. Run must have returned.
func (r *Recorder) Close() { r.store.pool.Close() }

// collectFew collects what was added, unless somebody does already or many lines wait to be written, which takes as long as
// it takes.
func (r *Recorder) collectFew() {
	if !r.collecting.TryLock() {
		return
	}
	if !r.lines.areMany() {
		for rec := range r.take() {
			r.collect(rec)
		}
	}
	many := r.lines.areMany()
	r.collecting.Unlock()
	if many {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// collectAll collects what was added and writes the lines.
func (r *Recorder) collectAll() {
	r.collecting.Lock()
	defer r.collecting.Unlock()
	for rec := range r.take() {
		r.collect(rec)
		if r.lines.areMany() {
			r.lines.write()
		}
	}
	r.lines.write()
}

// take yields the records that were added, in the order in which they were.
func (r *Recorder) take() iter.Seq[*Record] {
	var oldest *Record
	var n int64
	for rec := r.newest.Swap(nil); rec != nil; n++ {
		oldest, rec, rec.next = rec, rec.next, oldest
	}
	r.added.Add(-n)
	return func(yield func(*Record) bool) {
		for rec := oldest; rec != nil; {
			next := rec.next
			if !yield(rec) {
				return
			}
			rec = next
		}
	}
}

// collect makes a line and a row of a record, which then is lent again.
func (r *Recorder) collect(rec *Record) {
	r.lines.add(rec)
	r.store.add(rec)
	r.content.Add(-rec.Line.size())
	*rec = Record{}
	pool.Put(rec)
}

// limiter allows so much a second.
type limiter struct{ second, used atomic.Int64 }

func (l *limiter) allows() bool {
	now := time.Now().Unix()
	if was := l.second.Load(); was != now && l.second.CompareAndSwap(was, now) {
		l.used.Store(0)
	}
	return l.used.Add(1) <= maxRefused
}

var (
	droppedDesc = prometheus.NewDesc("engineshed_gateway_usage_dropped_total",
		"Usage records that were not written: too many waited (full), too many refusals in a second (refusals), "+
			"Postgres refused them (rejected), the gateway ended (ended).", []string{"reason"}, nil)
	waitingDesc = prometheus.NewDesc("engineshed_gateway_usage_waiting",
		"Usage records that are not written yet.", nil, nil)
	writtenDesc = prometheus.NewDesc("engineshed_gateway_usage_written_total",
		"Usage records that Postgres has.", nil, nil)
)

// Describe is part of prometheus.Collector.
func (r *Recorder) Describe(descs chan<- *prometheus.Desc) {
	descs <- droppedDesc
	descs <- waitingDesc
	descs <- writtenDesc
	r.series.describe(descs)
}

// Collect is part of prometheus.Collector.
func (r *Recorder) Collect(metrics chan<- prometheus.Metric) {
	for why := range drops {
		metrics <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(r.dropped[why].Load()), why.String())
	}
	metrics <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(r.waiting.Load()))
	metrics <- prometheus.MustNewConstMetric(writtenDesc, prometheus.CounterValue, float64(r.store.total.Load()))
	r.series.collect(metrics)
}
