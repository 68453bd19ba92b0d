package gpdb

import (
	"context"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	gpdbapi "github.com/engineshed/engineshed/internal/oapi/gpdb"
)

// ListAINodePools shows the AI nodes of an instance.
func (s *Server) ListAINodePools(ctx context.Context, req gpdbapi.ListAINodePoolsRequestObject) (gpdbapi.ListAINodePoolsResponseObject, error) {
	pools, err := s.instances.Pools(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId)
	if err != nil {
		return nil, err
	}
	return gpdbapi.ListAINodePools200JSONResponse{RequestId: api.RequestID(ctx), AINodePoolInfos: mapped(pools, fromPool)}, nil
}

// AddAINode adds AI nodes to an instance.
func (s *Server) AddAINode(ctx context.Context, req gpdbapi.AddAINodeRequestObject) (gpdbapi.AddAINodeResponseObject, error) {
	names, err := s.instances.AddNodes(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId,
		orZero(req.Body.AINodePoolId), mapped(req.Body.AINodeSpecInfos, toAddedNodeSpec))
	if err != nil {
		return nil, err
	}
	return gpdbapi.AddAINode200JSONResponse{RequestId: api.RequestID(ctx), OrderId: req.Body.DBInstanceId, NodeNames: names}, nil
}

// DeleteAINode deletes AI nodes that no model service uses.
func (s *Server) DeleteAINode(ctx context.Context, req gpdbapi.DeleteAINodeRequestObject) (gpdbapi.DeleteAINodeResponseObject, error) {
	names, err := s.instances.DeleteNodes(ctx, toDeletion(access.CallerFrom(ctx).AccountID, req.Body))
	if err != nil {
		return nil, err
	}
	return gpdbapi.DeleteAINode200JSONResponse{RequestId: api.RequestID(ctx), OrderId: req.Body.DBInstanceId, NodeNames: names}, nil
}
