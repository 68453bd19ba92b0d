package apig

import (
	"context"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateConsumerAuthorizationRules lets consumers and groups call Model APIs.
func (s *Server) CreateConsumerAuthorizationRules(ctx context.Context, req apigapi.CreateConsumerAuthorizationRulesRequestObject) (apigapi.CreateConsumerAuthorizationRulesResponseObject, error) {
	ids, err := s.Rules.CreateRules(ctx, accountOf(ctx), mapped(req.Body.AuthorizationRules, toRuleSpec))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateConsumerAuthorizationRules200JSONResponse(success(ctx, apigapi.CreatedConsumerAuthorizationRules{ConsumerAuthorizationRuleIds: ids})), nil
}

// QueryConsumerAuthorizationRules shows one page of the authorization rules.
func (s *Server) QueryConsumerAuthorizationRules(ctx context.Context, req apigapi.QueryConsumerAuthorizationRulesRequestObject) (apigapi.QueryConsumerAuthorizationRulesResponseObject, error) {
	filter := toRuleFilter(req.Params)
	found, total, err := s.Rules.ListRules(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.QueryConsumerAuthorizationRules200JSONResponse(success(ctx, fromRules(found, filter.Page, total))), nil
}

// RemoveConsumerAuthorizationRule deletes one authorization rule.
func (s *Server) RemoveConsumerAuthorizationRule(ctx context.Context, req apigapi.RemoveConsumerAuthorizationRuleRequestObject) (apigapi.RemoveConsumerAuthorizationRuleResponseObject, error) {
	if err := s.Rules.DeleteRules(ctx, accountOf(ctx), []string{req.ConsumerAuthorizationRuleId}); err != nil {
		return nil, err
	}
	return apigapi.RemoveConsumerAuthorizationRule200JSONResponse(done(ctx)), nil
}

// BatchDeleteConsumerAuthorizationRule deletes authorization rules.
func (s *Server) BatchDeleteConsumerAuthorizationRule(ctx context.Context, req apigapi.BatchDeleteConsumerAuthorizationRuleRequestObject) (apigapi.BatchDeleteConsumerAuthorizationRuleResponseObject, error) {
	if err := s.Rules.DeleteRules(ctx, accountOf(ctx), req.Params.ConsumerAuthorizationRuleIds); err != nil {
		return nil, err
	}
	return apigapi.BatchDeleteConsumerAuthorizationRule200JSONResponse(done(ctx)), nil
}
