package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestARingIsHeardWhereRiverListens(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	listener, err := pgx.Connect(t.Context(), db.ControlURL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.Background()) }()
	_, err = listener.Exec(t.Context(), `LISTEN "public.river_insert"`)
	require.NoError(t, err)
	bell, err := jobs.NewBell(db.Control)
	require.NoError(t, err)
	bell.Ring("host_a")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	heard, err := listener.WaitForNotification(ctx)
	require.NoError(t, err)
	require.JSONEq(t, `{"queue":"host_a"}`, heard.Payload)
}
