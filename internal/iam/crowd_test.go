package iam_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

// statistics is what the planner knows of the tables.
type statistics string

const (
	fresh statistics = "fresh statistics" // as autovacuum keeps them
	stale statistics = "stale statistics" // from before the crowd came
	never statistics = "no statistics"    // of tables that nobody has looked at yet
)

// crowdTables are what a caller's policies are read from.
var crowdTables = []string{"account", "ram_user", "ram_group", "ram_group_member", "ram_role", "access_key", "sts_session", "policy", "policy_version", "policy_attachment"}

// crowd is an account with a busy user and as many policies of others as are asked for.
type crowd struct {
	*pgtest.DB
	box    *secret.Box
	store  *iam.Store
	caller access.Caller
	last   access.Request // what only the last statement of the busy user allows
}

const (
	busyUser       = "299999999999999999"
	busyKey        = "ESAKbusy00000000001"
	busySession    = "STS.busy0000000000000001"
	statementsEach = 10 // of a policy
)

// newCrowd makes a busy user with policies of ten statements each, of which at most ten are its own and the others those
// of its groups, beside others: a user with two keys and a session for every twenty of them, a group and a role for every thousand, two versions of
// each policy, and each attached to somebody, every fourth for one resource group.
func newCrowd(t testing.TB, statements, others int, known statistics) crowd {
	t.Helper()
	db, box := pgtest.New(t), newBox(t)
	store := iam.New(db.Control, box)
	ensureRoot(t, store)
	c := crowd{DB: db, store: store, box: box}
	for _, table := range crowdTables {
		c.exec(t, `ALTER TABLE `+table+` SET (autovacuum_enabled = false)`)
	}
	if known == stale {
		c.exec(t, `ANALYZE `+strings.Join(crowdTables, ", "))
	}
	c.others(t, others)
	c.busy(t, statements/statementsEach)
	if known == fresh {
		c.exec(t, `ANALYZE `+strings.Join(crowdTables, ", "))
	}
	c.caller = access.Caller{Identity: access.User, AccountID: accountID, UserID: busyUser, UserName: "busy", PolicyEpoch: 1}
	c.last = access.Request{Action: "gpdb:CreateModelService", Resources: []string{instanceARN(statements - 1)}}
	return c
}

func (c crowd) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := c.Owner.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (c crowd) others(t testing.TB, n int) {
	t.Helper()
	users, groups := max(1, n/20), max(1, n/1000)
	c.exec(t, `INSERT INTO ram_user (id, account_id, name, source)
		SELECT '2' || lpad(n::text, 17, '0'), $1, 'other-' || n, 'api' FROM generate_series(1, $2) n`, accountID, users)
	c.exec(t, `INSERT INTO access_key (id, account_id, user_id, secret_sealed, source)
		SELECT 'ESAK' || k || id, account_id, id, decode(repeat('00', 80), 'hex'), 'api' FROM ram_user, generate_series(1, 2) k`)
	c.exec(t, `INSERT INTO ram_group (id, account_id, name)
		SELECT '3' || lpad(n::text, 17, '0'), $1, 'other-' || n FROM generate_series(1, $2) n`, accountID, groups)
	c.exec(t, `INSERT INTO ram_role (id, account_id, name, trust_policy, max_session_seconds)
		SELECT '4' || lpad(n::text, 17, '0'), $1, 'other-' || n, '{}', 3600 FROM generate_series(1, $2) n`, accountID, groups)
	c.exec(t, `INSERT INTO sts_session (id, role_id, name, secret_sealed, token_hash, assumed_by, expires_at)
		SELECT 'STS.' || n, '4' || lpad((1 + n % $1)::text, 17, '0'), n,
			decode(repeat('00', 80), 'hex'), decode(repeat('00', 32), 'hex'), 'acs:ram::1000000000000001:user/other', now() FROM generate_series(1, $2) n`, groups, users)
	c.exec(t, `INSERT INTO ram_group_member (user_id, group_id)
		SELECT u.id, g.id FROM ram_user u JOIN ram_group g ON g.name = 'other-' || 1 + substr(u.name, 7)::int % $1`, groups)
	c.exec(t, `INSERT INTO policy (account_id, name, default_version, last_version, source)
		SELECT $1, 'other-' || n, 2, 2, 'api' FROM generate_series(1, $2) n`, accountID, n)
	c.exec(t, `INSERT INTO policy_version (policy_id, version, document)
		SELECT id, version, $1 FROM policy, generate_series(1, 2) version WHERE name LIKE 'other-%'`, tenStatements(0))
	c.exec(t, `INSERT INTO policy_attachment (policy_id, user_id, group_id, role_id, resource_group_id, source)
		SELECT id, CASE WHEN n % 10 < 8 THEN '2' || lpad((1 + n % $1)::text, 17, '0') END,
			CASE WHEN n % 10 = 8 THEN '3' || lpad((1 + n % $2)::text, 17, '0') END,
			CASE WHEN n % 10 = 9 THEN '4' || lpad((1 + n % $2)::text, 17, '0') END,
			CASE WHEN n % 4 = 0 THEN 'rg-of-others' ELSE '' END, 'api'
		FROM policy, LATERAL (SELECT substr(name, 7)::int AS n) AS x WHERE name LIKE 'other-%'`, users, groups)
}

func (c crowd) busy(t testing.TB, policies int) {
	t.Helper()
	sealed, err := c.box.Seal(iam.SecretPurpose(busyKey), root().Secret)
	require.NoError(t, err)
	c.exec(t, `INSERT INTO ram_user (id, account_id, name, source) VALUES ($1, $2, 'busy', 'api')`, busyUser, accountID)
	c.exec(t, `INSERT INTO access_key (id, account_id, user_id, secret_sealed, source) VALUES ($1, $2, $3, $4, 'api')`, busyKey, accountID, busyUser, sealed)
	sealed, err = c.box.Seal(iam.SessionPurpose(busySession), root().Secret)
	require.NoError(t, err)
	c.exec(t, `INSERT INTO sts_session (id, role_id, name, secret_sealed, token_hash, assumed_by, expires_at)
		SELECT $1, id, 'busy', $2, '', '', now() FROM ram_role WHERE name = 'other-1'`, busySession, sealed)
	for i := range policies {
		name, owner := fmt.Sprintf("mine-%d", i), i/10 // 0: the user
		c.exec(t, `WITH made AS (INSERT INTO policy (account_id, name, default_version, source) VALUES ($1, $2, 1, 'api') RETURNING id)
			INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $3 FROM made`, accountID, name, tenStatements(i*statementsEach))
		if owner == 0 {
			c.exec(t, `INSERT INTO policy_attachment (policy_id, user_id, source) SELECT id, $2, 'api' FROM policy WHERE name = $1`, name, busyUser)
			continue
		}
		group := fmt.Sprintf("39999999999999999%d", owner)
		c.exec(t, `INSERT INTO ram_group (id, account_id, name) VALUES ($1, $2, $1) ON CONFLICT DO NOTHING`, group, accountID)
		c.exec(t, `INSERT INTO ram_group_member (user_id, group_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, busyUser, group)
		c.exec(t, `INSERT INTO policy_attachment (policy_id, group_id, source) SELECT id, $2, 'api' FROM policy WHERE name = $1`, name, group)
	}
}

func instanceARN(n int) string {
	return fmt.Sprintf("acs:gpdb:cn-hangzhou:%s:dbinstance/gp-%020d", accountID, n)
}

// tenStatements is a document whose statements are about ten instances.
func tenStatements(from int) string {
	var statements []string
	for i := range statementsEach {
		statements = append(statements, fmt.Sprintf(`{"Effect":"Allow","Action":["gpdb:Describe*","gpdb:Create*"],"Resource":%q,
			"Condition":{"IpAddress":{"acs:SourceIp":"0.0.0.0/0"}}}`, instanceARN(from+i)))
	}
	return `{"Version":"1","Statement":[` + strings.Join(statements, ",") + `]}`
}
