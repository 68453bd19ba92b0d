package up_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/up"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestKeysAreMadeOnceAndForTheirReadersOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	made, err := up.MakeKeys(dir)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"control/master.key", "control/snapshot.key", "control/root.json", "control/pgpass",
		"gateway/snapshot.key", "gateway/pgpass",
		"database/admin.password", "database/pgpass", "database/owner.password", "database/control.password", "database/gateway.password",
	}, made)
	contents := map[string]string{}
	for _, name := range made {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), name)
		contents[name] = read(t, filepath.Join(dir, name))
	}

	made, err = up.MakeKeys(dir)
	require.NoError(t, err)
	require.Empty(t, made)
	for name, content := range contents {
		require.Equal(t, content, read(t, filepath.Join(dir, name)), name)
	}
}

func TestKeysAreWhatTheProgramsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := up.MakeKeys(dir)
	require.NoError(t, err)

	control, err := secret.Load(filepath.Join(dir, "control", "snapshot.key"))
	require.NoError(t, err)
	gateway, err := secret.Load(filepath.Join(dir, "gateway", "snapshot.key"))
	require.NoError(t, err)
	sealed, err := control.Seal("test", secret.New("text"))
	require.NoError(t, err)
	opened, err := gateway.Open("test", sealed)
	require.NoError(t, err)
	require.Equal(t, "text", opened.Reveal())

	var root map[string]string
	require.NoError(t, json.Unmarshal([]byte(read(t, filepath.Join(dir, "control", "root.json"))), &root))
	require.Regexp(t, `^\d{16}$`, root["accountId"])
	require.NotEmpty(t, root["accessKeyId"])
	require.NotEmpty(t, root["accessKeySecret"])

	admin, err := pgx.ParseConfig("postgres://postgres@database:5432/engineshed?passfile=" + filepath.Join(dir, "database", "pgpass"))
	require.NoError(t, err)
	require.Equal(t, read(t, filepath.Join(dir, "database", "admin.password")), admin.Password+"\n")
	for folder, user := range map[string]string{"control": "engineshed_control", "gateway": "engineshed_gateway"} {
		config, err := pgx.ParseConfig("postgres://" + user + "@database:5432/engineshed?passfile=" + filepath.Join(dir, folder, "pgpass"))
		require.NoError(t, err)
		require.Equal(t, read(t, filepath.Join(dir, "database", folder+".password")), config.Password+"\n")
		other, err := pgx.ParseConfig("postgres://postgres@database:5432/engineshed?passfile=" + filepath.Join(dir, folder, "pgpass"))
		require.NoError(t, err)
		require.Empty(t, other.Password)
	}
}

func TestKeysThatContradictEachOtherAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := up.MakeKeys(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "database", "control.password")))
	require.NoError(t, os.Remove(filepath.Join(dir, "control", "snapshot.key")))
	before := read(t, filepath.Join(dir, "gateway", "snapshot.key"))

	_, err = up.MakeKeys(dir)
	require.ErrorContains(t, err, "control/pgpass does not go with")
	require.ErrorContains(t, err, "gateway/snapshot.key does not go with")
	require.Equal(t, before, read(t, filepath.Join(dir, "gateway", "snapshot.key")))
}
