package iam_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

const busyUser = "200000000000000007"

// crowd makes an account with a user of 20 statements in two policies, and as many policies of others.
func crowd(b *testing.B, others int) (*iam.Store, *pgtest.DB) {
	b.Helper()
	store, db := newStore(b)
	ensureRoot(b, store)
	exec := func(sql string, args ...any) {
		_, err := db.Owner.Exec(b.Context(), sql, args...)
		require.NoError(b, err)
	}
	exec(`INSERT INTO ram_user (id, account_id, name, source)
		SELECT '3' || lpad(n::text, 17, '0'), $1, 'other-' || n, 'api' FROM generate_series(1, $2) n`, accountID, max(1, others/100))
	exec(`INSERT INTO policy (account_id, name, default_version, source)
		SELECT $1, 'other-' || n, 1, 'api' FROM generate_series(1, $2) n`, accountID, others)
	exec(`INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $1 FROM policy WHERE name LIKE 'other-%'`, twenty(0))
	exec(`INSERT INTO policy_attachment (policy_id, principal_id, source)
		SELECT p.id, u.id, 'api' FROM policy p JOIN ram_user u
		ON u.name = 'other-' || 1 + substr(p.name, 7)::int % $1 WHERE p.name LIKE 'other-%'`, max(1, others/100))
	exec(`INSERT INTO ram_user (id, account_id, name, source) VALUES ($1, $2, 'busy', 'api')`, busyUser, accountID)
	for i := range 2 {
		name := fmt.Sprintf("mine-%d", i)
		exec(`INSERT INTO policy (account_id, name, default_version, source) VALUES ($1, $2, 1, 'api')`, accountID, name)
		exec(`INSERT INTO policy_version (policy_id, version, document) SELECT id, 1, $2 FROM policy WHERE name = $1`, name, twenty(10*i))
		exec(`INSERT INTO policy_attachment (policy_id, principal_id, source) SELECT id, $2, 'api' FROM policy WHERE name = $1`, name, busyUser)
	}
	exec(`ANALYZE`)
	return store, db
}

func instanceARN(n int) string {
	return fmt.Sprintf("acs:gpdb:cn-hangzhou:%s:dbinstance/gp-%020d", accountID, n)
}

// twenty is a document of ten statements: two of them are twenty.
func twenty(from int) string {
	var statements []string
	for i := range 10 {
		statements = append(statements, fmt.Sprintf(`{"Effect":"Allow","Action":["gpdb:Describe*","gpdb:Create*"],"Resource":%q,
			"Condition":{"IpAddress":{"acs:SourceIp":"0.0.0.0/0"}}}`, instanceARN(from+i)))
	}
	return `{"Version":"1","Statement":[` + strings.Join(statements, ",") + `]}`
}

// BenchmarkDecision shows that a decision costs what the caller's own policies cost, however many others there are. Cold
// is a principal that this process has never seen: the query, the parsing, the compiling and the decision.
func BenchmarkDecision(b *testing.B) {
	caller := access.Caller{Identity: access.User, AccountID: accountID, UserID: busyUser, UserName: "busy", PolicyEpoch: 1}
	request := access.Request{Action: "gpdb:CreateModelService", Resources: []string{instanceARN(19)}}
	type account struct {
		others int
		store  *iam.Store
		warm   *access.Authorizer
	}
	var accounts []account
	for _, others := range []int{10, 100_000} {
		store, _ := crowd(b, others)
		accounts = append(accounts, account{others, store, access.NewAuthorizer(store, newBox(b), slog.New(slog.DiscardHandler))})
	}
	run := func(b *testing.B, authorizer func() *access.Authorizer) {
		b.ReportAllocs()
		before := cpu(b)
		for b.Loop() {
			decision, err := authorizer().Authorize(b.Context(), caller, request)
			if err != nil || !decision.Allowed {
				b.Fatal(decision, err)
			}
		}
		b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	}
	caller.SourceIP = netip.MustParseAddr("127.0.0.1")
	for round := range 3 { // one after the other, so that what else the machine does reaches all alike
		for _, a := range accounts {
			b.Run(fmt.Sprintf("Warm/%dOthers/%d", a.others, round), func(b *testing.B) {
				run(b, func() *access.Authorizer { return a.warm })
			})
			b.Run(fmt.Sprintf("Cold/%dOthers/%d", a.others, round), func(b *testing.B) {
				box := newBox(b)
				run(b, func() *access.Authorizer { return access.NewAuthorizer(a.store, box, slog.New(slog.DiscardHandler)) })
			})
		}
	}
}

// cpu is the processor time that this process has taken.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
