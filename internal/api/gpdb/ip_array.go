package gpdb

import (
	"context"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	gpdbapi "github.com/engineshed/engineshed/internal/oapi/gpdb"
)

// ModifySecurityIps changes who may call model services.
func (s *Server) ModifySecurityIps(ctx context.Context, req gpdbapi.ModifySecurityIpsRequestObject) (gpdbapi.ModifySecurityIpsResponseObject, error) {
	if err := s.services.ModifyIPs(ctx, toIPChange(access.CallerFrom(ctx).AccountID, req.Body)); err != nil {
		return nil, err
	}
	return gpdbapi.ModifySecurityIps200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DescribeDBInstanceIPArrayList shows the IP arrays of an instance.
func (s *Server) DescribeDBInstanceIPArrayList(ctx context.Context, req gpdbapi.DescribeDBInstanceIPArrayListRequestObject) (gpdbapi.DescribeDBInstanceIPArrayListResponseObject, error) {
	arrays, err := s.instances.IPArrays(ctx, access.CallerFrom(ctx).AccountID, req.Body.DBInstanceId, orZero(req.Body.DBInstanceIPArrayName))
	if err != nil {
		return nil, err
	}
	items := gpdbapi.IPArrayItems{DBInstanceIPArray: mapped(arrays, fromIPArray)}
	return gpdbapi.DescribeDBInstanceIPArrayList200JSONResponse{RequestId: api.RequestID(ctx), Items: items}, nil
}
