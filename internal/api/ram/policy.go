package ram

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/iam/directory"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// CreatePolicy makes a custom policy.
func (s *Server) CreatePolicy(ctx context.Context, req ramapi.CreatePolicyRequestObject) (ramapi.CreatePolicyResponseObject, error) {
	policy, err := s.directory.CreatePolicy(ctx, accountOf(ctx), req.Body.PolicyName, orZero(req.Body.Description), req.Body.PolicyDocument)
	if err != nil {
		return nil, err
	}
	return ramapi.CreatePolicy200JSONResponse{RequestId: api.RequestID(ctx), Policy: fromPolicy(policy)}, nil
}

// GetPolicy shows a policy and the version that is in force.
func (s *Server) GetPolicy(ctx context.Context, req ramapi.GetPolicyRequestObject) (ramapi.GetPolicyResponseObject, error) {
	policy, version, err := s.directory.Policy(ctx, accountOf(ctx), directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName})
	if err != nil {
		return nil, err
	}
	return ramapi.GetPolicy200JSONResponse{RequestId: api.RequestID(ctx), Policy: fromPolicy(policy), DefaultPolicyVersion: fromVersion(version)}, nil
}

// UpdatePolicyDescription changes the description of a custom policy.
func (s *Server) UpdatePolicyDescription(ctx context.Context, req ramapi.UpdatePolicyDescriptionRequestObject) (ramapi.UpdatePolicyDescriptionResponseObject, error) {
	policy, err := s.directory.DescribePolicy(ctx, accountOf(ctx), req.Body.PolicyName, req.Body.NewDescription)
	if err != nil {
		return nil, err
	}
	return ramapi.UpdatePolicyDescription200JSONResponse{RequestId: api.RequestID(ctx), Policy: fromPolicy(policy)}, nil
}

// DeletePolicy deletes a custom policy.
func (s *Server) DeletePolicy(ctx context.Context, req ramapi.DeletePolicyRequestObject) (ramapi.DeletePolicyResponseObject, error) {
	if err := s.directory.DeletePolicy(ctx, accountOf(ctx), req.Body.PolicyName); err != nil {
		return nil, err
	}
	return ramapi.DeletePolicy200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListPolicies shows one page of policies.
func (s *Server) ListPolicies(ctx context.Context, req ramapi.ListPoliciesRequestObject) (ramapi.ListPoliciesResponseObject, error) {
	policies, next, err := s.directory.Policies(ctx, accountOf(ctx), string(orZero(req.Body.PolicyType)), toPage(req.Body.Marker, req.Body.MaxItems))
	if err != nil {
		return nil, err
	}
	return ramapi.ListPolicies200JSONResponse{RequestId: api.RequestID(ctx), Policies: fromPolicies(policies), Marker: next, IsTruncated: next != ""}, nil
}
