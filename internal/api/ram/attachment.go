package ram

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/iam/directory"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// AttachPolicyToUser attaches a policy to a user.
func (s *Server) AttachPolicyToUser(ctx context.Context, req ramapi.AttachPolicyToUserRequestObject) (ramapi.AttachPolicyToUserResponseObject, error) {
	err := s.directory.Attach(ctx, directory.Attachment{
		AccountID: accountOf(ctx), Policy: directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal: directory.Principal{Kind: directory.OfUser, Name: req.Body.UserName},
	})
	if err != nil {
		return nil, err
	}
	return ramapi.AttachPolicyToUser200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DetachPolicyFromUser detaches a policy from a user.
func (s *Server) DetachPolicyFromUser(ctx context.Context, req ramapi.DetachPolicyFromUserRequestObject) (ramapi.DetachPolicyFromUserResponseObject, error) {
	err := s.directory.Detach(ctx, directory.Attachment{
		AccountID: accountOf(ctx), Policy: directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal: directory.Principal{Kind: directory.OfUser, Name: req.Body.UserName},
	})
	if err != nil {
		return nil, err
	}
	return ramapi.DetachPolicyFromUser200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListPoliciesForUser shows the policies of a user.
func (s *Server) ListPoliciesForUser(ctx context.Context, req ramapi.ListPoliciesForUserRequestObject) (ramapi.ListPoliciesForUserResponseObject, error) {
	policies, err := s.directory.PoliciesOf(ctx, accountOf(ctx), directory.Principal{Kind: directory.OfUser, Name: req.Body.UserName})
	if err != nil {
		return nil, err
	}
	return ramapi.ListPoliciesForUser200JSONResponse{RequestId: api.RequestID(ctx), Policies: fromPolicies(policies)}, nil
}

// AttachPolicyToGroup attaches a policy to a group.
func (s *Server) AttachPolicyToGroup(ctx context.Context, req ramapi.AttachPolicyToGroupRequestObject) (ramapi.AttachPolicyToGroupResponseObject, error) {
	err := s.directory.Attach(ctx, directory.Attachment{
		AccountID: accountOf(ctx), Policy: directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal: directory.Principal{Kind: directory.OfGroup, Name: req.Body.GroupName},
	})
	if err != nil {
		return nil, err
	}
	return ramapi.AttachPolicyToGroup200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DetachPolicyFromGroup detaches a policy from a group.
func (s *Server) DetachPolicyFromGroup(ctx context.Context, req ramapi.DetachPolicyFromGroupRequestObject) (ramapi.DetachPolicyFromGroupResponseObject, error) {
	err := s.directory.Detach(ctx, directory.Attachment{
		AccountID: accountOf(ctx), Policy: directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal: directory.Principal{Kind: directory.OfGroup, Name: req.Body.GroupName},
	})
	if err != nil {
		return nil, err
	}
	return ramapi.DetachPolicyFromGroup200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListPoliciesForGroup shows the policies of a group.
func (s *Server) ListPoliciesForGroup(ctx context.Context, req ramapi.ListPoliciesForGroupRequestObject) (ramapi.ListPoliciesForGroupResponseObject, error) {
	policies, err := s.directory.PoliciesOf(ctx, accountOf(ctx), directory.Principal{Kind: directory.OfGroup, Name: req.Body.GroupName})
	if err != nil {
		return nil, err
	}
	return ramapi.ListPoliciesForGroup200JSONResponse{RequestId: api.RequestID(ctx), Policies: fromPolicies(policies)}, nil
}

// AttachPolicyToRole attaches a policy to a role.
func (s *Server) AttachPolicyToRole(ctx context.Context, req ramapi.AttachPolicyToRoleRequestObject) (ramapi.AttachPolicyToRoleResponseObject, error) {
	err := s.directory.Attach(ctx, directory.Attachment{
		AccountID: accountOf(ctx), Policy: directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal: directory.Principal{Kind: directory.OfRole, Name: req.Body.RoleName},
	})
	if err != nil {
		return nil, err
	}
	return ramapi.AttachPolicyToRole200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DetachPolicyFromRole detaches a policy from a role.
func (s *Server) DetachPolicyFromRole(ctx context.Context, req ramapi.DetachPolicyFromRoleRequestObject) (ramapi.DetachPolicyFromRoleResponseObject, error) {
	err := s.directory.Detach(ctx, directory.Attachment{
		AccountID: accountOf(ctx), Policy: directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal: directory.Principal{Kind: directory.OfRole, Name: req.Body.RoleName},
	})
	if err != nil {
		return nil, err
	}
	return ramapi.DetachPolicyFromRole200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListPoliciesForRole shows the policies of a role.
func (s *Server) ListPoliciesForRole(ctx context.Context, req ramapi.ListPoliciesForRoleRequestObject) (ramapi.ListPoliciesForRoleResponseObject, error) {
	policies, err := s.directory.PoliciesOf(ctx, accountOf(ctx), directory.Principal{Kind: directory.OfRole, Name: req.Body.RoleName})
	if err != nil {
		return nil, err
	}
	return ramapi.ListPoliciesForRole200JSONResponse{RequestId: api.RequestID(ctx), Policies: fromPolicies(policies)}, nil
}

// ListEntitiesForPolicy shows who has a policy.
func (s *Server) ListEntitiesForPolicy(ctx context.Context, req ramapi.ListEntitiesForPolicyRequestObject) (ramapi.ListEntitiesForPolicyResponseObject, error) {
	who, err := s.directory.EntitiesOf(ctx, accountOf(ctx), directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName})
	if err != nil {
		return nil, err
	}
	return ramapi.ListEntitiesForPolicy200JSONResponse{RequestId: api.RequestID(ctx), Users: fromAttachedUsers(who.Users), Groups: fromAttachedGroups(who.Groups), Roles: fromRoles(ctx, who.Roles)}, nil
}
