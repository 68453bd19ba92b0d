package apig

import (
	"strconv"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelapi"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

func toRouteSpec(body *apigapi.CreateHttpApiRouteRequest) modelapi.RouteSpec {
	return modelapi.RouteSpec{
		Name:          body.Name,
		Description:   orZero(body.Description),
		Match:         toMatch(body.Match),
		Backend:       toBackend(body.BackendConfig),
		PolicyConfigs: optional(body.PolicyConfigs, toPolicyConfig),
	}
}

func toRouteUpdate(body *apigapi.UpdateHttpApiRouteRequest) modelapi.RouteUpdate {
	update := modelapi.RouteUpdate{
		Description:   body.Description,
		Backend:       toBackend(body.BackendConfig),
		PolicyConfigs: optional(body.PolicyConfigs, toPolicyConfig),
	}
	if body.Match != nil {
		match := toMatch(*body.Match)
		update.Match = &match
	}
	return update
}

func toMatch(match apigapi.HttpRouteMatch) modelapi.Match {
	return modelapi.Match{
		Path:          modelapi.PathMatch{Type: match.Path.Type, Value: match.Path.Value},
		Methods:       orZero(match.Methods),
		Headers:       optional(match.Headers, toValueMatch),
		QueryParams:   optional(match.QueryParams, toValueMatch),
		IgnoreURICase: orZero(match.IgnoreUriCase),
	}
}

func toValueMatch(match apigapi.HttpRouteValueMatch) modelapi.ValueMatch {
	return modelapi.ValueMatch{Name: match.Name, Type: match.Type, Value: match.Value}
}

func toBackend(config *apigapi.HttpRouteBackendConfig) *modelapi.Backend {
	if config == nil {
		return nil
	}
	return &modelapi.Backend{Scene: orZero(config.Scene), Services: mapped(orZero(config.Services), toServiceConfig)}
}

func toRouteFilter(params apigapi.ListHttpApiRoutesParams) modelapi.RouteFilter {
	return modelapi.RouteFilter{
		Name:     orZero(params.Name),
		NameLike: orZero(params.NameLike),
		PathLike: orZero(params.PathLike),
		Page:     toPage(params.PageNumber, params.PageSize),
	}
}

func fromRoutes(routes []modelapi.Route, page instance.Page, total int) apigapi.HttpRoutePage {
	return apigapi.HttpRoutePage{
		Items: mapped(routes, fromRoute), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

func fromRoute(route modelapi.Route) apigapi.HttpRoute {
	policies := mapped(route.PolicyConfigs, fromPolicyConfig)
	return apigapi.HttpRoute{
		RouteId:         route.ID,
		Name:            route.Name,
		Description:     route.Description,
		Match:           fromMatch(route.Match),
		Backend:         fromBackend(route.Backend),
		PolicyConfigs:   &policies,
		Builtin:         strconv.FormatBool(route.Builtin),
		DeployStatus:    route.DeployStatus,
		CreateTimestamp: fromTime(route.CreatedAt),
		UpdateTimestamp: fromTime(route.UpdatedAt),
	}
}

func fromMatch(match modelapi.Match) apigapi.HttpRouteMatch {
	methods := orEmpty(match.Methods)
	headers, query := mapped(match.Headers, fromValueMatch), mapped(match.QueryParams, fromValueMatch)
	return apigapi.HttpRouteMatch{
		Path:          apigapi.HttpRoutePath{Type: match.Path.Type, Value: match.Path.Value},
		Methods:       &methods,
		Headers:       &headers,
		QueryParams:   &query,
		IgnoreUriCase: &match.IgnoreURICase,
	}
}

func fromValueMatch(match modelapi.ValueMatch) apigapi.HttpRouteValueMatch {
	return apigapi.HttpRouteValueMatch{Name: match.Name, Type: match.Type, Value: match.Value}
}

func fromBackend(backend *modelapi.Backend) *apigapi.HttpRouteBackend {
	if backend == nil {
		return nil
	}
	return &apigapi.HttpRouteBackend{Scene: backend.Scene, Services: mapped(backend.Services, fromServiceConfig)}
}
