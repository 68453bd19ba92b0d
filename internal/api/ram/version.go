package ram

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/iam/directory"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// CreatePolicyVersion adds a version to a custom policy.
func (s *Server) CreatePolicyVersion(ctx context.Context, req ramapi.CreatePolicyVersionRequestObject) (ramapi.CreatePolicyVersionResponseObject, error) {
	version, err := s.directory.CreateVersion(ctx, toVersionSpec(accountOf(ctx), req.Body))
	if err != nil {
		return nil, err
	}
	return ramapi.CreatePolicyVersion200JSONResponse{RequestId: api.RequestID(ctx), PolicyVersion: fromVersion(version)}, nil
}

// GetPolicyVersion shows a version of a policy.
func (s *Server) GetPolicyVersion(ctx context.Context, req ramapi.GetPolicyVersionRequestObject) (ramapi.GetPolicyVersionResponseObject, error) {
	version, err := s.directory.Version(ctx, accountOf(ctx), directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName}, req.Body.VersionId)
	if err != nil {
		return nil, err
	}
	return ramapi.GetPolicyVersion200JSONResponse{RequestId: api.RequestID(ctx), PolicyVersion: fromVersion(version)}, nil
}

// ListPolicyVersions shows the versions of a policy.
func (s *Server) ListPolicyVersions(ctx context.Context, req ramapi.ListPolicyVersionsRequestObject) (ramapi.ListPolicyVersionsResponseObject, error) {
	versions, err := s.directory.Versions(ctx, accountOf(ctx), directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName})
	if err != nil {
		return nil, err
	}
	return ramapi.ListPolicyVersions200JSONResponse{RequestId: api.RequestID(ctx), PolicyVersions: ramapi.PolicyVersions{PolicyVersion: mapped(versions, fromVersion)}}, nil
}

// SetDefaultPolicyVersion puts a version of a custom policy in force.
func (s *Server) SetDefaultPolicyVersion(ctx context.Context, req ramapi.SetDefaultPolicyVersionRequestObject) (ramapi.SetDefaultPolicyVersionResponseObject, error) {
	if err := s.directory.SetDefaultVersion(ctx, accountOf(ctx), req.Body.PolicyName, req.Body.VersionId); err != nil {
		return nil, err
	}
	return ramapi.SetDefaultPolicyVersion200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DeletePolicyVersion deletes a version of a custom policy.
func (s *Server) DeletePolicyVersion(ctx context.Context, req ramapi.DeletePolicyVersionRequestObject) (ramapi.DeletePolicyVersionResponseObject, error) {
	if err := s.directory.DeleteVersion(ctx, accountOf(ctx), req.Body.PolicyName, req.Body.VersionId); err != nil {
		return nil, err
	}
	return ramapi.DeletePolicyVersion200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}
