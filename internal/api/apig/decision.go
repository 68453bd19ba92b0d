package apig

import (
	"context"

	"github.com/engineshed/engineshed/internal/modelapi"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// DescribeRouteDecision explains what gateways do with a request.
func (s *Server) DescribeRouteDecision(ctx context.Context, req apigapi.DescribeRouteDecisionRequestObject) (apigapi.DescribeRouteDecisionResponseObject, error) {
	decision, err := s.APIs.Decide(ctx, accountOf(ctx), toQuestion(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.DescribeRouteDecision200JSONResponse(success(ctx, fromDecision(decision))), nil
}

func toQuestion(body *apigapi.DescribeRouteDecisionRequest) modelapi.Question {
	return modelapi.Question{
		Method: orZero(body.Method), Scheme: string(orZero(body.Scheme)), Host: body.Host, Path: body.Path,
		Headers: orZero(body.Headers), Model: orZero(body.Model), ConsumerID: orZero(body.ConsumerId),
	}
}

func fromDecision(decision modelapi.Decision) apigapi.RouteDecision {
	converted := apigapi.RouteDecision{
		Status: int32(decision.Status), Code: unlessEmpty(decision.Code), Reason: decision.Reason, Path: decision.Path,
		Allow: unlessEmpty(decision.Allow), Authorization: unlessEmpty(decision.Authorization),
		Scene: unlessEmpty(decision.Scene), UpstreamPath: unlessEmpty(decision.UpstreamPath), Model: unlessEmpty(decision.Model), Policies: orEmpty(decision.Policies),
	}
	if api := decision.API; api != nil {
		converted.HttpApi = &apigapi.DecidedHttpApi{HttpApiId: api.ID, Name: api.Name, Revision: api.Revision, BasePath: api.BasePath}
	}
	if route := decision.Route; route != nil {
		converted.Route = &apigapi.DecidedRoute{
			RouteId: route.ID, Name: route.Name, PathType: route.PathType, Path: route.Path, Protocol: route.Protocol,
		}
	}
	if service := decision.Service; service != nil {
		converted.Service = &apigapi.DecidedService{
			ServiceId: service.ID, Name: service.Name, ModelServiceId: unlessEmpty(service.ModelServiceID),
		}
	}
	if decision.Shares != nil {
		shares := mapped(decision.Shares, fromShare)
		converted.Shares = &shares
	}
	if decision.Candidates != nil {
		candidates := mapped(decision.Candidates, fromCandidate)
		converted.Candidates = &candidates
	}
	if fallback := decision.Fallback; fallback != nil {
		converted.Fallback = &apigapi.DecidedFallback{After: fallback.After, Services: mapped(fallback.Services, fromFallbackTarget)}
	}
	if limits := decision.Limits; limits != nil {
		traffic := fromTrafficConfig(modelapi.TrafficConfig{
			ConnectTimeout: limits.Connect, IdleTimeout: limits.Idle, MaxConcurrency: limits.Concurrent, MaxQueue: limits.Queued,
			ReplicaSelection: limits.ReplicaChoice,
		})
		converted.FirstByteTimeout, converted.TrafficConfig = unlessZero(int32(limits.FirstContent)), &traffic
	}
	return converted
}

func fromCandidate(candidate modelapi.Candidate) apigapi.DecidedCandidate {
	return apigapi.DecidedCandidate{
		ServiceId: candidate.ServiceID, Name: unlessEmpty(candidate.Name), Model: unlessEmpty(candidate.Model),
		RateLimit: unlessZero(candidate.Share), QueueSize: unlessZero(int32(candidate.Window)),
	}
}

func fromFallbackTarget(target modelapi.FallbackTarget) apigapi.DecidedFallbackService {
	return apigapi.DecidedFallbackService{
		ServiceId: target.ServiceID, Name: unlessEmpty(target.Name), Model: unlessEmpty(target.Model),
		UpstreamPath: unlessEmpty(target.UpstreamPath),
	}
}

func fromShare(share modelapi.Share) apigapi.DecidedShare {
	return apigapi.DecidedShare{
		ServiceId: share.ServiceID, Name: unlessEmpty(share.Name), Model: unlessEmpty(share.Model), Weight: int64(share.Weight),
	}
}
