package audit

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
)

// sealLock lets one process seal at a time.
const sealLock = 7056

// sealRows is how many rows a seal covers at most.
const sealRows = 1000

// ErrBroken says that the end of the chain is not as it was left. Nothing more is sealed until somebody has looked.
var ErrBroken = errors.New("the end of the audit trail is not as it was left: run engineshed audit verify")

// seal covers a run of rows: those with numbers after AfterID, up to LastID, all of one month.
type seal struct {
	Seq      int64
	Month    time.Time
	AfterID  int64
	LastID   int64
	Rows     int64
	Digest   []byte
	KeyID    int
	Previous []byte
	MAC      []byte
	SealedAt time.Time
}

const sealColumns = `seq, month, after_id, last_id, rows, digest, key_id, previous, mac, sealed_at`

// sign is the MAC of everything else in the seal.
func (s seal) sign(key []byte) []byte {
	text := []byte("engineshed audit seal 1")
	for _, n := range []int64{s.Seq, s.Month.Unix(), s.AfterID, s.LastID, s.Rows, int64(s.KeyID), s.SealedAt.UnixMicro()} {
		text = binary.BigEndian.AppendUint64(text, uint64(n))
	}
	for _, part := range [][]byte{s.Digest, s.Previous} {
		text = append(binary.BigEndian.AppendUint32(text, uint32(len(part))), part...)
	}
	return mac(key, text)
}

// signHead is the MAC that says that the chain ends with this seal. The seal's own is no secret, so it is not enough.
func (s seal) signHead(key []byte) []byte {
	return mac(key, append([]byte("engineshed audit head 1"), s.MAC...))
}

func mac(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// End names the end of the chain as people note it down: its number and its MAC.
func (s seal) end() string {
	if s.Seq == 0 {
		return "none"
	}
	return strconv.FormatInt(s.Seq, 10) + ":" + base64.RawURLEncoding.EncodeToString(s.MAC)
}

// horizon is how far rows were numbered once, and the transaction that was next at that moment. When all before it are
// over, no row up to the number can appear any more.
type horizon struct {
	id   int64
	next uint64
	past bool // everything up to id is sealed
}

// Seal seals the rows that are there for good, and returns how many. Rows that a running transaction may still add to are
// left for the next call. Where nothing is new it writes nothing, and where another process seals it does nothing.
func (t *Trail) Seal(ctx context.Context) (rows int, err error) {
	settled, err := t.settled(ctx)
	for err == nil && settled > 0 {
		n, state, sealErr := t.sealOnce(ctx, settled)
		rows, err = rows+n, sealErr
		if t.ahead.past = state == sealedAll; state != sealedSome {
			break
		}
	}
	return rows, err
}

// progress says how a step of sealing ended.
type progress int

const (
	sealedNone progress = iota // it failed, or another process is sealing
	sealedSome
	sealedAll
)

// settled returns the number up to which rows are there for good; 0 when there is nothing to seal up to.
func (t *Trail) settled(ctx context.Context) (int64, error) {
	var last int64
	err := t.db.QueryRow(ctx, `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit_event_seq`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("look how far the audit trail is written: %w", err)
	}
	if last == 0 || t.ahead.past && t.ahead.id == last {
		return 0, nil
	}
	// A transaction that took a number until now has a number lower than ours. A snapshot's xmax would not do: it follows the
	// last that ended, and others with higher numbers may run.
	var next, oldest uint64
	err = t.db.QueryRow(ctx, `
		SELECT pg_current_xact_id()::text::bigint, pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&next, &oldest)
	if err != nil {
		return 0, fmt.Errorf("look which transactions write the audit trail: %w", err)
	}
	if t.ahead.past || t.ahead.next == 0 || next < t.ahead.next { // the last: another database took this one's place
		t.ahead = horizon{id: last, next: next}
	}
	if oldest < t.ahead.next {
		return 0, nil
	}
	return t.ahead.id, nil
}

// sealOnce seals one run of rows.
func (t *Trail) sealOnce(ctx context.Context, settled int64) (rows int, state progress, err error) {
	err = postgres.InTx(ctx, t.db, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, sealLock).Scan(&mine); err != nil || !mine {
			return err
		}
		end, key, err := t.end(ctx, tx)
		if err != nil {
			return err
		}
		next, err := t.nextSeal(ctx, tx, end, settled)
		if err != nil {
			return err
		}
		if next.Rows == 0 {
			state = sealedAll
			return nil
		}
		if key.id == 0 {
			if key, err = t.addKey(ctx, tx, 1); err != nil {
				return err
			}
		}
		rows, state = int(next.Rows), sealedSome
		return insertSeal(ctx, tx, next, key)
	})
	if err != nil {
		return 0, sealedNone, fmt.Errorf("seal the audit trail: %w", err)
	}
	return rows, state, nil
}

// end reads the last seal and the key to go on with, and refuses to go on from an end that was tampered with.
func (t *Trail) end(ctx context.Context, tx pgx.Tx) (end seal, key sealKey, err error) {
	keys, err := t.keys(ctx, tx)
	if err != nil {
		return seal{}, sealKey{}, err
	}
	rows, _ := tx.Query(ctx, `SELECT `+sealColumns+` FROM audit_seal ORDER BY seq DESC LIMIT 1`)
	ends, err := pgx.CollectRows(rows, pgx.RowToStructByPos[seal])
	if err != nil {
		return seal{}, sealKey{}, err
	}
	head, err := readHead(ctx, tx)
	switch {
	case err != nil:
		return seal{}, sealKey{}, err
	case len(ends) == 0 && head.Seq == 0:
		return seal{}, keys.newest(), nil
	case len(ends) == 0 || !keys.endsWith(ends[0], head):
		return seal{}, sealKey{}, ErrBroken
	}
	return ends[0], keys.newest(), nil
}

// nextSeal covers the rows that follow end, of one month and not too many. Its Rows are 0 where there are none.
func (t *Trail) nextSeal(ctx context.Context, tx pgx.Tx, end seal, settled int64) (seal, error) {
	next := seal{
		Seq: end.Seq + 1, AfterID: end.LastID, LastID: end.LastID, Previous: end.MAC, SealedAt: t.now().UTC().Truncate(time.Microsecond),
	}
	if next.Previous == nil {
		next.Previous = []byte{}
	}
	rows, _ := tx.Query(ctx, `
		SELECT `+columns+` FROM audit_event WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3`, end.LastID, settled, sealRows)
	records, err := pgx.CollectRows(rows, scanRecord)
	if err != nil || len(records) == 0 {
		return seal{}, err
	}
	next.Month = records[0].month()
	digest := sha256.New()
	for _, record := range records {
		if !record.month().Equal(next.Month) {
			break
		}
		add(digest, record)
		next.Rows, next.LastID = next.Rows+1, record.ID
	}
	next.Digest = digest.Sum(nil)
	return next, nil
}

func add(digest hash.Hash, record Record) {
	sum := record.digest()
	digest.Write(sum[:])
}

func insertSeal(ctx context.Context, tx pgx.Tx, s seal, key sealKey) error {
	s.KeyID = key.id
	s.MAC = s.sign(key.bytes)
	_, err := tx.Exec(ctx, `
		INSERT INTO audit_seal (`+sealColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		s.Seq, s.Month, s.AfterID, s.LastID, s.Rows, s.Digest, s.KeyID, s.Previous, s.MAC, s.SealedAt)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO audit_head (seq, mac) VALUES ($1, $2)
		ON CONFLICT (singleton) DO UPDATE SET seq = excluded.seq, mac = excluded.mac`, s.Seq, s.signHead(key.bytes))
	return err
}

// head is what the chain is said to end with.
type head struct {
	Seq int64
	MAC []byte
}

// querier reads: a transaction or a pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readHead(ctx context.Context, db querier) (head, error) {
	rows, _ := db.Query(ctx, `SELECT seq, mac FROM audit_head`)
	heads, err := pgx.CollectRows(rows, pgx.RowToStructByPos[head])
	if err != nil || len(heads) == 0 {
		return head{}, err
	}
	return heads[0], nil
}

// sealKey is a key that seals are made with.
type sealKey struct {
	id    int
	bytes []byte
}

type sealKeys []sealKey

// newest is the key to seal with, the zero key where there is none yet.
func (k sealKeys) newest() sealKey {
	if len(k) == 0 {
		return sealKey{}
	}
	return k[len(k)-1]
}

// made reports whether a seal was made with the key it names.
func (k sealKeys) made(s seal) bool {
	for _, key := range k {
		if key.id == s.KeyID {
			return hmac.Equal(s.MAC, s.sign(key.bytes))
		}
	}
	return false
}

// endsWith reports whether s is the seal that the head says is the last.
func (k sealKeys) endsWith(s seal, h head) bool {
	for _, key := range k {
		if key.id == s.KeyID {
			return h.Seq == s.Seq && hmac.Equal(h.MAC, s.signHead(key.bytes)) && k.made(s)
		}
	}
	return false
}

func keyPurpose(id string) string { return "audit_key/" + id + "/key" }

// keys opens all keys, the oldest first.
func (t *Trail) keys(ctx context.Context, db querier) (keys sealKeys, err error) {
	rows, _ := db.Query(ctx, `SELECT id, key_sealed FROM audit_key ORDER BY id`)
	var id int
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &sealed}, func() error {
		text, err := t.master.Open(keyPurpose(strconv.Itoa(id)), sealed)
		if err != nil {
			return err
		}
		key, err := base64.RawStdEncoding.DecodeString(text.Reveal())
		keys = append(keys, sealKey{id, key})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the keys of the audit trail's seals: %w", err)
	}
	return keys, nil
}

// addKey makes the key that seals are made with from now on.
func (t *Trail) addKey(ctx context.Context, tx pgx.Tx, id int) (sealKey, error) {
	key := sealKey{id, make([]byte, sha256.Size)}
	_, _ = rand.Read(key.bytes) // never fails
	sealed, err := t.master.Seal(keyPurpose(strconv.Itoa(id)), secret.New(base64.RawStdEncoding.EncodeToString(key.bytes)))
	if err != nil {
		return sealKey{}, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_key (id, key_sealed) VALUES ($1, $2)`, id, sealed)
	return key, err
}

// NewKey makes a key that seals are made with from now on: who had the old master key does not have it. Seals that there
// are stay as they are.
func (t *Trail) NewKey(ctx context.Context) error {
	err := postgres.InTx(ctx, t.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, sealLock); err != nil {
			return err
		}
		keys, err := t.keys(ctx, tx)
		if err != nil {
			return err
		}
		_, err = t.addKey(ctx, tx, keys.newest().id+1)
		return err
	})
	if err != nil {
		return fmt.Errorf("make a new key for the audit trail's seals: %w", err)
	}
	return nil
}
