package audit_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

const keep = 400 * 24 * time.Hour

type world struct {
	*pgtest.DB
	master *secret.Box
	trail  *audit.Trail
	n      int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	master, err := secret.NewBox()
	require.NoError(t, err)
	w := &world{DB: pgtest.New(t), master: master}
	w.trail = w.another()
	return w
}

// another is the trail as another process has it.
func (w *world) another() *audit.Trail { return audit.NewTrail(w.Control, w.master, time.Now) }

// write adds n rows of now.
func (w *world) write(t *testing.T, n int) {
	t.Helper()
	for range n {
		require.NoError(t, audit.Insert(t.Context(), w.Control, w.entry()))
	}
}

func (w *world) entry() *audit.Entry {
	w.n++
	return &audit.Entry{
		RequestID: fmt.Sprint("request-", w.n), AccountID: "1000000000000001", Principal: "acs:ram::1000000000000001:root", AccessKeyID: "k",
		SourceIP: "127.0.0.1", Action: "gpdb:CreateModelService", Resource: "acs:gpdb:*", Outcome: audit.Done,
	}
}

// seal seals all that is written: other transactions of the server may hold the end back for a moment.
func (w *world) seal(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := w.trail.Seal(t.Context())
		require.NoError(t, err)
		return w.verify(t).Unsealed == 0
	}, 20*time.Second, 10*time.Millisecond)
}

func (w *world) verify(t *testing.T) *audit.Report {
	t.Helper()
	report, err := w.another().Verify(t.Context(), keep, "")
	require.NoError(t, err)
	return report
}

// tamper does what somebody could who may do everything in the database.
func (w *world) tamper(t *testing.T, statement string) {
	t.Helper()
	changed, err := w.Owner.Exec(t.Context(), statement)
	require.NoError(t, err)
	require.NotZero(t, changed.RowsAffected(), statement)
}

func (w *world) count(t *testing.T, query string) (n int) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), query).Scan(&n))
	return n
}

func TestWhatIsWrittenIsSealedAndVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	empty := w.verify(t)
	require.True(t, empty.OK(), empty.Problems)
	require.Equal(t, []any{int64(0), "none"}, []any{empty.Rows, empty.End})
	n, err := w.trail.Seal(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	w.write(t, 3)
	require.Equal(t, int64(3), w.verify(t).Unsealed, "what is not sealed is told")
	w.seal(t)
	w.write(t, 2)
	w.seal(t)
	w.write(t, 1)
	report := w.verify(t)
	require.True(t, report.OK(), report.Problems)
	require.Equal(t, []int64{5, 2, 1, 0}, []int64{report.Rows, report.Seals, report.Unsealed, report.Late})
	require.Less(t, report.UnsealedFor, time.Minute)
}

func TestManyRowsAreSealedInRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	batch := &pgx.Batch{}
	for range 2500 {
		audit.Queue(batch, w.entry())
	}
	require.NoError(t, w.Control.SendBatch(t.Context(), batch).Close())
	w.seal(t)
	report := w.verify(t)
	require.True(t, report.OK(), report.Problems)
	require.Equal(t, []int64{2500, 3}, []int64{report.Rows, report.Seals})
}

func TestNothingIsWrittenWhenNothingIsNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, 3)
	w.seal(t)
	state := `SELECT string_agg(s::text || h.xmin::text, ' ') FROM audit_seal s, audit_head h`
	var before, after string
	require.NoError(t, w.Owner.QueryRow(t.Context(), state).Scan(&before))
	for range 10 {
		for _, trail := range []*audit.Trail{w.trail, w.another()} {
			n, err := trail.Seal(t.Context())
			require.NoError(t, err)
			require.Zero(t, n)
		}
	}
	require.NoError(t, w.Owner.QueryRow(t.Context(), state).Scan(&after))
	require.Equal(t, before, after)
}

// A transaction that began first and commits last would otherwise bring a row below the end of the chain.
func TestARowThatIsCommittedLateIsInNoEarlierSeal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	late, err := w.Control.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, audit.Insert(t.Context(), late, w.entry()))
	w.write(t, 3)
	for range 5 {
		n, err := w.trail.Seal(t.Context())
		require.NoError(t, err)
		require.Zero(t, n, "the end is held back")
	}
	require.NoError(t, late.Commit(t.Context()))
	w.seal(t)
	report := w.verify(t)
	require.True(t, report.OK(), report.Problems)
	require.Equal(t, int64(4), report.Rows)
}

func TestEveryRowOfConcurrentWritersIsInExactlyOneSeal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const writers, each = 6, 60
	var written sync.WaitGroup
	for n := range writers {
		written.Go(func() {
			for i := range each {
				tx, err := w.Control.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				entry := &audit.Entry{RequestID: fmt.Sprint(n, "-", i), Outcome: audit.Done}
				err = audit.Insert(t.Context(), tx, entry)
				if err == nil && i%5 == 4 {
					err = tx.Rollback(t.Context())
				} else if err == nil {
					err = tx.Commit(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	var sealing sync.WaitGroup
	for range 2 { // processes
		trail := w.another()
		sealing.Go(func() {
			for {
				if _, err := trail.Seal(t.Context()); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	written.Wait()
	close(stop)
	sealing.Wait()
	w.seal(t)
	report := w.verify(t)
	require.True(t, report.OK(), report.Problems)
	require.Equal(t, int64(writers*each*4/5), report.Rows)
	require.Greater(t, report.Seals, int64(1))
}

func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		statement string
		want      string
	}{
		"one byte flipped":             {`UPDATE audit_event SET principal = overlay(principal placing 'X' from 5 for 1) WHERE request_id = 'request-4'`, "a row was changed after seal 2"},
		"an outcome changed":           {`UPDATE audit_event SET outcome = 'denied' WHERE request_id = 'request-1'`, "a row was changed after seal 1"},
		"a time changed":               {`UPDATE audit_event SET at = at - interval '1 microsecond' WHERE request_id = 'request-1'`, "a row was changed after seal 1"},
		"text moved to another column": {`UPDATE audit_event SET resource_id = code, code = 'x', detail = '' WHERE request_id = 'request-1'`, "a row was changed"},
		"a row removed":                {`DELETE FROM audit_event WHERE request_id = 'request-4'`, "2 rows stand where seal 2 was made of 3"},
		"the last row removed":         {`DELETE FROM audit_event WHERE request_id = 'request-9'`, "2 rows stand where seal 3 was made of 3"},
		"a row inserted": {`INSERT INTO audit_event SELECT 0, at, 'new', account_id, principal, access_key_id, source_ip, action, resource, resource_id,
			outcome, code, detail FROM audit_event WHERE request_id = 'request-1'`, "row 0 of"},
		"a row copied into a seal": {`INSERT INTO audit_event SELECT id, at, 'new', account_id, principal, access_key_id, source_ip, action, resource,
			resource_id, outcome, code, detail FROM audit_event WHERE request_id = 'request-5'`, "4 rows stand where seal 2 was made of 3"},
		"a row moved in time":      {`UPDATE audit_event SET at = at + interval '40 days' WHERE request_id = 'request-5'`, "a row was changed after seal 2"},
		"a seal changed":           {`UPDATE audit_seal SET sealed_at = sealed_at - interval '1 day' WHERE seq = 2`, "seal 2 was changed"},
		"a seal recounted":         {`UPDATE audit_seal SET rows = 2 WHERE seq = 2`, "seal 2 was changed"},
		"the first seal removed":   {`DELETE FROM audit_seal WHERE seq = 1`, "the seals before seal 2 are missing"},
		"a seal removed":           {`DELETE FROM audit_seal WHERE seq = 2`, "the seals between seal 1 and seal 3 are missing"},
		"the last seal removed":    {`DELETE FROM audit_seal WHERE seq = 3`, "should end with seal 3 and ends with seal 2"},
		"every seal removed":       {`DELETE FROM audit_seal`, "should end with seal 3 and ends with none"},
		"the end moved":            {`UPDATE audit_head SET seq = 2`, "what the chain should end with was changed"},
		"the end removed":          {`DELETE FROM audit_head`, "the chain goes on to seal 3 and should end with none"},
		"the end and a seal moved": {`WITH gone AS (DELETE FROM audit_seal WHERE seq = 3) UPDATE audit_head SET seq = 2`, "what the chain should end with was changed"},
		"a seal put in another's place": {`UPDATE audit_seal s SET rows = o.rows, digest = o.digest, previous = o.previous, mac = o.mac, sealed_at = o.sealed_at
			FROM audit_seal o WHERE s.seq = 2 AND o.seq = 3`, "seal 2 does not follow seal 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for range 3 {
				w.write(t, 3)
				w.seal(t)
			}
			before := w.verify(t)
			require.True(t, before.OK(), before.Problems)
			w.tamper(t, test.statement)
			after := w.verify(t)
			require.False(t, after.OK())
			require.Contains(t, strings.Join(after.Problems, "\n"), test.want)
		})
	}
}

func TestATamperedEndIsNotSealedOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, 3)
	w.seal(t)
	w.tamper(t, `DELETE FROM audit_seal`)
	w.write(t, 1)
	require.Eventually(t, func() bool {
		_, err := w.trail.Seal(t.Context())
		return err != nil && strings.Contains(err.Error(), audit.ErrBroken.Error())
	}, 20*time.Second, 10*time.Millisecond)
	require.Zero(t, w.count(t, `SELECT count(*) FROM audit_seal`))
}

func TestAnEndThatWasNotedDownIsLookedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, 1)
	w.seal(t)
	noted := w.verify(t).End
	w.write(t, 1)
	w.seal(t)
	report, err := w.trail.Verify(t.Context(), keep, noted)
	require.NoError(t, err)
	require.True(t, report.OK(), report.Problems)
	report, err = w.trail.Verify(t.Context(), keep, "2:elsewhere")
	require.NoError(t, err)
	require.Equal(t, []string{"the chain does not hold the seal 2:elsewhere"}, report.Problems)
}

func TestAnotherMasterKeySealsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(t, 1)
	w.seal(t)
	other, err := secret.NewBox()
	require.NoError(t, err)
	_, err = audit.NewTrail(w.Control, other, time.Now).Verify(t.Context(), keep, "")
	require.ErrorContains(t, err, "was not sealed under this key file")
}

// months makes months before this one and returns a time in each, the oldest first.
func (w *world) months(t *testing.T, n int) (times []time.Time) {
	t.Helper()
	this := time.Now().UTC()
	for i := n; i >= 0; i-- {
		month := time.Date(this.Year(), this.Month()-time.Month(i), 1, 0, 0, 0, 0, time.UTC)
		_, err := w.Owner.Exec(t.Context(), fmt.Sprintf(
			`CREATE TABLE IF NOT EXISTS audit_event_%s PARTITION OF audit_event FOR VALUES FROM ('%s') TO ('%s')`,
			month.Format("200601"), month.Format(time.RFC3339), month.AddDate(0, 1, 0).Format(time.RFC3339)))
		require.NoError(t, err)
		times = append(times, month.Add(time.Hour))
	}
	return times
}

func TestOldMonthsAreDroppedAndTheChainHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, at := range w.months(t, 4) {
		for range 2 {
			entry := w.entry()
			entry.At = at
			require.NoError(t, audit.Insert(t.Context(), w.Control, entry))
			w.seal(t)
		}
	}
	all := w.verify(t)
	require.True(t, all.OK(), all.Problems)
	require.Equal(t, []int64{10, 10, 1}, []int64{all.Rows, all.Seals, all.FirstLate})
	require.GreaterOrEqual(t, all.Late, int64(8), "rows that are sealed late are told")

	// Two months and the days of this one: the three oldest months are over by then, or two at the end of a long one.
	short := time.Since(time.Now().UTC().AddDate(0, -2, 0)) + 24*time.Hour
	require.NoError(t, w.trail.Maintain(t.Context(), short))
	held := w.count(t, `SELECT count(*) FROM audit_event`)
	require.Less(t, held, 10)
	report, err := w.trail.Verify(t.Context(), short, "")
	require.NoError(t, err)
	require.True(t, report.OK(), report.Problems)
	require.Equal(t, []int64{int64(held), int64(held) + 1, 10 - int64(held)}, []int64{report.Rows, report.Seals, report.DroppedTo})

	tooEarly := w.verify(t)
	require.Contains(t, strings.Join(tooEarly.Problems, "\n"), "before their time")
	w.write(t, 1)
	w.seal(t)
	require.NoError(t, w.trail.Maintain(t.Context(), short))
	report, err = w.trail.Verify(t.Context(), short, all.End)
	require.NoError(t, err)
	require.True(t, report.OK(), report.Problems)

	w.tamper(t, `DELETE FROM audit_seal WHERE seq = (SELECT min(seq) FROM audit_seal)`)
	report, err = w.trail.Verify(t.Context(), short, "")
	require.NoError(t, err)
	require.Contains(t, strings.Join(report.Problems, "\n"), "are missing")
}

func TestRowsAroundTheTurnOfAMonthAreSealedByMonth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	times := w.months(t, 1)
	for _, n := range []int{0, 1, 0, 1, 1} { // as transactions at midnight take their numbers
		entry := w.entry()
		entry.At = times[n]
		require.NoError(t, audit.Insert(t.Context(), w.Control, entry))
	}
	w.seal(t)
	report := w.verify(t)
	require.True(t, report.OK(), report.Problems)
	require.Equal(t, []int64{5, 4}, []int64{report.Rows, report.Seals})
}

func TestAMonthThatIsNotSealedStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entry := w.entry()
	entry.At = w.months(t, 4)[0]
	require.NoError(t, audit.Insert(t.Context(), w.Control, entry))
	require.NoError(t, w.trail.Maintain(t.Context(), 24*time.Hour))
	require.Equal(t, 1, w.count(t, `SELECT count(*) FROM audit_event`))
	w.seal(t)
	require.NoError(t, w.trail.Maintain(t.Context(), 24*time.Hour))
	require.Equal(t, 0, w.count(t, `SELECT count(*) FROM audit_event`))
	require.Equal(t, 1, w.count(t, `SELECT count(*) FROM audit_seal`), "the chain goes on from the last seal")
	w.write(t, 1)
	w.seal(t)
	report, err := w.trail.Verify(t.Context(), 24*time.Hour, "")
	require.NoError(t, err)
	require.True(t, report.OK(), report.Problems)
}

func TestACallThatIsWrittenTwiceHasOneRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entry := w.entry()
	for range 3 {
		require.NoError(t, audit.Insert(t.Context(), w.Control, entry))
	}
	require.Equal(t, 1, w.count(t, `SELECT count(*) FROM audit_event`))
}
