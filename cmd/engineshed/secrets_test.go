package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/up"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

func TestTheMasterKeyIsReplacedWhileEverythingRuns(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	i := startUp(t, dir, freePorts(t))
	service := i.deploy()
	operatorKey := field(t, printed(t, dir, "operator-key", "create", "k"), "ApiKey")
	old := filepath.Join(t.TempDir(), "old.key")
	before, err := os.ReadFile(up.MasterKeyFile(dir))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(old, before, 0o600))

	stop, calling := make(chan struct{}), sync.WaitGroup{}
	calling.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := i.client.DescribeModelService(t.Context(), gpdb.DescribeModelServiceRequest{
				DBInstanceId: i.credentials.DBInstanceID, ModelServiceId: service.ModelServiceId,
			})
			if err == nil {
				_, err = i.client.CreateModelOperatorApiKey(t.Context(), gpdb.CreateModelOperatorApiKeyRequest{Description: "k"})
			}
			if err != nil && !strings.Contains(err.Error(), "QuotaExceeded") {
				t.Error(err)
				return
			}
		}
	})
	killed := command("secrets", "rotate", "--data-dir", dir, "--grace", "1h")
	var said output
	killed.Stdout, killed.Stderr = &said, &said
	require.NoError(t, killed.Start())
	i.await("it waits for calls", func() bool { return strings.Contains(said.String(), "waiting") })
	_, complaint, err := verb(t, dir, "secrets", "rotate")
	require.Error(t, err)
	require.Contains(t, complaint, "another rotation is running")
	require.NoError(t, killed.Process.Kill())
	require.Error(t, killed.Wait())
	require.Len(t, keysOf(t, dir), 2)
	var out string
	i.await("it goes on", func() bool { // when the database has seen that the first is gone
		out, complaint, err = verb(t, dir, "secrets", "rotate", "--grace", "3s")
		return !strings.Contains(complaint, "another rotation")
	})
	require.NoError(t, err, complaint)
	close(stop)
	calling.Wait()
	require.Contains(t, out, "an earlier rotation goes on")
	require.Contains(t, out, "removed the old key")
	require.Len(t, keysOf(t, dir), 1)
	after, err := os.ReadFile(up.MasterKeyFile(dir))
	require.NoError(t, err)
	require.False(t, bytes.Equal(before, after))

	described, err := i.client.DescribeModelService(t.Context(), gpdb.DescribeModelServiceRequest{
		DBInstanceId: i.credentials.DBInstanceID, ModelServiceId: service.ModelServiceId,
	})
	require.NoError(t, err)
	require.Equal(t, service.ApiKey, described.ApiKey)
	require.Equal(t, operatorKey, field(t, printed(t, dir, "operator-key", "describe", "1"), "ApiKey"))
	require.Equal(t, "OK", field(t, printed(t, dir, "audit", "verify"), "Trail"))
	withOld, complaint, err := verb(t, dir, "audit", "verify", "--master-key-file", old)
	require.Error(t, err, withOld)
	require.Contains(t, complaint, "was not sealed under this key file")

	i.stop()
	i = startUp(t, dir, freePorts(t))
	require.Equal(t, service.ApiKey, i.served(service.ModelServiceId).ApiKey)
}

// printed is what a verb prints that succeeds.
func printed(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, complaint, err := verb(t, dir, args...)
	require.NoError(t, err, complaint)
	return out
}

func keysOf(t *testing.T, dir string) []any {
	t.Helper()
	text, err := os.ReadFile(up.MasterKeyFile(dir))
	require.NoError(t, err)
	var file struct {
		Key []any `json:"key"`
	}
	require.NoError(t, json.Unmarshal(text, &file))
	return file.Key
}
