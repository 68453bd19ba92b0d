// Package idempotency makes a call with a ClientToken happen once: the edge names the request, the transaction that
// makes the resource decides whether it is the first.
package idempotency

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/fault"
)

// ErrMismatch refuses a token that was used with other parameters.
var ErrMismatch = fault.New(fault.Invalid, "IdempotentParameterMismatch",
	"The ClientToken was used before with other parameters.", "Send the same parameters again, or a new ClientToken.")

// Key names one request. The zero Token is a request without ClientToken: it always is the first.
type Key struct {
	AccountID   string
	RegionID    string
	Action      string // product:Operation
	Token       string
	Fingerprint []byte // SHA-256 of the typed parameters
}

type contextKey struct{}

// WithKey returns a context that carries key.
func WithKey(ctx context.Context, key Key) context.Context {
	return context.WithValue(ctx, contextKey{}, key)
}

// KeyFrom returns the key of the request ctx belongs to.
func KeyFrom(ctx context.Context) Key {
	key, _ := ctx.Value(contextKey{}).(Key)
	return key
}

// Claim ties key to resourceID in the caller's transaction. When an earlier request holds the key, it returns that
// request's resource id and first = false, or ErrMismatch. It waits for a concurrent request with the same key to
// commit or roll back.
func Claim(ctx context.Context, tx pgx.Tx, key Key, resourceID string) (heldBy string, first bool, err error) {
	batch := &pgx.Batch{}
	claim := Queue(batch, key, resourceID)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return "", false, fmt.Errorf("claim the client token: %w", err)
	}
	return claim.Outcome(ctx, tx)
}

// Claiming is a Claim that travels in a batch.
type Claiming struct {
	key        Key
	resourceID string
	first      bool
}

// Queue adds the claim to a batch, for who has more to ask in the same round trip.
func Queue(batch *pgx.Batch, key Key, resourceID string) *Claiming {
	c := &Claiming{key: key, resourceID: resourceID, first: key.Token == ""}
	if c.first {
		return c
	}
	batch.Queue(`
		INSERT INTO client_token (account_id, region_id, action, token, fingerprint, resource_id)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT DO NOTHING`,
		key.AccountID, key.RegionID, key.Action, key.Token, key.Fingerprint, resourceID).Exec(func(tag pgconn.CommandTag) error {
		c.first = tag.RowsAffected() == 1
		return nil
	})
	return c
}

// Outcome returns what Claim returns, once the batch has been sent.
func (c *Claiming) Outcome(ctx context.Context, tx pgx.Tx) (heldBy string, first bool, err error) {
	if c.first {
		return c.resourceID, true, nil
	}
	heldBy, err = held(ctx, tx, c.key)
	return heldBy, false, err
}

// held returns the resource of the earlier request with the same key, or ErrMismatch.
func held(ctx context.Context, tx pgx.Tx, key Key) (string, error) {
	var resourceID string
	var fingerprint []byte
	err := tx.QueryRow(ctx, `
		SELECT resource_id, fingerprint FROM client_token
		WHERE account_id = $1 AND region_id = $2 AND action = $3 AND token = $4`,
		key.AccountID, key.RegionID, key.Action, key.Token).Scan(&resourceID, &fingerprint)
	if err != nil {
		return "", fmt.Errorf("read the client token: %w", err)
	}
	if !bytes.Equal(fingerprint, key.Fingerprint) {
		return "", ErrMismatch
	}
	return resourceID, nil
}

// kept is how long a token is remembered; callers are promised 24 hours.
const kept = 48 * time.Hour

// Forget drops claims that are too old to be repeated.
func Forget(ctx context.Context, db *pgxpool.Pool) error {
	_, err := db.Exec(ctx, `DELETE FROM client_token WHERE created_at < now() - $1::interval`, kept)
	return err
}
