// Package sdk calls Engineshed's API: a generated client, signed, with errors as values.
package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/engineshed/engineshed/sdk/apig"
	"github.com/engineshed/engineshed/sdk/audit"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// The versions of the APIs that the client speaks.
const (
	gpdbVersion  = "2016-05-03"
	apigVersion  = "2024-03-27"
	auditVersion = "2026-03-01"
)

// Config says where the API is and who calls it.
type Config struct {
	Endpoint        string // http://127.0.0.1:8080
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string       // of a session that AssumeRole began
	HTTPClient      *http.Client // nil: http.DefaultClient
}

// Client calls the API. It is safe for concurrent use. Its methods return an *Error when the API refused.
type Client struct {
	gpdb   *gpdb.Client
	apig   *apig.Client
	audit  *audit.Client
	http   *http.Client
	signer Signer
	server string // the endpoint
}

// New returns a Client. It does not connect yet.
func New(config Config) (*Client, error) {
	switch {
	case !strings.HasPrefix(config.Endpoint, "http://") && !strings.HasPrefix(config.Endpoint, "https://"):
		return nil, fmt.Errorf("the endpoint %q must start with http:// or https://", config.Endpoint)
	case config.AccessKeyID == "" || config.AccessKeySecret == "":
		return nil, errors.New("an access key id and an access key secret are needed")
	}
	httpClient := config.HTTPClient
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	signer := Signer{config.AccessKeyID, config.AccessKeySecret, config.SecurityToken}
	sign := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "application/json")
		return signer.Sign(r, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], gpdbVersion)
	}
	client, err := gpdb.NewClient(config.Endpoint, gpdb.WithHTTPClient(httpClient), gpdb.WithRequestEditorFn(sign))
	if err != nil {
		return nil, fmt.Errorf("make the client: %w", err)
	}
	paths, err := apig.NewClient(config.Endpoint, apig.WithHTTPClient(httpClient))
	if err != nil {
		return nil, fmt.Errorf("make the client: %w", err)
	}
	trail, err := audit.NewClient(config.Endpoint, audit.WithHTTPClient(httpClient))
	if err != nil {
		return nil, fmt.Errorf("make the client: %w", err)
	}
	return &Client{gpdb: client, apig: paths, audit: trail, http: httpClient, signer: signer, server: config.Endpoint}, nil
}

// CreateModelService deploys a model on AI nodes and returns at once; WaitModelService waits until it answers.
func (c *Client) CreateModelService(ctx context.Context, request gpdb.CreateModelServiceRequest) (*gpdb.CreateModelServiceResponse, error) {
	return call[gpdb.CreateModelServiceResponse](ctx, c.gpdb.CreateModelService, request)
}

// DescribeModelService shows one service.
func (c *Client) DescribeModelService(ctx context.Context, request gpdb.DescribeModelServiceRequest) (*gpdb.DescribeModelServiceResponse, error) {
	return call[gpdb.DescribeModelServiceResponse](ctx, c.gpdb.DescribeModelService, request)
}

// ListModelServices shows one page of the services of an instance.
func (c *Client) ListModelServices(ctx context.Context, request gpdb.ListModelServicesRequest) (*gpdb.ListModelServicesResponse, error) {
	return call[gpdb.ListModelServicesResponse](ctx, c.gpdb.ListModelServices, request)
}

// DeleteModelService takes a service down.
func (c *Client) DeleteModelService(ctx context.Context, request gpdb.DeleteModelServiceRequest) (*gpdb.DeleteModelServiceResponse, error) {
	return call[gpdb.DeleteModelServiceResponse](ctx, c.gpdb.DeleteModelService, request)
}

// ModifyModelService changes a service and returns at once; WaitModelServiceChanged waits until it is as asked for.
func (c *Client) ModifyModelService(ctx context.Context, request gpdb.ModifyModelServiceRequest) (*gpdb.ModifyModelServiceResponse, error) {
	return call[gpdb.ModifyModelServiceResponse](ctx, c.gpdb.ModifyModelService, request)
}

// RotateModelServiceApiKey gives a service a new key; the old one is good for five seconds at most.
func (c *Client) RotateModelServiceApiKey(ctx context.Context, request gpdb.RotateModelServiceApiKeyRequest) (*gpdb.RotateModelServiceApiKeyResponse, error) {
	return call[gpdb.RotateModelServiceApiKeyResponse](ctx, c.gpdb.RotateModelServiceApiKey, request)
}

// ListModelServiceEvents shows one page of what happened to a service.
func (c *Client) ListModelServiceEvents(ctx context.Context, request gpdb.ListModelServiceEventsRequest) (*gpdb.ListModelServiceEventsResponse, error) {
	return call[gpdb.ListModelServiceEventsResponse](ctx, c.gpdb.ListModelServiceEvents, request)
}

// GetModelServiceLogs shows the end of an engine's log.
func (c *Client) GetModelServiceLogs(ctx context.Context, request gpdb.GetModelServiceLogsRequest) (*gpdb.GetModelServiceLogsResponse, error) {
	return call[gpdb.GetModelServiceLogsResponse](ctx, c.gpdb.GetModelServiceLogs, request)
}

// ListSupportModels names the models that can be served.
func (c *Client) ListSupportModels(ctx context.Context, request gpdb.ListSupportModelsRequest) (*gpdb.ListSupportModelsResponse, error) {
	return call[gpdb.ListSupportModelsResponse](ctx, c.gpdb.ListSupportModels, request)
}

// ListAINodePools shows the AI nodes of an instance.
func (c *Client) ListAINodePools(ctx context.Context, request gpdb.ListAINodePoolsRequest) (*gpdb.ListAINodePoolsResponse, error) {
	return call[gpdb.ListAINodePoolsResponse](ctx, c.gpdb.ListAINodePools, request)
}

// CreateDBInstance makes an instance with its AI nodes.
func (c *Client) CreateDBInstance(ctx context.Context, request gpdb.CreateDBInstanceRequest) (*gpdb.CreateDBInstanceResponse, error) {
	return call[gpdb.CreateDBInstanceResponse](ctx, c.gpdb.CreateDBInstance, request)
}

// DescribeDBInstances shows one page of the account's instances.
func (c *Client) DescribeDBInstances(ctx context.Context, request gpdb.DescribeDBInstancesRequest) (*gpdb.DescribeDBInstancesResponse, error) {
	return call[gpdb.DescribeDBInstancesResponse](ctx, c.gpdb.DescribeDBInstances, request)
}

// DescribeDBInstanceAttribute shows one instance.
func (c *Client) DescribeDBInstanceAttribute(ctx context.Context, request gpdb.DescribeDBInstanceAttributeRequest) (*gpdb.DescribeDBInstanceAttributeResponse, error) {
	return call[gpdb.DescribeDBInstanceAttributeResponse](ctx, c.gpdb.DescribeDBInstanceAttribute, request)
}

// ModifyDBInstanceResourceGroup moves an instance to another resource group.
func (c *Client) ModifyDBInstanceResourceGroup(ctx context.Context, request gpdb.ModifyDBInstanceResourceGroupRequest) (*gpdb.ModifyDBInstanceResourceGroupResponse, error) {
	return call[gpdb.ModifyDBInstanceResourceGroupResponse](ctx, c.gpdb.ModifyDBInstanceResourceGroup, request)
}

// DeleteDBInstance deletes an instance that has no model services.
func (c *Client) DeleteDBInstance(ctx context.Context, request gpdb.DeleteDBInstanceRequest) (*gpdb.DeleteDBInstanceResponse, error) {
	return call[gpdb.DeleteDBInstanceResponse](ctx, c.gpdb.DeleteDBInstance, request)
}

// DescribeRegions shows the endpoint's region and its zones.
func (c *Client) DescribeRegions(ctx context.Context, request gpdb.DescribeRegionsRequest) (*gpdb.DescribeRegionsResponse, error) {
	return call[gpdb.DescribeRegionsResponse](ctx, c.gpdb.DescribeRegions, request)
}

// AddAINode adds AI nodes to an instance.
func (c *Client) AddAINode(ctx context.Context, request gpdb.AddAINodeRequest) (*gpdb.AddAINodeResponse, error) {
	return call[gpdb.AddAINodeResponse](ctx, c.gpdb.AddAINode, request)
}

// DeleteAINode deletes AI nodes that no model service uses.
func (c *Client) DeleteAINode(ctx context.Context, request gpdb.DeleteAINodeRequest) (*gpdb.DeleteAINodeResponse, error) {
	return call[gpdb.DeleteAINodeResponse](ctx, c.gpdb.DeleteAINode, request)
}

// ModifySecurityIps changes who may call model services.
func (c *Client) ModifySecurityIps(ctx context.Context, request gpdb.ModifySecurityIpsRequest) (*gpdb.ModifySecurityIpsResponse, error) {
	return call[gpdb.ModifySecurityIpsResponse](ctx, c.gpdb.ModifySecurityIps, request)
}

// DescribeDBInstanceIPArrayList shows the IP arrays of an instance.
func (c *Client) DescribeDBInstanceIPArrayList(ctx context.Context, request gpdb.DescribeDBInstanceIPArrayListRequest) (*gpdb.DescribeDBInstanceIPArrayListResponse, error) {
	return call[gpdb.DescribeDBInstanceIPArrayListResponse](ctx, c.gpdb.DescribeDBInstanceIPArrayList, request)
}

// CreateModelOperatorApiKey makes a key that opens every model service of the account.
func (c *Client) CreateModelOperatorApiKey(ctx context.Context, request gpdb.CreateModelOperatorApiKeyRequest) (*gpdb.CreateModelOperatorApiKeyResponse, error) {
	return call[gpdb.CreateModelOperatorApiKeyResponse](ctx, c.gpdb.CreateModelOperatorApiKey, request)
}

// ListModelOperatorApiKeys shows one page of the account's ModelOperator keys, without the keys themselves.
func (c *Client) ListModelOperatorApiKeys(ctx context.Context, request gpdb.ListModelOperatorApiKeysRequest) (*gpdb.ListModelOperatorApiKeysResponse, error) {
	return call[gpdb.ListModelOperatorApiKeysResponse](ctx, c.gpdb.ListModelOperatorApiKeys, request)
}

// DescribeModelOperatorApiKey shows one ModelOperator key.
func (c *Client) DescribeModelOperatorApiKey(ctx context.Context, request gpdb.DescribeModelOperatorApiKeyRequest) (*gpdb.DescribeModelOperatorApiKeyResponse, error) {
	return call[gpdb.DescribeModelOperatorApiKeyResponse](ctx, c.gpdb.DescribeModelOperatorApiKey, request)
}

// DeleteModelOperatorApiKey deletes a ModelOperator key.
func (c *Client) DeleteModelOperatorApiKey(ctx context.Context, request gpdb.DeleteModelOperatorApiKeyRequest) (*gpdb.DeleteModelOperatorApiKeyResponse, error) {
	return call[gpdb.DeleteModelOperatorApiKeyResponse](ctx, c.gpdb.DeleteModelOperatorApiKey, request)
}

// ListModelOperatorServices shows one page of what ModelOperator keys open.
func (c *Client) ListModelOperatorServices(ctx context.Context, request gpdb.ListModelOperatorServicesRequest) (*gpdb.ListModelOperatorServicesResponse, error) {
	return call[gpdb.ListModelOperatorServicesResponse](ctx, c.gpdb.ListModelOperatorServices, request)
}

// DescribeModelOperatorUsage shows what was used with ModelOperator keys.
func (c *Client) DescribeModelOperatorUsage(ctx context.Context, request gpdb.DescribeModelOperatorUsageRequest) (*gpdb.DescribeModelOperatorUsageResponse, error) {
	return call[gpdb.DescribeModelOperatorUsageResponse](ctx, c.gpdb.DescribeModelOperatorUsage, request)
}

const maxResponse = 16 << 20

func call[Response, Request any](
	ctx context.Context, send func(context.Context, Request, ...gpdb.RequestEditorFn) (*http.Response, error), request Request,
) (*Response, error) {
	r, err := send(ctx, request)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return read[Response](r)
}

// read reads an answer, which is a Response or an *Error.
func read[Response any](r *http.Response) (*Response, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if r.StatusCode != http.StatusOK {
		return nil, toError(r.StatusCode, body)
	}
	var response Response
	if err := json.Unmarshal(body, &response); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return &response, nil
}
