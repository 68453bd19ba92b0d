package api_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
)

func rows(t *testing.T, s *apitest.Server) []audit.Entry {
	t.Helper()
	found, err := s.DB.Control.Query(t.Context(), `
		SELECT request_id, account_id, principal, access_key_id, source_ip, action, resource, resource_id, outcome, code, detail, at
		FROM audit_event ORDER BY id`)
	require.NoError(t, err)
	entries, err := pgx.CollectRows(found, pgx.RowToStructByPos[audit.Entry])
	require.NoError(t, err)
	return entries
}

func TestAMutatingCallLeavesExactlyOneRow(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	s.Users(map[string]string{"reader": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"test:Get","Resource":"*"}]}`})
	for name, c := range map[string]struct {
		keyID  string
		answer func(context.Context, object) error
		want   audit.Entry
	}{
		"done": {apitest.RootKey, func(ctx context.Context, _ object) error {
			entry := audit.From(ctx)
			entry.ResourceID = "it"
			return audit.Insert(ctx, s.DB.Control, entry)
		}, audit.Entry{Outcome: audit.Done, ResourceID: "it"}},
		"repeated": {apitest.RootKey, func(ctx context.Context, _ object) error {
			audit.From(ctx).Outcome = audit.Repeated
			return nil
		}, audit.Entry{Outcome: audit.Repeated}},
		"failed": {apitest.RootKey, func(context.Context, object) error {
			return fault.New(fault.Conflict, "OperationDenied.AiNodeBound", "m", "Do something else.")
		}, audit.Entry{Outcome: audit.Failed, Code: "OperationDenied.AiNodeBound"}},
		"failed inside": {apitest.RootKey, func(context.Context, object) error {
			return errors.New("boom")
		}, audit.Entry{Outcome: audit.Failed, Code: "InternalError"}},
		"panicked": {
			apitest.RootKey, func(context.Context, object) error { panic("boom") },
			audit.Entry{Outcome: audit.Failed, Code: "InternalError"},
		},
		"denied": {apitest.KeyOf("reader"), nil, audit.Entry{Outcome: audit.Denied, Code: "NoPermission"}},
	} {
		before := len(rows(t, s))
		h.answer = c.answer
		a := s.JSON(c.keyID, "Make", object{"DBInstanceId": id})
		after := rows(t, s)
		require.Len(t, after, before+1, name)
		want := c.want
		want.RequestID, want.AccountID, want.AccessKeyID = a.Header.Get("x-acs-request-id"), apitest.Account, c.keyID
		want.Principal = "acs:ram::" + apitest.Account + ":root"
		if c.keyID != apitest.RootKey {
			want.Principal = "acs:ram::" + apitest.Account + ":user/reader"
		}
		want.SourceIP, want.Action, want.Resource = "127.0.0.1", "test:Make", "acs:test::"+apitest.Account+":dbinstance/"+id
		require.WithinDuration(t, time.Now(), after[before].At, time.Minute, name)
		want.At = after[before].At
		require.Equal(t, want, after[before], name)
	}
}

func TestReadsAndCallsBeforeAuthorizationLeaveNoRow(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	s.JSON(apitest.RootKey, "Get", object{"DBInstanceId": id})
	s.JSON(apitest.RootKey, "Make", object{})
	s.Send(s.Request("POST", "/Make", nil))
	require.Empty(t, rows(t, s))
}

func TestACallFailsWhenItsRowCannotBeWritten(t *testing.T) {
	t.Parallel()
	s, h := serve(t)
	_, err := s.DB.Owner.Exec(t.Context(), `ALTER TABLE audit_event RENAME TO gone`)
	require.NoError(t, err)
	h.answer = func(ctx context.Context, _ object) error {
		audit.From(ctx).Outcome = audit.Repeated
		return nil
	}
	a := s.JSON(apitest.RootKey, "Make", object{"DBInstanceId": id})
	require.Equal(t, []any{503, "ServiceUnavailable"}, []any{a.Status, a.Code})
	require.Contains(t, s.Log.String(), "audit row not written")
}
