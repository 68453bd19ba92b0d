package sdk

import (
	"context"
	"net/http"

	"github.com/engineshed/engineshed/sdk/apig"
)

type edit = apig.RequestEditorFn

// data sends a request, signed for an operation of apig, and returns what is in the envelope of the answer.
func data[Data any](c *Client, action string, send func(sign edit) (*http.Response, error)) (*Data, error) {
	r, err := send(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "application/json")
		return c.signer.Sign(r, action, apigVersion)
	})
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	envelope, err := read[struct {
		Data Data `json:"data"`
	}](r)
	if err != nil {
		return nil, err
	}
	return &envelope.Data, nil
}

// done is data for an operation that answers none.
func done(c *Client, action string, send func(sign edit) (*http.Response, error)) error {
	_, err := data[struct{}](c, action, send)
	return err
}

func unlessEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// CreateHttpApi makes a Model API with its default routes.
func (c *Client) CreateHttpApi(ctx context.Context, request apig.CreateHttpApiRequest) (*apig.CreatedHttpApi, error) {
	return data[apig.CreatedHttpApi](c, "CreateHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.CreateHttpApi(ctx, request, sign)
	})
}

// GetHttpApi shows one Model API.
func (c *Client) GetHttpApi(ctx context.Context, id string) (*apig.HttpApiApiInfo, error) {
	return data[apig.HttpApiApiInfo](c, "GetHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.GetHttpApi(ctx, id, sign)
	})
}

// ListHttpApis shows one page of the Model APIs.
func (c *Client) ListHttpApis(ctx context.Context, params apig.ListHttpApisParams) (*apig.HttpApiPage, error) {
	return data[apig.HttpApiPage](c, "ListHttpApis", func(sign edit) (*http.Response, error) {
		return c.apig.ListHttpApis(ctx, &params, sign)
	})
}

// UpdateHttpApi changes a Model API. What is absent stays as it is.
func (c *Client) UpdateHttpApi(ctx context.Context, id string, request apig.UpdateHttpApiRequest) error {
	return done(c, "UpdateHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.UpdateHttpApi(ctx, id, request, sign)
	})
}

// DeleteHttpApi deletes a Model API.
func (c *Client) DeleteHttpApi(ctx context.Context, id string) error {
	return done(c, "DeleteHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.DeleteHttpApi(ctx, id, sign)
	})
}

// DeployHttpApi makes gateways serve a Model API as it is configured now.
func (c *Client) DeployHttpApi(ctx context.Context, id string) (*apig.DeployedHttpApi, error) {
	return data[apig.DeployedHttpApi](c, "DeployHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.DeployHttpApi(ctx, id, apig.DeployHttpApiRequest{}, sign)
	})
}

// UndeployHttpApi makes gateways stop serving a Model API.
func (c *Client) UndeployHttpApi(ctx context.Context, id string) error {
	return done(c, "UndeployHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.UndeployHttpApi(ctx, id, apig.UndeployHttpApiRequest{}, sign)
	})
}

// ListHttpApiRevisions shows one page of what was deployed of a Model API, the latest first.
func (c *Client) ListHttpApiRevisions(ctx context.Context, id string, params apig.ListHttpApiRevisionsParams) (*apig.HttpApiRevisionPage, error) {
	return data[apig.HttpApiRevisionPage](c, "ListHttpApiRevisions", func(sign edit) (*http.Response, error) {
		return c.apig.ListHttpApiRevisions(ctx, id, &params, sign)
	})
}

// RollbackHttpApi deploys an earlier revision of a Model API.
func (c *Client) RollbackHttpApi(ctx context.Context, id string, revision int64) (*apig.DeployedHttpApi, error) {
	return data[apig.DeployedHttpApi](c, "RollbackHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.RollbackHttpApi(ctx, id, apig.RollbackHttpApiRequest{Revision: revision}, sign)
	})
}

// GetHttpApiRevision shows what was deployed of a Model API; ref is the id of the revision or its number.
func (c *Client) GetHttpApiRevision(ctx context.Context, id, ref string) (*apig.HttpApiRevisionContent, error) {
	return data[apig.HttpApiRevisionContent](c, "GetHttpApiRevision", func(sign edit) (*http.Response, error) {
		return c.apig.GetHttpApiRevision(ctx, id, ref, sign)
	})
}

// DiffHttpApiRevision shows what changes from one revision of a Model API to another.
func (c *Client) DiffHttpApiRevision(ctx context.Context, id string, params apig.DiffHttpApiRevisionParams) (*apig.HttpApiDifference, error) {
	return data[apig.HttpApiDifference](c, "DiffHttpApiRevision", func(sign edit) (*http.Response, error) {
		return c.apig.DiffHttpApiRevision(ctx, id, &params, sign)
	})
}

// ExportHttpApi shows a Model API as a document that ImportHttpApi takes in.
func (c *Client) ExportHttpApi(ctx context.Context, id string, params apig.ExportHttpApiParams) (*apig.HttpApiDocument, error) {
	return data[apig.HttpApiDocument](c, "ExportHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.ExportHttpApi(ctx, id, &params, sign)
	})
}

// ImportHttpApi creates or changes the Model API that a document describes.
func (c *Client) ImportHttpApi(ctx context.Context, request apig.ImportHttpApiRequest) (*apig.ImportedHttpApi, error) {
	return data[apig.ImportedHttpApi](c, "ImportHttpApi", func(sign edit) (*http.Response, error) {
		return c.apig.ImportHttpApi(ctx, request, sign)
	})
}

// DescribeRouteDecision explains what gateways do with a request.
func (c *Client) DescribeRouteDecision(ctx context.Context, request apig.DescribeRouteDecisionRequest) (*apig.RouteDecision, error) {
	return data[apig.RouteDecision](c, "DescribeRouteDecision", func(sign edit) (*http.Response, error) {
		return c.apig.DescribeRouteDecision(ctx, request, sign)
	})
}

// ListHttpApiRoutes shows one page of the routes of a Model API.
func (c *Client) ListHttpApiRoutes(ctx context.Context, id string, params apig.ListHttpApiRoutesParams) (*apig.HttpRoutePage, error) {
	return data[apig.HttpRoutePage](c, "ListHttpApiRoutes", func(sign edit) (*http.Response, error) {
		return c.apig.ListHttpApiRoutes(ctx, id, &params, sign)
	})
}

// ListGateways shows one page of the gateways.
func (c *Client) ListGateways(ctx context.Context, params apig.ListGatewaysParams) (*apig.GatewayPage, error) {
	return data[apig.GatewayPage](c, "ListGateways", func(sign edit) (*http.Response, error) {
		return c.apig.ListGateways(ctx, &params, sign)
	})
}

// ListEnvironments shows one page of the environments.
func (c *Client) ListEnvironments(ctx context.Context, params apig.ListEnvironmentsParams) (*apig.EnvironmentPage, error) {
	return data[apig.EnvironmentPage](c, "ListEnvironments", func(sign edit) (*http.Response, error) {
		return c.apig.ListEnvironments(ctx, &params, sign)
	})
}

// CreateDomain makes a domain.
func (c *Client) CreateDomain(ctx context.Context, request apig.CreateDomainRequest) (*apig.CreatedDomain, error) {
	return data[apig.CreatedDomain](c, "CreateDomain", func(sign edit) (*http.Response, error) {
		return c.apig.CreateDomain(ctx, request, sign)
	})
}

// ListDomains shows one page of the domains.
func (c *Client) ListDomains(ctx context.Context, params apig.ListDomainsParams) (*apig.DomainPage, error) {
	return data[apig.DomainPage](c, "ListDomains", func(sign edit) (*http.Response, error) {
		return c.apig.ListDomains(ctx, &params, sign)
	})
}

// DeleteDomain deletes a domain.
func (c *Client) DeleteDomain(ctx context.Context, id string) error {
	return done(c, "DeleteDomain", func(sign edit) (*http.Response, error) {
		return c.apig.DeleteDomain(ctx, id, sign)
	})
}

// CreateService makes upstream services: all of them or none. With a clientToken it happens once.
func (c *Client) CreateService(ctx context.Context, clientToken string, request apig.CreateServiceRequest) (*apig.CreatedServices, error) {
	return data[apig.CreatedServices](c, "CreateService", func(sign edit) (*http.Response, error) {
		return c.apig.CreateService(ctx, &apig.CreateServiceParams{ClientToken: unlessEmpty(clientToken)}, request, sign)
	})
}

// GetService shows one service. Its keys show their last characters only.
func (c *Client) GetService(ctx context.Context, id string) (*apig.Service, error) {
	return data[apig.Service](c, "GetService", func(sign edit) (*http.Response, error) {
		return c.apig.GetService(ctx, id, sign)
	})
}

// ListServices shows one page of the services.
func (c *Client) ListServices(ctx context.Context, params apig.ListServicesParams) (*apig.ServicePage, error) {
	return data[apig.ServicePage](c, "ListServices", func(sign edit) (*http.Response, error) {
		return c.apig.ListServices(ctx, &params, sign)
	})
}

// UpdateService changes a service. What is absent stays as it is.
func (c *Client) UpdateService(ctx context.Context, id string, request apig.UpdateServiceRequest) error {
	return done(c, "UpdateService", func(sign edit) (*http.Response, error) {
		return c.apig.UpdateService(ctx, id, request, sign)
	})
}

// DeleteService deletes a service.
func (c *Client) DeleteService(ctx context.Context, id string) error {
	return done(c, "DeleteService", func(sign edit) (*http.Response, error) {
		return c.apig.DeleteService(ctx, id, sign)
	})
}

// CreateConsumer makes a consumer. GetConsumer shows the keys that were generated.
func (c *Client) CreateConsumer(ctx context.Context, request apig.CreateConsumerRequest) (*apig.CreatedConsumer, error) {
	return data[apig.CreatedConsumer](c, "CreateConsumer", func(sign edit) (*http.Response, error) {
		return c.apig.CreateConsumer(ctx, request, sign)
	})
}

// GetConsumer shows one consumer with its keys.
func (c *Client) GetConsumer(ctx context.Context, id string) (*apig.Consumer, error) {
	return data[apig.Consumer](c, "GetConsumer", func(sign edit) (*http.Response, error) {
		return c.apig.GetConsumer(ctx, id, sign)
	})
}

// ListConsumers shows one page of the consumers, without their keys.
func (c *Client) ListConsumers(ctx context.Context, params apig.ListConsumersParams) (*apig.ConsumerPage, error) {
	return data[apig.ConsumerPage](c, "ListConsumers", func(sign edit) (*http.Response, error) {
		return c.apig.ListConsumers(ctx, &params, sign)
	})
}

// UpdateConsumer changes a consumer. What is absent stays as it is.
func (c *Client) UpdateConsumer(ctx context.Context, id string, request apig.UpdateConsumerRequest) error {
	return done(c, "UpdateConsumer", func(sign edit) (*http.Response, error) {
		return c.apig.UpdateConsumer(ctx, id, request, sign)
	})
}

// DeleteConsumer deletes a consumer.
func (c *Client) DeleteConsumer(ctx context.Context, id string) error {
	return done(c, "DeleteConsumer", func(sign edit) (*http.Response, error) {
		return c.apig.DeleteConsumer(ctx, id, sign)
	})
}

// CreateConsumerAuthorizationRules lets consumers and groups call Model APIs.
func (c *Client) CreateConsumerAuthorizationRules(ctx context.Context, request apig.CreateConsumerAuthorizationRulesRequest) (*apig.CreatedConsumerAuthorizationRules, error) {
	return data[apig.CreatedConsumerAuthorizationRules](c, "CreateConsumerAuthorizationRules", func(sign edit) (*http.Response, error) {
		return c.apig.CreateConsumerAuthorizationRules(ctx, request, sign)
	})
}

// QueryConsumerAuthorizationRules shows one page of the authorization rules.
func (c *Client) QueryConsumerAuthorizationRules(ctx context.Context, params apig.QueryConsumerAuthorizationRulesParams) (*apig.ConsumerAuthorizationRulePage, error) {
	return data[apig.ConsumerAuthorizationRulePage](c, "QueryConsumerAuthorizationRules", func(sign edit) (*http.Response, error) {
		return c.apig.QueryConsumerAuthorizationRules(ctx, &params, sign)
	})
}

// RemoveConsumerAuthorizationRule deletes an authorization rule.
func (c *Client) RemoveConsumerAuthorizationRule(ctx context.Context, id string) error {
	return done(c, "RemoveConsumerAuthorizationRule", func(sign edit) (*http.Response, error) {
		return c.apig.RemoveConsumerAuthorizationRule(ctx, id, sign)
	})
}

// TagResources puts tags on resources of one type: on all of them or on none.
func (c *Client) TagResources(ctx context.Context, request apig.TagResourcesRequest) error {
	return done(c, "TagResources", func(sign edit) (*http.Response, error) {
		return c.apig.TagResources(ctx, request, sign)
	})
}

// UntagResources takes tags off resources of one type.
func (c *Client) UntagResources(ctx context.Context, params apig.UntagResourcesParams) error {
	return done(c, "UntagResources", func(sign edit) (*http.Response, error) {
		return c.apig.UntagResources(ctx, &params, sign)
	})
}

// ListTagResources shows one page of the tags on resources of one type.
func (c *Client) ListTagResources(ctx context.Context, params apig.ListTagResourcesParams) (*apig.ListTagResourcesResponse, error) {
	r, err := c.apig.ListTagResources(ctx, &params, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "application/json")
		return c.signer.Sign(r, "ListTagResources", apigVersion)
	})
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return read[apig.ListTagResourcesResponse](r)
}

// ChangeResourceGroup puts a resource into another resource group.
func (c *Client) ChangeResourceGroup(ctx context.Context, params apig.ChangeResourceGroupParams) error {
	return done(c, "ChangeResourceGroup", func(sign edit) (*http.Response, error) {
		return c.apig.ChangeResourceGroup(ctx, &params, sign)
	})
}

// ListUsage shows one page of what was used, summed up.
func (c *Client) ListUsage(ctx context.Context, params apig.ListUsageParams) (*apig.UsagePage, error) {
	return data[apig.UsagePage](c, "ListUsage", func(sign edit) (*http.Response, error) {
		return c.apig.ListUsage(ctx, &params, sign)
	})
}
