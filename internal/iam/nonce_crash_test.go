package iam_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestARequestFromBeforeACrashCannotBeReplayed(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(*testing.T, *pgtest.Server){
		"of Postgres":            func(_ *testing.T, server *pgtest.Server) { server.Kill(); server.Start() },
		"of one of its backends": killBackend,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.NewServer(t)
			store := iam.New(server.Control, newBox(t))
			ensureRoot(t, store)
			before := time.Now()
			require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, "n", before)))
			crash(t, server)

			for _, floor := range []string{"without a floor", "with the floor that maintenance has put back"} {
				require.ErrorIs(t, spend(t, store, "n", before), signature.ErrExpired, floor)
				require.ErrorIs(t, spend(t, store, "fresh but old", before), signature.ErrExpired, floor)
				now := time.Now()
				require.NoError(t, spend(t, store, "n "+floor, now), floor)
				require.ErrorIs(t, spend(t, store, "n "+floor, now), signature.ErrNonceUsed, floor)
				require.NoError(t, store.MaintainNonces(t.Context()))
			}
		})
	}
}

func TestAnOrderlyRestartForgetsNoNonce(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	store := iam.New(server.Control, newBox(t))
	ensureRoot(t, store)
	before := time.Now()
	require.NoError(t, errOf(store.Spend(t.Context(), rootKeyID, "n", before)))
	server.Stop()
	server.Start()
	require.ErrorIs(t, spend(t, store, "n", before), signature.ErrNonceUsed)
	require.NoError(t, spend(t, store, "signed before, sent after", before))
}

// killBackend kills one backend; the postmaster then restarts all of them and recovers, but stays the same process.
func killBackend(t *testing.T, server *pgtest.Server) {
	conn, err := server.Owner.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	require.NoError(t, syscall.Kill(int(conn.Conn().PgConn().PID()), syscall.SIGKILL))
	require.Eventually(t, func() bool {
		var recovered bool
		err := server.Control.QueryRow(t.Context(), `SELECT NOT EXISTS (SELECT FROM nonce_floor)`).Scan(&recovered)
		return err == nil && recovered
	}, 30*time.Second, 20*time.Millisecond)
}

// spend spends a nonce, over as many broken connections as the pool still holds.
func spend(t *testing.T, store *iam.Store, nonce string, signedAt time.Time) error {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := errOf(store.Spend(t.Context(), rootKeyID, nonce, signedAt))
		if _, decided := fault.From(err); err == nil || decided || time.Now().After(deadline) {
			return err
		}
	}
}
