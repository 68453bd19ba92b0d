package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// engineKey reads an engine's own key where it belongs: in the engine's environment.
func (s *shed) engineKey(t *testing.T) string {
	t.Helper()
	for pid := range s.pids() {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		require.NoError(t, err)
		for _, variable := range strings.Split(string(environ), "\x00") {
			if key, ok := strings.CutPrefix(variable, "VLLM_API_KEY="); ok {
				return key
			}
		}
	}
	return ""
}

func (s *shed) file(t *testing.T, name string) string {
	t.Helper()
	var text []byte
	eventually(t, 10*time.Second, "the file "+name, func() (found bool) {
		matches, _ := filepath.Glob(s.path(name) + "*")
		for _, match := range matches {
			more, err := os.ReadFile(match)
			text, found = append(text, more...), err == nil
		}
		return found
	})
	return string(text)
}

// dump is every row of every table as text, bytes as the characters they are.
func (s *shed) dump(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, pgx.BeginFunc(t.Context(), s.db.Owner, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL bytea_output = 'escape'`); err != nil {
			return err
		}
		rows, _ := tx.Query(t.Context(), `
			SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')`)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, table := range tables {
			rows, _ := tx.Query(t.Context(), `SELECT r::text FROM `+table+` r`)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			all.WriteString(strings.Join(lines, "\n"))
		}
		return nil
	}))
	require.Contains(t, all.String(), s.installation)
	return all.String()
}

func TestTheAdminListenersShowNoSecretAndNoRequest(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("api")
	_, err := newDarabonba(t, control.addr, rootKey).call("ListSupportModels", nil)
	require.NoError(t, err)
	response, err := http.Get(control.admin + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "go_goroutines")
	require.NotContains(t, string(text), rootKey.secret)
	require.NotContains(t, string(text), rootKey.id)
}
