package resourcemanager

import (
	"context"
	"errors"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/iam/directory"
	rmapi "github.com/engineshed/engineshed/internal/oapi/resourcemanager"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

// AttachPolicy attaches a policy for one resource group.
func (s *Server) AttachPolicy(ctx context.Context, req rmapi.AttachPolicyRequestObject) (rmapi.AttachPolicyResponseObject, error) {
	err := s.Directory.Attach(ctx, directory.Attachment{
		AccountID:       accountOf(ctx),
		Policy:          directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal:       toPrincipal(accountOf(ctx), string(req.Body.PrincipalType), req.Body.PrincipalName),
		ResourceGroupID: toScope(accountOf(ctx), req.Body.ResourceGroupId),
	})
	if err != nil {
		return nil, missing(err)
	}
	return rmapi.AttachPolicy200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// DetachPolicy detaches a policy from one resource group.
func (s *Server) DetachPolicy(ctx context.Context, req rmapi.DetachPolicyRequestObject) (rmapi.DetachPolicyResponseObject, error) {
	err := s.Directory.Detach(ctx, directory.Attachment{
		AccountID:       accountOf(ctx),
		Policy:          directory.PolicyName{Type: string(req.Body.PolicyType), Name: req.Body.PolicyName},
		Principal:       toPrincipal(accountOf(ctx), string(req.Body.PrincipalType), req.Body.PrincipalName),
		ResourceGroupID: toScope(accountOf(ctx), req.Body.ResourceGroupId),
	})
	if err != nil {
		return nil, missing(err)
	}
	return rmapi.DetachPolicy200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListPolicyAttachments shows one page of who has which policy, and where.
func (s *Server) ListPolicyAttachments(ctx context.Context, req rmapi.ListPolicyAttachmentsRequestObject) (rmapi.ListPolicyAttachmentsResponseObject, error) {
	filter := toAttachedFilter(accountOf(ctx), req.Body)
	page, total, err := s.Directory.Attachments(ctx, filter)
	if err != nil {
		return nil, err
	}
	answer := rmapi.ListPolicyAttachments200JSONResponse{
		RequestId: api.RequestID(ctx), TotalCount: int32(total), PageNumber: int32(filter.PageNumber), PageSize: int32(filter.PageSize),
	}
	answer.PolicyAttachments.PolicyAttachment = mapped(page, func(a directory.Attached) rmapi.PolicyAttachment {
		return fromAttached(accountOf(ctx), a)
	})
	return answer, nil
}

// missing says that a group does not exist in the words of this product.
func missing(err error) error {
	if errors.Is(err, resourcegroup.ErrNotFound) {
		return resourcegroup.ErrMissing
	}
	return err
}
