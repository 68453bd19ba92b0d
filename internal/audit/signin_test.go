package audit_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// signIns are counters whose clock stands.
func signIns(db *pgtest.DB) *audit.SignIns {
	now := time.Now().UTC()
	return audit.NewSignIns(db.Control, func() time.Time { return now })
}

func listed(t *testing.T, s *audit.SignIns) map[string]int64 {
	t.Helper()
	failed, err := s.List(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	found := map[string]int64{}
	for _, f := range failed {
		found[f.Source+" "+f.Code] = f.Count
	}
	return found
}

func TestFailedSignInsAreCountedBySource(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	one, other := signIns(db), signIns(db)
	for range 3 {
		one.Failed(netip.MustParseAddr("192.0.2.1"), "SignatureDoesNotMatch")
		other.Failed(netip.MustParseAddr("192.0.2.1"), "SignatureDoesNotMatch")
	}
	one.Failed(netip.MustParseAddr("192.0.2.1"), "InvalidAccessKeyId.NotFound")
	one.Failed(netip.MustParseAddr("2001:db8::1"), "SignatureDoesNotMatch")
	other.Failed(netip.MustParseAddr("2001:db8::2"), "SignatureDoesNotMatch")
	for range 2 {
		require.NoError(t, one.Flush(t.Context()))
		require.NoError(t, other.Flush(t.Context()))
	}
	require.Equal(t, map[string]int64{
		"192.0.2.1 SignatureDoesNotMatch": 6, "192.0.2.1 InvalidAccessKeyId.NotFound": 1, "2001:db8::/64 SignatureDoesNotMatch": 2,
	}, listed(t, one))
	require.Equal(t, map[string]int64{"SignatureDoesNotMatch": 4, "InvalidAccessKeyId.NotFound": 1}, one.Totals())
}

func TestManySourcesTakeLittleRoom(t *testing.T) {
	t.Parallel()
	s := signIns(pgtest.New(t))
	for n := range 5000 {
		s.Failed(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), "InvalidAccessKeyId.NotFound")
		if n%1000 == 999 {
			require.NoError(t, s.Flush(t.Context()))
		}
	}
	found := listed(t, s)
	require.Len(t, found, 101)
	require.Equal(t, int64(4900), found["others "])
}

func TestCountsWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := signIns(db)
	_, err := db.Owner.Exec(t.Context(), `ALTER TABLE sign_in_failure RENAME TO gone`)
	require.NoError(t, err)
	for n := range 3 {
		s.Failed(netip.MustParseAddr("192.0.2.1"), fmt.Sprint("Code", n))
		require.Error(t, s.Flush(t.Context()))
	}
	_, err = db.Owner.Exec(t.Context(), `ALTER TABLE gone RENAME TO sign_in_failure`)
	require.NoError(t, err)
	require.NoError(t, s.Flush(t.Context()))
	require.Equal(t, map[string]int64{"192.0.2.1 Code0": 1, "192.0.2.1 Code1": 1, "192.0.2.1 Code2": 1}, listed(t, s))
}

func TestOldCountsAreForgotten(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, err := db.Control.Exec(t.Context(), `
		INSERT INTO sign_in_failure VALUES (now() - interval '8 days', 'old', '', 1), (now() - interval '1 minute', 'new', '', 1)`)
	require.NoError(t, err)
	s := signIns(db)
	require.NoError(t, s.Forget(t.Context()))
	failed, err := s.List(t.Context(), time.Time{})
	require.NoError(t, err)
	require.Len(t, failed, 1)
	require.Equal(t, "new", failed[0].Source)
}
