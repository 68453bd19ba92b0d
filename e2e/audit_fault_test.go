package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// What the database has no room to audit does not happen, and what happened is audited: while the disk is full, when
// Postgres goes down over it, and after it is back.
func TestWithTheDiskFullNothingHappensUnaudited(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServerOn(t, 256<<20)
	s := newShed(t, server.DB)
	control := s.controlPlane("api")
	c := newGenerated(t, control.addr, rootKey)
	made := 0
	create := func() error {
		_, err := c.call("CreateDBInstance", map[string]string{"RegionId": region, "DBInstanceDescription": "one of many"})
		if err == nil {
			made++
		}
		return err
	}
	require.NoError(t, create())
	server.Fill()
	failed := 0
	eventually(t, 2*time.Minute, "the database is out of room", func() bool {
		err := create()
		if err == nil {
			return false
		}
		var r *refusal
		require.ErrorAs(t, err, &r)
		require.Equal(t, []any{503, "ServiceUnavailable"}, []any{r.status, r.code}, "its own fault, and worth another try")
		failed++
		return failed >= 20
	})
	t.Logf("%d calls were answered before and %d failed while the disk was full", made, failed)

	server.Free()
	server.Stop() // it may have gone down by itself
	server.Start()
	eventually(t, 30*time.Second, "all goes on", func() bool { return create() == nil })
	_, err := newDarabonba(t, control.addr, rootKey).call("DeleteDBInstance", map[string]string{"DBInstanceId": "gp-00000000000000000000"})
	refused(t, err, 404, "InvalidDBInstanceId.NotFound")

	var instances, audited, unaudited int
	require.NoError(t, s.db.Owner.QueryRow(t.Context(), `
		SELECT count(*), (SELECT count(*) FROM audit_event WHERE action = 'gpdb:CreateDBInstance' AND outcome = 'done'),
			count(*) FILTER (WHERE NOT EXISTS (
				SELECT FROM audit_event WHERE resource_id = i.id AND action = 'gpdb:CreateDBInstance' AND outcome = 'done'))
		FROM db_instance i`).Scan(&instances, &audited, &unaudited))
	require.Zero(t, unaudited)
	require.Equal(t, instances, audited)
	// A call whose commit was not answered may have happened: it is audited, too.
	require.GreaterOrEqual(t, instances, made)
	eventually(t, 30*time.Second, "what was written is sealed and whole", func() bool {
		report := s.verifyAudit(t)
		require.True(t, report.OK)
		return report.Unsealed == 0 && report.Rows > int64(made)
	})
}

type auditReport struct {
	OK             bool
	Rows, Unsealed int64
	Problems       []string
}

// verifyAudit runs engineshed audit verify.
func (s *shed) verifyAudit(t *testing.T) (report auditReport) {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "engineshed"), "audit", "verify", "-o", "json", "--master-key-file", s.path("master.key"))
	cmd.Env = append(cmd.Environ(), "DATABASE_URL="+s.db.ControlURL)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(out) == 0 {
		require.NoError(t, err, string(exit.Stderr))
	}
	require.NoError(t, json.Unmarshal(out, &report), string(out))
	return report
}
