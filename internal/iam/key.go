package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/secret"
)

// AccessKey is a key as it is handed to its owner.
type AccessKey struct {
	ID     string
	Secret secret.Secret
}

const (
	digits       = "0123456789"
	alphanumeric = digits + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewAccessKey makes a key of random characters. It is in force once it is stored.
func NewAccessKey() AccessKey {
	return AccessKey{ID: "ESAK" + random(20, alphanumeric), Secret: secret.New(random(30, alphanumeric))}
}

// NewSessionKey makes the access key of a session, and the security token that goes with it.
func NewSessionKey() (key AccessKey, token secret.Secret) {
	key = AccessKey{ID: "STS." + random(20, alphanumeric), Secret: secret.New(random(30, alphanumeric))}
	return key, secret.New(random(64, alphanumeric))
}

// NewAccountID makes an account id: 16 digits.
func NewAccountID() string { return "1" + random(15, digits) }

// newID makes an id of 18 digits that begins with the digit of its kind.
func newID(digit string) string { return digit + random(17, digits) }

// random returns n characters of the alphabet, each as likely as the others.
func random(n int, alphabet string) string {
	fair := byte(256 / len(alphabet) * len(alphabet)) // bytes from here on would favour the first characters
	text, drawn := make([]byte, 0, n), make([]byte, 2*n)
	for {
		_, _ = rand.Read(drawn) // never fails since Go 1.24
		for _, b := range drawn {
			if len(text) == n {
				return string(text)
			}
			if b < fair {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
}

var (
	keyIDPattern     = regexp.MustCompile(`^[A-Za-z0-9]{8,128}$`)
	sessionIDPattern = regexp.MustCompile(`^STS\.[A-Za-z0-9]{20}$`)
)

// SecretPurpose names the row that the secret of an access key is sealed for.
func SecretPurpose(keyID string) string { return "access_key/" + keyID + "/secret" }

// SessionPurpose names the row that the secret of a session's access key is sealed for.
func SessionPurpose(keyID string) string { return "sts_session/" + keyID + "/secret" }

// selectKeys reads access keys with their owners and the policy epochs of the accounts. The subselect hides from the
// planner how many ids there are: it would plan the query anew for each call, which costs four times what the query does.
// Without joins it cannot read whole tables to join them.
const selectKeys = `
	SELECT k.id, k.secret_sealed, k.status = 'Active', k.account_id,
	       CASE WHEN k.user_id IS NULL THEN 'Account' ELSE 'RAMUser' END, coalesce(k.user_id, ''),
	       coalesce((SELECT name FROM ram_user WHERE id = k.user_id), ''), (SELECT policy_epoch FROM account WHERE id = k.account_id)
	FROM unnest((SELECT $1::text[])) AS asked (id)
	CROSS JOIN LATERAL (SELECT * FROM access_key WHERE id = asked.id LIMIT 1) k`

// selectSessions reads the access keys of sessions, with their roles, as selectKeys reads others.
const selectSessions = `
	SELECT s.id, s.secret_sealed, r.account_id, r.id, r.name, s.name, s.policy,
	       (SELECT policy_epoch FROM account WHERE id = r.account_id), s.token_hash, s.expires_at
	FROM unnest((SELECT $1::text[])) AS asked (id)
	CROSS JOIN LATERAL (SELECT * FROM sts_session WHERE id = asked.id LIMIT 1) s
	CROSS JOIN LATERAL (SELECT id, account_id, name FROM ram_role WHERE id = s.role_id LIMIT 1) r`

// Find returns an access key with its secret, its owner and the policy epoch of the account, read in one query. An id
// that no key has is signature.ErrUnknownKey. A key that is not active, or a session that has expired, is returned as such.
func (s *Store) Find(ctx context.Context, accessKeyID string) (signature.Key, error) {
	var sealed map[string]sealedKey
	var err error
	switch {
	case sessionIDPattern.MatchString(accessKeyID):
		rows, _ := s.db.Query(ctx, selectSessions, []string{accessKeyID})
		sealed, err = collectSessions(rows)
	case keyIDPattern.MatchString(accessKeyID):
		rows, _ := s.db.Query(ctx, selectKeys, []string{accessKeyID})
		sealed, err = collectKeys(rows)
	default: // also keeps out what a Postgres text cannot hold
		return signature.Key{}, signature.ErrUnknownKey
	}
	if err != nil {
		return signature.Key{}, fmt.Errorf("find the access key: %w", err)
	}
	return s.open(sealed[accessKeyID])
}

// sealedKey is a key as it is stored.
type sealedKey struct {
	signature.Key
	sealed []byte
}

func collectKeys(rows pgx.Rows) (map[string]sealedKey, error) {
	keys := map[string]sealedKey{}
	var k sealedKey
	_, err := pgx.ForEachRow(rows, []any{
		&k.ID, &k.sealed, &k.Active, &k.Caller.AccountID,
		&k.Caller.Identity, &k.Caller.UserID, &k.Caller.UserName, &k.Caller.PolicyEpoch,
	}, func() error {
		k.Caller.AccessKeyID = k.ID
		keys[k.ID] = k
		return nil
	})
	return keys, err
}

func collectSessions(rows pgx.Rows) (map[string]sealedKey, error) {
	keys := map[string]sealedKey{}
	var k sealedKey
	_, err := pgx.ForEachRow(rows, []any{
		&k.ID, &k.sealed, &k.Caller.AccountID, &k.Caller.RoleID, &k.Caller.RoleName, &k.Caller.SessionName, &k.Caller.SessionPolicy,
		&k.Caller.PolicyEpoch, &k.TokenHash, &k.Expires,
	}, func() error {
		k.Active, k.Caller.Identity, k.Caller.AccessKeyID = true, access.Session, k.ID
		keys[k.ID] = k
		k.sealed, k.TokenHash = nil, nil
		return nil
	})
	return keys, err
}

// open returns the key with its secret. The zero key is one that does not exist.
func (s *Store) open(k sealedKey) (signature.Key, error) {
	if k.ID == "" {
		return signature.Key{}, signature.ErrUnknownKey
	}
	var err error
	purpose := SecretPurpose(k.ID)
	if k.TokenHash != nil {
		purpose = SessionPurpose(k.ID)
	}
	if k.Secret, err = s.box.Open(purpose, k.sealed); err != nil {
		return signature.Key{}, fmt.Errorf("find the access key: %w", err)
	}
	return k.Key, nil
}

// CheckMasterKey fails when the database has access keys and the Store's master key opens none of the newest ones: it is
// another one's, and what it seals nobody could use.
func (s *Store) CheckMasterKey(ctx context.Context) error {
	rows, _ := s.db.Query(ctx, `SELECT id, secret_sealed FROM access_key ORDER BY created_at DESC LIMIT 10`)
	var id string
	var sealed []byte
	opened := false
	found, err := pgx.ForEachRow(rows, []any{&id, &sealed}, func() error {
		_, err := s.box.Open(SecretPurpose(id), sealed)
		opened = opened || err == nil
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("read the access keys: %w", err)
	case found.RowsAffected() > 0 && !opened:
		return errors.New("it does not open the access keys in this database: give the key file of its control plane")
	}
	return nil
}
