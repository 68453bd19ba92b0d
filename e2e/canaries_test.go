package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

// canary is a text that occurs nowhere else.
func canary() string { return "Canary" + rand.Text() }

// One installation in which every kind of secret is in use, and all the places that somebody else could look at.
func TestNoCanaryIsFoundAnywhere(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	s := newShed(t, server.DB)
	upstream := newRecorder(t)
	s.upstreams = []string{upstream.Listener.Addr().String()}
	canaries := map[string]string{
		"the root key's secret": rootKey.secret, "a user's secret": aliceKey.secret, "a security token": canary(), "the upstream's key": canary(),
		"the control role's password": canary(), "the gateway role's password": canary(), "the hub's token": canary(), "a prompt": canary(),
		"an answer": "an answer that nobody else may read", "the master key": s.keyOf(t, "master.key"), "the snapshot key": s.keyOf(t, "snapshot.key"),
	}
	s.db.ControlURL = s.withPassword(t, postgres.ControlRole, canaries["the control role's password"])
	s.db.GatewayURL = s.withPassword(t, postgres.GatewayRole, canaries["the gateway role's password"])
	require.NoError(t, os.WriteFile(s.path("hub.token"), []byte(canaries["the hub's token"]), 0o600))
	require.NoError(t, os.WriteFile(s.path("sources.yaml"), []byte("huggingface: {tokenFile: hub.token}\n"), 0o600))
	s.writePolicies(map[string]string{
		"accounts.yaml": accountsFile, "no-create.json": noCreate, "one-instance.json": oneInstance("gp-00000000000000000000"),
	})
	control := s.controlPlane("both")
	s.flags = []string{"--models", s.path("models"), "--model-sources", s.path("sources.yaml")}
	fetching := s.controlPlaneOn("host-b", "both") // it would fetch models, where there are any for its host
	admin := freeAddr(t)
	gateway := s.launchGateway(s.gateway, admin, "gateway")
	s.waitReady("http://"+admin, gateway)
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	var answers strings.Builder // what reads and refusals show
	show := func(a answer, err error) { fmt.Fprintln(&answers, a, err) }

	instance, nodes := newInstance(t, c, 1)
	described := waitActive(t, c, instance, deploy(t, c, instance, nodes...), 20*time.Second)
	canaries["the service's key"], canaries["the engine's key"] = described.text("ApiKey"), s.engineKey(t)
	made, err := c.call("CreateModelOperatorApiKey", map[string]string{"Description": "all"})
	require.NoError(t, err)
	operatorKey, err := c.call("DescribeModelOperatorApiKey", map[string]string{"ApiKeyId": fmt.Sprint(made["ApiKeyId"])})
	require.NoError(t, err)
	canaries["a ModelOperator key"] = operatorKey.text("ApiKey")
	gatewayID, environment := seedGateway(t, c)
	made, err = c.roa("CreateService", "POST", "/v1/services", map[string]any{
		"gatewayId": gatewayID, "sourceType": "AI", "serviceConfigs": []any{map[string]any{
			"name": "openai", "aiServiceConfig": map[string]any{
				"provider": "openai", "protocols": []string{"OpenAI/v1"}, "address": upstream.URL + "/v1", "apiKeys": []string{canaries["the upstream's key"]},
			},
		}},
	})
	service := data(t, made, err)["serviceIds"].([]any)[0].(string)
	api := newModelAPI(t, c, "chat", "Text", "OpenAI/v1", "/chat", gatewayID, environment, service)
	requireKeys(t, c, api, "/chat")
	alice, consumerKey := newConsumer(t, c, "alice")
	canaries["the consumer's key"] = consumerKey
	allow(t, c, alice, api, environment)

	eventually(t, 20*time.Second, "both are answered", func() bool {
		_, err := chat(t.Context(), described.text("PrivateConnectUrl"), described.text("ApiKey"), canaries["a prompt"], true)
		return err == nil && chatWith(t, s.gateway+"/chat", environment+".engineshed.localhost", consumerKey, canaries["a prompt"]) == http.StatusOK
	})
	show(newDarabonba(t, control.addr, credentials{rootKey.id, "wrong-" + rootKey.secret}).call("ListSupportModels", nil))
	show(newDarabonba(t, control.addr, aliceKey).call("DescribeDBInstances", map[string]string{"RegionId": region}))
	show(c.call("DescribeDBInstances", map[string]string{"RegionId": region, "SecurityToken": canaries["a security token"]}))
	show(c.call("ListModelServices", map[string]string{"DBInstanceId": instance}))
	show(c.call("ListModelOperatorApiKeys", nil))
	show(c.call("DescribeModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": canaries["a security token"][:10]}))
	show(c.roa("GetService", "GET", "/v1/services/"+service, nil))
	show(c.roa("ListConsumers", "GET", "/v1/consumers?gatewayType=AI", nil))
	show(c.roa("GetHttpApi", "GET", "/v1/http-apis/"+api, nil))
	s.awaitSnapshot()
	eventually(t, 20*time.Second, "the trail is sealed", func() bool { return s.verifyAudit(t).Unsealed == 0 })
	s.asSuperuser(t, "CHECKPOINT")

	files := s.tree(t, server.Files())
	require.Contains(t, files, s.installation, "what is in no secret place is found")
	for place, text := range map[string]string{
		"the control plane's log": control.log.String() + fetching.log.String(), "the gateway's log": gateway.log.String(), "the engines' logs": s.tree(t, s.path("worker-host-a")),
		"what calls are answered": answers.String(), "the control plane's metrics": fetched(t, control.admin+"/metrics"),
		"the gateway's metrics": fetched(t, "http://"+admin+"/metrics"), "the rows, jobs and audit of the database": s.dump(t),
		"the files of the database": files, "the command lines of all processes": allCommandLines(t),
		"the snapshot file": s.file(t, "gateway/snapshot"),
	} {
		require.NotEmpty(t, text, place)
		for name, secret := range canaries {
			require.Greater(t, len(secret), 12, name)
			require.NotContains(t, text, secret, "%s: %s", place, name)
		}
	}
	require.GreaterOrEqual(t, len(canaries), 12)
	require.Contains(t, upstream.String(), canaries["a prompt"], "it was in use")
	require.Contains(t, upstream.String(), canaries["the upstream's key"], "it was in use")
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

// chatWith asks a Model API and returns the status of the answer.
func chatWith(t *testing.T, url, host, key, prompt string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions",
		strings.NewReader(fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%q}]}`, prompt)))
	require.NoError(t, err)
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	return response.StatusCode
}
