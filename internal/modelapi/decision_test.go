package modelapi

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// put publishes what another package's rows would have made.
func (w *world) put(t *testing.T, kind, id string, value any) {
	t.Helper()
	body, err := json.Marshal(value)
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(t.Context(), w.Control, func(tx pgx.Tx) error {
		return publish.Put(t.Context(), tx, publish.Item{Kind: kind, ID: id, SourceVersion: 1, Body: body})
	}))
}

func (w *world) decide(t *testing.T, q Question) Decision {
	t.Helper()
	d, err := w.apis.Decide(t.Context(), account, q)
	require.NoError(t, err)
	return d
}

// decisions is a world in which something is published at many places.
type decisions struct {
	*world
	chat, rooted, guarded, secure, staged, foreign API
	engine                                         string // a service that is a model service of ours
	alice, bob, off                                string
}

func newDecisions(t *testing.T) *decisions {
	t.Helper()
	w := &decisions{world: newWorld(t)}
	w.put(t, snapshot.KindAIService, w.service, snapshot.AIService{
		ID: w.service, Name: "qwen", URLs: []string{"https://provider.example"},
		Paths: map[string]string{"/v1/chat/completions": "/compatible-mode/v1/chat/completions", "/v1/files": "/provider/files"},
	})
	w.put(t, snapshot.KindDomain, w.domain, snapshot.Domain{ID: w.domain, Name: "api.example.com"})
	w.put(t, snapshot.KindDomain, w.wildcard, snapshot.Domain{ID: w.wildcard, Name: "*.example.com", ForceHTTPS: true})
	w.put(t, snapshot.KindDomain, w.foreignDomain, snapshot.Domain{ID: w.foreignDomain, Name: "theirs.example.com"})

	spec := w.spec("chat")
	spec.RemoveBasePath = true
	spec.DeployConfigs[0].CustomDomainIDs = []string{w.domain}
	w.chat = w.create(t, spec)
	_, err := w.apis.CreateRoute(t.Context(), account, w.chat.ID, RouteSpec{
		Name: "mine", Match: Match{
			Path: PathMatch{Prefix, "/v1/files"}, Methods: []string{"GET"}, QueryParams: []ValueMatch{{"team", Exact, "a"}},
			Headers: []ValueMatch{{"x-tier", Prefix, "gold"}},
		},
	})
	require.NoError(t, err)
	_, err = w.apis.Deploy(t.Context(), account, w.chat.ID)
	require.NoError(t, err)

	w.engine = ids.New(ids.AIService)
	_, err = w.Owner.Exec(t.Context(), `INSERT INTO ai_service (id, account_id, gateway_id, name, source_type, resource_group_id)
		VALUES ($1, $2, $3, 'ours', 'ModelService', $4)`, w.engine, account, w.gateway, w.group)
	require.NoError(t, err)
	w.put(t, snapshot.KindAIService, w.engine, snapshot.AIService{ID: w.engine, Name: "ours", ModelServiceID: "ms-1"})
	spec = w.spec("rooted")
	spec.BasePath = "/"
	spec.DeployConfigs[0].CustomDomainIDs = []string{w.wildcard}
	spec.DeployConfigs[0].Services = []ServiceConfig{{ServiceID: w.engine}}
	w.rooted = w.create(t, spec)
	_, err = w.apis.CreateRoute(t.Context(), account, w.rooted.ID, RouteSpec{Name: "else", Match: Match{Path: PathMatch{Exact, "/metrics"}}})
	require.NoError(t, err)
	_, err = w.apis.Deploy(t.Context(), account, w.rooted.ID)
	require.NoError(t, err)

	spec = w.spec("guarded")
	spec.EnableAuth, spec.AuthConfig = true, &AuthConfig{"Apikey", "Custom"}
	w.guarded = w.create(t, spec)
	spec = w.spec("tokened")
	spec.EnableAuth, spec.AuthConfig = true, &AuthConfig{"jwt", "Custom"}
	w.create(t, spec)
	spec = w.spec("signed")
	spec.EnableAuth, spec.AuthConfig = true, &AuthConfig{"AKSK", "Custom"}
	w.create(t, spec)
	spec = w.spec("secure")
	spec.Protocols = []string{"HTTPS"}
	w.secure = w.create(t, spec)
	spec = w.spec("staged")
	spec.DeployConfigs[0].EnvironmentID = w.staging
	w.staged = w.create(t, spec)
	w.alice, w.bob, w.off = w.consumer(t, "alice"), w.consumer(t, "bob"), w.consumer(t, "off")
	_, err = w.consumers.CreateRules(t.Context(), account, []consumer.RuleSpec{
		{ConsumerID: w.alice, ResourceType: consumer.ModelAPI, APIID: w.guarded.ID}, {ConsumerID: w.off, ResourceType: consumer.ModelAPI, APIID: w.guarded.ID},
	})
	require.NoError(t, err)
	require.NoError(t, w.consumers.Update(t.Context(), account, w.off, consumer.Change{Enabled: to(false)}))

	environment, service := ids.New(ids.Environment), ids.New(ids.AIService)
	_, err = w.Owner.Exec(t.Context(), `
		INSERT INTO environment (id, account_id, gateway_id, name, is_default, resource_group_id) VALUES ('`+environment+`', '`+stranger+`', '`+w.foreignGateway+`', 'default', true, 'x');
		INSERT INTO ai_service (id, account_id, gateway_id, name, source_type, resource_group_id) VALUES ('`+service+`', '`+stranger+`', '`+w.foreignGateway+`', 's', 'AI', 'x')`)
	require.NoError(t, err)
	w.foreign, err = w.apis.Create(t.Context(), stranger, Spec{
		Name: "theirs", Type: TypeLLM, AIProtocols: []string{"OpenAI/v1"}, BasePath: "/", DeployConfigs: []DeployConfig{{
			GatewayID: w.foreignGateway, EnvironmentID: environment, BackendScene: SingleService, AutoDeploy: true,
			Services: []ServiceConfig{{ServiceID: service}}, CustomDomainIDs: []string{w.foreignDomain},
		}},
	})
	require.NoError(t, err)
	w.publish(t)
	return w
}

const chatPath = "/chat/v1/chat/completions"

func TestADecisionSaysWhereARequestGoes(t *testing.T) {
	t.Parallel()
	w := newDecisions(t)
	d := w.decide(t, Question{Host: "API.example.com:8080", Path: chatPath + "?a=b", Model: "gpt-4o"})
	require.Equal(t, []any{200, "", "chat", int64(2), "chat-completions", "qwen", "/compatible-mode/v1/chat/completions", "qwen-plus", NotRequired}, []any{
		d.Status, d.Code, d.API.Name, d.API.Revision, d.Route.Name, d.Service.Name, d.UpstreamPath, d.Model, d.Authorization,
	})
	d = w.decide(t, Question{Host: "127.0.0.1:8090", Path: "/chat/v1/completions"})
	require.Equal(t, []any{200, "/v1/completions"}, []any{d.Status, d.UpstreamPath}, "the default environment answers for any host")
	d = w.decide(t, Question{Host: w.environment + ".example.test", Path: "/chat/v1/completions"})
	require.Equal(t, []any{"chat", "/v1/completions"}, []any{d.API.Name, d.UpstreamPath}, "and for its own")

	files := Question{Host: "api.example.com", Method: "GET", Path: "/chat/v1/f%69les/a%2Fb?team=a", Headers: map[string]string{"X-TIER": "golden"}, Model: "m"}
	d = w.decide(t, files)
	require.Equal(t, []any{200, "mine", "/chat/v1/files/a%2Fb", "/provider/files/a%2Fb", ""}, []any{d.Status, d.Route.Name, d.Path, d.UpstreamPath, d.Model})

	d = w.decide(t, Question{Scheme: "https", Host: "some.example.com", Path: "/v1/completions", Model: "m"})
	require.Equal(t, []any{200, "rooted", "ours", "/v1/completions", "m"}, []any{d.Status, d.API.Name, d.Service.Name, d.UpstreamPath, d.Model})
	d = w.decide(t, Question{Host: "localhost", Path: "/guarded/v1/completions", ConsumerID: w.alice})
	require.Equal(t, []any{200, Allowed, "/guarded/v1/completions"}, []any{d.Status, d.Authorization, d.UpstreamPath}, "its base path stays")
}

func TestADecisionSaysWhyARequestGoesNowhere(t *testing.T) {
	t.Parallel()
	w := newDecisions(t)
	for name, c := range map[string]struct {
		q      Question
		status int
		code   string
		reason string
	}{
		"no canonical path": {Question{Host: "api.example.com", Path: "/chat/../v1"}, 400, "invalid_url", "dot segments"},
		"no path":           {Question{Host: "api.example.com", Path: "chat"}, 400, "invalid_url", "does not begin with /"},
		"a model service's": {Question{Host: "api.example.com", Path: "/services/ms-1/v1/models"}, 404, "unknown_url", "reserved"},
		"no base path":      {Question{Host: "api.example.com", Path: "/chatter"}, 404, "unknown_url", "No Model API"},
		"an unused host":    {Question{Host: "some.example.com", Path: chatPath, Scheme: "https"}, 404, "unknown_url", "rooted has no route"},
		"a stranger's host": {Question{Host: "theirs.example.com", Path: "/v1/completions"}, 404, "unknown_url", "No Model API of this account"},
		"a stranger's environment": {
			Question{Host: w.foreign.DeployConfig.EnvironmentID + ".example.test", Path: "/v1/completions"},
			404, "unknown_url", "No Model API of this account",
		},
		"another's base path": {
			Question{Host: w.staged.DeployConfig.EnvironmentID + ".example.test", Path: chatPath},
			404, "unknown_url", "No Model API of this account",
		},
		"no route":        {Question{Host: "api.example.com", Path: "/chat/v1/embeddings"}, 404, "unknown_url", "has no route for /v1/embeddings"},
		"another method":  {Question{Host: "api.example.com", Method: "GET", Path: chatPath}, 405, "method_not_allowed", "POST"},
		"another query":   {Question{Host: "api.example.com", Method: "GET", Path: "/chat/v1/files?team=b", Headers: map[string]string{"x-tier": "gold"}}, 404, "unknown_url", "no route"},
		"another header":  {Question{Host: "api.example.com", Method: "GET", Path: "/chat/v1/files?team=a"}, 404, "unknown_url", "no route"},
		"plain HTTP":      {Question{Host: "localhost", Path: "/secure/v1/completions"}, 404, "unknown_url", "secure answers here, but not over http"},
		"force HTTPS":     {Question{Host: "some.example.com", Path: "/v1/completions"}, 308, "https_required", "*.example.com"},
		"no key":          {Question{Host: "localhost", Path: "/guarded/v1/completions"}, 401, "invalid_api_key", "carries no key"},
		"no token":        {Question{Host: "localhost", Path: "/tokened/v1/completions"}, 401, "invalid_token", "carries no token"},
		"a key, no token": {Question{Host: "localhost", Path: "/tokened/v1/completions", ConsumerID: w.alice}, 401, "invalid_token", "know no token"},
		"a key, unsigned": {Question{Host: "localhost", Path: "/signed/v1/completions", ConsumerID: w.alice}, 401, "invalid_signature", "know no access key"},
		"a disabled one":  {Question{Host: "localhost", Path: "/guarded/v1/completions", ConsumerID: w.off}, 401, "invalid_api_key", "disabled"},
		"no rule":         {Question{Host: "localhost", Path: "/guarded/v1/completions", ConsumerID: w.bob}, 403, "consumer_not_authorized", "bob"},
		"not an engine's": {Question{Scheme: "https", Method: "GET", Host: "some.example.com", Path: "/metrics"}, 404, "unknown_url", "below /v1/ only"},
	} {
		d := w.decide(t, c.q)
		require.Equal(t, []any{c.status, c.code}, []any{d.Status, d.Code}, name)
		require.Contains(t, d.Reason, c.reason, name)
		require.Empty(t, d.UpstreamPath, name)
	}
	require.Equal(t, "POST", w.decide(t, Question{Host: "api.example.com", Method: "GET", Path: chatPath}).Allow)
	_, err := w.apis.Decide(t.Context(), stranger, Question{Host: "localhost", Path: "/guarded", ConsumerID: w.alice})
	require.ErrorIs(t, err, consumer.ErrNotFound)
	d, err := w.apis.Decide(t.Context(), stranger, Question{Host: "api.example.com", Path: chatPath})
	require.NoError(t, err)
	require.Nil(t, d.API, "another account's API is not there")
}

func TestADecisionIsAboutWhatIsPublished(t *testing.T) {
	t.Parallel()
	w := newDecisions(t)
	q := Question{Host: "api.example.com", Path: chatPath}
	_, err := w.apis.Update(t.Context(), account, w.chat.ID, UpdateSpec{BasePath: "/new", OnlyChangeConfig: true})
	require.NoError(t, err)
	require.Equal(t, 200, w.decide(t, q).Status, "the draft is not served")
	_, err = w.apis.Deploy(t.Context(), account, w.chat.ID)
	require.NoError(t, err)
	w.publish(t)
	require.Equal(t, 404, w.decide(t, q).Status)
	q.Path = "/new/v1/chat/completions"
	require.Equal(t, 200, w.decide(t, q).Status)

	_, err = w.Owner.Exec(t.Context(), `
		UPDATE http_api_revision SET content = jsonb_set(jsonb_set(content, '{deployConfig,policyConfigs}', '[{"type":"A","enable":true},{"type":"B","enable":false}]'),
			'{routes,0,policyConfigs}', '[{"type":"C","enable":true},{"type":"A","enable":true}]') WHERE http_api_id = $1`, w.chat.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"A", "C"}, w.decide(t, q).Policies)
	_, err = w.apis.Undeploy(t.Context(), account, w.chat.ID)
	require.NoError(t, err)
	w.publish(t)
	require.Equal(t, 404, w.decide(t, q).Status)
	published, err := w.apis.Published(t.Context(), account, w.chat.ID)
	require.NoError(t, err)
	require.Nil(t, published)
	require.NoError(t, w.apis.Delete(t.Context(), account, w.chat.ID))
	w.publish(t)
	require.Equal(t, 404, w.decide(t, q).Status)
	_, err = w.apis.Published(t.Context(), account, w.chat.ID)
	require.ErrorIs(t, err, ErrNotFound)
}
