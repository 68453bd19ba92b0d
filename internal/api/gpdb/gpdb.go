// Package gpdb answers the operations of gpdb 2016-05-03: it converts, calls and converts back.
package gpdb

import (
	"context"
	"fmt"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelservice"
	gpdbapi "github.com/engineshed/engineshed/internal/oapi/gpdb"
	"github.com/engineshed/engineshed/internal/operator"
	"github.com/engineshed/engineshed/internal/usage"
	"github.com/engineshed/engineshed/openapi"
)

// Services keeps model services.
type Services interface {
	Create(ctx context.Context, key idempotency.Key, spec modelservice.Spec) (modelservice.Service, error)
	Describe(ctx context.Context, accountID, dbInstanceID, id string) (modelservice.Service, error)
	List(ctx context.Context, accountID, dbInstanceID string, page instance.Page) ([]modelservice.Service, int, error)
	Delete(ctx context.Context, accountID, dbInstanceID, id string) error
	Modify(ctx context.Context, key idempotency.Key, c modelservice.Change) error
	RotateKey(ctx context.Context, key idempotency.Key, accountID, dbInstanceID, id string) error
	Events(ctx context.Context, accountID, dbInstanceID, id string, page instance.Page) ([]modelservice.Event, int, error)
	Log(ctx context.Context, accountID, dbInstanceID, id string, ordinal *int) (modelservice.Log, error)
	ModifyIPs(ctx context.Context, change instance.IPChange) error
	Active(ctx context.Context, accountID string, page instance.Page) ([]modelservice.Service, int, error)
}

// OperatorKeys keeps ModelOperator keys.
type OperatorKeys interface {
	Create(ctx context.Context, accountID, description string) (id int32, err error)
	List(ctx context.Context, accountID string, page instance.Page) ([]operator.Key, int, error)
	Describe(ctx context.Context, accountID string, id int32) (operator.Key, error)
	Delete(ctx context.Context, accountID string, id int32) error
}

// Usage sums up what was used.
type Usage interface {
	Operator(ctx context.Context, accountID string, query usage.OperatorQuery) ([]usage.OperatorSeries, usage.OperatorQuery, error)
}

// Instances keeps DB instances and their AI nodes.
type Instances interface {
	Create(ctx context.Context, key idempotency.Key, spec instance.Spec) (instance.Instance, error)
	List(ctx context.Context, accountID string, filter instance.Filter) ([]instance.Instance, int, error)
	Describe(ctx context.Context, accountID, dbInstanceID string) (inst instance.Instance, allowed string, err error)
	SetResourceGroup(ctx context.Context, accountID, dbInstanceID, groupID string) error
	Delete(ctx context.Context, key idempotency.Key, accountID, dbInstanceID string) error
	Pools(ctx context.Context, accountID, dbInstanceID string) ([]instance.Pool, error)
	AddNodes(ctx context.Context, accountID, dbInstanceID, poolID string, specs []instance.NodeSpec) (names []string, err error)
	DeleteNodes(ctx context.Context, deletion instance.Deletion) (names []string, err error)
	IPArrays(ctx context.Context, accountID, dbInstanceID, name string) ([]instance.IPArray, error)
	Zones(ctx context.Context) ([]string, error)
}

// Server implements the generated interface.
type Server struct {
	services  Services
	instances Instances
	operators OperatorKeys
	usage     Usage
	models    func() []string // the names in the catalogue
	region    string
}

// Config is what Product needs.
type Config struct {
	Services  Services
	Instances Instances
	Operators OperatorKeys
	Usage     Usage
	Models    func() []string // the names in the catalogue
	Region    string
}

// Product is gpdb as api.New takes it.
func Product(config Config) (api.Product, error) {
	document, err := api.LoadDocument(openapi.Files, "gpdb.yaml")
	if err != nil {
		return api.Product{}, fmt.Errorf("gpdb: %w", err)
	}
	server := &Server{
		services: config.Services, instances: config.Instances, operators: config.Operators, usage: config.Usage,
		models: config.Models, region: config.Region,
	}
	strict := gpdbapi.NewStrictHandlerWithOptions(server, nil, gpdbapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: api.Fail, ResponseErrorHandlerFunc: api.Fail,
	})
	return api.Product{Name: "gpdb", Version: document.Info.Version, Document: document, Handler: gpdbapi.Handler(strict)}, nil
}
