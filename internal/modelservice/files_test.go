package modelservice

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/modelfile/hubtest"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/nodetest"
)

// specs remembers what a driver was told to run.
type specs struct {
	*fakeHost
	mu   sync.Mutex
	seen []node.Spec
}

func (s *specs) Ensure(ctx context.Context, spec node.Spec) error {
	s.mu.Lock()
	s.seen = append(s.seen, spec)
	s.mu.Unlock()
	return s.fakeHost.Ensure(ctx, spec)
}

// shelf is a world whose host keeps the files of models, of which acme has those of Acme-7B.
type shelf struct {
	*world
	acme    *hubtest.Hub
	files   *modelfile.Store
	driver  *specs
	stepper *Stepper
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	w := newWorld(t)
	h := hubtest.New(t, "acme/acme-7b", map[string][]byte{
		"config.json": []byte("{}"), "model.safetensors": []byte(strings.Repeat("engineshed", 300_000)),
	})
	w.own(t, "name: Acme-7B\ntask: generate\nsource: {huggingface: acme/acme-7b}\nenvironment: {VLLM_USE_V1: '1'}\n")
	hubs, err := hub.New(hub.Config{HuggingFace: hub.Site{Endpoint: h.URL, Proxy: "direct"}})
	require.NoError(t, err)
	files, err := modelfile.Open(modelfile.Config{Dir: t.TempDir(), Hubs: hubs, Log: slog.New(slog.DiscardHandler), Pause: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(files.Close)
	driver := &specs{fakeHost: &fakeHost{engines: map[string]node.Observation{}}}
	stepper := w.stepper(driver.fakeHost)
	stepper.Driver, stepper.Files = driver, files
	return &shelf{w, h, files, driver, stepper}
}

// own makes the world's catalogue one with a model of one's own.
func (w *world) own(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600))
	models, err := catalog.Open(dir)
	require.NoError(t, err)
	w.services.catalog = models
}

// create makes a service of Acme-7B on so many nodes and returns its replicas.
func (s *shelf) create(t *testing.T, nodes int) (serviceID string, replicas []string) {
	t.Helper()
	spec := s.spec(s.nodes[:nodes]...)
	spec.ModelName, spec.Replicas = "Acme-7B", &nodes
	svc, err := s.services.Create(t.Context(), idempotency.Key{}, spec)
	require.NoError(t, err)
	for _, r := range s.describe(t, svc.ID).Replicas {
		replicas = append(replicas, r.ID)
	}
	return svc.ID, replicas
}

// step takes a step of every replica.
func (s *shelf) step(t *testing.T, replicas []string) {
	t.Helper()
	for _, id := range replicas {
		_, err := s.stepper.Step(t.Context(), id)
		require.NoError(t, err)
	}
}

func TestReplicasWaitForOneDownloadAndSayHowFarItIs(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.acme.Hold, s.acme.HoldAfter = make(chan struct{}), 1<<20
	id, replicas := s.create(t, 2)
	nodetest.Eventually(t, func() bool {
		s.step(t, replicas)
		return strings.HasPrefix(s.describe(t, id).Replicas[0].Reason, "downloading acme/acme-7b@main: 1.0 of 2.9 MiB")
	}, "the reason does not tell how far it is")
	shown := s.describe(t, id)
	require.Equal(t, Deploying, shown.Status)
	require.Contains(t, shown.StatusReason, " is starting: downloading acme/acme-7b@main: 1.0 of 2.9 MiB.")
	require.Equal(t, shown.Replicas[0].Reason, shown.Replicas[1].Reason)
	require.Empty(t, s.driver.seen, "no engine before its files")

	before := s.versions(t)
	for _, r := range replicas { // nothing is new, so nothing is done
		require.False(t, NewWatcher(s.stepper.Host).differs(t.Context(), &watchedReplica{}, s.row(t, r), time.Second))
	}
	require.Equal(t, before, s.versions(t))
	close(s.acme.Hold)
	nodetest.Eventually(t, func() bool {
		s.step(t, replicas)
		return len(s.driver.seen) == 2
	}, "the engines do not start")
	_, requests := s.acme.Served("model.safetensors")
	require.Equal(t, 1, requests)
	dir := s.files.Dir(hub.Source{Kind: hub.HuggingFace, Name: "acme/acme-7b", Revision: "main"})
	require.Equal(t, dir, s.driver.seen[0].Args[1])
	require.Contains(t, s.driver.seen[0].Args, "--served-model-name")
	require.Contains(t, s.driver.seen[0].Args, "Acme-7B")
	require.Equal(t, map[string]string{"HF_HUB_OFFLINE": "1", "VLLM_USE_V1": "1"}, s.driver.seen[0].Env)
	s.driver.become(node.Healthy, "")
	s.step(t, replicas)
	require.Equal(t, Active, s.describe(t, id).Status)
}

// row is the replica as the watcher reads it.
func (s *shelf) row(t *testing.T, id string) (r replicaState) {
	t.Helper()
	require.NoError(t, s.Owner.QueryRow(t.Context(), `
		SELECT r.id, r.status, r.status_reason, r.engine_generation, s.model_name FROM replica r JOIN model_service s ON s.id = r.model_service_id
		WHERE r.id = $1`, id).Scan(&r.ID, &r.Status, &r.Reason, &r.EngineGeneration, &r.modelName))
	return r
}

func TestFilesThatDoNotComeAreTheReasonAndAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.acme.Gone = true
	id, replicas := s.create(t, 1)
	nodetest.Eventually(t, func() bool {
		s.step(t, replicas)
		return s.describe(t, id).Replicas[0].Status == failed
	}, "the replica does not fail")
	require.Contains(t, s.describe(t, id).StatusReason, "of acme/acme-7b@main: not found: 127.0.0.1")
	s.acme.Set(func(h *hubtest.Hub) { h.Gone = false })
	nodetest.Eventually(t, func() bool {
		s.step(t, replicas)
		return len(s.driver.seen) == 1
	}, "the engine does not start")
}

func TestFilesThatVanishAreFetchedAgainBeforeARestart(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	id, replicas := s.create(t, 1)
	nodetest.Eventually(t, func() bool {
		s.step(t, replicas)
		return len(s.driver.seen) == 1
	}, "the engine does not start")
	s.driver.become(node.Healthy, "")
	s.step(t, replicas)
	require.Equal(t, Active, s.describe(t, id).Status)
	require.NoError(t, os.RemoveAll(s.files.Dir(hub.Source{Kind: hub.HuggingFace, Name: "acme/acme-7b", Revision: "main"})))
	s.driver.become(node.Exited, "crashed")
	nodetest.Eventually(t, func() bool {
		s.step(t, replicas)
		return len(s.driver.seen) == 2
	}, "the engine does not start again")
	_, requests := s.acme.Served("model.safetensors")
	require.Equal(t, 2, requests)
}

func TestWithoutAStoreEnginesFetchWhatTheyCan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source string
		args   []string // the first ones
		env    map[string]string
		reason string // why none starts
	}{
		"a hub":                 {"{huggingface: acme/acme-7b}", []string{"serve", "acme/acme-7b", "--host=127.0.0.1"}, map[string]string{}, ""},
		"a commit of a hub":     {"{huggingface: acme/acme-7b, revision: v2}", []string{"serve", "acme/acme-7b", "--host=127.0.0.1", "--port=40001", "--revision=v2", "--tokenizer-revision=v2"}, map[string]string{}, ""},
		"ModelScope":            {"{modelscope: acme/acme-7b}", []string{"serve", "acme/acme-7b"}, map[string]string{"VLLM_USE_MODELSCOPE": "True"}, ""},
		"a directory":           {"{directory: /tmp}", []string{"serve", "/tmp"}, map[string]string{"HF_HUB_OFFLINE": "1"}, ""},
		"a directory elsewhere": {"{directory: /nowhere}", nil, nil, "the directory /nowhere is not on this host"},
		"a web server":          {"{url: 'https://models.example/acme'}", nil, nil, "start the worker of this host with --models"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			s.stepper.Files = nil
			s.own(t, "name: Acme-7B\ntask: generate\nsource: "+c.source+"\n")
			id, replicas := s.create(t, 1)
			s.step(t, replicas)
			if c.reason != "" {
				require.Contains(t, s.describe(t, id).StatusReason, c.reason)
				require.Equal(t, failed, s.describe(t, id).Replicas[0].Status)
				return
			}
			require.Equal(t, c.args, s.driver.seen[0].Args[:len(c.args)])
			require.Equal(t, c.env, s.driver.seen[0].Env)
		})
	}
}
