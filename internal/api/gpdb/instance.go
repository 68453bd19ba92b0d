package gpdb

import (
	"context"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/idempotency"
	gpdbapi "github.com/engineshed/engineshed/internal/oapi/gpdb"
)

// CreateDBInstance makes an instance with its AI nodes.
func (s *Server) CreateDBInstance(ctx context.Context, req gpdbapi.CreateDBInstanceRequestObject) (gpdbapi.CreateDBInstanceResponseObject, error) {
	created, err := s.instances.Create(ctx, idempotency.KeyFrom(ctx), toInstanceSpec(access.CallerFrom(ctx).AccountID, req.Body))
	if err != nil {
		return nil, err
	}
	return gpdbapi.CreateDBInstance200JSONResponse{RequestId: api.RequestID(ctx), DBInstanceId: created.ID, OrderId: created.ID}, nil
}

// DescribeDBInstances shows one page of the account's instances.
func (s *Server) DescribeDBInstances(ctx context.Context, req gpdbapi.DescribeDBInstancesRequestObject) (gpdbapi.DescribeDBInstancesResponseObject, error) {
	filter := toFilter(req.Body)
	instances, total, err := s.instances.List(ctx, access.CallerFrom(ctx).AccountID, filter)
	if err != nil {
		return nil, err
	}
	return gpdbapi.DescribeDBInstances200JSONResponse(fromInstances(api.RequestID(ctx), instances, filter.Page, total)), nil
}

// ListAINodePools shows the AI nodes of an instance.
func (s *Server) ListAINodePools(ctx context.Context, req gpdbapi.ListAINodePoolsRequestObject) (gpdbapi.ListAINodePoolsResponseObject, error) {
	pools, err := s.instances.Pools(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId)
	if err != nil {
		return nil, err
	}
	return gpdbapi.ListAINodePools200JSONResponse{RequestId: api.RequestID(ctx), AINodePoolInfos: mapped(pools, fromPool)}, nil
}
