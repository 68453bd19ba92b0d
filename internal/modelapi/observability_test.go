package modelapi

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// watched is a service that is chosen by what gateways observe.
func watched(id, mode string, share float64) ServiceConfig {
	return ServiceConfig{ServiceID: id, Observability: &Observability{Mode: mode, RateLimit: share}}
}

func TestTheSceneByObservabilityHasRulesOfItsOwn(t *testing.T) {
	t.Parallel()
	strategy := func(s ServiceConfig, name string) ServiceConfig {
		s.Strategy = name
		return s
	}
	plain := ServiceConfig{ServiceID: "b"}
	windowed := func(size int) ServiceConfig {
		s := watched("a", "LeastBusy", 0)
		s.Observability.QueueSize = size
		return s
	}
	patternedToo := watched("a", "LeastBusy", 0)
	patternedToo.ModelNamePattern = "*"
	for name, c := range map[string]struct {
		b    Backend
		mode string
	}{
		"ours":                  {Backend{ByObservability, []ServiceConfig{watched("a", "LeastBusy", 0), watched("b", "LeastBusy", 0)}}, "LeastBusy"},
		"one":                   {Backend{ByObservability, []ServiceConfig{watched("a", "LeastTotalLatency", 1)}}, "LeastTotalLatency"},
		"the same with a model": {Backend{ByObservability, []ServiceConfig{watched("a", "LeastBusy", 0), {ServiceID: "a", ModelName: "m"}}}, "LeastBusy"},
		"a mode for all":        {Backend{ByObservability, []ServiceConfig{plain, watched("a", "LeastFirstTokenLatency", 0)}}, "LeastFirstTokenLatency"},
		"by ratio":              {Backend{ByRatio, []ServiceConfig{watched("a", "LeastBusy", 0), weighted("b", 30)}}, "LeastBusy"},
		"by a strategy":         {Backend{ByRatio, []ServiceConfig{strategy(plain, "ByObservability"), watched("a", "LeastBusy", 0)}}, "LeastBusy"},
		"both":                  {Backend{ByObservability, []ServiceConfig{strategy(watched("a", "LeastBusy", 0), "ByObservability")}}, "LeastBusy"},
		"shares of one":         {Backend{ByObservability, []ServiceConfig{watched("a", "LeastBusy", 0.7), watched("b", "", 0.2), watched("c", "", 0.1)}}, "LeastBusy"},
		"a share and no share":  {Backend{ByObservability, []ServiceConfig{watched("a", "LeastBusy", 0.01), plain}}, "LeastBusy"},
		"the longest window":    {Backend{ByObservability, []ServiceConfig{windowed(10_000)}}, "LeastBusy"},
		"a hundred":             {Backend{ByObservability, append(slices.Repeat([]ServiceConfig{plain}, 99), windowed(1))}, "LeastBusy"},
	} {
		got, err := c.b.checked("services")
		require.NoError(t, err, name)
		require.Equal(t, ByObservability, got.Scene, name)
		for _, s := range got.Services {
			require.Equal(t, []any{c.mode, 0, ""}, []any{s.Observability.Mode, s.Weight, s.Strategy}, name)
		}
	}
	for name, c := range map[string]struct {
		b    Backend
		want string
	}{
		"none":                {Backend{ByObservability, nil}, "No services are given; the scene MultiServiceByObservability chooses between two or more."},
		"no mode":             {Backend{ByObservability, []ServiceConfig{plain, plain}}, "No observabilityRouteConfig.mode is given"},
		"a strategy alone":    {Backend{ByRatio, []ServiceConfig{strategy(weighted("a", 100), "ByObservability")}}, "No observabilityRouteConfig.mode is given"},
		"an unknown mode":     {Backend{ByObservability, []ServiceConfig{watched("a", "leastbusy", 0)}}, `services[0].observabilityRouteConfig.mode is "leastbusy"; it is LeastBusy, LeastFirstTokenLatency or LeastTotalLatency.`},
		"two modes":           {Backend{ByRatio, []ServiceConfig{watched("a", "LeastBusy", 0), watched("b", "LeastTotalLatency", 0)}}, "services[1].observabilityRouteConfig.mode is LeastTotalLatency, and that of another service is LeastBusy."},
		"a negative share":    {Backend{ByObservability, []ServiceConfig{watched("a", "LeastBusy", -0.1)}}, "services[0].observabilityRouteConfig.rateLimit is -0.1"},
		"more than all":       {Backend{ByObservability, []ServiceConfig{watched("a", "LeastBusy", 1.1)}}, "rateLimit is 1.1"},
		"too little":          {Backend{ByObservability, []ServiceConfig{watched("a", "LeastBusy", 0.5), watched("b", "", 0.49)}}, "The rateLimits of the services add up to 0.99, so that the other requests could go nowhere."},
		"a long window":       {Backend{ByObservability, []ServiceConfig{windowed(10_001)}}, "services[0].observabilityRouteConfig.queueSize is 10001; it is 0 to 10000 answers."},
		"a negative window":   {Backend{ByObservability, []ServiceConfig{windowed(-1)}}, "queueSize is -1"},
		"a pattern":           {Backend{ByObservability, []ServiceConfig{patternedToo}}, "services[0].modelNamePattern is given"},
		"by weight after all": {Backend{ByRatio, []ServiceConfig{watched("a", "LeastBusy", 0), strategy(weighted("b", 30), "ByWeight")}}, "services[1].multiServiceRouteStrategy is ByWeight"},
		"another strategy":    {Backend{ByRatio, []ServiceConfig{strategy(weighted("a", 100), "ByMood")}}, `UnsupportedParameter: services[0].multiServiceRouteStrategy is "ByMood"`},
		"of one":              {Backend{SingleService, []ServiceConfig{watched("a", "LeastBusy", 0)}}, "services[0].observabilityRouteConfig is given; the scene SingleService has none."},
		"a strategy of one":   {Backend{SingleService, []ServiceConfig{strategy(plain, "ByObservability")}}, "the scene SingleService has none"},
		"by model name":       {Backend{ByModelName, []ServiceConfig{patternedToo}}, "the scene MultiServiceByModelName has none"},
		"too many":            {Backend{ByObservability, slices.Repeat([]ServiceConfig{plain}, 101)}, "at most 100"},
	} {
		_, err := c.b.checked("services")
		require.ErrorContains(t, err, c.want, name)
	}
	got, err := Backend{ByRatio, []ServiceConfig{strategy(weighted("a", 100), "ByWeight")}}.checked("services")
	require.NoError(t, err)
	require.Equal(t, Backend{ByRatio, []ServiceConfig{weighted("a", 100)}}, got)
}

// Whatever services are sent in whatever scene: what is taken is kept as it is when it is sent again, and can be served.
func TestWhatASceneTakesCanBeSentAgainAndServed(t *testing.T) {
	t.Parallel()
	service := func(t *rapid.T, scene string) ServiceConfig {
		of := func(its string) bool { return scene == its || rapid.IntRange(0, 9).Draw(t, "stray") == 0 }
		s := ServiceConfig{
			ServiceID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id"), ModelName: rapid.SampledFrom([]string{"", "m"}).Draw(t, "model"),
			Weight: rapid.SampledFrom([]int{50, 50, 100}).Draw(t, "weight"),
		}
		if of(ByModelName) {
			s.ModelNamePattern = rapid.SampledFrom([]string{"*", "q-?", "m"}).Draw(t, "pattern")
		}
		if of(ByObservability) {
			s.Strategy = rapid.SampledFrom([]string{"", strategyByObservability, strategyByWeight}).Draw(t, "strategy")
			s.Observability = &Observability{
				Mode:      rapid.SampledFrom([]string{"", "LeastBusy", "LeastBusy", "LeastTotalLatency"}).Draw(t, "mode"),
				RateLimit: rapid.SampledFrom([]float64{0, 0.3, 0.7, 1}).Draw(t, "share"), QueueSize: rapid.IntRange(0, 2).Draw(t, "window"),
			}
		}
		return s
	}
	for _, scene := range []string{SingleService, ByRatio, ByModelName, ByObservability} {
		taken := 0
		rapid.Check(t, func(t *rapid.T) {
			b := Backend{Scene: scene}
			for range rapid.IntRange(1, 3).Draw(t, "services") {
				b.Services = append(b.Services, service(t, scene))
			}
			got, err := b.checked("services")
			if err != nil {
				return
			}
			taken++
			again, err := got.checked("services")
			require.NoError(t, err)
			require.Equal(t, got, again)
			api := snapshot.ModelAPI{ID: "api", GatewayID: "gw", BasePath: "/", AnyHost: true, Protocols: []string{"OpenAI/v1"}}
			api.Scene, api.Targets = got.targets()
			require.NoError(t, api.Validate())
			require.Equal(t, got.Scene == ByObservability, snapshot.Observed(api.Scene))
		})
		require.NotZero(t, taken, scene)
	}
}

func TestServicesAreServedByWhatGatewaysObserve(t *testing.T) {
	t.Parallel()
	w := newDecisions(t)
	first, second := watched(w.service, "LeastTotalLatency", 0.8), ServiceConfig{ServiceID: w.engine, ModelName: "m"}
	first.Observability.QueueSize = 50
	api := w.create(t, w.over("watched", ByRatio, first, second))
	_, err := w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{
		Name: "mine", Match: Match{Path: PathMatch{Exact, "/mine"}}, Backend: &Backend{ByObservability, []ServiceConfig{watched(w.engine, "LeastBusy", 0), {ServiceID: w.service}}},
	})
	require.NoError(t, err)
	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	served := w.served(t, api.ID)
	require.Equal(t, snapshot.SceneLeastTotal, served.Scene)
	require.Equal(t, []snapshot.Target{{ServiceID: w.service, Share: 0.8, Window: 50}, {ServiceID: w.engine, Model: "m"}}, served.Targets)
	require.Equal(t, snapshot.SceneLeastBusy, served.Routes[3].Scene)

	d := w.decide(t, Question{Host: "localhost", Path: "/watched/v1/completions", Model: "gpt-4o"})
	require.Equal(t, []any{200, "LeastTotalLatency", "qwen", "gpt-4o"}, []any{d.Status, d.Scene, d.Service.Name, d.Model})
	require.Equal(t, "The request is forwarded to one of 2 services, the one that the gateway process observes to have the least time to the end of an answer; this is about the first, qwen.", d.Reason)
	require.Equal(t, []Candidate{{w.service, "qwen", "gpt-4o", 0.8, 50}, {w.engine, "ours", "m", 0, 0}}, d.Candidates)
	require.Nil(t, d.Shares)

	doc := w.export(t, api.ID)
	require.Equal(t, []any{ByObservability, []ServiceDocument{
		{Name: "qwen", Observability: &Observability{"LeastTotalLatency", 50, 0.8}},
		{Name: "ours", ModelName: "m", Observability: &Observability{Mode: "LeastTotalLatency"}},
	}}, []any{doc.BackendScene, doc.Services})
	require.Empty(t, w.take(t, doc).Changes)
	doc.Services[0].Observability = &Observability{"LeastTotalLatency", 50, 0.5}
	require.Equal(t, []Change{
		{"services[qwen].observabilityRouteConfig.rateLimit", json.Number("0.8"), json.Number("0.5")},
	}, w.take(t, doc).Changes)
}

func TestNothingIsChosenByAFirstTokenThatNeverComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for category, protocol := range map[string]string{"Embedding": "OpenAI/v1", "Rerank": "vLLM"} {
		spec := w.over("api", ByObservability, watched(w.service, "LeastFirstTokenLatency", 0))
		spec.ModelCategory, spec.AIProtocols = category, []string{protocol}
		_, err := w.apis.Create(t.Context(), account, spec)
		require.ErrorContains(t, err, "No answer of the scenario "+category+" is a stream")
		spec.DeployConfigs[0].Services[0].Observability.Mode = "LeastTotalLatency"
		api := w.create(t, spec)
		_, err = w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{
			Name: "mine", Match: Match{Path: PathMatch{Exact, "/mine"}}, Backend: &Backend{ByObservability, []ServiceConfig{watched(w.service, "LeastFirstTokenLatency", 0)}},
		})
		require.ErrorContains(t, err, "cannot be LeastFirstTokenLatency")
		require.NoError(t, w.apis.Delete(t.Context(), account, api.ID))
	}
}
