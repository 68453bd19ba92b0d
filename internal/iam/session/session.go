// Package session lends the rights of roles for a time.
package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/iam/directory"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
)

// The refusals of this package.
var (
	ErrRoleARN = fault.New(fault.Invalid, "InvalidParameter.RoleArn",
		"The parameter RoleArn is not the ARN of a role.", "Send acs:ram::ACCOUNT:role/NAME, as GetRole shows it.")
	ErrName = fault.New(fault.Invalid, "InvalidParameter.RoleSessionName",
		"The parameter RoleSessionName is not valid.", "Send 2 to 64 letters, digits, dots, at signs, underscores and hyphens.")
	ErrDuration = fault.New(fault.Invalid, "InvalidParameter.DurationSeconds",
		"The parameter DurationSeconds is not valid.", "Send 900 to the MaxSessionDuration of the role, which GetRole shows.")
	ErrGrammar = fault.New(fault.Invalid, "InvalidParameter.PolicyGrammar",
		"The parameter Policy is not a valid policy.",
		"Correct the place that the message names; docs/access-control.md tells what a policy may say.")
	ErrSize = fault.New(fault.Invalid, "InvalidParameter.PolicySize",
		"The parameter Policy is not valid: a session policy has 1 to 1024 characters.",
		"Shorten it, or attach a policy to the role instead.")
	ErrLimit = fault.New(fault.Conflict, "LimitExceeded.Session",
		"The roles of the account have 10000 sessions under way.",
		"Use a session until it ends, ask for shorter ones with DurationSeconds, or call again when the first of them has ended; deleting a role ends its sessions.")
)

// errAccount is a denial that no policy takes away.
var errAccount = fault.New(fault.Denied, "NoPermission",
	"You are not authorized to do this action. The account itself assumes no roles.",
	"Call as a user that the role trusts and that has the policy AliyunSTSAssumeRoleAccess.")

// The lengths of sessions in seconds.
const (
	minSeconds     = 900
	defaultSeconds = 3600 // no role's longest session is shorter
)

// maxSessions is how many sessions the roles of one account may have, those among them that have expired and are
// remembered: they make room when it is needed, the oldest first and some at a time.
const (
	maxSessions = 10_000
	makeRoom    = maxSessions / 10
)

// keptExpired is how long a session is remembered after its end, so that it can be said that it has expired.
const keptExpired = time.Hour

// Trust decides whether the trust policy of a role lets a caller assume it.
type Trust interface {
	RequireTrust(caller access.Caller, trustPolicy string, request access.Request) error
}

// Sessions are the sessions of all roles. It is safe for concurrent use.
type Sessions struct {
	db    *pgxpool.Pool
	box   *secret.Box
	trust Trust
}

// New returns the sessions in db. box seals the secrets of their access keys.
func New(db *pgxpool.Pool, box *secret.Box, trust Trust) *Sessions { return &Sessions{db, box, trust} }

// Spec is a session to be begun.
type Spec struct {
	Caller     access.Caller // who may call this at all is decided before
	RoleARN    string
	Name       string
	Seconds    *int   // nil: an hour
	Policy     string // RAM JSON; "": all that the role may
	ExternalID string
}

// Lent is a session that has begun.
type Lent struct {
	Key       iam.AccessKey
	Token     secret.Secret
	ExpiresAt time.Time
	ARN       string // of the session
	ID        string // of the role and the session
}

var (
	roleARNPattern = regexp.MustCompile(`^acs:ram::([0-9]{16}):role/([A-Za-z0-9.-]{1,64})$`)
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9.@_-]{2,64}$`)
)

// Assume begins a session of a role whose trust policy names the caller. The account itself assumes no roles.
func (s *Sessions) Assume(ctx context.Context, spec Spec) (Lent, error) {
	if spec.Caller.IsRoot() {
		return Lent{}, errAccount
	}
	arn := roleARNPattern.FindStringSubmatch(spec.RoleARN)
	if arn == nil {
		return Lent{}, ErrRoleARN
	}
	if err := spec.check(); err != nil {
		return Lent{}, err
	}
	role, err := s.trusted(ctx, spec, arn[1], arn[2])
	if err != nil {
		return Lent{}, err
	}
	seconds := defaultSeconds
	if spec.Seconds != nil {
		seconds = *spec.Seconds
	}
	if seconds < minSeconds || seconds > role.MaxSessionSeconds {
		return Lent{}, ErrDuration.Withf("The parameter DurationSeconds is not valid: a session of this role takes %d to %d seconds.", minSeconds, role.MaxSessionSeconds)
	}
	lent, err := s.begin(ctx, spec, role, seconds)
	if err != nil {
		return Lent{}, fmt.Errorf("begin the session: %w", err)
	}
	return lent, nil
}

func (s Spec) check() error {
	if !namePattern.MatchString(s.Name) {
		return ErrName
	}
	if s.Policy == "" {
		return nil
	}
	if utf8.RuneCountInString(s.Policy) > ram.MaxSessionCharacters {
		return ErrSize
	}
	if _, err := ram.ParseSession(s.Policy); err != nil {
		if f, ok := fault.From(err); ok {
			return ErrGrammar.Withf("The parameter Policy is not valid: %s", f.Message)
		}
		return err
	}
	return nil
}

type role struct {
	ID, AccountID, Name, TrustPolicy string
	MaxSessionSeconds                int
}

// trusted returns the role if it trusts the caller. One of another account that does not is as one that never was.
func (s *Sessions) trusted(ctx context.Context, spec Spec, accountID, name string) (role, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT id, account_id, name, trust_policy, max_session_seconds FROM ram_role WHERE account_id = $1 AND name = $2`, accountID, name)
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[role])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return role{}, missing(spec.RoleARN)
	case err != nil:
		return role{}, fmt.Errorf("read the role: %w", err)
	}
	request := access.Request{Action: "sts:AssumeRole", Resources: []string{spec.RoleARN}}
	if spec.ExternalID != "" {
		request.Context = map[string]string{"sts:ExternalId": spec.ExternalID}
	}
	err = s.trust.RequireTrust(spec.Caller, found.TrustPolicy, request)
	if _, denied := errors.AsType[*access.DeniedError](err); denied && accountID != spec.Caller.AccountID {
		return role{}, missing(spec.RoleARN)
	}
	return found, err
}

func missing(roleARN string) error {
	return directory.ErrNoRole.Withf("The role %s does not exist.", roleARN)
}

func (s *Sessions) begin(ctx context.Context, spec Spec, of role, seconds int) (Lent, error) {
	key, token := iam.NewSessionKey()
	sealed, err := s.box.Seal(iam.SessionPurpose(key.ID), key.Secret)
	if err != nil {
		return Lent{}, fmt.Errorf("seal the secret: %w", err)
	}
	lent := Lent{Key: key, Token: token, ARN: spec.RoleARN + "/" + spec.Name, ID: of.ID + ":" + spec.Name}
	hash := sha256.Sum256([]byte(token.Reveal()))
	return lent, pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := room(ctx, tx, of.AccountID); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `
			INSERT INTO sts_session (id, role_id, name, secret_sealed, token_hash, policy, assumed_by, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, date_trunc('second', now()) + make_interval(secs => $8))
			RETURNING expires_at`,
			key.ID, of.ID, spec.Name, sealed, hash[:], spec.Policy, spec.Caller.ARN(), seconds).Scan(&lent.ExpiresAt)
		if postgres.IsForeignKeyViolation(err, "sts_session_role_id_fkey") {
			return missing(spec.RoleARN) // it was deleted meanwhile
		}
		if err != nil {
			return err
		}
		entry := audit.From(ctx)
		entry.ResourceID, entry.Outcome, entry.Detail = lent.ID, audit.Done, "session "+key.ID
		return audit.Insert(ctx, tx, entry)
	})
}

// room refuses one more session of an account that has no room for it. Sessions of an account begin one after the other,
// so that there are never more.
func room(ctx context.Context, tx pgx.Tx, accountID string) error {
	// OFFSET 0 keeps the planner from reading the sessions of all accounts.
	const ofAccount = ` FROM ram_role r CROSS JOIN LATERAL (SELECT id, expires_at FROM sts_session WHERE role_id = r.id OFFSET 0) s WHERE r.account_id = $1`
	var have int
	batch := &pgx.Batch{}
	batch.Queue(`SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE`, accountID)
	batch.Queue(`SELECT count(*)`+ofAccount, accountID).QueryRow(func(row pgx.Row) error { return row.Scan(&have) })
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("count the sessions: %w", err)
	}
	if have < maxSessions {
		return nil
	}
	forgotten, err := tx.Exec(ctx, `
		DELETE FROM sts_session WHERE id IN (SELECT s.id`+ofAccount+` AND s.expires_at <= now() ORDER BY s.expires_at LIMIT $2)`, accountID, makeRoom)
	if err != nil {
		return fmt.Errorf("forget sessions: %w", err)
	}
	if forgotten.RowsAffected() > 0 {
		return nil
	}
	var next time.Time
	if err := tx.QueryRow(ctx, `SELECT min(s.expires_at)`+ofAccount, accountID).Scan(&next); err != nil {
		return fmt.Errorf("look when a session ends: %w", err)
	}
	return ErrLimit.Withf("The roles of the account have %d sessions under way; the first of them ends at %s. %s",
		have, next.UTC().Format(time.RFC3339), ErrLimit.Next)
}

// Forget drops sessions some time after they have expired. Call it from time to time.
func (s *Sessions) Forget(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `
		DELETE FROM sts_session WHERE id IN (
			SELECT id FROM sts_session WHERE expires_at < now() - $1::interval ORDER BY expires_at LIMIT 10000)`, keptExpired)
	if err != nil {
		return fmt.Errorf("forget sessions: %w", err)
	}
	return nil
}
