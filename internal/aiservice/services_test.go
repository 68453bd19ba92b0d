package aiservice_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	account  = "1000000000000001"
	stranger = "1000000000000002"
	key1     = "sk-canary-upstream-key-0001"
	key2     = "sk-canary-upstream-key-0002"
)

// world is two accounts, each with a gateway and a model service.
type world struct {
	*pgtest.DB
	*aiservice.Services
	publisher     *publish.Publisher
	snapshotKey   *secret.Box
	gateway       string
	otherGateway  string
	model         string
	otherModel    string
	deletingModel string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	master, err := secret.NewBox()
	require.NoError(t, err)
	box, err := secret.NewBox()
	require.NoError(t, err)
	allowed, err := snapshot.ParseAllowedUpstream([]string{"127.0.0.1:8000"})
	require.NoError(t, err)
	w := &world{
		DB: db, snapshotKey: box,
		Services: aiservice.New(aiservice.Config{DB: db.Control, Jobs: client, Master: master, Snapshot: box, Allowed: allowed}),
		gateway:  ids.New(ids.Gateway), otherGateway: ids.New(ids.Gateway),
		model: ids.New(ids.ModelService), otherModel: ids.New(ids.ModelService), deletingModel: ids.New(ids.ModelService),
	}
	w.publisher = publish.NewPublisher(db.Control, client, w.Services)
	w.exec(t, `INSERT INTO account (id, name) VALUES ($1, 'a'), ($2, 'b')`, account, stranger)
	w.exec(t, `INSERT INTO gateway (id, account_id, name, resource_group_id) VALUES ($1, $2, 'g', 'rg-default'), ($3, $4, 'g', 'rg-default')`,
		w.gateway, account, w.otherGateway, stranger)
	w.exec(t, `INSERT INTO db_instance (id, account_id, region_id, resource_group_id)
		VALUES ('gp-a', $1, 'r', 'rg-default'), ('gp-b', $2, 'r', 'rg-default')`, account, stranger)
	for id, of := range map[string][3]string{w.model: {account, "gp-a", "active"}, w.otherModel: {stranger, "gp-b", "active"}, w.deletingModel: {account, "gp-a", "deleting"}} {
		w.exec(t, `INSERT INTO model_service (id, account_id, db_instance_id, region_id, resource_group_id, model_name, model_params, replicas, api_key_sealed, status)
			VALUES ($1, $2, $3, 'r', 'rg-default', 'm', '{}', 1, '', $4)`, id, of[0], of[1], of[2])
	}
	return w
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (w *world) spec(services ...aiservice.ServiceSpec) aiservice.CreateSpec {
	return aiservice.CreateSpec{GatewayID: w.gateway, SourceType: aiservice.AI, Services: services}
}

func qwen(name string, keys ...string) aiservice.ServiceSpec {
	return aiservice.ServiceSpec{Name: name, AI: aiservice.AIConfig{Provider: "qwen", APIKeys: keys}}
}

func (w *world) create(t *testing.T, spec aiservice.CreateSpec) string {
	t.Helper()
	made, err := w.Create(t.Context(), idempotency.Key{}, account, spec)
	require.NoError(t, err)
	return made[0]
}

func (w *world) get(t *testing.T, id string) aiservice.Service {
	t.Helper()
	service, err := w.Get(t.Context(), account, id)
	require.NoError(t, err)
	return service
}

// published returns what gateways see of the service, with its keys opened; nil for a tombstone.
func (w *world) published(t *testing.T, id string) (view *snapshot.AIService, keys []string) {
	t.Helper()
	require.NoError(t, w.publisher.Publish(t.Context(), snapshot.KindAIService, id))
	var body []byte
	var deleted bool
	require.NoError(t, w.Gateway.QueryRow(t.Context(), `
		SELECT body, deleted FROM published_item WHERE kind = 'ai_service' AND id = $1`, id).Scan(&body, &deleted))
	if deleted {
		return nil, nil
	}
	require.NoError(t, json.Unmarshal(body, &view))
	for _, sealed := range view.SealedKeys {
		key, err := w.snapshotKey.Open(snapshot.ServiceKeyPurpose(id), sealed)
		require.NoError(t, err)
		keys = append(keys, key.Reveal())
	}
	return view, keys
}

// count returns how many rows the tables that a change touches hold.
func (w *world) count(t *testing.T) string {
	t.Helper()
	var counts string
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT format('services %s, tokens %s, jobs %s, audit %s, versions %s',
			(SELECT count(*) FROM ai_service), (SELECT count(*) FROM client_token), (SELECT count(*) FROM river_job),
			(SELECT count(*) FROM audit_event), (SELECT sum(version) FROM ai_service))`).Scan(&counts))
	return counts
}

func token(token, fingerprint string) idempotency.Key {
	return idempotency.Key{AccountID: account, RegionID: "r", Action: "apig:CreateService", Token: token, Fingerprint: []byte(fingerprint)}
}

func ptr[T any](v T) *T { return &v }

func TestAServiceIsCreatedFromLittle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.get(t, w.create(t, w.spec(qwen("qwen", key1, key2))))
	require.True(t, ids.Valid(ids.AIService, service.ID))
	require.Equal(t, aiservice.AIConfig{
		Provider: "qwen", Protocols: []string{"OpenAI/v1", "DashScope"}, CompatibleProtocols: []string{"Anthropic"},
		Address: "https://dashscope.aliyuncs.com", APIKeys: []string{"sk-****0001", "sk-****0002"}, DefaultModelName: "qwen-plus",
	}, service.AI)
	require.Equal(t, instance.DefaultResourceGroup, service.ResourceGroupID)
	require.Equal(t, "services 1, tokens 0, jobs 1, audit 1, versions 1", w.count(t))

	view, keys := w.published(t, service.ID)
	require.Equal(t, []string{key1, key2}, keys)
	require.Equal(t, []string{"https://dashscope.aliyuncs.com"}, view.URLs)
	require.Equal(t, "/compatible-mode/v1/chat/completions", view.Paths["/v1/chat/completions"])
	require.Equal(t, "Authorization", view.KeyHeader)
	require.Equal(t, "qwen-plus", view.DefaultModel)
}

func TestSeveralServicesOfOneCallAreMadeAllOrNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	made, err := w.Create(ctx, token("t", "f"), account, w.spec(qwen("a"), qwen("b"), qwen("c")))
	require.NoError(t, err)
	require.Len(t, made, 3)
	for i, name := range []string{"a", "b", "c"} {
		require.Equal(t, name, w.get(t, made[i]).Name)
	}
	entry := &audit.Entry{RequestID: "again"}
	again, err := w.Create(audit.With(ctx, entry), token("t", "f"), account, w.spec(qwen("a"), qwen("b"), qwen("c")))
	require.NoError(t, err)
	require.Equal(t, made, again)
	require.Equal(t, audit.Repeated, entry.Outcome)
	require.Equal(t, strings.Join(made, ","), entry.ResourceID)
	_, err = w.Create(ctx, token("t", "other"), account, w.spec(qwen("a")))
	require.ErrorIs(t, err, idempotency.ErrMismatch)

	before := w.count(t)
	_, err = w.Create(ctx, token("new", "f"), account, w.spec(qwen("d"), qwen("a")))
	require.ErrorIs(t, err, aiservice.ErrNameDuplicate)
	_, err = w.Create(ctx, token("new", "f"), account, w.spec(qwen("d"), qwen("d")))
	require.ErrorIs(t, err, aiservice.ErrNameDuplicate)
	require.Equal(t, before, w.count(t), "nothing stays, and the token is free")
}

func TestBadServicesAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.count(t)
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		change func(*aiservice.CreateSpec)
		want   string
	}{
		"no gateway":             {func(s *aiservice.CreateSpec) { s.GatewayID = "" }, "MissingParameter: The parameter gatewayId"},
		"unknown gateway":        {func(s *aiservice.CreateSpec) { s.GatewayID = ids.New(ids.Gateway) }, "NotFound.GatewayNotFound"},
		"gateway of another":     {func(s *aiservice.CreateSpec) { s.GatewayID = w.otherGateway }, "NotFound.GatewayNotFound"},
		"no services":            {func(s *aiservice.CreateSpec) { s.Services = nil }, "InvalidParameter: The parameter serviceConfigs"},
		"too many services":      {func(s *aiservice.CreateSpec) { s.Services = make([]aiservice.ServiceSpec, 21) }, "from 1 to 20"},
		"unknown group":          {func(s *aiservice.CreateSpec) { s.ResourceGroupID = "rg-x" }, "InvalidResourceGroupId.NotFound"},
		"unknown source":         {func(s *aiservice.CreateSpec) { s.SourceType = "FC3" }, "UnsupportedParameter"},
		"no source":              {func(s *aiservice.CreateSpec) { s.SourceType = "" }, "MissingParameter: The parameter sourceType"},
		"no name":                {func(s *aiservice.CreateSpec) { s.Services[0].Name = "" }, "The parameter serviceConfigs[0].name"},
		"long name":              {func(s *aiservice.CreateSpec) { s.Services[0].Name = long[:65] }, "The parameter serviceConfigs[0].name"},
		"name with a space":      {func(s *aiservice.CreateSpec) { s.Services[0].Name = "a b" }, "The parameter serviceConfigs[0].name"},
		"name with a line":       {func(s *aiservice.CreateSpec) { s.Services[0].Name = "a\n" }, "The parameter serviceConfigs[0].name"},
		"no provider":            {func(s *aiservice.CreateSpec) { s.Services[0].AI.Provider = "" }, "MissingParameter: The parameter serviceConfigs[0].aiServiceConfig.provider"},
		"unknown provider":       {func(s *aiservice.CreateSpec) { s.Services[0].AI.Provider = "nobody" }, "is not one of qwen, moonshot"},
		"bedrock":                {func(s *aiservice.CreateSpec) { s.Services[0].AI.Provider = "bedrock" }, "UnsupportedParameter: The provider bedrock"},
		"vertex":                 {func(s *aiservice.CreateSpec) { s.Services[0].AI.Provider = "vertex" }, "UnsupportedParameter: The provider vertex"},
		"custom without address": {func(s *aiservice.CreateSpec) { s.Services[0].AI.Provider = "custom" }, "MissingParameter: The parameter serviceConfigs[0].aiServiceConfig.address"},
		"azure without address":  {func(s *aiservice.CreateSpec) { s.Services[0].AI.Provider = "azure" }, "MissingParameter"},
		"metadata address":       {func(s *aiservice.CreateSpec) { s.Services[0].AI.Address = "http://100.100.100.200" }, "--allow-upstream"},
		"localhost":              {func(s *aiservice.CreateSpec) { s.Services[0].AI.Address = "http://localhost:9000" }, "--allow-upstream"},
		"unknown protocol":       {func(s *aiservice.CreateSpec) { s.Services[0].AI.Protocols = []string{"SOAP"} }, "aiServiceConfig.protocols"},
		"protocol of others":     {func(s *aiservice.CreateSpec) { s.Services[0].AI.Protocols = []string{"ComfyUI"} }, "requests are not converted"},
		"compatible with others": {func(s *aiservice.CreateSpec) { s.Services[0].AI.CompatibleProtocols = []string{"vLLM"} }, "aiServiceConfig.compatibleProtocols"},
		"long model":             {func(s *aiservice.CreateSpec) { s.Services[0].AI.DefaultModelName = long }, "aiServiceConfig.defaultModelName"},
		"21 keys":                {func(s *aiservice.CreateSpec) { s.Services[0].AI.APIKeys = make([]string, 21) }, "at most 20"},
		"empty key":              {func(s *aiservice.CreateSpec) { s.Services[0].AI.APIKeys = []string{""} }, "aiServiceConfig.apiKeys"},
		"key with a line":        {func(s *aiservice.CreateSpec) { s.Services[0].AI.APIKeys = []string{"canary\r\nX-A: b"} }, "aiServiceConfig.apiKeys"},
		"long key":               {func(s *aiservice.CreateSpec) { s.Services[0].AI.APIKeys = []string{long} }, "aiServiceConfig.apiKeys"},
		"a mask as a key":        {func(s *aiservice.CreateSpec) { s.Services[0].AI.APIKeys = []string{"sk-****0001"} }, "mask that stands for no key"},
		"AI with addresses":      {func(s *aiservice.CreateSpec) { s.Services[0].Addresses = []string{"a.example.com:80"} }, "serviceConfigs[0].addresses"},
		"AI with a model service": {
			func(s *aiservice.CreateSpec) { s.Services[0].ModelServiceID = w.model },
			"serviceConfigs[0].modelServiceId",
		},
		"DNS with a provider": {func(s *aiservice.CreateSpec) { s.SourceType = aiservice.DNS }, "serviceConfigs[0].aiServiceConfig"},
		"DNS with keys": {func(s *aiservice.CreateSpec) {
			s.SourceType = aiservice.DNS
			s.Services[0] = aiservice.ServiceSpec{Name: "d", Addresses: []string{"a.example.com:80"}, AI: aiservice.AIConfig{APIKeys: []string{key1}}}
		}, "serviceConfigs[0].aiServiceConfig"},
		"DNS without addresses": {func(s *aiservice.CreateSpec) {
			s.SourceType = aiservice.DNS
			s.Services[0] = aiservice.ServiceSpec{Name: "d"}
		}, "at least one address"},
		"VIP inside": {func(s *aiservice.CreateSpec) {
			s.SourceType = aiservice.VIP
			s.Services[0] = aiservice.ServiceSpec{Name: "d", Addresses: []string{"10.0.0.1:80"}}
		}, "--allow-upstream"},
		"no model service": {func(s *aiservice.CreateSpec) {
			s.SourceType = aiservice.ModelService
			s.Services[0] = aiservice.ServiceSpec{Name: "d"}
		}, "MissingParameter: The parameter serviceConfigs[0].modelServiceId"},
		"unknown model service": {func(s *aiservice.CreateSpec) {
			s.SourceType = aiservice.ModelService
			s.Services[0] = aiservice.ServiceSpec{Name: "d", ModelServiceID: ids.New(ids.ModelService)}
		}, "NotFound.ModelServiceNotFound"},
		"model service of another": {func(s *aiservice.CreateSpec) {
			s.SourceType = aiservice.ModelService
			s.Services[0] = aiservice.ServiceSpec{Name: "d", ModelServiceID: w.otherModel}
		}, "NotFound.ModelServiceNotFound"},
		"model service that goes": {func(s *aiservice.CreateSpec) {
			s.SourceType = aiservice.ModelService
			s.Services[0] = aiservice.ServiceSpec{Name: "d", ModelServiceID: w.deletingModel}
		}, "NotFound.ModelServiceNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := w.spec(qwen("qwen"))
			c.change(&spec)
			_, err := w.Create(t.Context(), token("bad", "f"), account, spec)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "canary")
			require.Equal(t, before, w.count(t))
		})
	}
}

func TestProtocolsAreSpelledInOneWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := qwen("qwen")
	service.AI.Protocols = []string{"openai/V1", "DashScopeImage", "dashscope", "original"}
	service.AI.CompatibleProtocols = []string{"ANTHROPIC"}
	got := w.get(t, w.create(t, w.spec(service)))
	require.Equal(t, []string{"OpenAI/v1", "DashScope", "original"}, got.AI.Protocols)
	require.Equal(t, []string{"Anthropic"}, got.AI.CompatibleProtocols)
}

func TestServicesOfEverySourceReachGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	providers := aiservice.Providers()
	claude := slices.IndexFunc(providers, func(p aiservice.Provider) bool { return p.Name == "claude" })
	for _, c := range []struct {
		sourceType string
		service    aiservice.ServiceSpec
		want       snapshot.AIService
	}{
		{
			aiservice.DNS,
			aiservice.ServiceSpec{Name: "dns", Addresses: []string{"A.example.com:8000", "b.example.com:443"}},
			snapshot.AIService{URLs: []string{"http://a.example.com:8000", "https://b.example.com:443"}},
		},
		{
			aiservice.VIP,
			aiservice.ServiceSpec{Name: "vip", Addresses: []string{"127.0.0.1:8000", "[2606:4700::1111]:8000"}},
			snapshot.AIService{URLs: []string{"http://127.0.0.1:8000", "http://[2606:4700::1111]:8000"}},
		},
		{
			aiservice.ModelService,
			aiservice.ServiceSpec{Name: "ours", ModelServiceID: w.model},
			snapshot.AIService{ModelServiceID: w.model},
		},
		{
			aiservice.AI,
			aiservice.ServiceSpec{Name: "custom", AI: aiservice.AIConfig{Provider: "custom", Address: "http://127.0.0.1:8000/v1/", Protocols: []string{"vLLM"}}},
			snapshot.AIService{URLs: []string{"http://127.0.0.1:8000"}, KeyHeader: "Authorization", KeyPrefix: "Bearer "},
		},
		{
			aiservice.AI,
			aiservice.ServiceSpec{Name: "claude", AI: aiservice.AIConfig{Provider: "claude", DefaultModelName: "c"}},
			snapshot.AIService{
				URLs: []string{"https://api.anthropic.com"}, KeyHeader: "x-api-key", DefaultModel: "c",
				Paths: providers[claude].Paths, Headers: map[string]string{"anthropic-version": "2023-06-01"},
			},
		},
	} {
		spec := w.spec(c.service)
		spec.SourceType = c.sourceType
		id := w.create(t, spec)
		got, _ := w.published(t, id)
		c.want.ID, c.want.Name = id, c.service.Name
		require.Equal(t, c.want, *got)
		service := w.get(t, id)
		require.Equal(t, c.sourceType, service.SourceType)
		require.Equal(t, c.service.ModelServiceID, service.ModelServiceID)
		require.Len(t, service.Addresses, len(c.service.Addresses))
	}
}

// Every provider that can be used is created, and published so that a gateway takes it.
func TestEveryProviderIsPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, p := range aiservice.Providers() {
		if p.Unsupported != "" {
			continue
		}
		service := aiservice.ServiceSpec{Name: p.Name, AI: aiservice.AIConfig{Provider: p.Name, APIKeys: []string{key1}}}
		address := p.Address
		if address == "" {
			address = "https://own.example.com"
			service.AI.Address = address
		}
		id := w.create(t, w.spec(service))
		view, keys := w.published(t, id)
		require.NoError(t, view.Validate())
		require.Equal(t, []string{address}, view.URLs)
		require.Equal(t, p.Paths, view.Paths)
		require.Equal(t, []string{p.KeyHeader, p.KeyPrefix, p.DefaultModel}, []string{view.KeyHeader, view.KeyPrefix, view.DefaultModel})
		require.Equal(t, p.Headers, view.Headers)
		require.Equal(t, []string{key1}, keys)
		require.Equal(t, p.Protocols, w.get(t, id).AI.Protocols)
	}
}

func TestAMaskKeepsTheKeyItStandsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	const twin = "sk-canary-other-key-0001" // shown like key1
	id := w.create(t, w.spec(qwen("qwen", key1, twin, key2, "short")))
	require.Equal(t, []string{"sk-****0001", "sk-****0001", "sk-****0002", "sk-****"}, w.get(t, id).AI.APIKeys)

	for _, step := range []struct {
		name       string
		sent, want []string
	}{
		{"what was read is sent back", []string{"sk-****0001", "sk-****0001", "sk-****0002", "sk-****"}, []string{key1, twin, key2, "short"}},
		{"nothing is sent", nil, []string{key1, twin, key2, "short"}},
		{"a new key between masks", []string{"sk-****0001", "sk-new-key-000000009", "sk-****0002"}, []string{key1, "sk-new-key-000000009", key2}},
		{"another order", []string{"sk-****0002", "sk-****0001"}, []string{key2, key1}},
		{"one less", []string{"sk-****0001"}, []string{key1}},
		{"all new", []string{key2}, []string{key2}},
		{"none", []string{}, nil},
	} {
		require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{APIKeys: step.sent}}), step.name)
		_, keys := w.published(t, id)
		require.Equal(t, step.want, keys, step.name)
		require.Len(t, w.get(t, id).AI.APIKeys, len(step.want))
	}

	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{APIKeys: []string{key1}}}))
	before := w.count(t)
	for _, sent := range [][]string{{"sk-****9999"}, {"sk-****0001", "sk-****0001"}, {"sk-****"}} {
		err := w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{APIKeys: sent}})
		require.ErrorContains(t, err, "mask that stands for no key", "%v", sent)
	}
	require.Equal(t, before, w.count(t))
}

func TestAKeyIsNotSentToAHostItWasNotGivenFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	id := w.create(t, w.spec(qwen("qwen", key1)))
	before := w.count(t)
	elsewhere := ptr("https://attacker.example.com")
	for name, update := range map[string]aiservice.AIUpdate{
		"keys left out":    {Address: elsewhere},
		"keys masked":      {Address: elsewhere, APIKeys: []string{"sk-****0001"}},
		"one masked":       {Address: elsewhere, APIKeys: []string{"sk-mine-000000000001", "sk-****0001"}},
		"without TLS":      {Address: ptr("http://dashscope.aliyuncs.com")},
		"another port":     {Address: ptr("https://dashscope.aliyuncs.com:8443")},
		"another provider": {Provider: ptr("openai")},
	} {
		err := w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &update})
		require.ErrorContains(t, err, "send its keys in full", name)
	}
	require.Equal(t, before, w.count(t))

	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{Address: ptr("https://dashscope.aliyuncs.com/compatible-mode/v1")}}))
	_, keys := w.published(t, id)
	require.Equal(t, []string{key1}, keys, "the same host")
	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{Address: elsewhere, APIKeys: []string{key2}}}))
	view, keys := w.published(t, id)
	require.Equal(t, []string{key2}, keys)
	require.Equal(t, []string{*elsewhere}, view.URLs)
}

func TestAChangeIsPublishedAndWhatIsNotNamedStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	id := w.create(t, w.spec(qwen("qwen", key1)))
	first, _ := w.published(t, id)
	before := w.get(t, id)

	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{Name: ptr("renamed")}))
	second, _ := w.published(t, id)
	require.Equal(t, "renamed", second.Name)
	first.Name = "renamed"
	require.Equal(t, first, second, "the keys are not sealed again")

	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{DefaultModelName: ptr("qwen-max"), EnableHealthCheck: ptr(true)}}))
	after := w.get(t, id)
	require.Equal(t, []string{"qwen-max", before.AI.Address, before.AI.Provider}, []string{after.AI.DefaultModelName, after.AI.Address, after.AI.Provider})
	require.Equal(t, before.AI.APIKeys, after.AI.APIKeys)
	require.True(t, after.AI.EnableHealthCheck)
	require.True(t, after.UpdatedAt.After(before.UpdatedAt))

	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{Provider: ptr("openai"), APIKeys: []string{key2}}}))
	after = w.get(t, id)
	require.Equal(t, aiservice.AIConfig{
		Provider: "openai", Protocols: []string{"OpenAI/v1"}, Address: "https://api.openai.com", APIKeys: []string{"sk-****0002"},
		DefaultModelName: "gpt-4o-mini", EnableHealthCheck: true,
	}, after.AI, "a new provider brings its own")
	require.Equal(t, "services 1, tokens 0, jobs 4, audit 4, versions 4", w.count(t))

	other := w.create(t, w.spec(qwen("other")))
	err := w.Update(ctx, account, other, aiservice.UpdateSpec{Name: ptr("renamed")})
	require.ErrorIs(t, err, aiservice.ErrNameDuplicate)
	err = w.Update(ctx, account, other, aiservice.UpdateSpec{Addresses: []string{"a.example.com:80"}})
	require.ErrorContains(t, err, "The parameter addresses")
}

func TestTargetsAreChangedUnderTheSameRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	ours := w.spec(aiservice.ServiceSpec{Name: "ours", ModelServiceID: w.model})
	ours.SourceType = aiservice.ModelService
	id := w.create(t, ours)
	for _, target := range []string{w.otherModel, w.deletingModel, ids.New(ids.ModelService)} {
		require.ErrorIs(t, w.Update(ctx, account, id, aiservice.UpdateSpec{ModelServiceID: &target}), aiservice.ErrModelServiceNotFound)
	}
	require.ErrorContains(t, w.Update(ctx, account, id, aiservice.UpdateSpec{ModelServiceID: ptr("")}), "MissingParameter")
	require.ErrorContains(t, w.Update(ctx, account, id, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{}}), "aiServiceConfig")
	w.exec(t, `UPDATE model_service SET status = 'deleting' WHERE id = $1`, w.model)
	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{Name: ptr("still")}), "its target is another matter")

	names := w.spec(aiservice.ServiceSpec{Name: "names", Addresses: []string{"a.example.com:80"}})
	names.SourceType = aiservice.DNS
	id = w.create(t, names)
	require.ErrorContains(t, w.Update(ctx, account, id, aiservice.UpdateSpec{Addresses: []string{"127.0.0.1:80"}}), "--allow-upstream")
	require.NoError(t, w.Update(ctx, account, id, aiservice.UpdateSpec{Addresses: []string{"b.example.com:80"}}))
	view, _ := w.published(t, id)
	require.Equal(t, []string{"http://b.example.com:80"}, view.URLs)
}

func TestAServiceThatAnAPINamesIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.exec(t, `INSERT INTO environment (id, account_id, gateway_id, name, resource_group_id) VALUES ('env-a', $1, $2, 'e', 'rg-default')`, account, w.gateway)
	id := w.create(t, w.spec(qwen("qwen")))
	w.exec(t, `INSERT INTO http_api (id, account_id, name, type, model_category, ai_protocols, base_path, gateway_id, environment_id, deploy_config, deployed_revision, resource_group_id)
		VALUES ('api-a', $1, 'chat', 'LLM', 'Text', '{OpenAI/v1}', '/', $2, 'env-a', '{}', 3, 'rg-default')`, account, w.gateway)
	naming := fmt.Sprintf(`{"serviceConfigs":[{"serviceId":%q}]}`, id)
	for name, uses := range map[string][2]string{
		"its settings": {`UPDATE http_api SET deploy_config = $1`, `UPDATE http_api SET deploy_config = '{}'`},
		"a route": {
			`INSERT INTO http_api_route (id, http_api_id, name, match, backend) VALUES ('hr-a', 'api-a', 'r', '{}', $1)`,
			`DELETE FROM http_api_route`,
		},
		"what is deployed": {
			`INSERT INTO http_api_revision (http_api_id, number, id, content, author) VALUES ('api-a', 3, 'apr-a', $1, 'a')`,
			`UPDATE http_api SET deployed_revision = 0`,
		},
	} {
		w.exec(t, uses[0], naming)
		err := w.Delete(ctx, account, id)
		require.ErrorIs(t, err, aiservice.ErrInUse, name)
		require.ErrorContains(t, err, "Model API chat (api-a)", name)
		w.exec(t, uses[1])
	}
	_, _ = w.published(t, id)
	require.NoError(t, w.Delete(ctx, account, id))
	view, _ := w.published(t, id)
	require.Nil(t, view, "gateways forget it")
	require.ErrorIs(t, w.Delete(ctx, account, id), aiservice.ErrNotFound)
}

func TestAStrangersServiceIsAnUnknownOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	id := w.create(t, w.spec(qwen("qwen", key1)))
	unknown := ids.New(ids.AIService)
	before := w.count(t)
	for name, call := range map[string]func(id string) error{
		"get":    func(id string) error { _, err := w.Get(ctx, stranger, id); return err },
		"update": func(id string) error { return w.Update(ctx, stranger, id, aiservice.UpdateSpec{Name: ptr("mine")}) },
		"delete": func(id string) error { return w.Delete(ctx, stranger, id) },
	} {
		theirs, nobodys := call(id), call(unknown)
		require.ErrorIs(t, theirs, aiservice.ErrNotFound, name)
		require.Equal(t, nobodys.Error(), strings.ReplaceAll(theirs.Error(), id, unknown), name)
	}
	services, total, err := w.List(ctx, stranger, aiservice.Filter{Page: instance.Page{Number: 1, Size: 100}})
	require.NoError(t, err)
	require.Empty(t, services)
	require.Zero(t, total)
	require.Equal(t, before, w.count(t))
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.Create(ctx, idempotency.Key{}, account, w.spec(qwen("chat-a", key1), qwen("chat-b"), qwen("image_c")))
	require.NoError(t, err)
	dns := w.spec(aiservice.ServiceSpec{Name: "chat-dns", Addresses: []string{"a.example.com:80"}})
	dns.SourceType = aiservice.DNS
	w.create(t, dns)
	for _, c := range []struct {
		filter aiservice.Filter
		names  string
		total  int
	}{
		{aiservice.Filter{}, "chat-a,chat-b,chat-dns,image_c", 4},
		{aiservice.Filter{GatewayID: w.gateway}, "chat-a,chat-b,chat-dns,image_c", 4},
		{aiservice.Filter{GatewayID: w.otherGateway}, "", 0},
		{aiservice.Filter{Name: "chat"}, "chat-a,chat-b,chat-dns", 3},
		{aiservice.Filter{Name: "%"}, "", 0},
		{aiservice.Filter{SourceTypes: []string{"DNS", "VIP"}}, "chat-dns", 1},
		{aiservice.Filter{ResourceGroupID: "rg-x"}, "", 0},
		{aiservice.Filter{Page: instance.Page{Number: 3, Size: 2}}, "", 4},
	} {
		if c.filter.Page.Size == 0 {
			c.filter.Page = instance.Page{Number: 1, Size: 100}
		}
		services, total, err := w.List(ctx, account, c.filter)
		require.NoError(t, err)
		var names []string
		for _, s := range services {
			names = append(names, s.Name)
			if s.Name == "chat-a" {
				require.Equal(t, []string{"sk-****0001"}, s.AI.APIKeys)
			}
		}
		slices.Sort(names)
		require.Equal(t, c.names, strings.Join(names, ","), "%+v", c.filter)
		require.Equal(t, c.total, total)
	}
}

func TestReconcileFindsWhatGatewaysSeeOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stale := func() []string {
		var found []string
		require.NoError(t, pgx.BeginFunc(t.Context(), w.Control, func(tx pgx.Tx) (err error) {
			found, err = w.Stale(t.Context(), tx)
			return err
		}))
		return found
	}
	id := w.create(t, w.spec(qwen("qwen", key1)))
	require.Equal(t, []string{id}, stale(), "never published")
	_, _ = w.published(t, id)
	require.Empty(t, stale(), "converged")
	w.exec(t, `UPDATE ai_service SET name = 'by-hand', version = version + 1`)
	require.Equal(t, []string{id}, stale(), "another version")
	_, _ = w.published(t, id)
	w.exec(t, `DELETE FROM ai_service`)
	require.Equal(t, []string{id}, stale(), "gone")
	_, _ = w.published(t, id)
	require.Empty(t, stale(), "converged")
}

// No key is in the database in clear, nor in what a job, an audit row or a gateway's item carries.
func TestKeysAreNowhereInClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	made, err := w.Create(ctx, token("t", "f"), account, w.spec(qwen("qwen", key1)))
	require.NoError(t, err)
	require.NoError(t, w.Update(ctx, account, made[0], aiservice.UpdateSpec{AI: &aiservice.AIUpdate{APIKeys: []string{"sk-****0001", key2}}}))
	_, keys := w.published(t, made[0])
	require.Equal(t, []string{key1, key2}, keys)
	for table, rows := range dump(t, w.Owner) {
		for _, form := range []string{"canary", fmt.Sprintf("%x", "canary"), "Y2FuYXJ5"} {
			require.NotContains(t, strings.ToLower(rows), strings.ToLower(form), table)
		}
	}
}

// dump returns the rows of every table as text, columns of bytes both in hex and as they are.
func dump(t *testing.T, db *pgxpool.Pool) map[string]string {
	t.Helper()
	rows, err := db.Query(t.Context(), `
		SELECT format('SELECT %L, coalesce(string_agg(t::text, %L), %L) FROM %I t', tablename, E'\n', '', tablename)
		FROM pg_tables WHERE schemaname = 'public'`)
	require.NoError(t, err)
	queries, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	tables := map[string]string{}
	for _, query := range queries {
		var table, text string
		require.NoError(t, db.QueryRow(t.Context(), query).Scan(&table, &text))
		tables[table] = text
	}
	require.Subset(t, slices.Collect(maps.Keys(tables)), []string{"ai_service", "published_item", "river_job", "audit_event", "client_token"})
	return tables
}
