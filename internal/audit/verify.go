package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// maxProblems is how many problems a Report names.
const maxProblems = 20

// sealedLate is how long after its row a seal is worth a remark: rows are sealed within seconds.
const sealedLate = 10 * time.Minute

// Report is what Verify found.
type Report struct {
	Rows        int64         // sealed, and as they were when they were sealed, unless Problems says otherwise
	Seals       int64         // in the chain
	From        time.Time     // the first month that is held; zero: there is none
	DroppedTo   int64         // rows up to this number are older and were dropped
	End         string        // names the last seal; "none": there is none
	Unsealed    int64         // rows after it
	UnsealedFor time.Duration `json:"-"` // how long the oldest of them has been waiting
	Late        int64         // rows that were sealed more than ten minutes after they were written
	FirstLate   int64         // the number of the first such row
	Problems    []string      // at most 20
	More        int64         // problems beyond those
}

// OK reports whether the trail is as it was sealed.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) == maxProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Verify recomputes every seal and the chain between them. keep is how long the trail should be kept: months that are gone
// before are a problem. expect is the End of an earlier report, which the chain must still hold; "": there is none.
func (t *Trail) Verify(ctx context.Context, keep time.Duration, expect string) (*Report, error) {
	v := &verification{report: &Report{Problems: []string{}}, keep: keep, now: t.now(), expect: expect, months: map[time.Time]bool{}}
	// One connection for the seals and one for the rows: the rows up to the head's seal change no more.
	err := v.prepare(ctx, t)
	if err == nil {
		err = v.walk(ctx, t)
	}
	if err == nil {
		err = v.finish(ctx, t)
	}
	if err != nil {
		return nil, fmt.Errorf("verify the audit trail: %w", err)
	}
	return v.report, nil
}

type verification struct {
	report *Report
	keep   time.Duration
	now    time.Time
	expect string
	months map[time.Time]bool // that have their rows
	keys   sealKeys
	head   head
	last   *seal // that was looked at

	rows    pgx.Rows
	pending *Record // read and not yet accounted for
}

func (v *verification) prepare(ctx context.Context, t *Trail) (err error) {
	if v.head, err = readHead(ctx, t.db); err != nil {
		return err
	}
	if v.keys, err = t.keys(ctx, t.db); err != nil {
		return err
	}
	rows, _ := t.db.Query(ctx, `
		SELECT to_date(right(c.relname, 6), 'YYYYMM') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'audit_event'::regclass ORDER BY 1`)
	months, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	for _, month := range months {
		v.months[month] = true
	}
	return err
}

// walk goes through seals and rows side by side.
func (v *verification) walk(ctx context.Context, t *Trail) (err error) {
	seals, err := t.db.Query(ctx, `SELECT `+sealColumns+` FROM audit_seal WHERE seq <= $1 ORDER BY seq`, v.head.Seq)
	if err != nil {
		return err
	}
	defer seals.Close()
	v.rows, err = t.db.Query(ctx, `
		SELECT `+columns+` FROM audit_event
		WHERE id <= (SELECT max(last_id) FROM audit_seal WHERE seq <= $1) ORDER BY id`, v.head.Seq)
	if err != nil {
		return err
	}
	defer v.rows.Close()
	for seals.Next() {
		s, err := pgx.RowToStructByPos[seal](seals)
		if err != nil {
			return err
		}
		v.link(s)
		if err := v.cover(s); err != nil {
			return err
		}
		v.last = &s
	}
	if err := v.skipTo(1<<63 - 1); err != nil {
		return err
	}
	return seals.Err()
}

// link looks at a seal's place in the chain.
func (v *verification) link(s seal) {
	v.report.Seals++
	switch before := v.last; {
	case before == nil && s.Seq > 1 && v.months[s.Month]:
		v.report.problem("the seals before seal %d are missing", s.Seq)
	case before == nil && s.Seq > 1:
		v.report.DroppedTo = s.LastID
	case before == nil:
	case s.Seq != before.Seq+1:
		v.report.problem("the seals between seal %d and seal %d are missing", before.Seq, s.Seq)
	case !bytes.Equal(s.Previous, before.MAC) || s.AfterID != before.LastID:
		v.report.problem("seal %d does not follow seal %d", s.Seq, before.Seq)
	}
	if !v.keys.made(s) {
		v.report.problem("seal %d was changed, or not made by this installation", s.Seq)
	}
	if s.end() == v.expect {
		v.expect = ""
	}
}

// cover compares a seal with the rows it covers.
func (v *verification) cover(s seal) error {
	if err := v.skipTo(s.AfterID); err != nil {
		return err
	}
	var count, first int64
	digest := sha256.New()
	for {
		record, err := v.next(s.LastID)
		if err != nil {
			return err
		}
		if record == nil {
			break
		}
		if count++; count == 1 {
			first = record.ID
		}
		add(digest, *record)
		v.noteLate(*record, s)
	}
	switch {
	case count == 0 && !v.months[s.Month]:
		v.dropped(s)
	case count != s.Rows:
		v.report.problem("%d rows stand where seal %d was made of %d: rows %d to %d of %s",
			count, s.Seq, s.Rows, s.AfterID+1, s.LastID, s.Month.Format("January 2006"))
	case !bytes.Equal(digest.Sum(nil), s.Digest):
		v.report.problem("a row was changed after seal %d was made: one of the rows %d to %d, sealed at %s",
			s.Seq, first, s.LastID, s.SealedAt.UTC().Format(time.RFC3339))
	default:
		v.report.Rows += count
	}
	return nil
}

// dropped looks whether it was time for the rows of a seal to go.
func (v *verification) dropped(s seal) {
	v.report.DroppedTo = s.LastID
	if age := v.now.Sub(s.Month.AddDate(0, 1, 0)); age < v.keep {
		v.report.problem("the %d rows of seal %d are gone with %s, before their time", s.Rows, s.Seq, s.Month.Format("January 2006"))
	}
}

func (v *verification) noteLate(r Record, s seal) {
	if s.SealedAt.Sub(r.At) < sealedLate {
		return
	}
	if v.report.Late++; v.report.FirstLate == 0 {
		v.report.FirstLate = r.ID
	}
}

// skipTo names the rows up to last, which no seal covers.
func (v *verification) skipTo(last int64) error {
	for {
		record, err := v.next(last)
		if err != nil || record == nil {
			return err
		}
		v.report.problem("row %d of %s is in no seal, and later rows are", record.ID, record.At.UTC().Format(time.RFC3339))
	}
}

// next returns the next row up to last, nil when there is none.
func (v *verification) next(last int64) (*Record, error) {
	if v.pending == nil {
		if !v.rows.Next() {
			return nil, v.rows.Err()
		}
		record, err := scanRecord(v.rows)
		if err != nil {
			return nil, err
		}
		v.pending = &record
	}
	record := v.pending
	if record.ID > last {
		return nil, nil
	}
	v.pending = nil
	return record, nil
}

// finish looks at the end of the chain and at what comes after it.
func (v *verification) finish(ctx context.Context, t *Trail) error {
	var end seal
	if v.last != nil {
		end = *v.last
	}
	v.report.End = end.end()
	switch {
	case end.Seq < v.head.Seq:
		v.report.problem("the chain should end with seal %d and ends with %s", v.head.Seq, lastSeal(end.Seq))
	case v.head.Seq > 0 && !v.keys.endsWith(end, v.head):
		v.report.problem("what the chain should end with was changed, or seal %d was", end.Seq)
	}
	if v.expect != "" {
		v.report.problem("the chain does not hold the seal %s", v.expect)
	}
	return v.tail(ctx, t, end)
}

func lastSeal(seq int64) string {
	if seq == 0 {
		return "none"
	}
	return "seal " + strconv.FormatInt(seq, 10)
}

// tail counts what is not sealed yet, and what follows a head that is gone.
func (v *verification) tail(ctx context.Context, t *Trail, end seal) error {
	var oldest, from *time.Time
	var newest, said int64 // at one moment: both are written together
	err := t.db.QueryRow(ctx, `
		SELECT count(*), min(at), (SELECT coalesce(max(seq), 0) FROM audit_seal), (SELECT coalesce(max(seq), 0) FROM audit_head)
		FROM audit_event WHERE id > $1`, end.LastID,
	).Scan(&v.report.Unsealed, &oldest, &newest, &said)
	if err != nil {
		return err
	}
	if oldest != nil {
		v.report.UnsealedFor = max(0, v.now.Sub(*oldest))
	}
	if newest > said {
		v.report.problem("the chain goes on to seal %d and should end with %s", newest, lastSeal(said))
	}
	for month := range v.months {
		if from == nil || month.Before(*from) {
			from = &month
		}
	}
	if from != nil {
		v.report.From = *from
	}
	return nil
}
