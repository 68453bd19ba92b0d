// Package sts answers the operations of sts 2015-04-01: it converts, calls and converts back.
package sts

import (
	"context"
	"fmt"
	"time"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/iam/session"
	stsapi "github.com/engineshed/engineshed/internal/oapi/sts"
	"github.com/engineshed/engineshed/openapi"
)

// Server implements the generated interface.
type Server struct{ sessions *session.Sessions }

// Product is sts as api.New takes it.
func Product(sessions *session.Sessions) (api.Product, error) {
	document, err := api.LoadDocument(openapi.Files, "sts.yaml")
	if err != nil {
		return api.Product{}, fmt.Errorf("sts: %w", err)
	}
	strict := stsapi.NewStrictHandlerWithOptions(&Server{sessions}, nil, stsapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: api.Fail, ResponseErrorHandlerFunc: api.Fail,
	})
	return api.Product{Name: "sts", Version: document.Info.Version, Document: document, Handler: stsapi.Handler(strict)}, nil
}

// AssumeRole begins a session of a role.
func (s *Server) AssumeRole(ctx context.Context, req stsapi.AssumeRoleRequestObject) (stsapi.AssumeRoleResponseObject, error) {
	lent, err := s.sessions.Assume(ctx, toSpec(access.CallerFrom(ctx), req.Body))
	if err != nil {
		return nil, err
	}
	return stsapi.AssumeRole200JSONResponse{
		RequestId: api.RequestID(ctx), Credentials: fromLent(lent),
		AssumedRoleUser: stsapi.AssumedRoleUser{Arn: lent.ARN, AssumedRoleId: lent.ID},
	}, nil
}

// GetCallerIdentity shows who is calling.
func (s *Server) GetCallerIdentity(ctx context.Context, _ stsapi.GetCallerIdentityRequestObject) (stsapi.GetCallerIdentityResponseObject, error) {
	return fromCaller(api.RequestID(ctx), access.CallerFrom(ctx)), nil
}

func toSpec(caller access.Caller, body *stsapi.AssumeRoleRequest) session.Spec {
	spec := session.Spec{
		Caller: caller, RoleARN: body.RoleArn, Name: body.RoleSessionName, Policy: orZero(body.Policy), ExternalID: orZero(body.ExternalId),
	}
	if body.DurationSeconds != nil {
		seconds := int(*body.DurationSeconds)
		spec.Seconds = &seconds
	}
	return spec
}

func fromLent(l session.Lent) stsapi.Credentials {
	return stsapi.Credentials{
		AccessKeyId: l.Key.ID, AccessKeySecret: l.Key.Secret.Reveal(), SecurityToken: l.Token.Reveal(),
		Expiration: l.ExpiresAt.UTC().Format(time.RFC3339),
	}
}

func fromCaller(requestID string, c access.Caller) stsapi.GetCallerIdentity200JSONResponse {
	identity := stsapi.GetCallerIdentity200JSONResponse{
		RequestId: requestID, IdentityType: stsapi.GetCallerIdentityResponseIdentityType(c.Identity), AccountId: c.AccountID, Arn: c.ARN(),
	}
	switch c.Identity {
	case access.Root:
		identity.UserId, identity.PrincipalId = c.AccountID, c.AccountID
	case access.User:
		identity.UserId, identity.PrincipalId = c.UserID, c.UserID
	case access.Session:
		identity.RoleId, identity.PrincipalId = c.RoleID, c.RoleID+":"+c.SessionName
	}
	return identity
}

func orZero[T any](value *T) T {
	if value == nil {
		var zero T
		return zero
	}
	return *value
}
