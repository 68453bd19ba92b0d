package modelapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
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
)

// world is an account with a default gateway, another one, two domains and services on both gateways.
type world struct {
	*pgtest.DB
	apis      *APIs
	consumers *consumer.Consumers
	publisher *publish.Publisher

	gateway, environment, staging, service, service2       string
	otherGateway, otherEnvironment, otherService           string
	domain, wildcard, foreignDomain, foreignGateway, group string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	client, err := jobs.NewInserter(db.Control)
	require.NoError(t, err)
	w := &world{
		DB: db, gateway: ids.New(ids.Gateway), environment: ids.New(ids.Environment), staging: ids.New(ids.Environment),
		service: ids.New(ids.AIService), service2: ids.New(ids.AIService), otherGateway: ids.New(ids.Gateway),
		otherEnvironment: ids.New(ids.Environment), otherService: ids.New(ids.AIService), domain: ids.New(ids.Domain),
		wildcard: ids.New(ids.Domain), foreignDomain: ids.New(ids.Domain), foreignGateway: ids.New(ids.Gateway), group: instance.DefaultResourceGroup,
	}
	box, err := secret.NewBox()
	require.NoError(t, err)
	w.consumers = consumer.New(consumer.Config{DB: db.Control, Jobs: client, Master: box, Snapshot: box})
	w.apis = New(Config{DB: db.Control, Jobs: client, Rules: w.consumers, SubDomain: func(id string) string { return id + ".example.test" }})
	w.publisher = publish.NewPublisher(db.Control, client, w.apis, w.consumers)
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO account (id, name) VALUES ($1, 'a'), ($2, 'b')`, account, stranger)
	batch.Queue(`INSERT INTO gateway (id, account_id, name, resource_group_id, is_default) VALUES
		($1, $4, 'one', $6, true), ($2, $4, 'two', $6, false), ($3, $5, 'theirs', $6, false)`,
		w.gateway, w.otherGateway, w.foreignGateway, account, stranger, w.group)
	batch.Queue(`INSERT INTO environment (id, account_id, gateway_id, name, is_default, resource_group_id) VALUES
		($1, $4, $5, 'default', true, $7), ($2, $4, $5, 'staging', false, $7), ($3, $4, $6, 'default', true, $7)`,
		w.environment, w.staging, w.otherEnvironment, account, w.gateway, w.otherGateway, w.group)
	batch.Queue(`INSERT INTO domain (id, account_id, name, protocol, resource_group_id) VALUES
		($1, $4, 'api.example.com', 'HTTP', $6), ($2, $4, '*.example.com', 'HTTP', $6), ($3, $5, 'theirs.example.com', 'HTTP', $6)`,
		w.domain, w.wildcard, w.foreignDomain, account, stranger, w.group)
	batch.Queue(`INSERT INTO ai_service (id, account_id, gateway_id, name, source_type, resource_group_id) VALUES
		($1, $4, $5, 'qwen', 'AI', $7), ($2, $4, $5, 'deepseek', 'AI', $7), ($3, $4, $6, 'other', 'AI', $7)`,
		w.service, w.service2, w.otherService, account, w.gateway, w.otherGateway, w.group)
	require.NoError(t, db.Control.SendBatch(t.Context(), batch).Close())
	return w
}

func (w *world) config() DeployConfig {
	return DeployConfig{
		GatewayID: w.gateway, EnvironmentID: w.environment, BackendScene: SingleService, AutoDeploy: true,
		Services: []ServiceConfig{{ServiceID: w.service, ModelName: "qwen-plus"}},
	}
}

func (w *world) spec(name string) Spec {
	return Spec{
		Name: name, Type: TypeLLM, ModelCategory: "Text", AIProtocols: []string{"OpenAI/v1"}, BasePath: "/" + name,
		DeployConfigs: []DeployConfig{w.config()},
	}
}

func (w *world) create(t *testing.T, spec Spec) API {
	t.Helper()
	api, err := w.apis.Create(t.Context(), account, spec)
	require.NoError(t, err)
	return api
}

// served runs the jobs that are waiting and returns what a gateway then reads of an API; nil: a tombstone or nothing.
func (w *world) served(t *testing.T, id string) *snapshot.ModelAPI {
	t.Helper()
	w.publish(t)
	var body []byte
	var deleted bool
	err := w.Gateway.QueryRow(t.Context(), `
		SELECT body, deleted FROM published_item WHERE kind = 'model_api' AND id = $1`, id).Scan(&body, &deleted)
	if err == pgx.ErrNoRows || err == nil && deleted { //nolint:errorlint // the driver returns it as it is
		return nil
	}
	require.NoError(t, err)
	api := new(snapshot.ModelAPI)
	require.NoError(t, json.Unmarshal(body, api))
	require.NoError(t, api.Validate())
	return api
}

// publish works off the jobs, and shows that nothing is stale then.
func (w *world) publish(t *testing.T) {
	t.Helper()
	rows, err := w.Control.Query(t.Context(), `
		DELETE FROM river_job WHERE kind = 'publish_item' RETURNING args ->> 'kind', args ->> 'id'`)
	require.NoError(t, err)
	var waiting []publish.Args
	var item publish.Args
	_, err = pgx.ForEachRow(rows, []any{&item.Item, &item.ID}, func() error { waiting = append(waiting, item); return nil })
	require.NoError(t, err)
	for _, item := range waiting {
		require.NoError(t, w.publisher.Publish(t.Context(), item.Item, item.ID))
	}
	require.Empty(t, w.stale(t))
}

func (w *world) stale(t *testing.T) (ids []string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), w.Control, func(tx pgx.Tx) (err error) {
		ids, err = w.apis.Stale(t.Context(), tx)
		return err
	}))
	return ids
}

// count returns how many rows the tables that changes touch hold.
func (w *world) count(t *testing.T) (counts string) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT format('apis %s, hosts %s, routes %s, revisions %s, jobs %s, audit %s, tags %s, versions %s',
			(SELECT count(*) FROM http_api), (SELECT count(*) FROM http_api_host), (SELECT count(*) FROM http_api_route),
			(SELECT count(*) FROM http_api_revision), (SELECT count(*) FROM river_job), (SELECT count(*) FROM audit_event),
			(SELECT count(*) FROM resource_tag), (SELECT coalesce(sum(version), 0) FROM http_api))`).Scan(&counts))
	return counts
}

func (w *world) holders(t *testing.T) (places []string) {
	t.Helper()
	rows, err := w.Owner.Query(t.Context(), `
		SELECT a.name || ' ' || coalesce(d.name, 'env') || h.base_path FROM http_api_host h
		JOIN http_api a ON a.id = h.http_api_id LEFT JOIN domain d ON d.id = h.domain_id ORDER BY 1`)
	require.NoError(t, err)
	places, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return places
}

func to[T any](v T) *T { return &v }

func routeNames[R any](routes []R, name func(R) string) []string {
	names := []string{}
	for _, r := range routes {
		names = append(names, name(r))
	}
	return names
}

func TestACreatedAPIIsServedAsItWasAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.RemoveBasePath, spec.EnableAuth, spec.AuthConfig = true, true, &AuthConfig{"apikey", "Custom"}
	spec.Protocols = []string{"HTTPS"}
	spec.DeployConfigs[0].CustomDomainIDs = []string{w.wildcard, w.domain}
	spec.DeployConfigs[0].PolicyConfigs = []PolicyConfig{
		{Type: "AiStatistics", AiStatistics: &AiStatistics{LogRequestContent: true}},
		{Type: "AiCache"},
	}
	api := w.create(t, spec)
	require.True(t, ids.Valid(ids.HTTPAPI, api.ID))
	require.Equal(t, Deployed, api.DeployStatus)
	require.EqualValues(t, 1, api.DeployedRevision)
	require.Equal(t, "Apikey", api.AuthConfig.AuthType)
	require.Equal(t, []BoundDomain{{w.wildcard, "*.example.com", "HTTP"}, {w.domain, "api.example.com", "HTTP"}}, api.CustomDomains)
	require.Equal(t, []string{w.environment}, api.DeployConfig.EnvDomainIDs)
	require.Equal(t, []string{"chat-completions", "completions", "responses"}, api.DeployConfig.BuiltinRouteNames)
	require.Equal(t, "qwen", api.DeployConfig.Services[0].Name)
	require.Equal(t, []string{"one", "default", w.environment + ".example.test"}, []string{api.GatewayName, api.EnvironmentName, api.SubDomain})

	got := w.served(t, api.ID)
	require.Equal(t, &snapshot.ModelAPI{
		ID: api.ID, Name: "chat", AccountID: account, GatewayID: w.gateway, EnvironmentID: w.environment, Revision: 1,
		Hosts: []string{"*.example.com", "api.example.com", w.environment + ".example.test"}, AnyHost: true,
		Schemes: []string{"https"}, BasePath: "/chat", RemoveBasePath: true, Protocols: []string{"OpenAI/v1"}, Category: "Text",
		Auth: true, Targets: []snapshot.Target{{ServiceID: w.service, Model: "qwen-plus"}}, Scene: "SingleService",
		Routes: []snapshot.Route{
			{ID: api.Routes[0].ID, Name: "chat-completions", PathType: "Exact", Path: "/v1/chat/completions", Methods: []string{"POST"}, Protocol: "OpenAI/v1", Model: "json"},
			{ID: api.Routes[1].ID, Name: "completions", PathType: "Exact", Path: "/v1/completions", Methods: []string{"POST"}, Protocol: "OpenAI/v1", Model: "json"},
			{ID: api.Routes[2].ID, Name: "responses", PathType: "Exact", Path: "/v1/responses", Methods: []string{"POST"}, Protocol: "OpenAI/v1", Model: "json"},
		},
	}, got)
}

func TestWhatIsLeftOutHasADefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.BasePath, spec.ModelCategory = "", ""
	spec.DeployConfigs[0].AutoDeploy = false
	api := w.create(t, spec)
	require.Equal(t, []string{"/", "Text", NotDeployed}, []string{api.BasePath, api.ModelCategory, api.DeployStatus})
	require.Equal(t, []string{"HTTP", "HTTPS"}, api.Protocols)
	require.Nil(t, w.served(t, api.ID), "it is not deployed")
	api, err := w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, Deployed, api.DeployStatus)
	require.NotNil(t, w.served(t, api.ID))
}

func TestEveryScenarioAndProtocolIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, g := range defaultGroups {
		spec := w.spec(fmt.Sprintf("api%d", i))
		spec.ModelCategory, spec.AIProtocols = g.category, []string{strings.ToUpper(g.protocol)}
		api := w.create(t, spec)
		got := w.served(t, api.ID)
		require.Equal(t, []string{g.protocol}, got.Protocols)
		require.Len(t, got.Routes, len(g.routes))
		for n, r := range got.Routes {
			want := g.filled()[n]
			require.Equal(t, []any{want.Name, want.PathType, want.Path, want.Methods, want.Protocol, want.Model},
				[]any{r.Name, r.PathType, r.Path, r.Methods, r.Protocol, r.Model})
			require.True(t, api.Routes[n].Builtin)
		}
	}
	all := w.spec("everything")
	all.Type, all.ModelCategory, all.AIProtocols = TypeAi, "Image", []string{"OpenAI/v1", "ComfyUI", "DashScopeImage"}
	got := w.served(t, w.create(t, all).ID)
	require.Equal(t, []string{"OpenAI/v1", "ComfyUI", "DashScope"}, got.Protocols)
	require.Len(t, got.Routes, 34)
}

func TestAnyHostIsForTheDefaultEnvironmentOfTheSeededGatewayAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		change func(*DeployConfig)
		any    bool
		hosts  []string
	}{
		"default":   {func(*DeployConfig) {}, true, []string{w.environment + ".example.test"}},
		"other":     {func(c *DeployConfig) { c.EnvironmentID = w.staging }, false, []string{w.staging + ".example.test"}},
		"not-bound": {func(c *DeployConfig) { c.EnvDomainIDs, c.CustomDomainIDs = []string{}, []string{w.domain} }, false, []string{"api.example.com"}},
		"other-gateway": {func(c *DeployConfig) {
			c.GatewayID, c.EnvironmentID, c.Services[0].ServiceID = w.otherGateway, w.otherEnvironment, w.otherService
		}, false, []string{w.otherEnvironment + ".example.test"}},
	} {
		spec := w.spec(name)
		c.change(&spec.DeployConfigs[0])
		got := w.served(t, w.create(t, spec).ID)
		require.Equal(t, c.any, got.AnyHost, name)
		require.Equal(t, c.hosts, got.Hosts, name)
	}
}

func TestBadInputIsRefusedByNameAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	taken := w.create(t, w.spec("taken"))
	before := w.count(t)
	config := func(change func(*DeployConfig)) func(*Spec) {
		return func(s *Spec) { change(&s.DeployConfigs[0]) }
	}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no name":             {func(s *Spec) { s.Name = "" }, "InvalidParameter.Name"},
		"name of 65":          {func(s *Spec) { s.Name = strings.Repeat("a", 65) }, "InvalidParameter.Name"},
		"name with a dot":     {func(s *Spec) { s.Name = "a.b" }, "InvalidParameter.Name"},
		"name with a newline": {func(s *Spec) { s.Name = "a\n" }, "InvalidParameter.Name"},
		"name taken":          {func(s *Spec) { s.Name = "taken" }, "Conflict.HttpApiNameDuplicate"},
		"type Rest":           {func(s *Spec) { s.Type = "Rest" }, "InvalidParameter.Type"},
		"no protocol":         {func(s *Spec) { s.AIProtocols = nil }, "InvalidParameter.AiProtocols"},
		"two protocols":       {func(s *Spec) { s.AIProtocols = []string{"OpenAI/v1", "Anthropic"} }, "InvalidParameter.AiProtocols"},
		"Ai without protocol": {func(s *Spec) { s.Type, s.AIProtocols = TypeAi, nil }, "InvalidParameter.AiProtocols"},
		"protocol twice": {func(s *Spec) {
			s.Type, s.ModelCategory, s.AIProtocols = TypeAi, "Image", []string{"DashScope", "DashScopeImage"}
		}, "InvalidParameter.AiProtocols"},
		"wrong scenario":     {func(s *Spec) { s.ModelCategory = "Video" }, "InvalidParameter.AiProtocols"},
		"unknown scenario":   {func(s *Spec) { s.ModelCategory = "Speech" }, "InvalidParameter.ModelCategory"},
		"base path":          {func(s *Spec) { s.BasePath = "/services/x" }, "InvalidParameter.BasePath"},
		"place taken":        {func(s *Spec) { s.BasePath = "/taken" }, "Conflict.ApiRouteConflict: The Model API taken (" + taken.ID + ")"},
		"no deployConfig":    {func(s *Spec) { s.DeployConfigs = nil }, "InvalidParameter.DeployConfigs"},
		"two deployConfigs":  {func(s *Spec) { s.DeployConfigs = append(s.DeployConfigs, s.DeployConfigs[0]) }, "InvalidParameter.DeployConfigs"},
		"unknown gateway":    {config(func(c *DeployConfig) { c.GatewayID = ids.New(ids.Gateway) }), "NotFound.GatewayNotFound"},
		"stranger's gateway": {config(func(c *DeployConfig) { c.GatewayID = w.foreignGateway }), "NotFound.GatewayNotFound"},
		"no environment":     {config(func(c *DeployConfig) { c.EnvironmentID = "" }), "InvalidParameter.DeployConfigs"},
		"foreign env":        {config(func(c *DeployConfig) { c.EnvironmentID = w.otherEnvironment }), "NotFound.EnvironmentNotFound"},
		"unknown domain":     {config(func(c *DeployConfig) { c.CustomDomainIDs = []string{w.domain, ids.New(ids.Domain)} }), "DatabaseError.RecordNotFound: The domain"},
		"empty domain":       {config(func(c *DeployConfig) { c.CustomDomainIDs = []string{""} }), "DatabaseError.RecordNotFound: The domain"},
		"stranger's domain":  {config(func(c *DeployConfig) { c.CustomDomainIDs = []string{w.foreignDomain} }), "DatabaseError.RecordNotFound: The domain"},
		"eleven domains":     {config(func(c *DeployConfig) { c.CustomDomainIDs = make([]string, 11) }), "InvalidParameter.DeployConfigs"},
		"other sub-domain":   {config(func(c *DeployConfig) { c.EnvDomainIDs = []string{w.staging} }), "InvalidParameter.DeployConfigs"},
		"nowhere to answer":  {config(func(c *DeployConfig) { c.EnvDomainIDs = []string{} }), "InvalidParameter.DeployConfigs"},
		"unknown service":    {config(func(c *DeployConfig) { c.Services[0].ServiceID = ids.New(ids.AIService) }), "NotFound.ServiceNotFound"},
		"no service id":      {config(func(c *DeployConfig) { c.Services[0].ServiceID = "" }), "NotFound.ServiceNotFound"},
		"service elsewhere":  {config(func(c *DeployConfig) { c.Services[0].ServiceID = w.otherService }), "NotFound.ServiceNotFound"},
		"no service":         {config(func(c *DeployConfig) { c.Services = nil }), "InvalidParameter.DeployConfigs"},
		"two services":       {config(func(c *DeployConfig) { c.Services = append(c.Services, c.Services[0]) }), "InvalidParameter.DeployConfigs"},
		"a pattern":          {config(func(c *DeployConfig) { c.Services[0].ModelNamePattern = "qwen-*" }), "InvalidParameter.DeployConfigs"},
		"another scene":      {config(func(c *DeployConfig) { c.BackendScene = "SemanticRouter" }), "UnsupportedParameter"},
		"a policy":           {config(func(c *DeployConfig) { c.PolicyConfigs = []PolicyConfig{{Type: "AiCache", Enable: true}} }), "UnsupportedParameter: The policy AiCache"},
		"fields of one's own": {config(func(c *DeployConfig) {
			c.PolicyConfigs = []PolicyConfig{{Type: "AiStatistics", Enable: true, AiStatistics: &AiStatistics{OwnFields: true}}}
		}), "UnsupportedParameter: The parameter aiStatisticsConfig.pathFieldConfigs"},
		"long timeout":     {func(s *Spec) { s.FirstByteTimeout = 3_600_001 }, "InvalidParameter"},
		"policy twice":     {config(func(c *DeployConfig) { c.PolicyConfigs = []PolicyConfig{{Type: "AiCache"}, {Type: "AiCache"}} }), "InvalidParameter.DeployConfigs"},
		"unknown route":    {config(func(c *DeployConfig) { c.BuiltinRouteNames = []string{"messages"} }), "InvalidParameter.DeployConfigs"},
		"auth without how": {func(s *Spec) { s.EnableAuth = true }, "MissingParameter"},
		"auth for nobody":  {func(s *Spec) { s.EnableAuth, s.AuthConfig = true, &AuthConfig{"Apikey", "NoAuth"} }, "InvalidParameter"},
		"auth by nothing":  {func(s *Spec) { s.EnableAuth, s.AuthConfig = true, &AuthConfig{"", "Custom"} }, "MissingParameter"},
		"auth by fax":      {func(s *Spec) { s.AuthConfig = &AuthConfig{AuthType: "Fax"} }, "InvalidParameter"},
		"gRPC":             {func(s *Spec) { s.Protocols = []string{"GRPC"} }, "InvalidParameter"},
		"no scheme":        {func(s *Spec) { s.Protocols = []string{} }, "InvalidParameter"},
		"long description": {func(s *Spec) { s.Description = strings.Repeat("a", 256) }, "InvalidParameter"},
		"negative timeout": {func(s *Spec) { s.FirstByteTimeout = -1 }, "InvalidParameter"},
		"unknown group":    {func(s *Spec) { s.ResourceGroupID = "rg-x" }, "InvalidResourceGroupId.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := w.spec("new")
			c.change(&spec)
			_, err := w.apis.Create(t.Context(), account, spec)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, before, w.count(t))
		})
	}
}

func TestNamesAndPlacesAreOnesAlsoWhenManyWantThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const calls = 20
	race := func(spec func(i int) Spec) (made int, refused []error) {
		errs := make([]error, calls)
		var wait sync.WaitGroup
		for i := range calls {
			wait.Go(func() { _, errs[i] = w.apis.Create(t.Context(), account, spec(i)) })
		}
		wait.Wait()
		for _, err := range errs {
			if err == nil {
				made++
			} else {
				refused = append(refused, err)
			}
		}
		return made, refused
	}
	made, refused := race(func(i int) Spec {
		s := w.spec("same-name")
		s.BasePath = fmt.Sprintf("/place%d", i)
		return s
	})
	require.Equal(t, 1, made)
	for _, err := range refused {
		require.ErrorIs(t, err, ErrNameDuplicate)
	}
	made, refused = race(func(i int) Spec {
		s := w.spec(fmt.Sprintf("name%d", i))
		s.BasePath = "/same-place"
		s.DeployConfigs[0].CustomDomainIDs = []string{[]string{w.domain, w.wildcard}[i%2]}
		return s
	})
	require.Equal(t, 1, made)
	for _, err := range refused {
		require.ErrorIs(t, err, ErrPlaceTaken)
		require.ErrorContains(t, err, "The Model API name")
	}
}

func TestOneBasePathIsFreeOnEveryDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, change := range []func(*DeployConfig){
		func(*DeployConfig) {},
		func(c *DeployConfig) { c.EnvironmentID = w.staging },
		func(c *DeployConfig) { c.EnvDomainIDs, c.CustomDomainIDs = []string{}, []string{w.domain} },
		func(c *DeployConfig) { c.EnvDomainIDs, c.CustomDomainIDs = []string{}, []string{w.wildcard} },
	} {
		spec := w.spec(fmt.Sprintf("api%d", i))
		spec.BasePath = "/"
		change(&spec.DeployConfigs[0])
		w.create(t, spec)
	}
	require.Equal(t, []string{"api0 env/", "api1 env/", "api2 api.example.com/", "api3 *.example.com/"}, w.holders(t))
}

func TestAnUpdateIsServedUnlessOnlyTheConfigurationIsToChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.DeployConfigs[0].CustomDomainIDs = []string{w.domain}
	api := w.create(t, spec)
	api, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/two", RemoveBasePath: to(true)})
	require.NoError(t, err)
	require.EqualValues(t, 2, api.DeployedRevision)
	got := w.served(t, api.ID)
	require.Equal(t, []any{"/two", true, int64(2)}, []any{got.BasePath, got.RemoveBasePath, got.Revision})

	config := w.config()
	config.Services[0] = ServiceConfig{ServiceID: w.service2}
	api, err = w.apis.Update(t.Context(), account, api.ID, UpdateSpec{
		BasePath: "/three", Description: to("new"), DeployConfigs: []DeployConfig{config}, OnlyChangeConfig: true,
	})
	require.NoError(t, err)
	require.Equal(t, DeployedWithChanges, api.DeployStatus)
	require.Equal(t, []string{"/three", "new", w.service2}, []string{api.BasePath, api.Description, api.DeployConfig.Services[0].ServiceID})
	require.Equal(t, []string{w.domain}, api.DeployConfig.CustomDomainIDs, "bindings that an update does not name stay")
	require.Equal(t, []string{w.environment}, api.DeployConfig.EnvDomainIDs)
	require.Equal(t, got, w.served(t, api.ID))
	require.Equal(t, []string{
		"chat api.example.com/three", "chat api.example.com/two", "chat env/three", "chat env/two",
	}, w.holders(t), "what is served is taken, and what is stored")
	_, err = w.apis.Create(t.Context(), account, Spec{Name: "b", Type: TypeLLM, AIProtocols: []string{"Anthropic"}, BasePath: "/two", DeployConfigs: []DeployConfig{w.config()}})
	require.ErrorIs(t, err, ErrPlaceTaken)

	api, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"chat api.example.com/three", "chat env/three"}, w.holders(t))
	require.Equal(t, []snapshot.Target{{ServiceID: w.service2}}, w.served(t, api.ID).Targets)
}

func TestAnUpdateRewritesTheDomainsItNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	config := w.config()
	config.CustomDomainIDs, config.EnvDomainIDs = []string{w.wildcard}, []string{}
	_, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/", DeployConfigs: []DeployConfig{config}})
	require.NoError(t, err)
	require.Equal(t, []string{"*.example.com"}, w.served(t, api.ID).Hosts)
	require.Equal(t, []string{"chat *.example.com/"}, w.holders(t))

	config.CustomDomainIDs = []string{}
	_, err = w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/", DeployConfigs: []DeployConfig{config}})
	require.ErrorIs(t, err, ErrDeployConfigs, "it would answer nowhere")
	require.Equal(t, []string{"*.example.com"}, w.served(t, api.ID).Hosts)

	config.CustomDomainIDs, config.EnvDomainIDs, config.EnvironmentID = nil, nil, w.staging
	changed, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/", DeployConfigs: []DeployConfig{config}})
	require.NoError(t, err)
	require.Equal(t, w.staging, changed.DeployConfig.EnvironmentID)
	require.Empty(t, changed.DeployConfig.EnvDomainIDs, "it was not bound before")
}

func TestWhatDoesNotDeployByItselfWaitsForDeploy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.DeployConfigs[0].AutoDeploy = false
	api := w.create(t, spec)
	require.Nil(t, w.served(t, api.ID))
	_, err := w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	api, err = w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/x"})
	require.NoError(t, err)
	require.Equal(t, DeployedWithChanges, api.DeployStatus)
	require.Equal(t, "/chat", w.served(t, api.ID).BasePath)

	undeployed := w.create(t, w.spec("off"))
	_, err = w.apis.Undeploy(t.Context(), account, undeployed.ID)
	require.NoError(t, err)
	undeployed, err = w.apis.Update(t.Context(), account, undeployed.ID, UpdateSpec{BasePath: "/off", Description: to("new")})
	require.NoError(t, err)
	require.Equal(t, NotDeployed, undeployed.DeployStatus, "a new description puts nothing back into service")
	undeployed, err = w.apis.Update(t.Context(), account, undeployed.ID, UpdateSpec{BasePath: "/off", DeployConfigs: []DeployConfig{w.config()}})
	require.NoError(t, err)
	require.Equal(t, Deployed, undeployed.DeployStatus)
}

func TestARefusedUpdateChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create(t, w.spec("other"))
	api := w.create(t, w.spec("chat"))
	served := w.served(t, api.ID)
	before := w.count(t)
	config := w.config()
	config.PolicyConfigs = []PolicyConfig{{Type: "AiTokenRateLimit", Enable: true}}
	for want, u := range map[string]UpdateSpec{
		"MissingParameter":               {},
		"InvalidParameter.BasePath":      {BasePath: "/a/"},
		"Conflict.ApiRouteConflict":      {BasePath: "/other"},
		"InvalidParameter.AiProtocols":   {BasePath: "/chat", AIProtocols: []string{"DashScope"}},
		"InvalidParameter.DeployConfigs": {BasePath: "/chat", DeployConfigs: []DeployConfig{}},
		"UnsupportedParameter":           {BasePath: "/chat", DeployConfigs: []DeployConfig{config}},
	} {
		_, err := w.apis.Update(t.Context(), account, api.ID, u)
		require.ErrorContains(t, err, want)
		require.Equal(t, before, w.count(t))
	}
	now, err := w.apis.Get(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, api, now)
	require.Equal(t, served, w.served(t, api.ID))
}

func TestTheSystemsRoutesFollowTheirNamesAndTheProtocol(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names := func(a API) []string { return routeNames(a.Routes, func(r RouteDefinition) string { return r.Name }) }
	none := w.spec("none")
	none.DeployConfigs[0].BuiltinRouteNames = []string{}
	require.Empty(t, names(w.create(t, none)))

	spec := w.spec("chat")
	spec.DeployConfigs[0].BuiltinRouteNames = []string{"completions"}
	api := w.create(t, spec)
	require.Equal(t, []string{"completions"}, names(api))
	kept := api.Routes[0].ID
	_, err := w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{Name: "a-mine", Match: Match{Path: PathMatch{Prefix, "/mine"}}})
	require.NoError(t, err)

	update := func(protocols []string, builtin []string) API {
		t.Helper()
		u := UpdateSpec{BasePath: "/chat", AIProtocols: protocols}
		if builtin != nil {
			config := w.config()
			config.BuiltinRouteNames = builtin
			u.DeployConfigs = []DeployConfig{config}
		}
		api, err := w.apis.Update(t.Context(), account, api.ID, u)
		require.NoError(t, err)
		return api
	}
	require.Equal(t, []string{"completions", "a-mine"}, names(update(nil, nil)), "names that are not sent stay")
	api = update(nil, []string{"chat-completions", "completions"})
	require.Equal(t, []string{"chat-completions", "completions", "a-mine"}, names(api))
	require.Equal(t, kept, api.Routes[1].ID)
	require.Equal(t, []string{"messages", "a-mine"}, names(update([]string{"anthropic"}, nil)))
	got := w.served(t, api.ID)
	require.Equal(t, []string{"Anthropic", "Anthropic"}, routeNames(got.Routes, func(r snapshot.Route) string { return r.Protocol }))
}

func TestRoutesAreServedOnceTheAPIIsDeployed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	match := Match{
		Path: PathMatch{Regex, "/v[0-9]+/rerank"}, Methods: []string{"POST"}, IgnoreURICase: true,
		Headers: []ValueMatch{{"x-tier", Exact, "gold"}}, QueryParams: []ValueMatch{{"debug", Prefix, "1"}},
	}
	r, err := w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{
		Name: "mine", Description: "of one's own", Match: match,
		Backend: &Backend{"Single", []ServiceConfig{{ServiceID: w.service2, ModelName: "rerank-1"}}},
	})
	require.NoError(t, err)
	require.True(t, ids.Valid(ids.HTTPAPIRoute, r.ID))
	require.Equal(t, []any{NotDeployed, false, api.ID, "SingleService", "deepseek"}, []any{r.DeployStatus, r.Builtin, r.APIID, r.Backend.Scene, r.Backend.Services[0].Name})
	require.False(t, r.CreatedAt.IsZero())
	require.Len(t, w.served(t, api.ID).Routes, 3, "editing is not deploying")
	now, err := w.apis.Get(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, DeployedWithChanges, now.DeployStatus)

	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	got := w.served(t, api.ID)
	require.Equal(t, snapshot.Route{
		ID: r.ID, Name: "mine", PathType: "Regex", Path: "/v[0-9]+/rerank", IgnoreCase: true, Methods: []string{"POST"},
		Headers: []snapshot.ValueMatch{{Name: "x-tier", Type: "Exact", Value: "gold"}}, Query: []snapshot.ValueMatch{{Name: "debug", Type: "Prefix", Value: "1"}},
		Protocol: "OpenAI/v1", Model: "json", Targets: []snapshot.Target{{ServiceID: w.service2, Model: "rerank-1"}},
		Scene: SingleService,
	}, got.Routes[3])

	r, err = w.apis.UpdateRoute(t.Context(), account, api.ID, r.ID, RouteUpdate{Description: to("changed"), Backend: &Backend{}})
	require.NoError(t, err)
	require.Equal(t, []any{DeployedWithChanges, "changed", match}, []any{r.DeployStatus, r.Description, r.Match})
	require.Nil(t, r.Backend, "it leads where the API leads again")
	builtin := api.Routes[0].ID
	b, err := w.apis.UpdateRoute(t.Context(), account, api.ID, builtin, RouteUpdate{Match: &Match{Path: PathMatch{Exact, "/chat"}, Methods: []string{"POST"}}})
	require.NoError(t, err)
	require.True(t, b.Builtin)
	require.NoError(t, w.apis.DeleteRoute(t.Context(), account, api.ID, api.Routes[1].ID))
	require.Equal(t, got, w.served(t, api.ID))

	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	got = w.served(t, api.ID)
	require.Equal(t, []string{"chat-completions /chat json", "responses /v1/responses json", "mine /v[0-9]+/rerank json"},
		routeNames(got.Routes, func(r snapshot.Route) string { return r.Name + " " + r.Path + " " + r.Model }))
	for _, id := range []string{builtin, r.ID} {
		now, err := w.apis.GetRoute(t.Context(), account, api.ID, id)
		require.NoError(t, err)
		require.Equal(t, Deployed, now.DeployStatus)
	}
}

func TestARouteOfOnesOwnSpeaksTheProtocolOfItsPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("images")
	spec.Type, spec.ModelCategory, spec.AIProtocols = TypeAi, "Image", []string{"DashScope", "OpenAI/v1"}
	spec.DeployConfigs[0].BuiltinRouteNames = []string{}
	spec.DeployConfigs[0].Services[0].ModelName = ""
	api := w.create(t, spec)
	for name, path := range map[string]string{"a": "/v1/images/edits", "b": "/v1/embeddings", "c": "/else"} {
		_, err := w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{Name: name, Match: Match{Path: PathMatch{Exact, path}}})
		require.NoError(t, err)
	}
	_, err := w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"a OpenAI/v1 multipart", "b OpenAI/v1 json", "c DashScope "},
		routeNames(w.served(t, api.ID).Routes, func(r snapshot.Route) string { return r.Name + " " + r.Protocol + " " + r.Model }))
}

func TestBadRoutesAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	other := w.create(t, w.spec("other"))
	before := w.count(t)
	services := func(ids ...string) *Backend {
		b := &Backend{Scene: SingleService}
		for _, id := range ids {
			b.Services = append(b.Services, ServiceConfig{ServiceID: id})
		}
		return b
	}
	for name, c := range map[string]struct {
		change func(*RouteSpec)
		want   string
	}{
		"no name":         {func(r *RouteSpec) { r.Name = "" }, "InvalidParameter.Name"},
		"name taken":      {func(r *RouteSpec) { r.Name = "completions" }, "Conflict.HttpApiRouteNameDuplicate"},
		"no match":        {func(r *RouteSpec) { r.Match = Match{} }, "InvalidParameter.Match"},
		"unknown service": {func(r *RouteSpec) { r.Backend = services(ids.New(ids.AIService)) }, "NotFound.ServiceNotFound"},
		"elsewhere":       {func(r *RouteSpec) { r.Backend = services(w.otherService) }, "NotFound.ServiceNotFound"},
		"two services":    {func(r *RouteSpec) { r.Backend = services(w.service, w.service2) }, "InvalidParameter.DeployConfigs"},
		"a mock": {func(r *RouteSpec) {
			r.Backend = services(w.service)
			r.Backend.Scene = "Mock"
		}, "UnsupportedParameter"},
		"a policy": {func(r *RouteSpec) { r.PolicyConfigs = []PolicyConfig{{Type: "AiStatistics", Enable: true}} }, "UnsupportedParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := RouteSpec{Name: "mine", Match: Match{Path: PathMatch{Exact, "/mine"}}}
			c.change(&spec)
			_, err := w.apis.CreateRoute(t.Context(), account, api.ID, spec)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, before, w.count(t))
		})
	}
	theirs := other.Routes[0].ID
	_, err := w.apis.GetRoute(t.Context(), account, api.ID, theirs)
	require.ErrorIs(t, err, ErrRouteNotFound)
	_, err = w.apis.UpdateRoute(t.Context(), account, api.ID, theirs, RouteUpdate{Description: to("x")})
	require.ErrorIs(t, err, ErrRouteNotFound)
	require.ErrorIs(t, w.apis.DeleteRoute(t.Context(), account, api.ID, theirs), ErrRouteNotFound)
	require.Equal(t, before, w.count(t))
}

func TestRoutesAreListedByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("images")
	spec.ModelCategory, spec.AIProtocols = "Image", []string{"ComfyUI"}
	api := w.create(t, spec)
	list := func(f RouteFilter) ([]string, int) {
		t.Helper()
		routes, total, err := w.apis.ListRoutes(t.Context(), account, api.ID, f)
		require.NoError(t, err)
		return routeNames(routes, func(r Route) string { return r.Name }), total
	}
	names, total := list(RouteFilter{Page: instance.Page{Number: 3, Size: 10}})
	require.Equal(t, []string{"userdata", "userdata-v2", "userdata-file", "userdata-file-move", "users"}, names[:5])
	require.Equal(t, 25, total)
	names, total = list(RouteFilter{Page: instance.Page{Number: 4, Size: 10}})
	require.Empty(t, names)
	require.Equal(t, 25, total)
	names, _ = list(RouteFilter{Name: "prompt", Page: instance.Page{Number: 1, Size: 10}})
	require.Equal(t, []string{"prompt"}, names)
	names, _ = list(RouteFilter{NameLike: "histor", Page: instance.Page{Number: 1, Size: 10}})
	require.Equal(t, []string{"history", "history-prompt"}, names)
	names, _ = list(RouteFilter{PathLike: "/move/", Page: instance.Page{Number: 1, Size: 10}})
	require.Equal(t, []string{"userdata-file-move"}, names)
}

func TestARollbackBringsBackTheWholeAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.DeployConfigs[0].CustomDomainIDs = []string{w.domain}
	first := w.create(t, spec)
	served := w.served(t, first.ID)
	config := w.config()
	config.CustomDomainIDs, config.BuiltinRouteNames, config.Services[0].ServiceID = []string{}, []string{"responses"}, w.service2
	_, err := w.apis.Update(t.Context(), account, first.ID, UpdateSpec{BasePath: "/new", AIProtocols: []string{"OpenAI/v1"}, DeployConfigs: []DeployConfig{config}})
	require.NoError(t, err)
	_, err = w.apis.CreateRoute(t.Context(), account, first.ID, RouteSpec{Name: "mine", Match: Match{Path: PathMatch{Exact, "/mine"}}})
	require.NoError(t, err)
	require.Equal(t, "/new", w.served(t, first.ID).BasePath)

	back, err := w.apis.Rollback(t.Context(), account, first.ID, 1)
	require.NoError(t, err)
	require.Equal(t, first.Definition, back.Definition)
	require.EqualValues(t, 3, back.DeployedRevision)
	require.Equal(t, Deployed, back.DeployStatus)
	got := w.served(t, first.ID)
	require.EqualValues(t, 3, got.Revision)
	got.Revision = served.Revision
	require.Equal(t, served, got)
	require.Equal(t, []string{"chat api.example.com/chat", "chat env/chat"}, w.holders(t))

	revisions, total, err := w.apis.ListRevisions(t.Context(), account, first.ID, instance.Page{Number: 1, Size: 2})
	require.NoError(t, err)
	require.Equal(t, 3, total)
	require.Equal(t, []int64{3, 2}, []int64{revisions[0].Number, revisions[1].Number})
	require.Equal(t, []bool{true, false}, []bool{revisions[0].Deployed, revisions[1].Deployed})
	require.Equal(t, "system", revisions[0].Author)
	one, err := w.apis.GetRevision(t.Context(), account, first.ID, 2)
	require.NoError(t, err)
	require.Equal(t, "/new", one.Content.BasePath)
	for _, number := range []int64{0, -1, 4} {
		_, err = w.apis.Rollback(t.Context(), account, first.ID, number)
		require.ErrorIs(t, err, ErrRevisionNotFound)
		_, err = w.apis.GetRevision(t.Context(), account, first.ID, number)
		require.ErrorIs(t, err, ErrRevisionNotFound)
	}
}

func TestARollbackToWhatIsGoneOrTakenIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	config := w.config()
	config.Services[0].ServiceID = w.service2
	_, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/new", DeployConfigs: []DeployConfig{config}})
	require.NoError(t, err)
	rival := w.spec("rival")
	rival.BasePath = "/chat"
	rival.DeployConfigs[0].Services[0].ServiceID = w.service2
	rivalID := w.create(t, rival).ID
	served := w.served(t, api.ID)
	_, err = w.apis.Rollback(t.Context(), account, api.ID, 1)
	require.ErrorIs(t, err, ErrPlaceTaken)
	require.NoError(t, w.apis.Delete(t.Context(), account, rivalID))
	_, err = w.Control.Exec(t.Context(), `DELETE FROM ai_service WHERE id = $1`, w.service)
	require.NoError(t, err)
	_, err = w.apis.Rollback(t.Context(), account, api.ID, 1)
	require.ErrorIs(t, err, ErrServiceNotFound)
	require.Equal(t, served, w.served(t, api.ID))
}

func TestGatewaysStopServingWhatIsUndeployedOrDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	_, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/next", OnlyChangeConfig: true})
	require.NoError(t, err)
	require.NotNil(t, w.served(t, api.ID))
	undeployed, err := w.apis.Undeploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Equal(t, []any{NotDeployed, int64(0)}, []any{undeployed.DeployStatus, undeployed.DeployedRevision})
	require.Nil(t, w.served(t, api.ID))
	require.Equal(t, []string{"chat env/next"}, w.holders(t))
	_, err = w.apis.Undeploy(t.Context(), account, api.ID)
	require.NoError(t, err, "twice is as good as once")

	again, err := w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, again.DeployedRevision, "numbers are not used twice")
	require.NotNil(t, w.served(t, api.ID))
	consumer := ids.New(ids.Consumer)
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO resource_tag VALUES ($1, 'k', 'v')`, api.ID)
	batch.Queue(`INSERT INTO consumer (id, account_id, name) VALUES ($1, $2, 'alice')`, consumer, account)
	batch.Queue(`INSERT INTO authorization_rule (id, account_id, consumer_id, http_api_id, environment_id) VALUES ($1, $2, $3, $4, $5)`,
		ids.New(ids.AuthorizationRule), account, consumer, api.ID, w.environment)
	require.NoError(t, w.Control.SendBatch(t.Context(), batch).Close())
	require.NoError(t, w.apis.Delete(t.Context(), account, api.ID))
	require.Nil(t, w.served(t, api.ID))
	require.Contains(t, w.count(t), "apis 0, hosts 0, routes 0, revisions 0,")
	require.Contains(t, w.count(t), "tags 0,")
	require.ErrorIs(t, w.apis.Delete(t.Context(), account, api.ID), ErrNotFound)
}

func TestReconcilingFindsWhatGatewaysHaveMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	gone := w.create(t, w.spec("gone"))
	w.publish(t)
	lose := func() {
		_, err := w.Control.Exec(t.Context(), `DELETE FROM river_job`)
		require.NoError(t, err)
	}
	_, err := w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.NoError(t, w.apis.Delete(t.Context(), account, gone.ID))
	lose()
	require.ElementsMatch(t, []string{api.ID, gone.ID}, w.stale(t))
	require.NoError(t, w.publisher.Reconcile(t.Context()))
	require.EqualValues(t, 2, w.served(t, api.ID).Revision)
	require.Nil(t, w.served(t, gone.ID))
	_, err = w.apis.Undeploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	lose()
	require.Equal(t, []string{api.ID}, w.stale(t))
	require.NoError(t, w.publisher.Reconcile(t.Context()))
	require.Nil(t, w.served(t, api.ID))
}

func TestAStrangersIDIsAnsweredAsAnUnknownOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	before := w.count(t)
	ctx, page := t.Context(), instance.Page{Number: 1, Size: 10}
	calls := map[string]func(account, id string) error{
		"Get": func(account, id string) error { _, err := w.apis.Get(ctx, account, id); return err },
		"Update": func(account, id string) error {
			_, err := w.apis.Update(ctx, account, id, UpdateSpec{BasePath: "/"})
			return err
		},
		"Delete":   func(account, id string) error { return w.apis.Delete(ctx, account, id) },
		"Deploy":   func(account, id string) error { _, err := w.apis.Deploy(ctx, account, id); return err },
		"Undeploy": func(account, id string) error { _, err := w.apis.Undeploy(ctx, account, id); return err },
		"Rollback": func(account, id string) error { _, err := w.apis.Rollback(ctx, account, id, 1); return err },
		"CreateRoute": func(account, id string) error {
			_, err := w.apis.CreateRoute(ctx, account, id, RouteSpec{Name: "x", Match: Match{Path: PathMatch{Exact, "/x"}}})
			return err
		},
		"GetRoute": func(account, id string) error {
			_, err := w.apis.GetRoute(ctx, account, id, api.Routes[0].ID)
			return err
		},
		"UpdateRoute": func(account, id string) error {
			_, err := w.apis.UpdateRoute(ctx, account, id, api.Routes[0].ID, RouteUpdate{Description: to("x")})
			return err
		},
		"DeleteRoute": func(account, id string) error { return w.apis.DeleteRoute(ctx, account, id, api.Routes[0].ID) },
		"ListRoutes": func(account, id string) error {
			_, _, err := w.apis.ListRoutes(ctx, account, id, RouteFilter{Page: page})
			return err
		},
		"ListRevisions": func(account, id string) error { _, _, err := w.apis.ListRevisions(ctx, account, id, page); return err },
		"GetRevision":   func(account, id string) error { _, err := w.apis.GetRevision(ctx, account, id, 1); return err },
	}
	for name, call := range calls {
		unknown := ids.New(ids.HTTPAPI)
		foreign, missing := call(stranger, api.ID), call(account, unknown)
		require.ErrorIs(t, foreign, ErrNotFound, name)
		require.Equal(t, strings.ReplaceAll(missing.Error(), unknown, api.ID), foreign.Error(), name)
	}
	apis, total, err := w.apis.List(ctx, stranger, Filter{Page: page})
	require.NoError(t, err)
	require.Empty(t, apis)
	require.Zero(t, total)
	require.Equal(t, before, w.count(t))
}

func TestAPIsAreListedByFilterAndPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.create(t, w.spec("chat-one"))
	second := w.spec("Chat-two")
	second.Type = TypeAi
	w.create(t, second)
	third := w.spec("other")
	third.DeployConfigs[0].GatewayID, third.DeployConfigs[0].EnvironmentID, third.DeployConfigs[0].Services[0].ServiceID = w.otherGateway, w.otherEnvironment, w.otherService
	w.create(t, third)
	for _, c := range []struct {
		filter Filter
		want   []string
		total  int
	}{
		{Filter{}, []string{"chat-one", "Chat-two", "other"}, 3},
		{Filter{Page: instance.Page{Number: 2, Size: 2}}, []string{"other"}, 3},
		{Filter{Page: instance.Page{Number: 3, Size: 2}}, []string{}, 3},
		{Filter{Name: "chat"}, []string{}, 0},
		{Filter{Name: "other"}, []string{"other"}, 1},
		{Filter{Keyword: "CHAT"}, []string{"chat-one", "Chat-two"}, 2},
		{Filter{Keyword: "%"}, []string{}, 0},
		{Filter{Keyword: first.ID}, []string{"chat-one"}, 1},
		{Filter{Types: []string{TypeAi}}, []string{"Chat-two"}, 1},
		{Filter{Types: []string{TypeAi, TypeLLM}, GatewayID: w.otherGateway}, []string{"other"}, 1},
		{Filter{EnvironmentID: w.environment}, []string{"chat-one", "Chat-two"}, 2},
		{Filter{ResourceGroupID: "rg-none"}, []string{}, 0},
	} {
		if c.filter.Page.Size == 0 {
			c.filter.Page = instance.Page{Number: 1, Size: 10}
		}
		apis, total, err := w.apis.List(t.Context(), account, c.filter)
		require.NoError(t, err)
		require.Equal(t, c.want, routeNames(apis, func(a API) string { return a.Name }), "%+v", c.filter)
		require.Equal(t, c.total, total)
	}
}

func TestEveryChangeHasItsAuditRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rows := 0
	call := func(want string, do func(entry *audit.Entry)) {
		t.Helper()
		entry := &audit.Entry{RequestID: fmt.Sprint("request-", rows), AccountID: account, Principal: "acs:ram::1:root", Outcome: audit.Failed}
		do(entry)
		rows++
		var got string
		require.NoError(t, w.Owner.QueryRow(t.Context(), `
			SELECT outcome || ' ' || resource_id FROM audit_event WHERE request_id = $1`, entry.RequestID).Scan(&got))
		require.Equal(t, "done "+want, got)
	}
	var api API
	var r Route
	var err error
	// The id is only known afterwards.
	entry := &audit.Entry{RequestID: "create", AccountID: account, Principal: "acs:ram::1:user/alice", Outcome: audit.Failed}
	api, err = w.apis.Create(audit.With(t.Context(), entry), account, w.spec("chat"))
	require.NoError(t, err)
	require.Equal(t, []any{audit.Done, api.ID}, []any{entry.Outcome, entry.ResourceID})
	revisions, _, err := w.apis.ListRevisions(t.Context(), account, api.ID, instance.Page{Number: 1, Size: 1})
	require.NoError(t, err)
	require.Equal(t, "acs:ram::1:user/alice", revisions[0].Author)
	entry = &audit.Entry{RequestID: "route", AccountID: account, Outcome: audit.Failed}
	r, err = w.apis.CreateRoute(audit.With(t.Context(), entry), account, api.ID, RouteSpec{Name: "x", Match: Match{Path: PathMatch{Exact, "/x"}}})
	require.NoError(t, err)
	require.Equal(t, []any{audit.Done, r.ID}, []any{entry.Outcome, entry.ResourceID})
	call(api.ID, func(e *audit.Entry) {
		_, err := w.apis.Update(audit.With(t.Context(), e), account, api.ID, UpdateSpec{BasePath: "/x"})
		require.NoError(t, err)
	})
	call(r.ID, func(e *audit.Entry) {
		_, err := w.apis.UpdateRoute(audit.With(t.Context(), e), account, api.ID, r.ID, RouteUpdate{Description: to("x")})
		require.NoError(t, err)
	})
	call(r.ID, func(e *audit.Entry) {
		require.NoError(t, w.apis.DeleteRoute(audit.With(t.Context(), e), account, api.ID, r.ID))
	})
	call(api.ID, func(e *audit.Entry) {
		_, err := w.apis.Undeploy(audit.With(t.Context(), e), account, api.ID)
		require.NoError(t, err)
	})
	call(api.ID, func(e *audit.Entry) {
		_, err := w.apis.Deploy(audit.With(t.Context(), e), account, api.ID)
		require.NoError(t, err)
	})
	call(api.ID, func(e *audit.Entry) {
		_, err := w.apis.Rollback(audit.With(t.Context(), e), account, api.ID, 1)
		require.NoError(t, err)
	})
	call(api.ID, func(e *audit.Entry) {
		require.NoError(t, w.apis.Delete(audit.With(t.Context(), e), account, api.ID))
	})
}

func TestConcurrentEditsOfOneAPIAllCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	api := w.create(t, w.spec("chat"))
	const calls = 16
	errs := make([]error, 2*calls)
	var wait sync.WaitGroup
	for i := range calls {
		wait.Go(func() {
			_, errs[i] = w.apis.CreateRoute(t.Context(), account, api.ID, RouteSpec{Name: fmt.Sprint("r", i), Match: Match{Path: PathMatch{Exact, fmt.Sprint("/r", i)}}})
		})
		wait.Go(func() { _, errs[calls+i] = w.apis.Deploy(t.Context(), account, api.ID) })
	}
	wait.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	now, err := w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	require.Len(t, now.Routes, 3+calls)
	require.EqualValues(t, calls+2, now.DeployedRevision)
	require.Len(t, w.served(t, api.ID).Routes, 3+calls)
}

// What a deployed API names cannot go away under it.
func TestADomainInUseCannotBeDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.spec("chat")
	spec.DeployConfigs[0].CustomDomainIDs = []string{w.domain}
	api := w.create(t, spec)
	config := w.config()
	config.CustomDomainIDs = []string{}
	_, err := w.apis.Update(t.Context(), account, api.ID, UpdateSpec{BasePath: "/chat", DeployConfigs: []DeployConfig{config}, OnlyChangeConfig: true})
	require.NoError(t, err)
	_, err = w.Control.Exec(t.Context(), `DELETE FROM domain WHERE id = $1`, w.domain)
	require.Error(t, err, "gateways serve it still")
	_, err = w.apis.Deploy(t.Context(), account, api.ID)
	require.NoError(t, err)
	_, err = w.Control.Exec(t.Context(), `DELETE FROM domain WHERE id = $1`, w.domain)
	require.NoError(t, err)
}
