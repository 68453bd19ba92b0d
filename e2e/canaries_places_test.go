package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
)

// crash ends gateway and control plane with SIGQUIT, in the middle of a request, with leave to dump their memory. What they
// print is in their logs.
func (w *walk) crash() {
	w.t.Helper()
	w.awaitSnapshot()
	eventually(w.t, 20*time.Second, "the trail is sealed", func() bool { return w.verifyAudit(w.t).Unsealed == 0 })
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.gateway+"/Apikey/v1/chat/completions",
		strings.NewReader(`{"messages":[{"role":"user","content":"hold on: `+w.secrets["a prompt"]+`"}]}`))
	require.NoError(w.t, err)
	r.Host = w.ids.Get("environmentId") + ".engineshed.localhost"
	r.Header.Set("Content-Type", "application/json")
	w.bearing("a consumer's key")(r, "")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if response, err := http.DefaultClient.Do(r); err == nil { // it breaks off
			response.Body.Close()
		}
	}()
	eventually(w.t, 10*time.Second, "a request is under way", func() bool { return strings.Contains(w.upstream.String(), "hold on") })
	for _, p := range []*process{w.gate, w.control.process} {
		limit := unix.Rlimit{Cur: 1 << 30, Max: 1 << 30}
		require.NoError(w.t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_CORE, &limit, nil), "run as root, so that a core file may be written")
		p.signal(syscall.SIGQUIT, 10*time.Second)
		require.Contains(w.t, p.log.String(), "goroutine ", "it dumped its goroutines")
		status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
		require.True(w.t, ok)
		require.False(w.t, status.CoreDump(), "%s left a core file", p.cmd.Path)
	}
	<-gone
}

// secretFiles are those in which an operator keeps secrets.
var secretFiles = map[string]bool{
	"root.json": true, "master.key": true, "snapshot.key": true, "hub.token": true, "certs/models.key": true, "policies/accounts.yaml": true,
}

// openFiles are all files of the installation, temporary ones too, but for those in which an operator keeps secrets.
func (w *walk) openFiles() string {
	w.t.Helper()
	var all strings.Builder
	found := map[string]bool{}
	require.NoError(w.t, filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(w.dir, path)
		if err != nil {
			return err
		}
		if found[name] = true; secretFiles[name] {
			return nil
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&all, "\n%s:\n%s", name, text)
		return err
	}))
	for name := range secretFiles {
		require.True(w.t, found[name], name)
	}
	return all.String()
}

// engineEnvironments are those of the engines, which run what a publisher wrote: their own key is all that they know.
func (w *walk) engineEnvironments() string {
	w.t.Helper()
	var all strings.Builder
	for pid := range w.pids() {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		require.NoError(w.t, err)
		all.Write(environ)
	}
	require.Contains(w.t, all.String(), w.secrets["an engine's key"])
	return strings.ReplaceAll(all.String(), w.secrets["an engine's key"], "")
}

// statements are the last ones of all connections.
func (w *walk) statements() (all string) {
	w.t.Helper()
	require.NoError(w.t, w.db.Owner.QueryRow(w.t.Context(), `SELECT string_agg(query, E'\n') FROM pg_stat_activity`).Scan(&all))
	return all
}

// keyOf is what is secret in a key file.
func (s *shed) keyOf(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(s.path(name))
	require.NoError(t, err)
	var file struct {
		Key []struct {
			KeyData struct{ Value string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &file))
	return file.Key[0].KeyData.Value
}

func (s *shed) withPassword(t *testing.T, role, password string) string {
	t.Helper()
	s.asSuperuser(t, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, password))
	url, err := postgres.WithUser(s.db.AdminURL, role, secret.New(password))
	require.NoError(t, err)
	return url
}

func (s *shed) asSuperuser(t *testing.T, statement string) {
	t.Helper()
	admin, err := postgres.Open(t.Context(), s.db.AdminURL)
	require.NoError(t, err)
	defer admin.Close()
	_, err = admin.Exec(t.Context(), statement)
	require.NoError(t, err)
}

// tree is what all files below a folder hold.
func (s *shed) tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // files of a running database come and go
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}))
	return all.String()
}

func allCommandLines(t *testing.T) string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var all strings.Builder
	for _, path := range paths {
		text, _ := os.ReadFile(path) // a process may have ended
		all.Write(text)
	}
	return all.String()
}

func fetched(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}
