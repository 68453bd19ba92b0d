package e2e

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/embedded"
)

// outside is this machine in the place of the containers: the same commands, with its folders, addresses and Postgres.
type outside struct {
	t         *testing.T
	services  types.Services
	dir       string
	addresses map[string]string // by the port that docker-compose.yml says
	socket    string            // of Postgres
}

func TestComposeCommandsServeAModelTogether(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "compose-") //nolint:usetesting // engines and Postgres run as other users, to whom t.TempDir's parent is closed
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &outside{t: t, services: composeProject(t).Services, dir: dir, addresses: map[string]string{}}

	require.NoError(t, os.MkdirAll(o.local("/var/lib/engineshed/worker"), 0o755)) // as the image does

	o.finish("keys")
	server := o.postgres()
	o.finish("migrate")
	api, worker, gateway := o.start("api"), o.start("worker"), o.start("gateway")
	t.Cleanup(worker.stop) // ends the engines, also when the test has failed
	o.await("api", api)
	o.await("worker", worker)
	o.await("gateway", gateway)

	created := o.finish("cli", "engineshed", "model-service", "create", "--model", "Qwen2.5-0.5B-Instruct")
	id := regexp.MustCompile(`ms-[0-9a-v]{20}`).FindString(created)
	require.NotEmpty(t, id, created)
	require.Contains(t, o.finish("cli"), id)
	require.NotEmpty(t, o.finish("cli", "engineshed", "chat", id, "hello"))

	engines := &shed{t: t, installation: installation(t, server)}
	engines.expectEngines(time.Second, 1)
	gateway.stop()
	worker.stop()
	engines.expectEngines(time.Second, 0)
}

// postgres runs this machine's Postgres with the password that the keys hold.
func (o *outside) postgres() *embedded.Server {
	o.t.Helper()
	password, err := os.ReadFile(o.local(*o.services["postgres"].Environment["POSTGRES_PASSWORD_FILE"]))
	require.NoError(o.t, err)
	data := filepath.Join(o.dir, "postgres")
	require.NoError(o.t, os.WriteFile(data+".password", []byte(strings.TrimSpace(string(password))), 0o600))
	binaries, err := embedded.Find(o.t.Context())
	require.NoError(o.t, err)
	server, err := embedded.Start(o.t.Context(), embedded.Config{DataDir: data, Binaries: binaries, Log: data + ".log"})
	require.NoError(o.t, err)
	o.t.Cleanup(server.Kill)
	require.NoError(o.t, server.EnsureDatabase(o.t.Context(), *o.services["postgres"].Environment["POSTGRES_DB"]))
	at, err := url.Parse(server.URL("postgres"))
	require.NoError(o.t, err)
	o.socket = at.Query().Get("host")
	return server
}

// finish runs a service that ends by itself, or another command in its place, and returns what it printed.
func (o *outside) finish(name string, command ...string) string {
	o.t.Helper()
	if command == nil {
		command = o.services[name].Command
	}
	run := exec.CommandContext(o.t.Context(), filepath.Join(binaries, command[0]), o.locals(command[1:])...)
	run.Env = append(os.Environ(), o.locals(environment(o.services[name]))...)
	text, err := run.CombinedOutput()
	require.NoError(o.t, err, "%s: %s", name, text)
	return string(text)
}

func (o *outside) start(name string) *process {
	o.t.Helper()
	command := o.services[name].Command
	env := append(o.locals(environment(o.services[name])), "PATH="+binaries+":"+os.Getenv("PATH"))
	return start(o.t, env, command[0], o.locals(command[1:])...)
}

// await asks what the health check asks.
func (o *outside) await(name string, p *process) {
	o.t.Helper()
	test := o.services[name].HealthCheck.Test
	address := o.local(test[len(test)-1])
	eventually(o.t, 20*time.Second, name+" is healthy", func() bool {
		select {
		case <-p.done:
			require.FailNow(o.t, name+" ended", "%v\n%s", p.err, p.log)
		default:
		}
		answer, err := http.Get(address)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK
	})
}

func (o *outside) locals(words []string) []string {
	translated := make([]string, len(words))
	for i, word := range words {
		translated[i] = o.local(word)
	}
	return translated
}

var (
	composePath    = regexp.MustCompile(`(^|=)(/keys|/var/lib/engineshed)\b`)
	composeAddress = regexp.MustCompile(`\b(?:0\.0\.0\.0|127\.0\.0\.1|api):(\d+)`)
)

// local translates a word of docker-compose.yml.
func (o *outside) local(word string) string {
	word = composePath.ReplaceAllString(word, "${1}"+o.dir+"${2}")
	word = strings.Replace(word, "@postgres:5432/engineshed?", "@/engineshed?host="+url.QueryEscape(o.socket)+"&", 1)
	return composeAddress.ReplaceAllStringFunc(word, func(address string) string {
		port := composeAddress.FindStringSubmatch(address)[1]
		if o.addresses[port] == "" {
			o.addresses[port] = freeAddr(o.t)
		}
		return o.addresses[port]
	})
}

func installation(t *testing.T, server *embedded.Server) (id string) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), server.URL("engineshed"))
	require.NoError(t, err)
	require.NoError(t, db.QueryRow(t.Context(), `SELECT id FROM installation`).Scan(&id))
	require.NoError(t, db.Close(t.Context()))
	return id
}
