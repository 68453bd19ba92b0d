// Package apig answers the operations of apig 2024-03-27: it converts, calls and converts back.
package apig

import (
	"context"
	"fmt"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelapi"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/trial"
	"github.com/engineshed/engineshed/internal/usage"
	"github.com/engineshed/engineshed/openapi"
)

// APIs keeps Model APIs.
type APIs interface {
	Create(ctx context.Context, accountID string, spec modelapi.Spec) (modelapi.API, error)
	Get(ctx context.Context, accountID, id string) (modelapi.API, error)
	List(ctx context.Context, accountID string, filter modelapi.Filter) ([]modelapi.API, int, error)
	Update(ctx context.Context, accountID, id string, spec modelapi.UpdateSpec) (modelapi.API, error)
	Delete(ctx context.Context, accountID, id string) error
	Deploy(ctx context.Context, accountID, id string) (modelapi.API, error)
	Undeploy(ctx context.Context, accountID, id string) (modelapi.API, error)
	ListRevisions(ctx context.Context, accountID, id string, page instance.Page) ([]modelapi.Revision, int, error)
	Rollback(ctx context.Context, accountID, id string, number int64) (modelapi.API, error)
	DescribeRevision(ctx context.Context, accountID, id, ref string) (modelapi.Revision, modelapi.Document, error)
	Diff(ctx context.Context, accountID, id string, from, to int64) (modelapi.Difference, error)
	Export(ctx context.Context, accountID, id string, number int64) (modelapi.Document, error)
	Import(ctx context.Context, accountID string, doc modelapi.Document, dryRun bool, may func(id string) error) (modelapi.Imported, error)
	Decide(ctx context.Context, accountID string, question modelapi.Question) (modelapi.Decision, error)
}

// Routes keeps the routes of Model APIs.
type Routes interface {
	CreateRoute(ctx context.Context, accountID, apiID string, spec modelapi.RouteSpec) (modelapi.Route, error)
	GetRoute(ctx context.Context, accountID, apiID, id string) (modelapi.Route, error)
	ListRoutes(ctx context.Context, accountID, apiID string, filter modelapi.RouteFilter) ([]modelapi.Route, int, error)
	UpdateRoute(ctx context.Context, accountID, apiID, id string, update modelapi.RouteUpdate) (modelapi.Route, error)
	DeleteRoute(ctx context.Context, accountID, apiID, id string) error
}

// Gateways keeps gateways.
type Gateways interface {
	CreateGateway(ctx context.Context, accountID string, spec ingress.GatewaySpec) (ingress.Gateway, error)
	GetGateway(ctx context.Context, accountID, id string) (ingress.Gateway, error)
	ListGateways(ctx context.Context, accountID string, filter ingress.GatewayFilter) ([]ingress.Gateway, int, error)
	UpdateGatewayName(ctx context.Context, accountID, id, name string) error
	DeleteGateway(ctx context.Context, accountID, id string) error
}

// Environments keeps the environments of gateways.
type Environments interface {
	CreateEnvironment(ctx context.Context, accountID string, spec ingress.EnvironmentSpec) (ingress.Environment, error)
	GetEnvironment(ctx context.Context, accountID, id string) (ingress.Environment, error)
	ListEnvironments(ctx context.Context, accountID string, filter ingress.EnvironmentFilter) ([]ingress.Environment, int, error)
	UpdateEnvironment(ctx context.Context, accountID, id, alias string, description *string) error
	DeleteEnvironment(ctx context.Context, accountID, id string) error
}

// Domains keeps host names with their certificates.
type Domains interface {
	CreateDomain(ctx context.Context, accountID string, spec ingress.DomainSpec) (ingress.Domain, error)
	GetDomain(ctx context.Context, accountID, id string) (ingress.Domain, error)
	ListDomains(ctx context.Context, accountID string, filter ingress.DomainFilter) ([]ingress.Domain, int, error)
	UpdateDomain(ctx context.Context, accountID, id string, change ingress.DomainChange) error
	DeleteDomain(ctx context.Context, accountID, id string) error
}

// Services keeps the upstream services of gateways.
type Services interface {
	Create(ctx context.Context, key idempotency.Key, accountID string, spec aiservice.CreateSpec) ([]string, error)
	Get(ctx context.Context, accountID, id string) (aiservice.Service, error)
	List(ctx context.Context, accountID string, filter aiservice.Filter) ([]aiservice.Service, int, error)
	Update(ctx context.Context, accountID, id string, spec aiservice.UpdateSpec) error
	Delete(ctx context.Context, accountID, id string) error
}

// Consumers keeps who may call Model APIs.
type Consumers interface {
	Create(ctx context.Context, accountID string, spec consumer.Spec) (consumer.Consumer, error)
	Get(ctx context.Context, accountID, id string) (consumer.Consumer, error)
	List(ctx context.Context, accountID string, filter consumer.Filter) ([]consumer.Consumer, int, error)
	Update(ctx context.Context, accountID, id string, change consumer.Change) error
	Delete(ctx context.Context, accountID, id string) error
}

// Groups keeps groups of consumers.
type Groups interface {
	CreateGroup(ctx context.Context, accountID, name, description string) (consumer.Group, error)
	GetGroup(ctx context.Context, accountID, id string) (consumer.Group, error)
	ListGroups(ctx context.Context, accountID string, filter consumer.Filter) ([]consumer.Group, int, error)
	UpdateGroup(ctx context.Context, accountID, id string, change consumer.GroupChange) error
	DeleteGroup(ctx context.Context, accountID, id string) error
	AddMembers(ctx context.Context, accountID, id string, consumerIDs []string) error
	RemoveMembers(ctx context.Context, accountID, id string, consumerIDs []string) error
	ListMembers(ctx context.Context, accountID, id string, page instance.Page) ([]consumer.Consumer, int, error)
}

// Rules keeps who may call what.
type Rules interface {
	CreateRules(ctx context.Context, accountID string, specs []consumer.RuleSpec) ([]string, error)
	ListRules(ctx context.Context, accountID string, filter consumer.RuleFilter) ([]consumer.Rule, int, error)
	DeleteRules(ctx context.Context, accountID string, ids []string) error
}

// Resources keeps what resources of every kind have.
type Resources interface {
	Tag(ctx context.Context, accountID, kind string, ids []string, tags []resource.Tag) error
	Untag(ctx context.Context, accountID, kind string, ids, keys []string, all bool) error
	ListTags(ctx context.Context, accountID string, filter resource.Filter) (page []resource.Tagged, next string, err error)
	Move(ctx context.Context, accountID, kind, id, groupID string) error
}

// Trials asks Model APIs something through a gateway.
type Trials interface {
	Start(ctx context.Context, accountID, id string, spec trial.Spec) (*trial.Trial, error)
}

// Usage reads what was used.
type Usage interface {
	List(ctx context.Context, accountID string, query usage.Query) (sums []usage.Sum, total int, of usage.Query, err error)
}

// Config is what Product needs.
type Config struct {
	APIs         APIs
	Routes       Routes
	Gateways     Gateways
	Environments Environments
	Domains      Domains
	Services     Services
	Consumers    Consumers
	Groups       Groups
	Rules        Rules
	Resources    Resources
	Trials       Trials
	Usage        Usage
}

// Server implements the generated interface.
type Server struct{ Config }

// Product is apig as api.New takes it.
func Product(config Config) (api.Product, error) {
	document, err := api.LoadDocument(openapi.Files, "apig.yaml")
	if err != nil {
		return api.Product{}, fmt.Errorf("apig: %w", err)
	}
	strict := apigapi.NewStrictHandlerWithOptions(&Server{config}, nil, apigapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: api.Fail, ResponseErrorHandlerFunc: api.Fail,
	})
	handler := apigapi.HandlerWithOptions(strict, apigapi.StdHTTPServerOptions{ErrorHandlerFunc: api.Fail})
	return api.Product{Name: "apig", Version: document.Info.Version, Document: document, Handler: handler, Paths: true}, nil
}

// answer is a successful answer with data. Its members are in the order of the generated types, which it converts to.
type answer[Data any] struct {
	Code      string
	Data      Data
	Message   string
	RequestId string
}

func success[Data any](ctx context.Context, data Data) answer[Data] {
	return answer[Data]{Code: "Ok", Data: data, Message: "success", RequestId: api.RequestID(ctx)}
}

// done is a successful answer without data.
func done(ctx context.Context) apigapi.Envelope {
	return apigapi.Envelope{Code: "Ok", Message: "success", RequestId: api.RequestID(ctx)}
}

func accountOf(ctx context.Context) string { return access.CallerFrom(ctx).AccountID }
