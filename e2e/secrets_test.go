package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestNoSecretIsFoundWhereItDoesNotBelong(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	s := newShed(t, server.DB)
	s.writePolicies(map[string]string{
		"accounts.yaml": accountsFile, "no-create.json": noCreate, "one-instance.json": oneInstance("gp-00000000000000000000"),
	})
	control := s.controlPlane("both")
	gateway := s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 1)
	service := deploy(t, c, instance, nodes...)
	described := waitActive(t, c, instance, service, 20*time.Second)
	const prompt = "a prompt that nobody else may read"
	eventually(t, 5*time.Second, "an answer over the gateway", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), prompt, true)
		return err == nil
	})
	_, err := newDarabonba(t, control.addr, credentials{rootKey.id, "wrong-" + aliceKey.secret}).call("ListSupportModels", nil)
	refused(t, err, 403, "SignatureDoesNotMatch")
	_, err = newDarabonba(t, control.addr, aliceKey).call("DescribeDBInstances", map[string]string{"RegionId": region})
	refused(t, err, 403, "Forbidden.RAM")

	canaries := map[string]string{
		"the root key's secret": rootKey.secret, "a user's secret": aliceKey.secret, "the service's key": described.text("ApiKey"),
		"the engine's key": s.engineKey(t), "a prompt": prompt,
		"the control role's password": password(t, s.db.ControlURL), "the gateway role's password": password(t, s.db.GatewayURL),
	}
	places := map[string]string{
		"the control plane's log": control.log.String(), "the gateway's log": gateway.log.String(),
		"the engines' command lines": s.commandLines(t), "the database": s.dump(t), "the snapshot file": s.file(t, "gateway/snapshot"),
	}
	for place, text := range places {
		require.NotEmpty(t, text, place)
		for name, canary := range canaries {
			require.NotEmpty(t, canary, name)
			require.NotContains(t, text, canary, "%s holds %s", place, name)
		}
	}
}

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

func (s *shed) commandLines(t *testing.T) (lines string) {
	t.Helper()
	for pid := range s.pids() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		require.NoError(t, err)
		lines += string(line)
	}
	return lines
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

func password(t *testing.T, databaseURL string) string {
	t.Helper()
	parsed, err := url.Parse(databaseURL)
	require.NoError(t, err)
	if given, ok := parsed.User.Password(); ok {
		return given
	}
	return parsed.Query().Get("password")
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
