package apig

import (
	"github.com/engineshed/engineshed/internal/modelapi"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

func toDocument(document apigapi.HttpApiDocument) modelapi.Document {
	return modelapi.Document{
		Format:           string(document.Format),
		Name:             document.Name,
		Type:             document.Type,
		ModelCategory:    orZero(document.ModelCategory),
		AIProtocols:      document.AiProtocols,
		BasePath:         document.BasePath,
		RemoveBasePath:   orZero(document.RemoveBasePathOnForward),
		Protocols:        orZero(document.Protocols),
		Description:      orZero(document.Description),
		EnableAuth:       orZero(document.EnableAuth),
		AuthConfig:       toAuthConfig(document.AuthConfig),
		FirstByteTimeout: int(orZero(document.FirstByteTimeout)),
		TrafficConfig:    toTrafficConfig(orZero(document.TrafficConfig)),
		Gateway:          document.Gateway,
		Environment:      orZero(document.Environment),
		SubDomain:        orZero(document.SubDomain),
		Domains:          orZero(document.Domains),
		AutoDeploy:       orZero(document.AutoDeploy),
		BackendScene:     document.BackendScene,
		Services:         mapped(document.Services, toDocumentService),
		PolicyConfigs:    mapped(orZero(document.PolicyConfigs), toDocumentPolicy),
		Routes:           optional(document.Routes, toDocumentRoute),
		Consumers:        orZero(document.Consumers),
		ConsumerGroups:   orZero(document.ConsumerGroups),
	}
}

func toDocumentService(service apigapi.HttpApiDocumentService) modelapi.ServiceDocument {
	return modelapi.ServiceDocument{
		Name: service.Name, ModelName: orZero(service.ModelName), ModelNamePattern: orZero(service.ModelNamePattern),
		Weight: int(orZero(service.Weight)), Observability: toObservability(service.ObservabilityRouteConfig),
	}
}

func toDocumentPolicy(policy apigapi.HttpApiDocumentPolicy) modelapi.PolicyDocument {
	converted := modelapi.PolicyDocument{
		Type: policy.Type, Enable: orZero(policy.Enable), AiStatistics: toStatistics(policy.AiStatisticsConfig),
	}
	if fallback := policy.AiFallbackConfig; fallback != nil {
		converted.AiFallback = &modelapi.FallbackDocument{
			OnlyRedirectUpstreamCode: orZero(fallback.OnlyRedirectUpstreamCode),
			Services:                 mapped(orZero(fallback.ServiceConfigs), toDocumentFallbackService),
		}
	}
	return converted
}

func toDocumentFallbackService(service apigapi.HttpApiDocumentFallbackService) modelapi.FallbackServiceDocument {
	return modelapi.FallbackServiceDocument{Name: service.Name, TargetModelName: orZero(service.TargetModelName)}
}

func toDocumentRoute(route apigapi.HttpApiDocumentRoute) modelapi.RouteDocument {
	converted := modelapi.RouteDocument{
		Name: route.Name, Description: orZero(route.Description), Builtin: orZero(route.Builtin),
		PolicyConfigs: mapped(orZero(route.PolicyConfigs), toDocumentPolicy),
	}
	if route.Match != nil {
		converted.Match = toMatch(*route.Match)
	}
	if backend := route.Backend; backend != nil {
		converted.Backend = &modelapi.BackendDocument{Scene: backend.Scene, Services: mapped(backend.Services, toDocumentService)}
	}
	return converted
}

func fromDocument(document modelapi.Document) apigapi.HttpApiDocument {
	timeout, traffic := int32(document.FirstByteTimeout), fromTrafficConfig(document.TrafficConfig)
	policies, domains := mapped(document.PolicyConfigs, fromDocumentPolicy), orEmpty(document.Domains)
	routes := mapped(document.Routes, fromDocumentRoute)
	converted := apigapi.HttpApiDocument{
		Format:                  apigapi.HttpApiDocumentFormat(document.Format),
		Name:                    document.Name,
		Type:                    document.Type,
		ModelCategory:           &document.ModelCategory,
		AiProtocols:             orEmpty(document.AIProtocols),
		BasePath:                document.BasePath,
		RemoveBasePathOnForward: &document.RemoveBasePath,
		Protocols:               &document.Protocols,
		Description:             &document.Description,
		EnableAuth:              &document.EnableAuth,
		AuthConfig:              fromAuthConfig(document.AuthConfig),
		FirstByteTimeout:        &timeout,
		TrafficConfig:           &traffic,
		Gateway:                 document.Gateway,
		Environment:             unlessEmpty(document.Environment),
		SubDomain:               &document.SubDomain,
		Domains:                 &domains,
		AutoDeploy:              &document.AutoDeploy,
		BackendScene:            document.BackendScene,
		Services:                mapped(document.Services, fromDocumentService),
		PolicyConfigs:           &policies,
		Routes:                  &routes,
	}
	if document.SaysWhoMayCall() {
		consumers, groups := orEmpty(document.Consumers), orEmpty(document.ConsumerGroups)
		converted.Consumers, converted.ConsumerGroups = &consumers, &groups
	}
	return converted
}

func fromDocumentService(service modelapi.ServiceDocument) apigapi.HttpApiDocumentService {
	return apigapi.HttpApiDocumentService{
		Name: service.Name, ModelName: unlessEmpty(service.ModelName), ModelNamePattern: unlessEmpty(service.ModelNamePattern),
		Weight: unlessZero(int64(service.Weight)), ObservabilityRouteConfig: fromObservability(service.Observability),
	}
}

func fromDocumentPolicy(policy modelapi.PolicyDocument) apigapi.HttpApiDocumentPolicy {
	converted := apigapi.HttpApiDocumentPolicy{
		Type: policy.Type, Enable: &policy.Enable, AiStatisticsConfig: fromStatistics(policy.AiStatistics),
	}
	if fallback := policy.AiFallback; fallback != nil {
		services := mapped(fallback.Services, fromDocumentFallbackService)
		converted.AiFallbackConfig = &apigapi.HttpApiDocumentFallback{
			OnlyRedirectUpstreamCode: &fallback.OnlyRedirectUpstreamCode, ServiceConfigs: &services,
		}
	}
	return converted
}

func fromDocumentFallbackService(service modelapi.FallbackServiceDocument) apigapi.HttpApiDocumentFallbackService {
	return apigapi.HttpApiDocumentFallbackService{Name: service.Name, TargetModelName: unlessEmpty(service.TargetModelName)}
}

func fromDocumentRoute(route modelapi.RouteDocument) apigapi.HttpApiDocumentRoute {
	match, policies := fromMatch(route.Match), mapped(route.PolicyConfigs, fromDocumentPolicy)
	converted := apigapi.HttpApiDocumentRoute{
		Name: route.Name, Description: &route.Description, Builtin: &route.Builtin, Match: &match, PolicyConfigs: &policies,
	}
	if backend := route.Backend; backend != nil {
		converted.Backend = &apigapi.HttpApiDocumentBackend{Scene: backend.Scene, Services: mapped(backend.Services, fromDocumentService)}
	}
	return converted
}

func fromRevisionContent(revision modelapi.Revision, document modelapi.Document) apigapi.HttpApiRevisionContent {
	return apigapi.HttpApiRevisionContent{
		RevisionId: revision.ID, Revision: revision.Number, Author: revision.Author, Deployed: revision.Deployed,
		CreateTimestamp: fromTime(revision.CreatedAt), Document: fromDocument(document),
	}
}

func fromDifference(id string, difference modelapi.Difference) apigapi.HttpApiDifference {
	return apigapi.HttpApiDifference{
		HttpApiId: id, From: unlessZero(difference.From), To: unlessZero(difference.To), Changes: mapped(difference.Changes, fromChange),
	}
}

func fromChange(change modelapi.Change) apigapi.HttpApiChange {
	return apigapi.HttpApiChange{Path: change.Path, Before: change.Before, After: change.After}
}

func fromImported(result modelapi.Imported, dryRun bool) apigapi.ImportedHttpApi {
	return apigapi.ImportedHttpApi{
		HttpApiId: unlessEmpty(result.ID), Name: result.Name, Created: result.Created, DryRun: dryRun, Revision: result.Revision,
		Changes: mapped(result.Changes, fromChange),
	}
}

func unlessZero[N int32 | int64 | float64](n N) *N {
	if n == 0 {
		return nil
	}
	return &n
}
