package modelapi

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// fallingBack is the policy that is on, over the services.
func fallingBack(services ...FallbackService) []PolicyConfig {
	return []PolicyConfig{{Type: PolicyAiFallback, Enable: true, AiFallback: &AiFallback{Services: services}}}
}

// withFallback is the spec of an API that falls back on the services.
func (w *world) withFallback(name string, services ...FallbackService) Spec {
	spec := w.spec(name)
	spec.DeployConfigs[0].PolicyConfigs = fallingBack(services...)
	return spec
}

func TestFallbackIsCheckedByItsRules(t *testing.T) {
	t.Parallel()
	one := FallbackService{ServiceID: "a"}
	checked := func(policies []PolicyConfig) ([]PolicyConfig, error) {
		return checkedPolicies(policies, PolicyAiFallback)
	}
	got, err := checked(fallingBack(one, FallbackService{ServiceID: "a", TargetModelName: "m"}, FallbackService{ServiceID: "b", PassThroughModelName: true}))
	require.NoError(t, err)
	require.Equal(t, []FallbackService{
		{ServiceID: "a", PassThroughModelName: true}, {ServiceID: "a", TargetModelName: "m"}, {ServiceID: "b", PassThroughModelName: true},
	}, got[0].AiFallback.Services, "who names no model passes the request's on")
	again, err := checked(got)
	require.NoError(t, err)
	require.Equal(t, got, again)
	_, err = checked(fallingBack(slices.Repeat([]FallbackService{one}, 10)...))
	require.NoError(t, err)

	off := []PolicyConfig{{Type: PolicyAiFallback}, {Type: "AiCache", AiFallback: &AiFallback{Services: []FallbackService{one}}}}
	got, err = checked(off)
	require.NoError(t, err)
	require.Equal(t, []PolicyConfig{{Type: PolicyAiFallback}, {Type: "AiCache"}}, got)

	for name, c := range map[string]struct {
		policies []PolicyConfig
		want     string
	}{
		"no config":       {[]PolicyConfig{{Type: PolicyAiFallback, Enable: true}}, "The policy AiFallback has no aiFallbackConfig.serviceConfigs; name 1 to 10 services"},
		"no service":      {fallingBack(), "has no aiFallbackConfig.serviceConfigs"},
		"eleven services": {fallingBack(slices.Repeat([]FallbackService{one}, 11)...), "11 aiFallbackConfig.serviceConfigs are given; at most 10 are allowed."},
		"two models": {
			fallingBack(one, FallbackService{ServiceID: "a", TargetModelName: "m", PassThroughModelName: true}),
			`aiFallbackConfig.serviceConfigs[1] has passThroughModelName true and the targetModelName "m"`,
		},
		"a long model": {fallingBack(FallbackService{ServiceID: "a", TargetModelName: strings.Repeat("m", 257)}), "targetModelName is longer than 256 bytes"},
		"not here":     {[]PolicyConfig{{Type: PolicyAiStatistics, Enable: true}}, "UnsupportedParameter: The policy AiStatistics"},
	} {
		_, err := checked(c.policies)
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestFallbackIsServedInItsOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.withFallback("chat", FallbackService{ServiceID: w.service2, TargetModelName: "m2"}, FallbackService{ServiceID: w.service})
	spec.DeployConfigs[0].PolicyConfigs[0].AiFallback.OnlyRedirectUpstreamCode = true
	api := w.create(t, spec)
	require.Equal(t, []FallbackService{
		{ServiceID: w.service2, Name: "deepseek", TargetModelName: "m2"}, {ServiceID: w.service, Name: "qwen", PassThroughModelName: true},
	}, api.DeployConfig.PolicyConfigs[0].AiFallback.Services)
	want := &snapshot.Fallback{
		UpstreamCodesOnly: true, Targets: []snapshot.Target{{ServiceID: w.service2, Model: "m2"}, {ServiceID: w.service}},
	}
	require.Equal(t, want, w.served(t, api.ID).Fallback)

	completions := api.Routes[1]
	_, err := w.apis.UpdateRoute(t.Context(), account, api.ID, completions.ID, RouteUpdate{PolicyConfigs: fallingBack(FallbackService{ServiceID: w.service2})})
	require.NoError(t, err)
	stored, err := w.apis.GetRoute(t.Context(), account, api.ID, completions.ID)
	require.NoError(t, err)
	require.Equal(t, "deepseek", stored.PolicyConfigs[0].AiFallback.Services[0].Name)
	require.Nil(t, w.served(t, api.ID).Routes[1].Fallback, "it is not deployed")
	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	served := w.served(t, api.ID)
	require.Equal(t, []*snapshot.Fallback{nil, {Targets: []snapshot.Target{{ServiceID: w.service2}}}, nil},
		[]*snapshot.Fallback{served.Routes[0].Fallback, served.Routes[1].Fallback, served.Routes[2].Fallback}, "who has none of its own has the API's")

	config := w.config()
	config.PolicyConfigs = fallingBack(FallbackService{ServiceID: w.service2})
	config.PolicyConfigs[0].Enable = false
	api, err = w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/chat", DeployConfigs: []DeployConfig{config}})
	require.NoError(t, err)
	require.Nil(t, w.served(t, api.ID).Fallback)
	require.NotNil(t, api.DeployConfig.PolicyConfigs[0].AiFallback, "what is off is there to be turned on again")
	_, err = w.apis.Rollback(t.Context(), account, api.ID, 1)
	require.NoError(t, err)
	require.Equal(t, want, w.served(t, api.ID).Fallback)
}

func TestAServiceOfTheFallbackIsCheckedLikeAnyOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chat := w.create(t, w.spec("chat"))
	before := w.count(t)
	for name, id := range map[string]string{"unknown": ids.New(ids.AIService), "elsewhere": w.otherService, "no id": ""} {
		_, err := w.apis.Create(t.Context(), account, w.withFallback("new", FallbackService{ServiceID: w.service2}, FallbackService{ServiceID: id}))
		require.ErrorIs(t, err, ErrServiceNotFound, name)
		config := w.config()
		config.PolicyConfigs = fallingBack(FallbackService{ServiceID: id})
		config.PolicyConfigs[0].Enable = false
		_, err = w.apis.Update(t.Context(), account, chat.ID, UpdateSpec{BasePath: "/chat", DeployConfigs: []DeployConfig{config}})
		require.ErrorIs(t, err, ErrServiceNotFound, "%s, though it is off", name)
		_, err = w.apis.UpdateRoute(t.Context(), account, chat.ID, chat.Routes[0].ID, RouteUpdate{PolicyConfigs: fallingBack(FallbackService{ServiceID: id})})
		require.ErrorIs(t, err, ErrServiceNotFound, name)
		require.Equal(t, before, w.count(t), name)
	}
}

func TestFallingBackNeedsRequestsThatNameAModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := FallbackService{ServiceID: w.service2}
	files := w.withFallback("files", other)
	files.ModelCategory = "Others"
	mixed := w.create(t, files)
	before := w.count(t)

	comfy := w.withFallback("comfy", other)
	comfy.ModelCategory, comfy.AIProtocols = "Image", []string{"ComfyUI"}
	_, err := w.apis.Create(t.Context(), account, comfy)
	require.ErrorContains(t, err, "InvalidParameter.DeployConfigs: The requests of no route of the Model API name a model (Image with ComfyUI), and only those that do can go to another service.")
	tuning := mixed.Routes[3]
	require.Equal(t, "fine-tuning", tuning.Name)
	require.ErrorContains(t, w.apis.DeleteRoute(t.Context(), account, mixed.ID, tuning.ID), "name a model", "it is the last one that does")
	_, err = w.apis.UpdateRoute(t.Context(), account, mixed.ID, mixed.Routes[1].ID, RouteUpdate{PolicyConfigs: fallingBack(other)})
	require.ErrorContains(t, err, "The requests of the route files name no model, and only those that do can go to another service.")
	mine := RouteSpec{Name: "mine", Match: Match{Path: PathMatch{Exact, "/mine"}}, PolicyConfigs: fallingBack(other)}
	_, err = w.apis.CreateRoute(t.Context(), account, w.create(t, w.over("plain", SingleService, ServiceConfig{ServiceID: w.service})).ID, mine)
	require.ErrorContains(t, err, "give its backendConfig a modelName")
	mine.Backend = &Backend{SingleService, []ServiceConfig{{ServiceID: w.service, ModelName: "m"}}}
	_, err = w.apis.CreateRoute(t.Context(), account, mixed.ID, mine)
	require.NoError(t, err, "it does what it was told")
	require.NotEqual(t, before, w.count(t))
}

func TestFallbackComesBackFromItsDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.withFallback("chat", FallbackService{ServiceID: w.service2, TargetModelName: "m2"}, FallbackService{ServiceID: w.service2})
	spec.FirstByteTimeout = 3000
	spec.TrafficConfig = TrafficConfig{ConnectTimeout: 1000, IdleTimeout: 2000, MaxConcurrency: 10, MaxQueue: 20, ReplicaSelection: PrefixAware}
	api := w.create(t, spec)
	_, err := w.apis.UpdateRoute(t.Context(), account, api.ID, api.Routes[0].ID, RouteUpdate{PolicyConfigs: fallingBack(FallbackService{ServiceID: w.service})})
	require.NoError(t, err)
	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	served, doc := w.served(t, api.ID), w.export(t, api.ID)
	require.Equal(t, &FallbackDocument{Services: []FallbackServiceDocument{{"deepseek", "m2"}, {"deepseek", ""}}}, doc.PolicyConfigs[0].AiFallback)
	require.Empty(t, w.take(t, doc).Changes)

	require.NoError(t, w.apis.Delete(t.Context(), account, api.ID))
	text, err := json.Marshal(doc)
	require.NoError(t, err)
	require.NotContains(t, string(text), `"svc-`, "an id means nothing elsewhere")
	var read Document
	require.NoError(t, json.Unmarshal(text, &read))
	again := w.served(t, w.take(t, read).ID)
	require.Equal(t, []any{served.Fallback, served.Limits, served.Routes[0].Fallback}, []any{again.Fallback, again.Limits, again.Routes[0].Fallback})

	before := w.count(t)
	read.Routes[0].PolicyConfigs[0].AiFallback.Services[0].Name = "nobody"
	_, err = w.apis.Import(t.Context(), account, read, false, everybody)
	require.ErrorContains(t, err, `route chat-completions: NotFound.ServiceNotFound: The gateway has no service named "nobody".`)
	require.Equal(t, before, w.count(t))
	read.Routes[0].PolicyConfigs[0].AiFallback.Services[0] = FallbackServiceDocument{"qwen", "max"}
	services := read.PolicyConfigs[0].AiFallback.Services
	services[0], services[1] = services[1], services[0]
	read.FirstByteTimeout, read.TrafficConfig.ConnectTimeout, read.TrafficConfig.MaxQueue = 0, 500, 0
	changes := w.take(t, read).Changes
	require.Equal(t, []string{
		"firstByteTimeout", "policyConfigs[AiFallback].aiFallbackConfig.serviceConfigs",
		"routes[chat-completions].policyConfigs[AiFallback].aiFallbackConfig.serviceConfigs[qwen].targetModelName",
		"trafficConfig.connectTimeout", "trafficConfig.maxQueue",
	}, routeNames(changes, func(c Change) string { return c.Path }), "the order is a difference")
	require.Nil(t, changes[4].After)
}

func TestADecisionListsTheFallbackInItsOrder(t *testing.T) {
	t.Parallel()
	w := newDecisions(t)
	spec := w.withFallback("back", FallbackService{ServiceID: w.engine, TargetModelName: "ours"}, FallbackService{ServiceID: w.service2}, FallbackService{ServiceID: w.service})
	spec.RemoveBasePath, spec.FirstByteTimeout, spec.TrafficConfig.MaxConcurrency = true, 3000, 7
	api := w.create(t, spec)
	_, err := w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{
		Name: "list", Match: Match{Path: PathMatch{Exact, "/v1/files"}}, Backend: &Backend{SingleService, []ServiceConfig{{ServiceID: w.service}}},
	})
	require.NoError(t, err)
	responses := api.Routes[2]
	require.Equal(t, "responses", responses.Name)
	own := fallingBack(FallbackService{ServiceID: w.engine})
	own[0].AiFallback.OnlyRedirectUpstreamCode = true
	_, err = w.apis.UpdateRoute(t.Context(), account, api.ID, responses.ID, RouteUpdate{PolicyConfigs: own})
	require.NoError(t, err)
	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	w.publish(t)

	d := w.decide(t, Question{Host: "localhost", Path: "/back/v1/chat/completions", Model: "gpt-4o"})
	require.Equal(t, []any{200, "SingleService", "qwen", "qwen-plus"}, []any{d.Status, d.Scene, d.Service.Name, d.Model})
	require.Equal(t, &DecidedFallback{
		After: []string{UpstreamCode, ConnectFailure, Ejection, BrokenAnswer, FirstByteTimeout},
		Services: []FallbackTarget{
			{w.engine, "ours", "ours", "/v1/chat/completions"},
			{w.service2, "", "gpt-4o", ""},
			{w.service, "qwen", "gpt-4o", "/compatible-mode/v1/chat/completions"},
		},
	}, d.Fallback, "deepseek is not published")
	require.Equal(t, &snapshot.Limits{FirstContent: 3000, Concurrent: 7}, d.Limits)
	require.Equal(t, []string{PolicyAiFallback}, d.Policies)

	d = w.decide(t, Question{Host: "localhost", Path: "/back/v1/responses"})
	require.Equal(t, &DecidedFallback{
		After: []string{UpstreamCode}, Services: []FallbackTarget{{w.engine, "ours", "", "/v1/responses"}},
	}, d.Fallback)
	config := w.config()
	config.Services, config.PolicyConfigs = []ServiceConfig{{ServiceID: w.service2}}, fallingBack(FallbackService{ServiceID: w.engine})
	missing := func() Decision {
		t.Helper()
		_, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/back", DeployConfigs: []DeployConfig{config}})
		require.NoError(t, err)
		w.publish(t)
		return w.decide(t, Question{Host: "localhost", Path: "/back/v1/chat/completions", Model: "m"})
	}
	d = missing()
	require.Equal(t, []any{200, (*snapshot.AIService)(nil)}, []any{d.Status, d.Service})
	require.Contains(t, d.Reason, "is not published: the request goes on to the service ours of the policy AiFallback.")
	config.PolicyConfigs[0].AiFallback.OnlyRedirectUpstreamCode = true
	require.Equal(t, 503, missing().Status, "nobody answered 4xx or 5xx")
	config.PolicyConfigs = fallingBack(FallbackService{ServiceID: w.service2})
	require.Equal(t, "service_not_found", missing().Code)

	d = w.decide(t, Question{Host: "localhost", Path: "/back/v1/files"})
	require.Equal(t, []any{200, (*DecidedFallback)(nil), []string(nil)}, []any{d.Status, d.Fallback, d.Policies}, "its requests name no model")
	d = w.decide(t, Question{Host: "localhost", Path: "/staged/v1/completions"})
	require.Nil(t, d.Fallback)
}
