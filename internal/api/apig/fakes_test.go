package apig_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/api/apig"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
	"github.com/engineshed/engineshed/internal/trial"
	"github.com/engineshed/engineshed/internal/usage"
)

// The ids that the examples of the document name, which are those of Account.
const (
	body          = "-0123456789abcdefghij"
	apiID         = "api" + body
	routeID       = "hr" + body
	gatewayID     = "gw" + body
	environmentID = "env" + body
	domainID      = "d" + body
	serviceID     = "svc" + body
	consumerID    = "cs" + body
	groupID       = "csg" + body
	ruleID        = "car" + body
	consumerKey   = "sk-consumer-key-WXYZ"
)

var created = time.UnixMilli(1772357400000)

// domain stands in for the packages behind the handlers: it keeps what it was asked, and Account owns everything in it.
type domain struct {
	db  *pgxpool.Pool // for the audit row that a real one writes in its transaction
	err error

	gateway http.HandlerFunc // that trials go through

	asked []any // of the last call
	key   idempotency.Key
	api   modelapi.API // what Get answers
}

// own returns notFound to whoever is not Account, and for ids that are not those above.
func (d *domain) own(notFound error, accountID string, ids ...string) error {
	for _, id := range ids {
		if accountID != apitest.Account || !strings.HasSuffix(id, body) {
			return notFound
		}
	}
	return d.err
}

// done is own for what changes something.
func (d *domain) done(ctx context.Context, notFound error, accountID string, ids ...string) error {
	if err := d.own(notFound, accountID, ids...); err != nil {
		return err
	}
	return audit.Insert(ctx, d.db, audit.From(ctx))
}

func (d *domain) saw(asked ...any) { d.asked = asked }

type apis struct{ *domain }

func (a apis) Create(ctx context.Context, accountID string, spec modelapi.Spec) (modelapi.API, error) {
	a.saw(spec)
	return a.api, a.done(ctx, nil, accountID)
}

func (a apis) Get(_ context.Context, accountID, id string) (modelapi.API, error) {
	return a.api, a.own(modelapi.ErrNotFound, accountID, id)
}

func (a apis) List(_ context.Context, _ string, filter modelapi.Filter) ([]modelapi.API, int, error) {
	a.saw(filter)
	return []modelapi.API{a.api}, 7, a.err
}

func (a apis) Update(ctx context.Context, accountID, id string, spec modelapi.UpdateSpec) (modelapi.API, error) {
	a.saw(spec)
	return a.api, a.done(ctx, modelapi.ErrNotFound, accountID, id)
}

func (a apis) Delete(ctx context.Context, accountID, id string) error {
	return a.done(ctx, modelapi.ErrNotFound, accountID, id)
}

func (a apis) Deploy(ctx context.Context, accountID, id string) (modelapi.API, error) {
	return a.api, a.done(ctx, modelapi.ErrNotFound, accountID, id)
}

func (a apis) Undeploy(ctx context.Context, accountID, id string) (modelapi.API, error) {
	return a.api, a.done(ctx, modelapi.ErrNotFound, accountID, id)
}

func (a apis) ListRevisions(_ context.Context, accountID, id string, page instance.Page) ([]modelapi.Revision, int, error) {
	a.saw(page)
	revision := modelapi.Revision{ID: "apr" + body, Number: 3, Deployed: true, Author: "acs:ram::1:root", CreatedAt: created}
	return []modelapi.Revision{revision}, 3, a.own(modelapi.ErrNotFound, accountID, id)
}

func (a apis) Rollback(ctx context.Context, accountID, id string, number int64) (modelapi.API, error) {
	a.saw(number)
	return a.api, a.done(ctx, modelapi.ErrNotFound, accountID, id)
}

// DescribeRevision knows one: an unknown one answers as an unknown API, for the walk over all ids.
func (a apis) DescribeRevision(_ context.Context, accountID, id, ref string) (modelapi.Revision, modelapi.Document, error) {
	a.saw(ref)
	revision := modelapi.Revision{ID: "apr" + body, Number: 3, Deployed: true, Author: "acs:ram::1:root", CreatedAt: created}
	return revision, document(), a.own(modelapi.ErrNotFound, accountID, id, ref)
}

func (a apis) Diff(_ context.Context, accountID, id string, from, to int64) (modelapi.Difference, error) {
	a.saw(from, to)
	changes := []modelapi.Change{{Path: "basePath", Before: "/a", After: "/b"}, {Path: "routes[x]", After: true}}
	return modelapi.Difference{From: from, To: to, Changes: changes}, a.own(modelapi.ErrNotFound, accountID, id)
}

func (a apis) Export(_ context.Context, accountID, id string, number int64) (modelapi.Document, error) {
	a.saw(number)
	return document(), a.own(modelapi.ErrNotFound, accountID, id)
}

func (a apis) Import(ctx context.Context, accountID string, doc modelapi.Document, dryRun bool, may func(id string) error) (modelapi.Imported, error) {
	a.saw(doc, dryRun)
	id := apiID
	if doc.Name == "new" {
		id = ""
	}
	if err := may(id); err != nil {
		return modelapi.Imported{}, err
	}
	return modelapi.Imported{ID: id, Name: doc.Name, Revision: 2, Changes: []modelapi.Change{}}, a.done(ctx, nil, accountID)
}

func (a apis) Decide(_ context.Context, _ string, question modelapi.Question) (modelapi.Decision, error) {
	a.saw(question)
	if question.Path == "/nowhere" {
		return modelapi.Decision{Status: 405, Code: "method_not_allowed", Reason: "why", Path: "/nowhere", Allow: "POST"}, a.err
	}
	return modelapi.Decision{
		Status: 200, Reason: "forwarded", Path: "/chat/v1/chat/completions", API: &snapshot.ModelAPI{ID: apiID, Name: "chat", BasePath: "/chat", Revision: 2},
		Route:         &snapshot.Route{ID: routeID, Name: "chat-completions", PathType: "Exact", Path: "/v1/chat/completions", Protocol: "OpenAI/v1"},
		Authorization: modelapi.Allowed, Service: &snapshot.AIService{ID: serviceID, Name: "ours", ModelServiceID: "ms" + body},
		UpstreamPath: "/v1/chat/completions", Model: "qwen-plus", Policies: []string{"AiStatistics"},
		Shares: []modelapi.Share{{ServiceID: serviceID, Name: "ours", Model: "qwen-plus", Weight: 70}, {ServiceID: serviceID, Weight: 30}},
		Scene:  "LeastBusy", Candidates: []modelapi.Candidate{{ServiceID: serviceID, Name: "ours", Model: "m", Share: 0.8, Window: 50}, {ServiceID: serviceID}},
		Fallback: &modelapi.DecidedFallback{After: []string{modelapi.UpstreamCode}, Services: []modelapi.FallbackTarget{
			{ServiceID: serviceID, Name: "ours", Model: "m", UpstreamPath: "/v1/chat/completions"}, {ServiceID: serviceID},
		}},
		Limits: &snapshot.Limits{FirstContent: 3000, Concurrent: 7, ReplicaChoice: snapshot.PrefixAware},
	}, a.err
}

// trials are real ones, through a gateway that is the test's.
type trials struct {
	*domain
	real *trial.Trials
}

func newTrials(t *testing.T, d *domain) trials {
	t.Helper()
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.gateway(w, r) }))
	t.Cleanup(gateway.Close)
	return trials{d, trial.New(trial.Config{APIs: d, Consumers: consumers{d}, Audit: d, Gateway: gateway.URL})}
}

func (t trials) Start(ctx context.Context, accountID, id string, spec trial.Spec) (*trial.Trial, error) {
	t.saw(spec)
	if err := t.own(modelapi.ErrNotFound, accountID, id); err != nil {
		return nil, err
	}
	return t.real.Start(ctx, accountID, id, spec)
}

func (d *domain) Published(context.Context, string, string) (*snapshot.ModelAPI, error) {
	return &snapshot.ModelAPI{ID: apiID, Name: "chat", Category: "Text", Protocols: []string{"OpenAI/v1"}, BasePath: "/chat", Hosts: []string{"a.example.com"}}, nil
}

func (d *domain) Decide(ctx context.Context, accountID string, question modelapi.Question) (modelapi.Decision, error) {
	asked := d.asked
	defer func() { d.asked = asked }()
	return apis{d}.Decide(ctx, accountID, question)
}

func (d *domain) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return d.db.Exec(ctx, sql, args...)
}

// say answers as a model that streams.
func say(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, `data: {"choices":[{"delta":{"content":"hello","reasoning":"hm"},"finish_reason":"stop"}],`+
		`"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`+"\n\ndata: [DONE]\n\n")
}

// document says everything that a document can say.
func document() modelapi.Document {
	return modelapi.Document{
		Format: modelapi.DocumentFormat, Name: "chat", Type: modelapi.TypeLLM, ModelCategory: "Text", AIProtocols: []string{"OpenAI/v1"},
		BasePath: "/chat", RemoveBasePath: true, Protocols: []string{"HTTP"}, Description: "a note", EnableAuth: true,
		AuthConfig: &modelapi.AuthConfig{AuthType: "Apikey", AuthMode: "Custom"}, Gateway: "models", Environment: "staging",
		SubDomain: true, Domains: []string{"models.example.com"}, AutoDeploy: true, BackendScene: modelapi.ByModelName,
		Services:         []modelapi.ServiceDocument{{Name: "qwen", ModelName: "qwen-plus", ModelNamePattern: "qwen-*"}, {Name: "qwen", ModelNamePattern: "*"}},
		FirstByteTimeout: 1500, TrafficConfig: modelapi.TrafficConfig{
			ConnectTimeout: 1, IdleTimeout: 2, MaxConcurrency: 3, MaxQueue: 4, ReplicaSelection: modelapi.PrefixAware,
		},
		PolicyConfigs: []modelapi.PolicyDocument{
			{Type: "AiStatistics", AiStatistics: &modelapi.AiStatistics{LogRequestContent: true}},
			{Type: "AiFallback", Enable: true, AiFallback: &modelapi.FallbackDocument{
				OnlyRedirectUpstreamCode: true, Services: []modelapi.FallbackServiceDocument{{Name: "other", TargetModelName: "m"}, {Name: "qwen"}},
			}},
		},
		Routes: []modelapi.RouteDocument{{
			Name: "search", Description: "finds", Match: modelapi.Match{
				Path: modelapi.PathMatch{Type: "Exact", Value: "/v1/search"}, Methods: []string{"POST"},
				Headers: []modelapi.ValueMatch{{Name: "X-Team", Type: "Exact", Value: "a"}}, QueryParams: []modelapi.ValueMatch{},
			},
			Backend: &modelapi.BackendDocument{Scene: "MultiServiceByRatio", Services: []modelapi.ServiceDocument{
				{Name: "other", Weight: 70}, {Name: "qwen", ModelName: "qwen-plus", Weight: 30},
			}},
			PolicyConfigs: []modelapi.PolicyDocument{{Type: "AiFallback", AiFallback: &modelapi.FallbackDocument{
				Services: []modelapi.FallbackServiceDocument{{Name: "qwen"}},
			}}},
		}, {
			Name: "watched", Match: modelapi.Match{
				Path: modelapi.PathMatch{Type: "Exact", Value: "/w"}, Methods: []string{}, Headers: []modelapi.ValueMatch{}, QueryParams: []modelapi.ValueMatch{},
			},
			Backend: &modelapi.BackendDocument{Scene: modelapi.ByObservability, Services: []modelapi.ServiceDocument{
				{Name: "other", Observability: &modelapi.Observability{Mode: "LeastBusy", QueueSize: 50, RateLimit: 0.8}},
				{Name: "qwen", Observability: &modelapi.Observability{Mode: "LeastBusy"}},
			}},
			PolicyConfigs: []modelapi.PolicyDocument{},
		}},
		Consumers: []string{"alice"}, ConsumerGroups: []string{},
	}
}

type routes struct{ *domain }

func route() modelapi.Route {
	return modelapi.Route{
		RouteDefinition: modelapi.RouteDefinition{
			ID: routeID, Name: "search", Builtin: true,
			Match: modelapi.Match{Path: modelapi.PathMatch{Type: "Exact", Value: "/v1/search"}, Methods: []string{"POST"}},
		},
		APIID: apiID, DeployStatus: modelapi.NotDeployed, CreatedAt: created, UpdatedAt: created,
	}
}

func (r routes) CreateRoute(ctx context.Context, accountID, id string, spec modelapi.RouteSpec) (modelapi.Route, error) {
	r.saw(spec)
	return route(), r.done(ctx, modelapi.ErrNotFound, accountID, id)
}

func (r routes) GetRoute(_ context.Context, accountID, id, routeID string) (modelapi.Route, error) {
	return route(), r.own(modelapi.ErrNotFound, accountID, id, routeID)
}

func (r routes) ListRoutes(_ context.Context, accountID, id string, filter modelapi.RouteFilter) ([]modelapi.Route, int, error) {
	r.saw(filter)
	return []modelapi.Route{route()}, 1, r.own(modelapi.ErrNotFound, accountID, id)
}

func (r routes) UpdateRoute(ctx context.Context, accountID, id, routeID string, update modelapi.RouteUpdate) (modelapi.Route, error) {
	r.saw(update)
	return route(), r.done(ctx, modelapi.ErrNotFound, accountID, id, routeID)
}

func (r routes) DeleteRoute(ctx context.Context, accountID, id, routeID string) error {
	return r.done(ctx, modelapi.ErrNotFound, accountID, id, routeID)
}

// entrance is gateways, environments and domains.
type entrance struct{ *domain }

func gateway() ingress.Gateway {
	return ingress.Gateway{
		ID: gatewayID, Name: "models", Status: "Running", ResourceGroupID: "rg-default", Tags: []resource.Tag{{Key: "team", Value: "search"}},
		Environments: []ingress.Environment{environment()}, CreatedAt: created, UpdatedAt: created,
	}
}

func environment() ingress.Environment {
	return ingress.Environment{
		ID: environmentID, GatewayID: gatewayID, GatewayName: "models", Name: "staging", Alias: "s", Default: true,
		SubDomain: environmentID + ".localhost", ResourceGroupID: "rg-default", CreatedAt: created, UpdatedAt: created,
	}
}

func host() ingress.Domain {
	return ingress.Domain{
		ID: domainID, Name: "models.example.com", Protocol: "HTTPS", ForceHTTPS: true, HTTP2: "Open", CertIdentifier: "models",
		TLSMin: "TLS1.2", ResourceGroupID: "rg-default", CreatedAt: created, UpdatedAt: created,
	}
}

func (e entrance) CreateGateway(ctx context.Context, accountID string, spec ingress.GatewaySpec) (ingress.Gateway, error) {
	e.saw(spec)
	return gateway(), e.done(ctx, nil, accountID)
}

func (e entrance) GetGateway(_ context.Context, accountID, id string) (ingress.Gateway, error) {
	return gateway(), e.own(ingress.ErrGatewayNotFound, accountID, id)
}

func (e entrance) ListGateways(_ context.Context, _ string, filter ingress.GatewayFilter) ([]ingress.Gateway, int, error) {
	e.saw(filter)
	return []ingress.Gateway{gateway()}, 1, e.err
}

func (e entrance) UpdateGatewayName(ctx context.Context, accountID, id, name string) error {
	e.saw(name)
	return e.done(ctx, ingress.ErrGatewayNotFound, accountID, id)
}

func (e entrance) DeleteGateway(ctx context.Context, accountID, id string) error {
	return e.done(ctx, ingress.ErrGatewayNotFound, accountID, id)
}

func (e entrance) CreateEnvironment(ctx context.Context, accountID string, spec ingress.EnvironmentSpec) (ingress.Environment, error) {
	e.saw(spec)
	return environment(), e.done(ctx, ingress.ErrGatewayNotFound, accountID, spec.GatewayID)
}

func (e entrance) GetEnvironment(_ context.Context, accountID, id string) (ingress.Environment, error) {
	return environment(), e.own(ingress.ErrEnvironmentNotFound, accountID, id)
}

func (e entrance) ListEnvironments(_ context.Context, _ string, filter ingress.EnvironmentFilter) ([]ingress.Environment, int, error) {
	e.saw(filter)
	return []ingress.Environment{environment()}, 1, e.err
}

func (e entrance) UpdateEnvironment(ctx context.Context, accountID, id, alias string, description *string) error {
	e.saw(alias, description)
	return e.done(ctx, ingress.ErrEnvironmentNotFound, accountID, id)
}

func (e entrance) DeleteEnvironment(ctx context.Context, accountID, id string) error {
	return e.done(ctx, ingress.ErrEnvironmentNotFound, accountID, id)
}

func (e entrance) CreateDomain(ctx context.Context, accountID string, spec ingress.DomainSpec) (ingress.Domain, error) {
	e.saw(spec)
	return host(), e.done(ctx, nil, accountID)
}

func (e entrance) GetDomain(_ context.Context, accountID, id string) (ingress.Domain, error) {
	return host(), e.own(ingress.ErrDomainNotFound, accountID, id)
}

func (e entrance) ListDomains(_ context.Context, _ string, filter ingress.DomainFilter) ([]ingress.Domain, int, error) {
	e.saw(filter)
	return []ingress.Domain{host()}, 1, e.err
}

func (e entrance) UpdateDomain(ctx context.Context, accountID, id string, change ingress.DomainChange) error {
	e.saw(change)
	return e.done(ctx, ingress.ErrDomainNotFound, accountID, id)
}

func (e entrance) DeleteDomain(ctx context.Context, accountID, id string) error {
	return e.done(ctx, ingress.ErrDomainNotFound, accountID, id)
}

type services struct{ *domain }

func service() aiservice.Service {
	return aiservice.Service{
		ID: serviceID, GatewayID: gatewayID, Name: "qwen", SourceType: aiservice.AI, ResourceGroupID: "rg-default",
		AI: aiservice.AIConfig{
			Provider: "qwen", Protocols: []string{"OpenAI/v1"}, Address: "https://dashscope.aliyuncs.com", APIKeys: []string{"sk-****WXYZ"},
		}, CreatedAt: created, UpdatedAt: created, Heard: true, Health: []aiservice.GatewayHealth{
			{ProcessID: "host/one", ReportedAt: created, ServiceHealth: snapshot.ServiceHealth{Targets: 1, Outliers: []string{"h:1"}}},
			{ProcessID: "host/two", ReportedAt: created, ServiceHealth: snapshot.ServiceHealth{Targets: 1, Keys: 2, KeysSetAside: 1}},
		},
	}
}

func (s services) Create(ctx context.Context, key idempotency.Key, accountID string, spec aiservice.CreateSpec) ([]string, error) {
	s.key = key
	s.saw(spec)
	return []string{serviceID}, s.done(ctx, aiservice.ErrGatewayNotFound, accountID, spec.GatewayID)
}

func (s services) Get(_ context.Context, accountID, id string) (aiservice.Service, error) {
	return service(), s.own(aiservice.ErrNotFound, accountID, id)
}

func (s services) List(_ context.Context, _ string, filter aiservice.Filter) ([]aiservice.Service, int, error) {
	s.saw(filter)
	ours := aiservice.Service{ID: serviceID, GatewayID: gatewayID, SourceType: aiservice.ModelService, ModelServiceID: "ms" + body, CreatedAt: created, UpdatedAt: created}
	return []aiservice.Service{service(), ours}, 2, s.err
}

func (s services) Update(ctx context.Context, accountID, id string, spec aiservice.UpdateSpec) error {
	s.saw(spec)
	return s.done(ctx, aiservice.ErrNotFound, accountID, id)
}

func (s services) Delete(ctx context.Context, accountID, id string) error {
	return s.done(ctx, aiservice.ErrNotFound, accountID, id)
}

type consumers struct{ *domain }

func caller() consumer.Consumer {
	return consumer.Consumer{
		ID: consumerID, Name: "alice", Enabled: true, KeySource: consumer.Default, KeyName: "Authorization",
		Keys: []consumer.Key{{Secret: secret.New(consumerKey), GenerateMode: consumer.System}}, CreatedAt: created, UpdatedAt: created,
		Token: &consumer.TokenIdentity{
			SecretType: consumer.Symmetry, KeySet: secret.New("jwks-canary"), Shown: `{"keys":[]}`, Claim: "uid", Value: "alice",
			Position: consumer.InQuery, Name: "token", Prefix: new(string), Audience: "models",
		},
		AccessKeys: []consumer.AccessKey{
			{ID: "AKMADE", Secret: secret.New("made-for-it"), GenerateMode: consumer.System},
			{ID: "brought-along", Secret: secret.New("sk-canary-WXYZ"), GenerateMode: consumer.Custom},
		},
	}
}

func group() consumer.Group {
	return consumer.Group{ID: groupID, Name: "search-team", Members: 2, CreatedAt: created, UpdatedAt: created}
}

func (c consumers) Create(ctx context.Context, accountID string, spec consumer.Spec) (consumer.Consumer, error) {
	c.saw(spec)
	return caller(), c.done(ctx, nil, accountID)
}

func (c consumers) Get(_ context.Context, accountID, id string) (consumer.Consumer, error) {
	return caller(), c.own(consumer.ErrNotFound, accountID, id)
}

func (c consumers) List(_ context.Context, _ string, filter consumer.Filter) ([]consumer.Consumer, int, error) {
	c.saw(filter)
	return []consumer.Consumer{caller()}, 1, c.err
}

func (c consumers) Update(ctx context.Context, accountID, id string, change consumer.Change) error {
	c.saw(change)
	return c.done(ctx, consumer.ErrNotFound, accountID, id)
}

func (c consumers) Delete(ctx context.Context, accountID, id string) error {
	return c.done(ctx, consumer.ErrNotFound, accountID, id)
}

func (c consumers) CreateGroup(ctx context.Context, accountID, name, description string) (consumer.Group, error) {
	c.saw(name, description)
	return group(), c.done(ctx, nil, accountID)
}

func (c consumers) GetGroup(_ context.Context, accountID, id string) (consumer.Group, error) {
	return group(), c.own(consumer.ErrGroupNotFound, accountID, id)
}

func (c consumers) ListGroups(_ context.Context, _ string, filter consumer.Filter) ([]consumer.Group, int, error) {
	c.saw(filter)
	return []consumer.Group{group()}, 1, c.err
}

func (c consumers) UpdateGroup(ctx context.Context, accountID, id string, change consumer.GroupChange) error {
	c.saw(change)
	return c.done(ctx, consumer.ErrGroupNotFound, accountID, id)
}

func (c consumers) DeleteGroup(ctx context.Context, accountID, id string) error {
	return c.done(ctx, consumer.ErrGroupNotFound, accountID, id)
}

func (c consumers) AddMembers(ctx context.Context, accountID, id string, ids []string) error {
	c.saw(ids)
	return c.done(ctx, consumer.ErrGroupNotFound, accountID, id)
}

func (c consumers) RemoveMembers(ctx context.Context, accountID, id string, ids []string) error {
	c.saw(ids)
	return c.done(ctx, consumer.ErrGroupNotFound, accountID, id)
}

func (c consumers) ListMembers(_ context.Context, accountID, id string, page instance.Page) ([]consumer.Consumer, int, error) {
	c.saw(page)
	return []consumer.Consumer{caller()}, 1, c.own(consumer.ErrGroupNotFound, accountID, id)
}

func (c consumers) CreateRules(ctx context.Context, accountID string, specs []consumer.RuleSpec) ([]string, error) {
	c.saw(specs)
	return []string{ruleID}, c.done(ctx, consumer.ErrAPINotFound, accountID, specs[0].APIID)
}

func (c consumers) ListRules(_ context.Context, _ string, filter consumer.RuleFilter) ([]consumer.Rule, int, error) {
	c.saw(filter)
	rule := consumer.Rule{
		ID: ruleID, APIID: apiID, APIName: "chat", EnvironmentID: environmentID, EnvironmentName: "staging", GatewayID: gatewayID,
		GatewayName: "models", CreatedAt: created, UpdatedAt: created,
	}
	own, grouped := rule, rule
	own.ConsumerID, own.ConsumerName, own.ConsumerEnabled = consumerID, "alice", true
	grouped.GroupID, grouped.GroupName = groupID, "search-team"
	return []consumer.Rule{own, grouped}, 2, c.err
}

func (c consumers) DeleteRules(ctx context.Context, accountID string, ids []string) error {
	c.saw(ids)
	return c.done(ctx, consumer.ErrRuleNotFound, accountID, ids...)
}

type resources struct{ *domain }

func (r resources) Tag(ctx context.Context, accountID, kind string, ids []string, tags []resource.Tag) error {
	r.saw(kind, ids, tags)
	return r.done(ctx, ingress.ErrGatewayNotFound, accountID, ids...)
}

func (r resources) Untag(ctx context.Context, accountID, kind string, ids, keys []string, all bool) error {
	r.saw(kind, ids, keys, all)
	return r.done(ctx, ingress.ErrGatewayNotFound, accountID, ids...)
}

func (r resources) ListTags(_ context.Context, _ string, filter resource.Filter) ([]resource.Tagged, string, error) {
	r.saw(filter)
	return []resource.Tagged{{ResourceID: gatewayID, Kind: "Gateway", Tag: resource.Tag{Key: "team", Value: "search"}}}, "more", r.err
}

func (r resources) Move(ctx context.Context, accountID, kind, id, groupID string) error {
	r.saw(kind, id, groupID)
	return r.done(ctx, ingress.ErrGatewayNotFound, accountID, id)
}

func someAPI() modelapi.API {
	newest := int64(2)
	return modelapi.API{
		ID: apiID,
		Definition: modelapi.Definition{
			Name: "chat", Type: modelapi.TypeLLM, ModelCategory: "Text", AIProtocols: []string{"OpenAI/v1"}, BasePath: "/chat",
			RemoveBasePath: true, Protocols: []string{"HTTP", "HTTPS"}, FirstByteTimeout: 1500,
			TrafficConfig: modelapi.TrafficConfig{MaxConcurrency: 7},
			DeployConfig: modelapi.DeployConfig{
				GatewayID: gatewayID, EnvironmentID: environmentID, BackendScene: modelapi.SingleService, AutoDeploy: true,
				BuiltinRouteNames: []string{"chat-completions"}, Services: []modelapi.ServiceConfig{{ServiceID: serviceID, Name: "qwen"}},
				PolicyConfigs: []modelapi.PolicyConfig{{
					Type: "AiStatistics", Enable: true, AiStatistics: &modelapi.AiStatistics{LogRequestContent: true},
				}},
				CustomDomainIDs: []string{domainID}, EnvDomainIDs: []string{environmentID},
			},
		},
		GatewayName: "models", EnvironmentName: "staging", SubDomain: environmentID + ".localhost",
		CustomDomains:   []modelapi.BoundDomain{{ID: domainID, Name: "models.example.com", Protocol: "HTTPS"}},
		ResourceGroupID: "rg-default", DeployedRevision: 2, DeployStatus: modelapi.Deployed,
		Serving: []modelapi.Serving{
			{ProcessID: "host/one", Revision: &newest, Newest: true, ReportedAt: created},
			{ProcessID: "host/two", GatewayID: gatewayID, ReportedAt: created},
		}, CreatedAt: created, UpdatedAt: created,
	}
}

type used struct{ *domain }

func (u used) List(_ context.Context, _ string, query usage.Query) ([]usage.Sum, int, usage.Query, error) {
	u.saw(query)
	query.From, query.To = created.Add(-time.Hour), created
	first := int64(310)
	return []usage.Sum{{APIID: apiID, APIName: "chat", Model: "qwen-plus", EndState: "complete", Requests: 12, Total: 7168, FirstContent: &first}}, 1, query, u.err
}

// serve answers with a domain that the test may bend.
func serve(t *testing.T) (*apitest.Server, *domain) {
	t.Helper()
	return serveWithin(t, 0)
}

// serveWithin is serve with a bound on the time of one call; 0: the usual one.
func serveWithin(t *testing.T, timeout time.Duration) (*apitest.Server, *domain) {
	t.Helper()
	d := &domain{api: someAPI(), gateway: say}
	product, err := apig.Product(apig.Config{
		APIs: apis{d}, Routes: routes{d}, Gateways: entrance{d}, Environments: entrance{d}, Domains: entrance{d},
		Services: services{d}, Consumers: consumers{d}, Groups: consumers{d}, Rules: consumers{d}, Resources: resources{d}, Trials: newTrials(t, d),
		Usage: used{d},
	})
	require.NoError(t, err)
	s := apitest.Within(t, timeout, product)
	d.db = s.DB.Control
	return s, d
}
