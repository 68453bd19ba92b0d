package ram

import (
	"context"
	"net/netip"
	"strings"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/fault"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
)

// Authorizer explains decisions.
type Authorizer interface {
	Explain(ctx context.Context, caller access.Caller, request access.Request) (access.Explanation, error)
	OpenDiagnostic(accountID, message string) (access.Diagnostic, error)
}

var errPrincipal = fault.New(fault.Invalid, "InvalidParameter.AuthPrincipal",
	"The parameter AuthPrincipal names nobody of this account.", "Send the ARN of the account, or of a user or role of it.")

// DecodeDiagnosticMessage opens what a denial says to administrators.
func (s *Server) DecodeDiagnosticMessage(
	ctx context.Context, req ramapi.DecodeDiagnosticMessageRequestObject,
) (ramapi.DecodeDiagnosticMessageResponseObject, error) {
	opened, err := s.authorizer.OpenDiagnostic(accountOf(ctx), req.Body.EncodedDiagnosticMessage)
	if err != nil {
		return nil, err
	}
	return ramapi.DecodeDiagnosticMessage200JSONResponse{
		RequestId: api.RequestID(ctx), DecodedDiagnosticMessage: fromDiagnostic(opened),
	}, nil
}

// ExplainAuthorization explains whether somebody may do something.
func (s *Server) ExplainAuthorization(
	ctx context.Context, req ramapi.ExplainAuthorizationRequestObject,
) (ramapi.ExplainAuthorizationResponseObject, error) {
	caller, err := s.principal(ctx, req.Body)
	if err != nil {
		return nil, err
	}
	explanation, err := s.authorizer.Explain(ctx, caller, toRequest(ctx, req.Body))
	if err != nil {
		return nil, err
	}
	return ramapi.ExplainAuthorization200JSONResponse{RequestId: api.RequestID(ctx), Explanation: fromExplanation(explanation)}, nil
}

// principal is whom the question is about, calling as the question says.
func (s *Server) principal(ctx context.Context, body *ramapi.ExplainAuthorizationRequest) (access.Caller, error) {
	caller := access.CallerFrom(ctx)
	if body.AuthPrincipal != nil {
		named, err := s.named(ctx, caller, *body.AuthPrincipal)
		if err != nil {
			return access.Caller{}, err
		}
		caller = named
	}
	if body.AuthSourceIp != nil {
		address, err := netip.ParseAddr(*body.AuthSourceIp)
		if err != nil {
			return access.Caller{}, fault.InvalidParameter("AuthSourceIp", "it is no IP address.")
		}
		caller.SourceIP = address
	}
	if body.AuthSecureTransport != nil {
		caller.Secure = *body.AuthSecureTransport
	}
	return caller, nil
}

// named is the principal with this ARN, in the circumstances of the one who asks.
func (s *Server) named(ctx context.Context, asking access.Caller, arn string) (access.Caller, error) {
	account, name, _ := strings.Cut(strings.TrimPrefix(arn, "acs:ram::"), ":")
	if account != asking.AccountID {
		return access.Caller{}, errPrincipal.Withf("The principal %s is not of this account.", arn)
	}
	caller := access.Caller{
		Identity: access.Root, AccountID: account, PolicyEpoch: asking.PolicyEpoch,
		SourceIP: asking.SourceIP, Secure: asking.Secure, Time: asking.Time,
	}
	if userName, ok := strings.CutPrefix(name, "user/"); ok {
		user, err := s.directory.User(ctx, account, userName)
		caller.Identity, caller.UserID, caller.UserName = access.User, user.ID, user.Name
		return caller, err
	}
	if roleName, ok := strings.CutPrefix(name, "role/"); ok {
		role, err := s.directory.Role(ctx, account, roleName)
		caller.Identity, caller.RoleID, caller.RoleName, caller.SessionName = access.Session, role.ID, role.Name, "explained"
		return caller, err
	}
	return caller, nil
}

func toRequest(ctx context.Context, body *ramapi.ExplainAuthorizationRequest) access.Request {
	return access.Request{
		Action: body.AuthAction, Resources: api.Spellings(ctx, orZero(body.AuthResource)),
		ResourceGroupID: orZero(body.ResourceGroupId), Context: orZero(body.AuthContext),
	}
}

func fromDiagnostic(d access.Diagnostic) ramapi.Diagnostic {
	opened := ramapi.Diagnostic{
		ExplicitDeny: d.ExplicitDeny, NoPermissionPolicyType: string(d.NoPermissionPolicyType),
		AuthAction: d.AuthAction, AuthResource: d.AuthResource, AuthConditions: fromConditions(d.AuthConditions),
		PolicyName: d.PolicyName, PolicyType: d.PolicyType, Statement: d.Statement,
	}
	opened.AuthPrincipal.AuthPrincipalType = d.AuthPrincipal.AuthPrincipalType
	opened.AuthPrincipal.AuthPrincipalOwnerId = d.AuthPrincipal.AuthPrincipalOwnerID
	opened.AuthPrincipal.AuthPrincipalDisplayName = d.AuthPrincipal.AuthPrincipalDisplayName
	return opened
}

func fromConditions(conditions []access.AuthCondition) []ramapi.AuthCondition {
	list := []ramapi.AuthCondition{}
	for _, c := range conditions {
		list = append(list, ramapi.AuthCondition(c))
	}
	return list
}

func fromExplanation(e access.Explanation) ramapi.Explanation {
	stages := []ramapi.ExplainedStage{}
	for _, stage := range e.Stages {
		statements := []ramapi.ExplainedStatement{}
		for _, s := range stage.Statements {
			statements = append(statements, fromStatement(s))
		}
		stages = append(stages, ramapi.ExplainedStage{Stage: string(stage.Stage), Result: stage.Result, Statements: statements})
	}
	return ramapi.Explanation{
		Principal: e.Principal, Action: e.Action, Resources: e.Resources, ResourceGroupId: e.ResourceGroupID,
		Conditions: fromConditions(e.Conditions), Allowed: e.Allowed, NoPermissionType: e.NoPermissionType,
		DecidedBy: string(e.DecidedBy), Stages: stages,
	}
}

func fromStatement(s access.ExplainedStatement) ramapi.ExplainedStatement {
	conditions := []ramapi.ExplainedCondition{}
	for _, c := range s.Conditions {
		conditions = append(conditions, ramapi.ExplainedCondition{
			Operator: c.Operator, Key: c.Key, Values: c.Values, Present: c.Present, Value: c.Value, Holds: c.Holds,
		})
	}
	return ramapi.ExplainedStatement{
		PolicyName: s.PolicyName, PolicyType: s.PolicyType, Statement: s.Statement, Sid: s.Sid, Effect: string(s.Effect),
		ActionMatches: s.ActionMatches, ResourceMatches: s.ResourceMatches, Conditions: conditions, Matches: s.Matches, Decides: s.Decides,
	}
}
