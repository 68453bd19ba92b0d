package apig

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
	"github.com/engineshed/engineshed/internal/resource"
)

// TagResources puts tags on resources.
func (s *Server) TagResources(ctx context.Context, req apigapi.TagResourcesRequestObject) (apigapi.TagResourcesResponseObject, error) {
	if err := s.Resources.Tag(ctx, accountOf(ctx), req.Body.ResourceType, req.Body.ResourceId, mapped(req.Body.Tag, toTag)); err != nil {
		return nil, err
	}
	return apigapi.TagResources200JSONResponse(done(ctx)), nil
}

// UntagResources takes tags off resources.
func (s *Server) UntagResources(ctx context.Context, req apigapi.UntagResourcesRequestObject) (apigapi.UntagResourcesResponseObject, error) {
	asked := req.Params
	err := s.Resources.Untag(ctx, accountOf(ctx), orZero(asked.ResourceType), orZero(asked.ResourceId), orZero(asked.TagKey), orZero(asked.All))
	if err != nil {
		return nil, err
	}
	return apigapi.UntagResources200JSONResponse(done(ctx)), nil
}

// ListTagResources shows one page of the tags on resources.
func (s *Server) ListTagResources(ctx context.Context, req apigapi.ListTagResourcesRequestObject) (apigapi.ListTagResourcesResponseObject, error) {
	page, next, err := s.Resources.ListTags(ctx, accountOf(ctx), toTagFilter(req.Params))
	if err != nil {
		return nil, err
	}
	return apigapi.ListTagResources200JSONResponse(fromTagged(api.RequestID(ctx), page, next)), nil
}

// ChangeResourceGroup puts a resource into another resource group.
func (s *Server) ChangeResourceGroup(ctx context.Context, req apigapi.ChangeResourceGroupRequestObject) (apigapi.ChangeResourceGroupResponseObject, error) {
	asked := req.Params
	if err := s.Resources.Move(ctx, accountOf(ctx), asked.ResourceType, asked.ResourceId, asked.ResourceGroupId); err != nil {
		return nil, err
	}
	id := api.RequestID(ctx)
	return apigapi.ChangeResourceGroup200JSONResponse{Code: "Ok", Message: "success", RequestId: id, UpperRequestId: id}, nil
}

func toTag(tag apigapi.ResourceTag) resource.Tag {
	return resource.Tag{Key: tag.Key, Value: orZero(tag.Value)}
}

func fromTag(tag resource.Tag) apigapi.ResourceTag {
	return apigapi.ResourceTag{Key: tag.Key, Value: &tag.Value}
}

func toTagFilter(params apigapi.ListTagResourcesParams) resource.Filter {
	return resource.Filter{
		Kind:      orZero(params.ResourceType),
		IDs:       orZero(params.ResourceId),
		Tags:      optional(params.Tag, func(t apigapi.TagFilterItem) resource.Tag { return resource.Tag{Key: t.Key, Value: orZero(t.Value)} }),
		NextToken: orZero(params.NextToken),
	}
}

func fromTagged(requestID string, page []resource.Tagged, next string) apigapi.ListTagResourcesResponse {
	return apigapi.ListTagResourcesResponse{
		Code: "Ok", Message: "success", RequestId: requestID, UpperRequestId: requestID, NextToken: next,
		TagResources: mapped(page, func(t resource.Tagged) apigapi.TagResource {
			return apigapi.TagResource{ResourceId: t.ResourceID, ResourceType: t.Kind, TagKey: t.Key, TagValue: t.Value}
		}),
	}
}
