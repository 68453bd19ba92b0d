package iam

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/engineshed/engineshed/internal/access/signature"
)

// spendNonce commits without waiting for the disk, but only itself: set_config(…, true) ends with the statement's own
// transaction. As a condition of the statement it costs no second round trip.
const spendNonce = `
	INSERT INTO nonce (signed_at, bucket, access_key_id, nonce)
	SELECT $1::timestamptz, date_bin('10 minutes', $1, 'epoch'), $2, $3
	WHERE $1 >= coalesce((SELECT not_before FROM nonce_floor), last_crash())
	  AND set_config('synchronous_commit', 'off', true) = 'off'
	ON CONFLICT DO NOTHING`

// Spend marks a nonce as used, on all processes that share the database. It returns signature.ErrNonceUsed when the key
// has used it before, and signature.ErrExpired when the request was signed before the last crash of the database, which
// may have lost its nonce. Call it after the signature has verified: an attacker could spend nonces otherwise.
func (s *Store) Spend(ctx context.Context, accessKeyID, nonce string, signedAt time.Time) error {
	tag, err := s.db.Exec(ctx, spendNonce, signedAt, accessKeyID, nonce)
	if lacksPartition(err) { // no control plane ran for the last hour
		if err := s.MaintainNonces(ctx); err != nil {
			return err
		}
		tag, err = s.db.Exec(ctx, spendNonce, signedAt, accessKeyID, nonce)
	}
	switch {
	case lacksPartition(err):
		return signature.ErrExpired // dated outside of the time that nonces are kept for
	case err != nil:
		return fmt.Errorf("spend the nonce: %w", err)
	case tag.RowsAffected() == 0:
		return s.whyNotSpent(ctx, signedAt)
	}
	return nil
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
