package iam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/engineshed/engineshed/internal/access/signature"
)

// spendNonces commits without waiting for the disk, but only itself: set_config(…, true) ends with its own transaction.
// As a condition of the statement it costs no second round trip. The order keeps two processes that spend the same
// nonces from waiting for each other.
const spendNonces = `
	INSERT INTO nonce (signed_at, bucket, access_key_id, nonce)
	SELECT s.signed_at, date_bin('10 minutes', s.signed_at, 'epoch'), s.access_key_id, s.nonce
	FROM unnest($1::timestamptz[], $2::text[], $3::text[]) AS s (signed_at, access_key_id, nonce)
	WHERE s.signed_at >= coalesce((SELECT not_before FROM nonce_floor), last_crash())
	  AND set_config('synchronous_commit', 'off', true) = 'off'
	ORDER BY 2, 3, 4
	ON CONFLICT DO NOTHING
	RETURNING bucket, access_key_id, nonce`

// spending is a nonce to be spent.
type spending struct {
	accessKeyID, nonce string
	signedAt           time.Time
}

// outcome is what came of a spending: the key as it was at that moment, and whether the nonce was new.
type outcome struct {
	key   sealedKey
	spent bool
}

// Spend marks a nonce as used, on all processes that share the database, and returns the key as it is at that moment.
// It returns signature.ErrNonceUsed when the key has used the nonce before, and signature.ErrExpired when the request
// was signed before the last crash of the database, which may have lost its nonce. Call it after the signature has
// verified: an attacker could spend nonces otherwise.
func (s *Store) Spend(ctx context.Context, accessKeyID, nonce string, signedAt time.Time) (signature.Key, error) {
	mine := spending{accessKeyID, nonce, signedAt}
	done, err := s.spendings.Ask(ctx, mine)
	if lacksPartition(err) { // no control plane ran for the last hour, or somebody else's date is impossible
		done, err = s.spendAlone(ctx, mine)
	}
	switch {
	case lacksPartition(err):
		return signature.Key{}, signature.ErrExpired // dated outside of the time that nonces are kept for
	case err != nil:
		return signature.Key{}, fmt.Errorf("spend the nonce: %w", err)
	case !done.spent:
		return signature.Key{}, s.whyNotSpent(ctx, signedAt)
	}
	return s.open(done.key)
}

func (s *Store) spendAlone(ctx context.Context, mine spending) (outcome, error) {
	if err := s.MaintainNonces(ctx); err != nil {
		return outcome{}, err
	}
	done, err := s.spend(ctx, []spending{mine})
	if err != nil {
		return outcome{}, err
	}
	return done[0], nil
}

// nonceID is what may be spent once.
type nonceID struct {
	bucket             int64
	accessKeyID, nonce string
}

// spend spends nonces and reads their keys, in one round trip and one transaction.
func (s *Store) spend(ctx context.Context, wanted []spending) ([]outcome, error) {
	dates, ids, nonces := make([]time.Time, len(wanted)), make([]string, len(wanted)), make([]string, len(wanted))
	for i, w := range wanted {
		dates[i], ids[i], nonces[i] = w.signedAt, w.accessKeyID, w.nonce
	}
	spent, keys := map[nonceID]bool{}, map[string]sealedKey{}
	batch := &pgx.Batch{}
	batch.Queue(spendNonces, dates, ids, nonces).Query(func(rows pgx.Rows) error {
		var id nonceID
		var bucket time.Time
		_, err := pgx.ForEachRow(rows, []any{&bucket, &id.accessKeyID, &id.nonce}, func() error {
			id.bucket = bucket.Unix()
			spent[id] = true
			return nil
		})
		return err
	})
	batch.Queue(selectKeys, ids).Query(func(rows pgx.Rows) (err error) {
		keys, err = collectKeys(rows)
		return err
	})
	sessions := map[string]sealedKey{}
	if slices.ContainsFunc(ids, sessionIDPattern.MatchString) {
		batch.Queue(selectSessions, ids).Query(func(rows pgx.Rows) (err error) {
			sessions, err = collectSessions(rows)
			return err
		})
	}
	if err := s.db.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	maps.Copy(keys, sessions)
	outcomes := make([]outcome, len(wanted))
	for i, w := range wanted {
		id := nonceID{w.signedAt.Truncate(10 * time.Minute).Unix(), w.accessKeyID, w.nonce}
		outcomes[i] = outcome{keys[w.accessKeyID], spent[id]}
		delete(spent, id) // of two in one batch, one has spent it
	}
	return outcomes, nil
}

func (s *Store) whyNotSpent(ctx context.Context, signedAt time.Time) error {
	var lost bool
	err := s.db.QueryRow(ctx, `SELECT $1 < coalesce((SELECT not_before FROM nonce_floor), last_crash())`,
		signedAt).Scan(&lost)
	switch {
	case err != nil:
		return fmt.Errorf("spend the nonce: %w", err)
	case lost:
		return signature.ErrExpired.Withf("The request was signed before the service restarted: sign it again.")
	}
	return signature.ErrNonceUsed
}

// lacksPartition reports whether err is a row of the nonce table that belongs to no partition.
func lacksPartition(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23514" && pg.TableName == "nonce" && pg.ConstraintName == ""
}

// MaintainNonces makes the partitions of the coming hour, drops those whose requests cannot verify any more, and puts
// back the floor that a crash has emptied. Call it once a minute.
func (s *Store) MaintainNonces(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, `SELECT maintain_nonce_partitions()`); err != nil {
		return fmt.Errorf("maintain the nonce partitions: %w", err)
	}
	return nil
}
