// Package resourcemanager answers the operations of resourcemanager 2020-03-31: it converts, calls and converts back.
package resourcemanager

import (
	"context"
	"fmt"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/iam/directory"
	rmapi "github.com/engineshed/engineshed/internal/oapi/resourcemanager"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/openapi"
)

// Config is what Product needs.
type Config struct {
	Groups    *resourcegroup.Groups
	Resources *resource.Resources
	Directory *directory.Directory
	Region    string
}

// Server implements the generated interface.
type Server struct{ Config }

// Product is resourcemanager as api.New takes it.
func Product(config Config) (api.Product, error) {
	document, err := api.LoadDocument(openapi.Files, "resourcemanager.yaml")
	if err != nil {
		return api.Product{}, fmt.Errorf("resourcemanager: %w", err)
	}
	strict := rmapi.NewStrictHandlerWithOptions(&Server{config}, nil, rmapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: api.Fail, ResponseErrorHandlerFunc: api.Fail,
	})
	return api.Product{Name: "resourcemanager", Version: document.Info.Version, Document: document, Handler: rmapi.Handler(strict)}, nil
}

func accountOf(ctx context.Context) string { return access.CallerFrom(ctx).AccountID }

// CreateResourceGroup makes a resource group.
func (s *Server) CreateResourceGroup(ctx context.Context, req rmapi.CreateResourceGroupRequestObject) (rmapi.CreateResourceGroupResponseObject, error) {
	group, err := s.Groups.Create(ctx, accountOf(ctx), req.Body.Name, req.Body.DisplayName)
	if err != nil {
		return nil, err
	}
	return rmapi.CreateResourceGroup200JSONResponse{RequestId: api.RequestID(ctx), ResourceGroup: s.fromGroup(ctx, group)}, nil
}

// GetResourceGroup shows a resource group.
func (s *Server) GetResourceGroup(ctx context.Context, req rmapi.GetResourceGroupRequestObject) (rmapi.GetResourceGroupResponseObject, error) {
	group, err := s.Groups.Get(ctx, accountOf(ctx), req.Body.ResourceGroupId)
	if err != nil {
		return nil, err
	}
	return rmapi.GetResourceGroup200JSONResponse{RequestId: api.RequestID(ctx), ResourceGroup: s.fromGroup(ctx, group)}, nil
}

// ListResourceGroups shows one page of resource groups.
func (s *Server) ListResourceGroups(ctx context.Context, req rmapi.ListResourceGroupsRequestObject) (rmapi.ListResourceGroupsResponseObject, error) {
	filter := toFilter(accountOf(ctx), req.Body)
	groups, total, err := s.Groups.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	answer := rmapi.ListResourceGroups200JSONResponse{
		RequestId: api.RequestID(ctx), TotalCount: int32(total), PageNumber: int32(filter.PageNumber), PageSize: int32(filter.PageSize),
	}
	answer.ResourceGroups.ResourceGroup = mapped(groups, func(g resourcegroup.Group) rmapi.ResourceGroup { return s.fromGroup(ctx, g) })
	return answer, nil
}

// UpdateResourceGroup changes what people call a resource group.
func (s *Server) UpdateResourceGroup(ctx context.Context, req rmapi.UpdateResourceGroupRequestObject) (rmapi.UpdateResourceGroupResponseObject, error) {
	group, err := s.Groups.Rename(ctx, accountOf(ctx), req.Body.ResourceGroupId, req.Body.NewDisplayName)
	if err != nil {
		return nil, err
	}
	return rmapi.UpdateResourceGroup200JSONResponse{RequestId: api.RequestID(ctx), ResourceGroup: s.fromGroup(ctx, group)}, nil
}

// DeleteResourceGroup deletes a resource group.
func (s *Server) DeleteResourceGroup(ctx context.Context, req rmapi.DeleteResourceGroupRequestObject) (rmapi.DeleteResourceGroupResponseObject, error) {
	group, err := s.Groups.Delete(ctx, accountOf(ctx), req.Body.ResourceGroupId)
	if err != nil {
		return nil, err
	}
	return rmapi.DeleteResourceGroup200JSONResponse{RequestId: api.RequestID(ctx), ResourceGroup: s.fromGroup(ctx, group)}, nil
}
