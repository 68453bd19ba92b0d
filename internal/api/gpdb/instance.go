package gpdb

import (
	"context"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
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

// DescribeDBInstanceAttribute shows one instance.
func (s *Server) DescribeDBInstanceAttribute(ctx context.Context, req gpdbapi.DescribeDBInstanceAttributeRequestObject) (gpdbapi.DescribeDBInstanceAttributeResponseObject, error) {
	inst, allowed, err := s.instances.Describe(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId)
	if err != nil {
		return nil, err
	}
	items := gpdbapi.DBInstanceAttributeItems{DBInstanceAttribute: []gpdbapi.DBInstanceAttribute{fromAttribute(inst, allowed)}}
	return gpdbapi.DescribeDBInstanceAttribute200JSONResponse{RequestId: api.RequestID(ctx), Items: items}, nil
}

// ModifyDBInstanceResourceGroup moves an instance to another resource group.
func (s *Server) ModifyDBInstanceResourceGroup(ctx context.Context, req gpdbapi.ModifyDBInstanceResourceGroupRequestObject) (gpdbapi.ModifyDBInstanceResourceGroupResponseObject, error) {
	if err := s.instances.SetResourceGroup(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, req.Body.NewResourceGroupId); err != nil {
		return nil, err
	}
	return gpdbapi.ModifyDBInstanceResourceGroup200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DeleteDBInstance deletes an instance that has no model services.
func (s *Server) DeleteDBInstance(ctx context.Context, req gpdbapi.DeleteDBInstanceRequestObject) (gpdbapi.DeleteDBInstanceResponseObject, error) {
	if err := s.instances.Delete(ctx, idempotency.KeyFrom(ctx), access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId); err != nil {
		return nil, err
	}
	return gpdbapi.DeleteDBInstance200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DescribeRegions shows the endpoint's region and its zones.
func (s *Server) DescribeRegions(ctx context.Context, req gpdbapi.DescribeRegionsRequestObject) (gpdbapi.DescribeRegionsResponseObject, error) {
	if asked := orZero(req.Body.Region); asked != "" && asked != s.region {
		return nil, instance.ErrRegion.Withf("The region %s does not exist here; this endpoint serves %s.", asked, s.region)
	}
	zones, err := s.instances.Zones(ctx)
	if err != nil {
		return nil, err
	}
	region := gpdbapi.Region{RegionId: s.region, Zones: gpdbapi.Zones{Zone: mapped(zones, fromZone)}}
	return gpdbapi.DescribeRegions200JSONResponse{RequestId: api.RequestID(ctx), Regions: gpdbapi.Regions{Region: []gpdbapi.Region{region}}}, nil
}
