package resourcemanager

import (
	"context"
	"strings"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/fault"
	rmapi "github.com/engineshed/engineshed/internal/oapi/resourcemanager"
	"github.com/engineshed/engineshed/internal/resource"
)

// MoveResources puts resources into a resource group.
func (s *Server) MoveResources(ctx context.Context, req rmapi.MoveResourcesRequestObject) (rmapi.MoveResourcesResponseObject, error) {
	refs := mapped(req.Body.Resources, toRef)
	outcomes, err := s.Resources.MoveAll(ctx, accountOf(ctx), req.Body.ResourceGroupId, refs, func(ref resource.Ref) error { return mayMove(ctx, ref) })
	if err != nil {
		return nil, missing(err)
	}
	responses := make([]rmapi.MoveResponse, len(refs))
	for i, ref := range refs {
		responses[i] = rmapi.MoveResponse{
			RequestId: api.RequestID(ctx), Service: ref.Service, ResourceType: ref.Type, ResourceId: ref.ID, RegionId: s.Region,
			Status: rmapi.MoveSucceeded,
		}
		if refused, ok := fault.From(outcomes[i]); ok {
			responses[i].Status, responses[i].ErrorCode, responses[i].ErrorMsg = rmapi.MoveFailed, refused.Code, refused.Message
		}
	}
	return rmapi.MoveResources200JSONResponse{RequestId: api.RequestID(ctx), Responses: responses}, nil
}

// mayMove asks for the right that the resource's own product asks for when it moves one.
func mayMove(ctx context.Context, ref resource.Ref) error {
	if strings.EqualFold(ref.Service, "gpdb") {
		return api.RequireAction(ctx, "gpdb:ModifyDBInstanceResourceGroup", "acs:gpdb:{region}:{account}:dbinstance/{DBInstanceId}",
			map[string]any{"DBInstanceId": ref.ID})
	}
	return api.RequireAction(ctx, "apig:ChangeResourceGroup", "*", nil)
}

// ListResources shows one page of resources.
func (s *Server) ListResources(ctx context.Context, req rmapi.ListResourcesRequestObject) (rmapi.ListResourcesResponseObject, error) {
	filter := toMemberFilter(accountOf(ctx), req.Body)
	answer := rmapi.ListResources200JSONResponse{
		RequestId: api.RequestID(ctx), PageNumber: int32(filter.PageNumber), PageSize: int32(filter.PageSize),
	}
	answer.Resources.Resource = []rmapi.Resource{}
	if region := orZero(req.Body.Region); region != "" && region != s.Region {
		return answer, nil
	}
	members, total, err := s.Resources.ListMembers(ctx, filter)
	if err != nil {
		return nil, err
	}
	answer.TotalCount, answer.Resources.Resource = int32(total), mapped(members, s.fromMember)
	return answer, nil
}
