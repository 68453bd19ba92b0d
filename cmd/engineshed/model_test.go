package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/modelfile/hubtest"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// acmeHost is what an operator gives a host: a catalogue with Acme-7B of a hub, how that is reached, and room for its files.
type acmeHost struct {
	hub   *hubtest.Hub
	flags []string // of up
	model []string // of the verbs about models
	dir   string   // the model's files
}

const acmeToken = "canary-hub-token"

func newAcmeHost(t *testing.T) acmeHost {
	t.Helper()
	h := hubtest.New(t, "acme/acme-7b", map[string][]byte{
		"config.json": []byte("{}"), "model.safetensors": []byte(strings.Repeat("engineshed", 800_000)),
	})
	h.Token = acmeToken
	base := filepath.Dir(dataDir(t))
	catalog, models, sources := filepath.Join(base, "catalog"), filepath.Join(base, "models"), filepath.Join(base, "sources.yaml")
	require.NoError(t, os.Mkdir(catalog, 0o755))
	for path, text := range map[string]string{
		filepath.Join(catalog, "acme.yaml"): "name: Acme-7B\ntask: generate\nsource: {huggingface: acme/acme-7b}\narguments: {seed: {max: 5}}\n",
		sources:                             "huggingface: {endpoint: '" + h.URL + "', tokenFile: token, proxy: direct}\n",
		filepath.Join(base, "token"):        acmeToken + "\n",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return acmeHost{
		hub: h, dir: filepath.Join(models, "huggingface/acme/acme-7b@main"), model: []string{"--catalog", catalog, "--models", models},
		flags: []string{"--catalog", catalog, "--models", models, "--model-sources", sources},
	}
}

// deployModel makes a service of the model on so many nodes.
func (i *installation) deployModel(model string, nodes int, params *map[string]any) (id string, err error) {
	i.t.Helper()
	free, err := i.client.FreeAINodes(i.t.Context(), i.credentials.DBInstanceID, nodes)
	require.NoError(i.t, err)
	replicas := int32(nodes)
	created, err := i.client.CreateModelService(i.t.Context(), gpdb.CreateModelServiceRequest{
		DBInstanceId: i.credentials.DBInstanceID, ModelName: model, AiNodes: free, Replicas: &replicas, ModelParams: params,
	})
	if err != nil {
		return "", err
	}
	return created.ModelServiceId, nil
}

func (i *installation) reason(id string) string {
	service, err := i.client.DescribeModelService(i.t.Context(), gpdb.DescribeModelServiceRequest{
		DBInstanceId: i.credentials.DBInstanceID, ModelServiceId: id,
	})
	if err != nil {
		return err.Error() // a control plane that is being started again
	}
	return service.StatusReason
}

func TestAKilledWorkerGoesOnWithADownloadWhereItWas(t *testing.T) {
	t.Parallel()
	a := newAcmeHost(t)
	const half = 4 << 20
	hold := make(chan struct{})
	a.hub.Hold, a.hub.HoldAfter = hold, half
	i := startUp(t, dataDir(t), append(freePorts(t), a.flags...))
	listed, err := i.client.ListSupportModels(t.Context(), gpdb.ListSupportModelsRequest{})
	require.NoError(t, err)
	require.Contains(t, listed.ModelNames.ModelNames, "Acme-7B")
	_, err = i.deployModel("Acme-7B", 1, &map[string]any{"seed": 6})
	require.ErrorContains(t, err, "ModelParams.seed is not valid: it must be a whole number from 0 to 5")

	id, err := i.deployModel("Acme-7B", 2, nil)
	require.NoError(t, err)
	i.await("the reason tells how far it is", func() bool {
		return strings.Contains(i.reason(id), "downloading acme/acme-7b@main: 4.0 of 7.6 MiB")
	})
	out, err := command(append([]string{"model", "list"}, a.model...)...).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Regexp(t, `Acme-7B +generate +not known +huggingface acme/acme-7b@main +4\.0 MiB of 7\.6 MiB`, string(out))
	require.Empty(t, i.engines())

	controlplane := i.children("controlplane")
	require.Len(t, controlplane, 1)
	commandLine, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", controlplane[0]))
	require.NoError(t, err)
	require.NotContains(t, string(commandLine), acmeToken)
	require.NoError(t, syscall.Kill(controlplane[0], syscall.SIGKILL))
	i.await("the hub is left", func() bool { return a.hub.Left() > 0 })
	a.hub.Set(func(h *hubtest.Hub) { h.Hold = nil })
	close(hold)

	service := i.served(id)
	require.Len(t, service.Replicas, 2)
	served, _ := a.hub.Served("model.safetensors")
	require.InDelta(t, 8_000_000, served, half/16, "what was there was not fetched again")
	engines := i.engines()
	require.Len(t, engines, 2)
	for _, pid := range engines {
		commandLine, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		require.NoError(t, err)
		require.Contains(t, string(commandLine), "serve\x00"+a.dir+"\x00")
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		require.NoError(t, err)
		require.Contains(t, string(environment), "HF_HUB_OFFLINE=1\x00")
		require.NotContains(t, string(environment), acmeToken)
	}
	require.Empty(t, a.hub.Leaked())
	for _, log := range []string{"controlplane.log", "gateway.log"} {
		text, err := os.ReadFile(filepath.Join(i.dir, "logs", log))
		require.NoError(t, err)
		require.NotContains(t, string(text), acmeToken, log)
		require.NotContains(t, string(text), "signature=secret", "where the hub redirects to is a secret, too")
	}
}

func TestAModelIsCarriedToAHostWithoutInternet(t *testing.T) {
	t.Parallel()
	from, to := newAcmeHost(t), newAcmeHost(t)
	archive := filepath.Join(t.TempDir(), "acme.tar")
	run := func(args ...string) string {
		t.Helper()
		out, err := command(append([]string{"model"}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	out, err := command(append([]string{"model", "export", "Acme-7B", archive}, from.model...)...).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "engineshed model fetch Acme-7B brings it")
	run(append([]string{"fetch", "Acme-7B"}, from.flags...)...)
	require.Contains(t, run(append([]string{"export", "Acme-7B", archive}, from.model...)...), "2 files of Acme-7B, 7.6 MiB")

	to.hub.Set(func(h *hubtest.Hub) { h.Token = "nobody knows it" }) // as good as no hub at all
	i := startUp(t, dataDir(t), append(freePorts(t), to.flags...))
	id, err := i.deployModel("Acme-7B", 1, nil)
	require.NoError(t, err)
	i.await("the reason tells", func() bool { return strings.Contains(i.reason(id), "access denied: ") })
	require.Contains(t, run(append([]string{"import", archive}, to.model...)...), "acme/acme-7b@main: 2 files, 7.6 MiB, in "+to.dir)
	i.served(id)

	var shown struct {
		Files struct {
			Dir    string `json:"dir"`
			Commit string `json:"commit"`
		} `json:"files"`
		Arguments []struct{ Name, Limit string } `json:"arguments"`
	}
	require.NoError(t, json.Unmarshal([]byte(run(append([]string{"show", "Acme-7B", "-o", "json"}, to.model...)...)), &shown))
	require.Equal(t, to.dir, shown.Files.Dir)
	require.Equal(t, hubtest.Commit, shown.Files.Commit)
	require.NotEmpty(t, shown.Arguments)
	table := run(append([]string{"show", "Acme-7B"}, to.model...)...)
	require.Contains(t, table, "a branch or tag: it can come to mean other files")
	require.Regexp(t, `--seed +a whole number from 0 to 5`, table)
	require.Regexp(t, `Qwen3-8B +generate +19\.0 GiB`, run("list"))
}
