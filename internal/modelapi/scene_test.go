package modelapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

func weighted(id string, weight int) ServiceConfig {
	return ServiceConfig{ServiceID: id, Weight: weight}
}

func patterned(id, pattern string) ServiceConfig {
	return ServiceConfig{ServiceID: id, ModelNamePattern: pattern}
}

// over is the spec of an API over several services.
func (w *world) over(name, scene string, services ...ServiceConfig) Spec {
	spec := w.spec(name)
	spec.DeployConfigs[0].BackendScene, spec.DeployConfigs[0].Services = scene, services
	return spec
}

func TestScenesAreCheckedByTheirOwnRules(t *testing.T) {
	t.Parallel()
	many := func(n int, one ServiceConfig) (all []ServiceConfig) {
		for range n {
			all = append(all, one)
		}
		return all
	}
	distinct := func(n int) (all []ServiceConfig) {
		for i := range n {
			all = append(all, patterned("a", fmt.Sprintf("m-%d", i)))
		}
		return all
	}
	long := strings.Repeat("ä", 128)
	for name, b := range map[string]Backend{
		"by proportion":              {ByRatio, []ServiceConfig{weighted("a", 70), weighted("b", 30)}},
		"all to one":                 {ByRatio, []ServiceConfig{weighted("a", 100)}},
		"a hundred":                  {ByRatio, many(100, weighted("a", 1))},
		"one service, two models":    {ByRatio, []ServiceConfig{{ServiceID: "a", Weight: 50}, {ServiceID: "a", Weight: 50, ModelName: "m"}}},
		"by model name":              {ByModelName, []ServiceConfig{patterned("a", "qwen-*"), patterned("b", "gpt-4?")}},
		"one pattern":                {ByModelName, []ServiceConfig{patterned("a", "*")}},
		"patterns of another case":   {ByModelName, []ServiceConfig{patterned("a", "qwen-*"), patterned("a", "Qwen-*")}},
		"a hundred patterns":         {ByModelName, distinct(100)},
		"the longest pattern":        {ByModelName, []ServiceConfig{patterned("a", long)}},
		"a single one with a weight": {SingleService, []ServiceConfig{weighted("a", -7)}},
	} {
		_, err := b.checked("services")
		require.NoError(t, err, name)
	}
	for name, c := range map[string]struct {
		b    Backend
		want string
	}{
		"no scene":             {Backend{"", []ServiceConfig{{ServiceID: "a"}}}, `UnsupportedParameter: The scene "" is not served; SingleService, MultiServiceByRatio, MultiServiceByModelName and MultiServiceByObservability are.`},
		"another spelling":     {Backend{"multiservicebyratio", []ServiceConfig{weighted("a", 100)}}, "UnsupportedParameter"},
		"two for one":          {Backend{SingleService, []ServiceConfig{{ServiceID: "a"}, {ServiceID: "b"}}}, "2 services are given; the scene SingleService has exactly one"},
		"none for one":         {Backend{SingleService, nil}, "0 services are given"},
		"a pattern for one":    {Backend{SingleService, []ServiceConfig{patterned("a", "*")}}, "services[0].modelNamePattern is given; the scene SingleService has none"},
		"none by ratio":        {Backend{ByRatio, nil}, "No services are given"},
		"no weight":            {Backend{ByRatio, []ServiceConfig{weighted("a", 100), {ServiceID: "b"}}}, "services[1].weight is 0; in the scene MultiServiceByRatio it is 1 to 100"},
		"less than nothing":    {Backend{ByRatio, []ServiceConfig{weighted("a", 101), weighted("b", -1)}}, "services[0].weight is 101"},
		"negative":             {Backend{ByRatio, []ServiceConfig{weighted("b", -1), weighted("a", 100)}}, "services[0].weight is -1"},
		"99":                   {Backend{ByRatio, []ServiceConfig{weighted("a", 69), weighted("b", 30)}}, "The weights of the services add up to 99"},
		"101":                  {Backend{ByRatio, []ServiceConfig{weighted("a", 70), weighted("b", 31)}}, "add up to 101"},
		"50 alone":             {Backend{ByRatio, []ServiceConfig{weighted("a", 50)}}, "add up to 50"},
		"101 services":         {Backend{ByRatio, many(101, weighted("a", 1))}, "101 services are given; a scene has at most 100"},
		"a pattern by ratio":   {Backend{ByRatio, []ServiceConfig{weighted("a", 50), {ServiceID: "b", Weight: 50, ModelNamePattern: "*"}}}, "services[1].modelNamePattern is given; the scene MultiServiceByRatio has none"},
		"none by name":         {Backend{ByModelName, nil}, "No services are given"},
		"no pattern":           {Backend{ByModelName, []ServiceConfig{patterned("a", "*"), {ServiceID: "b"}}}, "services[1].modelNamePattern is missing"},
		"too long a pattern":   {Backend{ByModelName, []ServiceConfig{patterned("a", long+"x")}}, "services[0].modelNamePattern is longer than 256 bytes"},
		"a pattern with NUL":   {Backend{ByModelName, []ServiceConfig{patterned("a", "a\x00")}}, "services[0].modelNamePattern holds a control character"},
		"a pattern twice":      {Backend{ByModelName, []ServiceConfig{patterned("a", "q*"), patterned("b", "*"), patterned("c", "q*")}}, `services[2].modelNamePattern is "q*", as that of services[0]`},
		"101 patterns":         {Backend{ByModelName, distinct(101)}, "a scene has at most 100"},
		"too long a model":     {Backend{ByModelName, []ServiceConfig{patterned("a", "b"), {ServiceID: "a", ModelNamePattern: "c", ModelName: long + "x"}}}, "services[1].modelName is longer than 256 bytes"},
		"not ours":             {Backend{"SemanticRouter", []ServiceConfig{{ServiceID: "a"}}}, "UnsupportedParameter"},
		"a weight of millions": {Backend{ByRatio, []ServiceConfig{weighted("a", 1<<62), weighted("b", 1<<62)}}, "services[0].weight"},
	} {
		_, err := c.b.checked("services")
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestScenesKeepOneSpellingAndNothingWithoutMeaning(t *testing.T) {
	t.Parallel()
	sent := []ServiceConfig{{ServiceID: "a", ModelNamePattern: "*", ModelName: "m", Weight: 40}}
	got, err := Backend{"MultiServiceByContent", sent}.checked("services")
	require.NoError(t, err)
	require.Equal(t, Backend{"MultiServiceByModelName", []ServiceConfig{{ServiceID: "a", ModelNamePattern: "*", ModelName: "m"}}}, got)
	require.Equal(t, 40, sent[0].Weight, "what the caller has stays its own")
	got, err = Backend{"Single", []ServiceConfig{weighted("a", 100)}}.checked("services")
	require.NoError(t, err)
	require.Equal(t, Backend{"SingleService", []ServiceConfig{{ServiceID: "a"}}}, got)
}

func TestSeveralServicesAreServedInTheirScene(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ratio := w.create(t, w.over("ratio", ByRatio, weighted(w.service, 70), ServiceConfig{ServiceID: w.service2, ModelName: "m2", Weight: 30}))
	require.Equal(t, []string{"qwen", "deepseek"}, []string{ratio.DeployConfig.Services[0].Name, ratio.DeployConfig.Services[1].Name})
	got := w.served(t, ratio.ID)
	require.Equal(t, snapshot.SceneByRatio, got.Scene)
	require.Equal(t, []snapshot.Target{{ServiceID: w.service, Weight: 70}, {ServiceID: w.service2, Model: "m2", Weight: 30}}, got.Targets)

	named := w.create(t, w.over("named", "MultiServiceByContent", patterned(w.service, "qwen-*"),
		ServiceConfig{ServiceID: w.service2, ModelNamePattern: "gpt-4?", ModelName: "gpt-4o", Weight: 5}))
	require.Equal(t, ByModelName, named.DeployConfig.BackendScene)
	got = w.served(t, named.ID)
	require.Equal(t, snapshot.SceneByModelName, got.Scene)
	require.Equal(t, []snapshot.Target{{ServiceID: w.service, Pattern: "qwen-*"}, {ServiceID: w.service2, Pattern: "gpt-4?", Model: "gpt-4o"}}, got.Targets)

	for name, c := range map[string]struct {
		match Match
		b     *Backend
	}{
		"a-mine":   {Match{Path: PathMatch{Exact, "/a"}}, &Backend{ByRatio, []ServiceConfig{weighted(w.service2, 99), weighted(w.service, 1)}}},
		"b-named":  {Match{Path: PathMatch{Exact, "/b"}, Methods: []string{"GET", "POST"}}, &Backend{ByModelName, []ServiceConfig{patterned(w.service2, "*")}}},
		"c-theirs": {Match{Path: PathMatch{Exact, "/c"}}, nil},
		"d-read":   {Match{Path: PathMatch{Exact, "/d"}, Methods: []string{"GET"}}, nil},
	} {
		_, err := w.apis.CreateRoute(t.Context(), account, named.ID, RouteSpec{Name: name, Match: c.match, Backend: c.b})
		require.NoError(t, err, name)
	}
	_, err := w.apis.Deploy(t.Context(), account, named.ID)
	require.NoError(t, err)
	routes := w.served(t, named.ID).Routes[3:]
	require.Equal(t, []string{
		"a-mine  MultiServiceByRatio", "b-named json MultiServiceByModelName", "c-theirs json ", "d-read  ",
	}, routeNames(routes, func(r snapshot.Route) string { return r.Name + " " + r.Model + " " + r.Scene }),
		"where a model decides, requests that can have a body are looked into")
	require.Equal(t, []snapshot.Target{{ServiceID: w.service2, Weight: 99}, {ServiceID: w.service, Weight: 1}}, routes[0].Targets)
	require.Equal(t, []snapshot.Target{{ServiceID: w.service2, Pattern: "*"}}, routes[1].Targets)
}

func TestAServiceAmongSeveralIsCheckedLikeASingleOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chat := w.create(t, w.spec("chat"))
	before := w.count(t)
	for name, c := range map[string]struct{ id, want string }{
		"unknown":   {ids.New(ids.AIService), "NotFound.ServiceNotFound"},
		"elsewhere": {w.otherService, "NotFound.ServiceNotFound"},
		"no id":     {"", "NotFound.ServiceNotFound"},
	} {
		for _, b := range []Backend{
			{ByRatio, []ServiceConfig{weighted(w.service, 50), weighted(c.id, 50)}},
			{ByModelName, []ServiceConfig{patterned(w.service, "a"), patterned(c.id, "b")}},
		} {
			_, err := w.apis.Create(t.Context(), account, w.over("new", b.Scene, b.Services...))
			require.ErrorContains(t, err, c.want, name)
			config := w.config()
			config.BackendScene, config.Services = b.Scene, b.Services
			_, err = w.apis.Update(t.Context(), account, chat.ID, UpdateSpec{BasePath: "/chat", DeployConfigs: []DeployConfig{config}})
			require.ErrorContains(t, err, c.want, name)
			_, err = w.apis.CreateRoute(t.Context(), account, chat.ID, RouteSpec{Name: "mine", Match: Match{Path: PathMatch{Exact, "/mine"}}, Backend: &b})
			require.ErrorContains(t, err, c.want, name)
			require.Equal(t, before, w.count(t), name)
		}
	}
}

func TestChoosingByModelNameNeedsRequestsThatNameOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chat := w.create(t, w.spec("chat"))
	files := w.over("files", ByModelName, patterned(w.service, "*"))
	files.ModelCategory = "Others"
	mixed := w.create(t, files)
	before := w.count(t)

	comfy := w.over("comfy", ByModelName, patterned(w.service, "*"))
	comfy.ModelCategory, comfy.AIProtocols = "Image", []string{"ComfyUI"}
	_, err := w.apis.Create(t.Context(), account, comfy)
	require.ErrorContains(t, err, "InvalidParameter.DeployConfigs: The requests of no route of the Model API name a model (Image with ComfyUI), so that backendScene cannot be MultiServiceByModelName.")
	files.DeployConfigs[0].BuiltinRouteNames = []string{"files", "batches"}
	files.Name, files.BasePath = "new", "/new"
	_, err = w.apis.Create(t.Context(), account, files)
	require.ErrorContains(t, err, "name a model")
	tuning := mixed.Routes[3]
	require.Equal(t, "fine-tuning", tuning.Name)
	require.ErrorContains(t, w.apis.DeleteRoute(t.Context(), account, mixed.ID, tuning.ID), "name a model", "it is the last one that does")
	byName := &Backend{ByModelName, []ServiceConfig{patterned(w.service, "*")}}
	for name, match := range map[string]Match{
		"a path that has no model": {Path: PathMatch{Exact, "/v1/files"}},
		"no body":                  {Path: PathMatch{Exact, "/mine"}, Methods: []string{"GET", "DELETE"}},
	} {
		_, err = w.apis.CreateRoute(t.Context(), account, chat.ID, RouteSpec{Name: "mine", Match: match, Backend: byName})
		require.ErrorContains(t, err, "The requests of the route mine name no model, so that backendConfig.scene cannot be MultiServiceByModelName.", name)
	}
	require.Equal(t, before, w.count(t))

	spec := w.spec("comfy")
	spec.ModelCategory, spec.AIProtocols, spec.DeployConfigs[0].Services[0].ModelName = "Image", []string{"ComfyUI"}, ""
	api := w.create(t, spec)
	_, err = w.apis.UpdateRoute(t.Context(), account, api.ID, api.Routes[0].ID, RouteUpdate{Backend: byName})
	require.ErrorContains(t, err, "The requests of the route ws name no model")
	config := w.config()
	config.BackendScene, config.Services = ByRatio, []ServiceConfig{weighted(w.service, 50), weighted(w.service2, 50)}
	_, err = w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/comfy", DeployConfigs: []DeployConfig{config}})
	require.NoError(t, err, "any request can be sent to one of two")
	require.Equal(t, ByRatio, w.served(t, api.ID).Scene)
}

func TestSeveralServicesComeBackFromTheirDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.over("chat", ByModelName, patterned(w.service, "qwen-*"), patterned(w.service2, "deepseek-?"),
		ServiceConfig{ServiceID: w.service, ModelNamePattern: "*", ModelName: "qwen-turbo"}))
	_, err := w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{
		Name: "mine", Match: Match{Path: PathMatch{Exact, "/mine"}},
		Backend: &Backend{ByRatio, []ServiceConfig{weighted(w.service, 70), {ServiceID: w.service, ModelName: "m", Weight: 30}}},
	})
	require.NoError(t, err)
	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	served, doc := w.served(t, api.ID), w.export(t, api.ID)
	require.Equal(t, []ServiceDocument{
		{Name: "qwen", ModelNamePattern: "qwen-*"},
		{Name: "deepseek", ModelNamePattern: "deepseek-?"},
		{Name: "qwen", ModelNamePattern: "*", ModelName: "qwen-turbo"},
	}, doc.Services)
	require.Empty(t, w.take(t, doc).Changes)

	require.NoError(t, w.apis.Delete(t.Context(), account, api.ID))
	text, err := json.Marshal(doc)
	require.NoError(t, err)
	var read Document
	require.NoError(t, json.Unmarshal(text, &read))
	result := w.take(t, read)
	again := w.served(t, result.ID)
	require.Equal(t, []any{served.Scene, served.Targets, served.Routes[3].Scene, served.Routes[3].Targets},
		[]any{again.Scene, again.Targets, again.Routes[3].Scene, again.Routes[3].Targets})

	before := w.count(t)
	read.Routes[3].Backend.Services[0].Weight = 71
	_, err = w.apis.Import(t.Context(), account, read, false, everybody)
	require.ErrorContains(t, err, "add up to 101")
	require.Equal(t, before, w.count(t))
	read.Routes[3].Backend.Services[1].Weight = 29
	read.Services[1].ModelNamePattern = "deepseek-*"
	read.Services[2].ModelName = ""
	require.Equal(t, []Change{
		{"routes[mine].backend.services[qwen].weight", json.Number("70"), json.Number("71")},
		{"routes[mine].backend.services[qwen:m].weight", json.Number("30"), json.Number("29")},
		{"services[deepseek].modelNamePattern", "deepseek-?", "deepseek-*"},
		{"services[qwen:*].modelName", "qwen-turbo", nil},
	}, w.take(t, read).Changes)
}

func TestTheOrderOfPatternsIsADifference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.over("chat", ByModelName, patterned(w.service, "qwen-*"), patterned(w.service2, "*")))
	doc := w.export(t, api.ID)
	doc.Services[0], doc.Services[1] = doc.Services[1], doc.Services[0]
	doc.Services[1].ModelName = "m"
	paths := []string{}
	for _, c := range w.take(t, doc).Changes {
		paths = append(paths, c.Path)
	}
	require.Equal(t, []string{"services[qwen].modelName", "services"}, paths, "the order decides what is taken, and is told beside what changed")
	require.Equal(t, w.service2, w.served(t, api.ID).Targets[0].ServiceID)
}

func TestADecisionPicksAmongSeveralServices(t *testing.T) {
	t.Parallel()
	w := newDecisions(t)
	w.put(t, snapshot.KindAIService, w.service2, snapshot.AIService{
		ID: w.service2, Name: "deepseek", URLs: []string{"https://other.example"}, DefaultModel: "deepseek-chat",
	})
	named := w.create(t, w.over("named", ByModelName, patterned(w.service2, "deepseek-*"),
		ServiceConfig{ServiceID: w.service, ModelNamePattern: "qwen-?", ModelName: "qwen-plus"}, patterned(w.service2, "qwen-*")))
	_, err := w.apis.CreateRoute(t.Context(), account, named.ID, RouteSpec{Name: "list", Match: Match{Path: PathMatch{Exact, "/v1/files"}}})
	require.NoError(t, err)
	_, err = w.apis.Deploy(t.Context(), account, named.ID)
	require.NoError(t, err)
	w.create(t, w.over("ratio", ByRatio, ServiceConfig{ServiceID: w.service, ModelName: "qwen-plus", Weight: 70}, weighted(w.service2, 20),
		weighted(w.engine, 10)))
	w.publish(t)

	ask := func(model string) Decision {
		return w.decide(t, Question{Host: "localhost", Path: "/named/v1/completions", Model: model})
	}
	for model, want := range map[string][]any{
		"deepseek-r1": {200, "deepseek", "deepseek-r1", "the first whose modelNamePattern the model matches: deepseek-*."},
		"qwen-1":      {200, "qwen", "qwen-plus", "qwen-?."},
		"qwen-10":     {200, "deepseek", "qwen-10", "qwen-*."},
	} {
		d := ask(model)
		require.Equal(t, want[:3], []any{d.Status, d.Service.Name, d.Model}, model)
		require.Contains(t, d.Reason, want[3], model)
		require.Nil(t, d.Shares, model)
	}
	for _, model := range []string{"gpt-4o", "", "Qwen-10"} {
		d := ask(model)
		require.Equal(t, []any{404, "model_not_found", (*snapshot.AIService)(nil)}, []any{d.Status, d.Code, d.Service}, model)
		require.Contains(t, d.Reason, "those are deepseek-*, qwen-?, qwen-*.")
	}
	d := w.decide(t, Question{Host: "localhost", Path: "/named/v1/files", Model: "qwen-1"})
	require.Equal(t, []any{200, "deepseek", ""}, []any{d.Status, d.Service.Name, d.Model}, "a route without a model uses the first")

	d = w.decide(t, Question{Host: "localhost", Path: "/ratio/v1/completions"})
	require.Equal(t, []any{200, "qwen", "qwen-plus"}, []any{d.Status, d.Service.Name, d.Model})
	require.Contains(t, d.Reason, "one of 3 services")
	require.Equal(t, []Share{
		{w.service, "qwen", "qwen-plus", 70}, {w.service2, "deepseek", "deepseek-chat", 20}, {w.engine, "ours", "", 10},
	}, d.Shares)
}
