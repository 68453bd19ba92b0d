package gpdb_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/api/gpdb"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelservice"
	"github.com/engineshed/engineshed/internal/operator"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/usage"
)

const (
	instanceA = "gp-aaaaaaaaaaaaaaaaaaaa"
	instanceB = "gp-bbbbbbbbbbbbbbbbbbbb"
	serviceID = "ms-ssssssssssssssssssss"
	apiKey    = "sk-0123456789abcdefWXYZ"
)

var (
	errNoInstance = fault.New(fault.NotFound, "InvalidDBInstanceId.NotFound", "The DB instance does not exist.", "Do something else.")
	errBound      = fault.New(fault.Conflict, "OperationDenied.AiNodeBound", "The AI node is used.", "Do something else.")
	created       = time.Date(2026, 3, 1, 17, 30, 0, 999, time.FixedZone("", 8*3600))
)

// domain stands in for model services and instances: it keeps what it was asked and owns instances A and B.
type domain struct {
	db  *pgxpool.Pool // for the audit row that a real domain writes in its transaction
	err error

	key    idempotency.Key
	spec   modelservice.Spec
	page   instance.Page
	filter instance.Filter
	made   instance.Spec
	group  string
	pool   string
	added  []instance.NodeSpec
	tokens map[string]bool

	description string
	query       usage.OperatorQuery

	deletion instance.Deletion
	ips      instance.IPChange
	modify   modelservice.Change
	ordinal  *int
}

func (d *domain) answer(accountID, dbInstanceID string) error {
	if accountID != apitest.Account || !slices.Contains([]string{instanceA, instanceB}, dbInstanceID) {
		return errNoInstance
	}
	return d.err
}

// done writes what changed, or says that the token was used before.
func (d *domain) done(ctx context.Context, key idempotency.Key, resourceID string) error {
	entry := audit.From(ctx)
	entry.ResourceID = resourceID
	if key.Token != "" && d.tokens[key.Token] {
		entry.Outcome = audit.Repeated
		return nil
	}
	d.tokens[key.Token] = true
	return audit.Insert(ctx, d.db, entry)
}

type services struct{ *domain }

func (s services) Create(ctx context.Context, key idempotency.Key, spec modelservice.Spec) (modelservice.Service, error) {
	s.key, s.spec = key, spec
	if err := s.answer(spec.AccountID, spec.DBInstanceID); err != nil {
		return modelservice.Service{}, err
	}
	return modelservice.Service{ID: serviceID}, s.done(ctx, key, serviceID)
}

func (s services) Describe(_ context.Context, accountID, dbInstanceID, _ string) (modelservice.Service, error) {
	return service(), s.answer(accountID, dbInstanceID)
}

func (s services) List(_ context.Context, accountID, dbInstanceID string, page instance.Page) ([]modelservice.Service, int, error) {
	s.page = page
	return []modelservice.Service{service()}, 7, s.answer(accountID, dbInstanceID)
}

func (s services) Delete(ctx context.Context, accountID, dbInstanceID, id string) error {
	if err := s.answer(accountID, dbInstanceID); err != nil {
		return err
	}
	return s.done(ctx, idempotency.Key{}, id)
}

func (s services) RotateKey(ctx context.Context, key idempotency.Key, accountID, dbInstanceID, id string) error {
	if err := s.answer(accountID, dbInstanceID); err != nil {
		return err
	}
	return s.done(ctx, key, id)
}

func (s services) Modify(ctx context.Context, key idempotency.Key, c modelservice.Change) error {
	s.key, s.modify = key, c
	if err := s.answer(c.AccountID, c.DBInstanceID); err != nil {
		return err
	}
	return s.done(ctx, key, c.ID)
}

func (s services) Events(_ context.Context, accountID, dbInstanceID, _ string, page instance.Page) ([]modelservice.Event, int, error) {
	s.page = page
	return []modelservice.Event{{ID: 17, At: created, Kind: modelservice.EventState, Message: "It is active."}}, 7, s.answer(accountID, dbInstanceID)
}

func (s services) Log(_ context.Context, accountID, dbInstanceID, _ string, ordinal *int) (modelservice.Log, error) {
	s.ordinal = ordinal
	return modelservice.Log{Ordinal: 1, NodeName: "ai-1", Generation: 3, Offset: 6, Text: "hello\n", ReadAt: created}, s.answer(accountID, dbInstanceID)
}

func (s services) ModifyIPs(ctx context.Context, change instance.IPChange) error {
	s.ips = change
	return s.change(ctx, idempotency.Key{}, change.AccountID, change.DBInstanceID)
}

func service() modelservice.Service {
	return modelservice.Service{
		ID: serviceID, DBInstanceID: instanceA, ModelName: "m", AINodes: []string{"ai-1"}, Status: modelservice.Degraded,
		StatusReason: "One of two replicas answers.", APIKey: secret.New(apiKey), SecurityIPList: "127.0.0.1",
		ModelParams: map[string]any{"max-model-len": 4096, "dtype": "auto"},
		PrivateURL:  "http://g/services/" + serviceID + "/v1", PublicURL: "http://p/services/" + serviceID + "/v1", CreatedAt: created,
		ReplicaCount: 2, Replicas: []modelservice.Replica{
			{ID: "r-1", Ordinal: 0, NodeName: "ai-1", Host: "h", Status: "active", UpToDate: true},
			{ID: "r-2", Ordinal: 1, NodeName: "ai-2", Host: "h", Status: "failed", Reason: "exited 1"},
		},
	}
}

type instances struct{ *domain }

func (i instances) Create(ctx context.Context, key idempotency.Key, spec instance.Spec) (instance.Instance, error) {
	i.key, i.made = key, spec
	return instance.Instance{ID: instanceA}, i.done(ctx, key, instanceA)
}

func (i instances) List(_ context.Context, _ string, filter instance.Filter) ([]instance.Instance, int, error) {
	i.filter = filter
	return []instance.Instance{{
		ID: instanceA, Description: "d", RegionID: apitest.Region, ResourceGroupID: "rg-default",
		Tags: map[string]string{"b": "2", "a": ""}, CreatedAt: created,
	}}, 3, i.err
}

func (i instances) Pools(_ context.Context, accountID, dbInstanceID string) ([]instance.Pool, error) {
	return []instance.Pool{{ID: "aipool-1", Nodes: []instance.Node{
		{Name: "ai-1", Spec: "s", Host: "h", ModelServiceID: serviceID, CreatedAt: created, UpdatedAt: created},
		{Name: "ai-2", Spec: "s", Host: "h", CreatedAt: created, UpdatedAt: created},
	}}}, i.answer(accountID, dbInstanceID)
}

func (i instances) Describe(_ context.Context, accountID, dbInstanceID string) (instance.Instance, string, error) {
	return instance.Instance{
		ID: instanceA, Description: "d", RegionID: apitest.Region, ResourceGroupID: "rg-default", Tags: map[string]string{"a": "1"}, CreatedAt: created,
	}, "127.0.0.1", i.answer(accountID, dbInstanceID)
}

func (i instances) SetResourceGroup(ctx context.Context, accountID, dbInstanceID, groupID string) error {
	i.group = groupID
	return i.change(ctx, idempotency.Key{}, accountID, dbInstanceID)
}

func (i instances) Delete(ctx context.Context, key idempotency.Key, accountID, dbInstanceID string) error {
	i.key = key
	return i.change(ctx, key, accountID, dbInstanceID)
}

func (i instances) AddNodes(ctx context.Context, accountID, dbInstanceID, poolID string, specs []instance.NodeSpec) ([]string, error) {
	i.pool, i.added = poolID, specs
	return []string{"ai-3"}, i.change(ctx, idempotency.Key{}, accountID, dbInstanceID)
}

func (i instances) DeleteNodes(ctx context.Context, deletion instance.Deletion) ([]string, error) {
	i.deletion = deletion
	return []string{"ai-3"}, i.change(ctx, idempotency.Key{}, deletion.AccountID, deletion.DBInstanceID)
}

func (i instances) IPArrays(_ context.Context, accountID, dbInstanceID, _ string) ([]instance.IPArray, error) {
	return []instance.IPArray{{Name: "default", List: "127.0.0.1"}}, i.answer(accountID, dbInstanceID)
}

func (i instances) Zones(context.Context) ([]string, error) { return []string{"host-a"}, i.err }

func (s services) Active(_ context.Context, _ string, page instance.Page) ([]modelservice.Service, int, error) {
	s.page = page
	return []modelservice.Service{service()}, 7, s.err
}

type operators struct{ *domain }

const operatorID = 1

func (o operators) Create(ctx context.Context, _, description string) (int32, error) {
	o.description = description
	return operatorID, o.done(ctx, idempotency.Key{}, "1")
}

func (o operators) List(_ context.Context, _ string, page instance.Page) ([]operator.Key, int, error) {
	o.page = page
	return []operator.Key{{ID: operatorID, Description: "d", Endpoint: "http://g/operator/v1", CreatedAt: created}}, 7, o.err
}

func (o operators) Describe(_ context.Context, accountID string, id int32) (operator.Key, error) {
	if accountID != apitest.Account || id != operatorID {
		return operator.Key{}, operator.ErrNotFound
	}
	return operator.Key{ID: id, Description: "d", Secret: secret.New(apiKey), Endpoint: "http://g/operator/v1", CreatedAt: created}, o.err
}

func (o operators) Delete(ctx context.Context, accountID string, id int32) error {
	if accountID != apitest.Account || id != operatorID {
		return operator.ErrNotFound
	}
	return o.done(ctx, idempotency.Key{}, "1")
}

func (o operators) Operator(_ context.Context, _ string, query usage.OperatorQuery) ([]usage.OperatorSeries, usage.OperatorQuery, error) {
	o.query = query
	query.From, query.To, query.Period = created, created.Add(time.Minute), time.Minute
	if len(query.Metrics) == 0 {
		query.Metrics = usage.Metrics
	}
	return []usage.OperatorSeries{{Model: "m", KeyID: operatorID, Points: []usage.OperatorPoint{
		{At: created, Requests: 3, Success: 2, Input: 5, Output: 6, All: 11},
	}}}, query, o.err
}

// change is a change of an instance of the account's.
func (d *domain) change(ctx context.Context, key idempotency.Key, accountID, dbInstanceID string) error {
	if err := d.answer(accountID, dbInstanceID); err != nil {
		return err
	}
	return d.done(ctx, key, dbInstanceID)
}

// serve answers with a domain that the test may bend.
func serve(t *testing.T) (*apitest.Server, *domain) {
	t.Helper()
	d := &domain{tokens: map[string]bool{}}
	product, err := gpdb.Product(gpdb.Config{
		Services: services{d}, Instances: instances{d}, Operators: operators{d}, Usage: operators{d},
		Models: func() []string { return []string{"m"} }, Region: apitest.Region,
	})
	require.NoError(t, err)
	s := apitest.New(t, product)
	d.db = s.DB.Control
	return s, d
}
