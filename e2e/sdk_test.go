package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// generated is our own SDK. Its parameters are typed, so the strings of a test become JSON first.
type generated struct{ client *sdk.Client }

func newGenerated(t *testing.T, addr string, key credentials) caller {
	t.Helper()
	client, err := sdk.New(sdk.Config{
		Endpoint: "http://" + addr, AccessKeyID: key.id, AccessKeySecret: key.secret, HTTPClient: http.DefaultClient,
	})
	require.NoError(t, err)
	return &generated{client}
}

func (g *generated) call(action string, params map[string]string) (answer, error) {
	ctx, typed := context.Background(), typedParams(params)
	switch action {
	case "CreateDBInstance":
		return through(typed, func(r gpdb.CreateDBInstanceRequest) (any, error) { return g.client.CreateDBInstance(ctx, r) })
	case "ListAINodePools":
		return through(typed, func(r gpdb.ListAINodePoolsRequest) (any, error) { return g.client.ListAINodePools(ctx, r) })
	case "CreateModelService":
		return through(typed, func(r gpdb.CreateModelServiceRequest) (any, error) { return g.client.CreateModelService(ctx, r) })
	case "DescribeModelService":
		return through(typed, func(r gpdb.DescribeModelServiceRequest) (any, error) { return g.client.DescribeModelService(ctx, r) })
	case "ListModelServices":
		return through(typed, func(r gpdb.ListModelServicesRequest) (any, error) { return g.client.ListModelServices(ctx, r) })
	case "DeleteModelService":
		return through(typed, func(r gpdb.DeleteModelServiceRequest) (any, error) { return g.client.DeleteModelService(ctx, r) })
	}
	return nil, errors.New("no such operation in this test: " + action)
}

// through turns the typed parameters into the SDK's request, and its answer into fields.
func through[Request any](typed map[string]any, perform func(Request) (any, error)) (answer, error) {
	var request Request
	if err := remarshal(typed, &request); err != nil {
		return nil, err
	}
	response, err := perform(request)
	if err != nil {
		return nil, sdkRefusal(err)
	}
	var decoded answer
	return decoded, remarshal(response, &decoded)
}

func remarshal(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

func sdkRefusal(err error) error {
	var failure *sdk.Error
	if !errors.As(err, &failure) {
		return err
	}
	r := &refusal{status: failure.StatusCode, code: failure.Code}
	if failure.AccessDeniedDetail != nil {
		_ = remarshal(failure.AccessDeniedDetail, &r.detail)
	}
	return r
}

// typedParams gives the flattened strings of the RPC dialect their types back.
func typedParams(params map[string]string) map[string]any {
	typed := map[string]any{}
	nodes := map[string]any{}
	for name, value := range params {
		switch {
		case strings.HasPrefix(name, "AINodeSpecInfos.1."):
			nodes[strings.TrimPrefix(name, "AINodeSpecInfos.1.")] = value
		case name == "AiNodes" || name == "ModelParams" || name == "Replicas" || name == "EnablePublicConnection":
			typed[name] = json.RawMessage(value)
		default:
			typed[name] = value
		}
	}
	if len(nodes) > 0 {
		typed["AINodeSpecInfos"] = []any{nodes}
	}
	return typed
}
