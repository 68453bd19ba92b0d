package modelservice

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/node"
)

// node makes an AI node of the kind on a host of its own with four accelerators of so much memory each.
func (w *world) node(t *testing.T, host, spec string, memoryMiB int) string {
	t.Helper()
	devices := make([]instance.Accelerator, 4)
	for n := range devices {
		devices[n] = instance.Accelerator{Index: n, Name: "GPU", MemoryMiB: memoryMiB}
	}
	instances := instance.New(w.Control, region)
	require.NoError(t, instances.Beat(t.Context(), instance.Host{Name: host, EngineAddr: "127.0.0.1", Accelerators: devices, StartedAt: time.Now()}))
	// Only this host is alive for the moment, so that the node is on it.
	_, err := w.Owner.Exec(t.Context(), `UPDATE host SET heartbeat_at = CASE WHEN name = $1 THEN now() ELSE '-infinity' END`, host)
	require.NoError(t, err)
	names, err := instances.AddNodes(t.Context(), account, w.instance, "", []instance.NodeSpec{{Spec: spec, Count: 1}})
	require.NoError(t, err)
	_, err = w.Owner.Exec(t.Context(), `UPDATE host SET heartbeat_at = now()`)
	require.NoError(t, err)
	return names[0]
}

func TestAModelThatCannotFitIsRefusedWithWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	small := w.node(t, "host-24", "ADB.AIMedium.2", 24<<10)
	large := w.node(t, "host-80", "ADB.AILarge.1", 80<<10)
	four := w.node(t, "host-4", "ADB.AI2XLarge.1", 80<<10)
	silent := w.node(t, "host-x", "ADB.AIStandard.1", 0)
	for _, c := range []struct {
		model, node string
		params      map[string]any
		want        string // "": it fits
	}{
		{"Qwen3-0.6B", small, nil, ""},
		{"Qwen3-8B", small, nil, "Qwen3-8B needs 19.0 GiB of GPU memory and the AI node " + small + " (ADB.AIMedium.2) has 10.8 GiB for it " +
			"(1 × 24.0 GiB, of which it gets 45 %): choose ADB.AILarge.N or ADB.AIXLarge.N or ADB.AI2XLarge.N, or a smaller model."},
		{"Qwen3-8B", small, map[string]any{"quantization": "fp8"}, ""},
		{"Qwen3-32B", large, nil, "choose ADB.AIXLarge.N or ADB.AI2XLarge.N, or a smaller model."},
		{"Qwen3-32B", small, nil, "choose ADB.AI2XLarge.N, or a smaller model."},
		{"Qwen3-32B", four, nil, ""},
		{"Qwen3-32B", silent, nil, ""}, // nobody says how much memory there is
		{"Qwen3-32B", w.nodes[0], nil, ""},
		{"Qwen2.5-0.5B-Instruct", four, nil, "A replica of Qwen2.5-0.5B-Instruct can be split over 1 or 2 accelerators, the AI node " + four +
			" (ADB.AI2XLarge.1) has 4: choose ADB.AIStandard.N or ADB.AIMedium.N or ADB.AILarge.N or ADB.AIXLarge.N."},
	} {
		spec := w.spec(c.node)
		spec.ModelName, spec.ModelParams = c.model, c.params
		before := w.count(t)
		svc, err := w.services.Create(t.Context(), idempotency.Key{}, spec)
		if c.want != "" {
			require.ErrorIs(t, err, instance.ErrInsufficientCapacity)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, before, w.count(t))
			continue
		}
		require.NoError(t, err, "%s on %s", c.model, c.node)
		_, err = w.Owner.Exec(t.Context(), `UPDATE ai_node SET model_service_id = NULL WHERE model_service_id = $1`, svc.ID)
		require.NoError(t, err)
	}
}

func TestAChangeThatWouldNotFitIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	small, large := w.node(t, "host-24", "ADB.AIMedium.2", 24<<10), w.node(t, "host-80", "ADB.AILarge.1", 80<<10)
	spec := w.spec(small)
	spec.ModelName, spec.ModelParams = "Qwen3-8B", map[string]any{"quantization": "fp8"}
	svc, err := w.services.Create(t.Context(), idempotency.Key{}, spec)
	require.NoError(t, err)
	change := Change{AccountID: account, DBInstanceID: w.instance, ID: svc.ID, ModelParams: map[string]any{}, AllowInterruption: true}
	require.ErrorContains(t, w.services.Modify(t.Context(), idempotency.Key{}, change), "has 10.8 GiB for it")
	change.AINodes = []string{large}
	require.NoError(t, w.services.Modify(t.Context(), idempotency.Key{}, change))
	change = Change{AccountID: account, DBInstanceID: w.instance, ID: svc.ID, AINodes: []string{small, large}}
	require.ErrorContains(t, w.services.Modify(t.Context(), idempotency.Key{}, change), small)
}

func TestAModelThatLeftTheCatalogueIsSaidToBeWhyNothingStarts(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	svc, err := w.services.Create(t.Context(), idempotency.Key{}, w.spec(w.nodes[0]))
	require.NoError(t, err)
	_, err = w.Owner.Exec(t.Context(), `UPDATE model_service SET model_name = 'Gone-7B'`)
	require.NoError(t, err)
	_, err = w.stepper(f).Step(t.Context(), w.replica(t, svc.ID))
	require.NoError(t, err)
	shown := w.describe(t, svc.ID)
	require.Equal(t, failed, shown.Replicas[0].Status)
	require.Contains(t, shown.StatusReason, `the engine cannot be started: The model "Gone-7B" is not in the catalogue`)
	err = w.services.Modify(t.Context(), idempotency.Key{}, Change{
		AccountID: account, DBInstanceID: w.instance, ID: svc.ID, ModelParams: map[string]any{"seed": 1}, AllowInterruption: true,
	})
	require.ErrorContains(t, err, "InvalidModelName.NotFound")
}

func TestAnEngineThatIsTooOldIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.own(t, "name: Acme-7B\ntask: generate\nsource: {huggingface: acme/acme-7b}\nengineVersion: 0.10.1\n")
	instances := instance.New(w.Control, region)
	spec := w.spec(w.nodes[0])
	spec.ModelName = "Acme-7B"
	require.NoError(t, instances.SetEngineVersion(t.Context(), host, "0.9.2"))
	_, err := w.services.Create(t.Context(), idempotency.Key{}, spec)
	require.ErrorIs(t, err, instance.ErrInsufficientCapacity)
	require.ErrorContains(t, err, "Acme-7B needs vLLM 0.10.1 or later and the host host-a of the AI node "+w.nodes[0]+" has 0.9.2: choose")
	require.NoError(t, instances.SetEngineVersion(t.Context(), host, "0.11"))
	_, err = w.services.Create(t.Context(), idempotency.Key{}, spec)
	require.NoError(t, err)
}
