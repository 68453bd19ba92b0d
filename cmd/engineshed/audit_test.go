package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/up"
	auditapi "github.com/engineshed/engineshed/sdk/audit"
)

func TestTheTrailIsListedAndVerified(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	i := startUp(t, dir, freePorts(t))
	run := func(args ...string) string {
		t.Helper()
		out, complaint, err := verb(t, dir, args...)
		require.NoError(t, err, complaint)
		return out
	}
	made := strings.TrimSpace(run("instance", "create", "--description", "second"))
	_, _, err := verb(t, dir, "instance", "delete", "gp-00000000000000000000")
	require.Error(t, err)
	events := lines(run("audit", "list"))
	require.Len(t, events, 2)
	require.Contains(t, strings.Join(events[0], " "), "failed InvalidDBInstanceId.NotFound gpdb:DeleteDBInstance acs:ram::"+i.credentials.AccountID+":root")
	require.Contains(t, strings.Join(events[1], " "), "done gpdb:CreateDBInstance")
	require.Contains(t, strings.Join(events[1], " "), made)
	require.Len(t, lines(run("audit", "list", "--outcome", "failed")), 1)
	require.Len(t, lines(run("audit", "list", "--resource", made)), 1)
	require.Empty(t, lines(run("audit", "list", "--principal", "*:user/*")))
	require.Contains(t, run("audit", "list", "--limit", "1"), "and more")
	var listed auditapi.ListAuditEventsResponse
	require.NoError(t, json.Unmarshal([]byte(run("audit", "list", "-o", "json", "--action", "gpdb:create*")), &listed))
	require.Len(t, listed.Events, 1)
	require.Equal(t, made, listed.Events[0].ResourceId)

	i.await("the trail is sealed", func() bool { return verified(t, run).Rows == 2 })
	shown := run("audit", "verify")
	require.Equal(t, "OK", field(t, shown, "Trail"))
	require.Contains(t, shown, "2 rows in ")
	require.Contains(t, shown, "Not sealed yet   none")

	superuser := superuser(t, dir)
	_, err = superuser.Exec(t.Context(), `UPDATE audit_event SET principal = overlay(principal placing 'X' from 5 for 1) WHERE resource_id = $1`, made)
	require.NoError(t, err)
	out, complaint, err := verb(t, dir, "audit", "verify")
	require.Error(t, err)
	require.Contains(t, complaint, "is not as it was sealed")
	require.Equal(t, "NOT OK", strings.Join(strings.Fields(strings.Split(out, "\n")[0])[1:], " "))
	require.Contains(t, out, "a row was changed after seal")

	i.await("the failed sign-in is counted", func() bool {
		wrong := command("instance", "list", "--data-dir", dir, "--access-key-id", i.credentials.AccessKeyID, "--access-key-secret", "wrong")
		_ = wrong.Run() // it is refused
		rows := lines(run("audit", "sign-ins"))
		return len(rows) == 1 && rows[0][0] == "127.0.0.1" && rows[0][1] == "SignatureDoesNotMatch"
	})
}

func verified(t *testing.T, run func(...string) string) (report audit.Report) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(run("audit", "verify", "-o", "json")), &report))
	return report
}

// superuser connects to an installation's own Postgres as somebody who may do everything in it.
func superuser(t *testing.T, dir string) *pgx.Conn {
	t.Helper()
	password, err := os.ReadFile(dir + "/postgres.password")
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), "host="+dir+"/run user=postgres dbname=engineshed password="+string(password))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestVerifyingNeedsTheControlPlanesFiles(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	_, complaint, err := verb(t, dir, "audit", "verify")
	require.Error(t, err)
	require.Contains(t, complaint, "set DATABASE_URL")
	require.Equal(t, dir+"/master.key", up.MasterKeyFile(dir))
}
