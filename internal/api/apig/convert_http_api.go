package apig

import (
	"cmp"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelapi"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

func toAPISpec(body *apigapi.CreateHttpApiRequest) modelapi.Spec {
	return modelapi.Spec{
		Name:             body.Name,
		Type:             body.Type,
		ModelCategory:    orZero(body.ModelCategory),
		AIProtocols:      orZero(body.AiProtocols),
		BasePath:         orZero(body.BasePath),
		RemoveBasePath:   orZero(body.RemoveBasePathOnForward),
		Protocols:        orZero(body.Protocols),
		Description:      orZero(body.Description),
		EnableAuth:       orZero(body.EnableAuth),
		AuthConfig:       toAuthConfig(body.AuthConfig),
		FirstByteTimeout: int(orZero(body.FirstByteTimeout)),
		TrafficConfig:    toTrafficConfig(orZero(body.TrafficConfig)),
		DeployConfigs:    optional(body.DeployConfigs, toDeployConfig),
		ResourceGroupID:  orZero(body.ResourceGroupId),
	}
}

func toAPIUpdate(body *apigapi.UpdateHttpApiRequest) modelapi.UpdateSpec {
	update := modelapi.UpdateSpec{
		BasePath:         body.BasePath,
		AIProtocols:      orZero(body.AiProtocols),
		RemoveBasePath:   body.RemoveBasePathOnForward,
		Protocols:        orZero(body.Protocols),
		Description:      body.Description,
		EnableAuth:       body.EnableAuth,
		AuthConfig:       toAuthConfig(body.AuthConfig),
		FirstByteTimeout: toInt(body.FirstByteTimeout),
		DeployConfigs:    optional(body.DeployConfigs, toDeployConfig),
		OnlyChangeConfig: orZero(body.OnlyChangeConfig),
	}
	if body.TrafficConfig != nil {
		traffic := toTrafficConfig(*body.TrafficConfig)
		update.TrafficConfig = &traffic
	}
	return update
}

func toTrafficConfig(config apigapi.TrafficConfig) modelapi.TrafficConfig {
	return modelapi.TrafficConfig{
		ConnectTimeout:   int(orZero(config.ConnectTimeout)),
		IdleTimeout:      int(orZero(config.IdleTimeout)),
		MaxConcurrency:   int(orZero(config.MaxConcurrency)),
		MaxQueue:         int(orZero(config.MaxQueue)),
		ReplicaSelection: orZero(config.ReplicaSelection),
	}
}

func toAuthConfig(config *apigapi.AuthConfig) *modelapi.AuthConfig {
	if config == nil {
		return nil
	}
	return &modelapi.AuthConfig{AuthType: orZero(config.AuthType), AuthMode: orZero(config.AuthMode)}
}

func toDeployConfig(config apigapi.HttpApiDeployConfig) modelapi.DeployConfig {
	return modelapi.DeployConfig{
		GatewayID:         orZero(config.GatewayId),
		EnvironmentID:     orZero(config.EnvironmentId),
		BackendScene:      orZero(config.BackendScene),
		AutoDeploy:        orZero(config.AutoDeploy),
		BuiltinRouteNames: orZero(config.BuiltinRouteNames),
		Services:          mapped(orZero(config.ServiceConfigs), toServiceConfig),
		PolicyConfigs:     mapped(orZero(config.PolicyConfigs), toPolicyConfig),
		CustomDomainIDs:   orZero(config.CustomDomainIds),
		EnvDomainIDs:      orZero(config.EnvDomainIds),
	}
}

func toServiceConfig(config apigapi.HttpApiServiceConfig) modelapi.ServiceConfig {
	return modelapi.ServiceConfig{
		ServiceID: config.ServiceId, ModelName: orZero(config.ModelName), ModelNamePattern: orZero(config.ModelNamePattern),
		Weight: int(orZero(config.Weight)), Strategy: orZero(config.MultiServiceRouteStrategy),
		Observability: toObservability(config.ObservabilityRouteConfig),
	}
}

func toObservability(config *apigapi.ObservabilityRouteConfig) *modelapi.Observability {
	if config == nil {
		return nil
	}
	return &modelapi.Observability{
		Mode: orZero(config.Mode), QueueSize: int(orZero(config.QueueSize)), RateLimit: orZero(config.RateLimit),
	}
}

func toPolicyConfig(config apigapi.HttpApiPolicyConfig) modelapi.PolicyConfig {
	policy := modelapi.PolicyConfig{
		Type: config.Type, Enable: orZero(config.Enable), AiStatistics: toStatistics(config.AiStatisticsConfig),
	}
	if fallback := config.AiFallbackConfig; fallback != nil {
		policy.AiFallback = &modelapi.AiFallback{
			OnlyRedirectUpstreamCode: orZero(fallback.OnlyRedirectUpstreamCode),
			Services:                 mapped(orZero(fallback.ServiceConfigs), toFallbackService),
		}
	}
	return policy
}

func toStatistics(config *apigapi.AiStatisticsConfig) *modelapi.AiStatistics {
	if config == nil {
		return nil
	}
	return &modelapi.AiStatistics{
		LogRequestContent: orZero(config.LogRequestContent), LogResponseContent: orZero(config.LogResponseContent),
		OwnFields: len(orZero(config.PathFieldConfigs)) > 0,
	}
}

func toFallbackService(config apigapi.AiFallbackServiceConfig) modelapi.FallbackService {
	return modelapi.FallbackService{
		ServiceID: config.ServiceId, TargetModelName: orZero(config.TargetModelName),
		PassThroughModelName: orZero(config.PassThroughModelName),
	}
}

func toAPIFilter(params apigapi.ListHttpApisParams) modelapi.Filter {
	return modelapi.Filter{
		GatewayID:       orZero(params.GatewayId),
		Name:            orZero(params.Name),
		Keyword:         orZero(params.Keyword),
		Types:           orZero(params.Types),
		ResourceGroupID: orZero(params.ResourceGroupId),
		Page:            toPage(params.PageNumber, params.PageSize),
	}
}

func fromAPIs(apis []modelapi.API, page instance.Page, total int) apigapi.HttpApiPage {
	return apigapi.HttpApiPage{
		Items: mapped(apis, fromNamedAPI), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

// fromNamedAPI wraps an API in the list of its versions, of which there is one.
func fromNamedAPI(found modelapi.API) apigapi.HttpApiInfoByName {
	return apigapi.HttpApiInfoByName{
		Name: found.Name, Type: found.Type, GatewayId: found.DeployConfig.GatewayID,
		VersionedHttpApis: []apigapi.HttpApiApiInfo{fromAPI(found)},
	}
}

func fromAPI(found modelapi.API) apigapi.HttpApiApiInfo {
	return apigapi.HttpApiApiInfo{
		HttpApiId:               found.ID,
		Name:                    found.Name,
		Type:                    found.Type,
		ModelCategory:           found.ModelCategory,
		AiProtocols:             orEmpty(found.AIProtocols),
		BasePath:                found.BasePath,
		Protocols:               orEmpty(found.Protocols),
		Description:             found.Description,
		GatewayId:               found.DeployConfig.GatewayID,
		ResourceGroupId:         found.ResourceGroupID,
		EnableAuth:              found.EnableAuth,
		AuthConfig:              fromAuthConfig(found.AuthConfig),
		RemoveBasePathOnForward: found.RemoveBasePath,
		FirstByteTimeout:        int32(found.FirstByteTimeout),
		TrafficConfig:           fromTrafficConfig(found.TrafficConfig),
		DeployedRevision:        found.DeployedRevision,
		DeployConfigs:           []apigapi.HttpApiDeployConfig{fromDeployConfig(found.DeployConfig)},
		Environments:            []apigapi.HttpApiEnvironment{fromAPIEnvironment(found)},
		CreateTimestamp:         fromTime(found.CreatedAt),
		UpdateTimestamp:         fromTime(found.UpdatedAt),
	}
}

// fromServedAPI is fromAPI with what only a read of one API knows.
func fromServedAPI(found modelapi.API) apigapi.HttpApiApiInfo {
	info := fromAPI(found)
	serving, everywhere := mapped(found.Serving, fromServing), found.ServedEverywhere()
	info.Serving, info.ServedEverywhere = &serving, &everywhere
	return info
}

func fromServing(serving modelapi.Serving) apigapi.HttpApiServing {
	return apigapi.HttpApiServing{
		ProcessId: serving.ProcessID, GatewayId: unlessEmpty(serving.GatewayID), Revision: serving.Revision, Newest: serving.Newest,
		ReportTimestamp: fromTime(serving.ReportedAt),
	}
}

func fromAuthConfig(config *modelapi.AuthConfig) *apigapi.AuthConfig {
	if config == nil {
		return nil
	}
	return &apigapi.AuthConfig{AuthType: &config.AuthType, AuthMode: &config.AuthMode}
}

// fromTrafficConfig names every default, so that readers see them.
func fromTrafficConfig(config modelapi.TrafficConfig) apigapi.TrafficConfig {
	connect, idle := int32(config.ConnectTimeout), int32(config.IdleTimeout)
	concurrency, queue := int32(config.MaxConcurrency), int32(config.MaxQueue)
	selection := cmp.Or(config.ReplicaSelection, modelapi.LeastInFlight)
	return apigapi.TrafficConfig{
		ConnectTimeout: &connect, IdleTimeout: &idle, MaxConcurrency: &concurrency, MaxQueue: &queue, ReplicaSelection: &selection,
	}
}

func fromDeployConfig(config modelapi.DeployConfig) apigapi.HttpApiDeployConfig {
	gatewayType := "AI"
	routes, services := orEmpty(config.BuiltinRouteNames), mapped(config.Services, fromServiceConfig)
	policies := mapped(config.PolicyConfigs, fromPolicyConfig)
	custom, environment := orEmpty(config.CustomDomainIDs), orEmpty(config.EnvDomainIDs)
	return apigapi.HttpApiDeployConfig{
		GatewayId:         &config.GatewayID,
		GatewayType:       &gatewayType,
		EnvironmentId:     &config.EnvironmentID,
		AutoDeploy:        &config.AutoDeploy,
		BackendScene:      &config.BackendScene,
		BuiltinRouteNames: &routes,
		ServiceConfigs:    &services,
		PolicyConfigs:     &policies,
		CustomDomainIds:   &custom,
		EnvDomainIds:      &environment,
	}
}

func fromServiceConfig(config modelapi.ServiceConfig) apigapi.HttpApiServiceConfig {
	converted := apigapi.HttpApiServiceConfig{
		ServiceId: config.ServiceID, Name: unlessEmpty(config.Name), ModelName: unlessEmpty(config.ModelName),
		ModelNamePattern: unlessEmpty(config.ModelNamePattern), Weight: unlessZero(int64(config.Weight)),
		ObservabilityRouteConfig: fromObservability(config.Observability),
	}
	if config.Observability != nil {
		strategy := "ByObservability"
		converted.MultiServiceRouteStrategy = &strategy
	}
	return converted
}

func fromObservability(config *modelapi.Observability) *apigapi.ObservabilityRouteConfig {
	if config == nil {
		return nil
	}
	return &apigapi.ObservabilityRouteConfig{
		Mode: &config.Mode, QueueSize: unlessZero(int32(config.QueueSize)), RateLimit: unlessZero(config.RateLimit),
	}
}

func unlessEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func fromPolicyConfig(policy modelapi.PolicyConfig) apigapi.HttpApiPolicyConfig {
	config := apigapi.HttpApiPolicyConfig{
		Type: policy.Type, Enable: &policy.Enable, AiStatisticsConfig: fromStatistics(policy.AiStatistics),
	}
	if fallback := policy.AiFallback; fallback != nil {
		services := mapped(fallback.Services, fromFallbackService)
		config.AiFallbackConfig = &apigapi.AiFallbackConfig{
			OnlyRedirectUpstreamCode: &fallback.OnlyRedirectUpstreamCode, ServiceConfigs: &services,
		}
	}
	return config
}

func fromStatistics(statistics *modelapi.AiStatistics) *apigapi.AiStatisticsConfig {
	if statistics == nil {
		return nil
	}
	return &apigapi.AiStatisticsConfig{
		LogRequestContent: &statistics.LogRequestContent, LogResponseContent: &statistics.LogResponseContent,
	}
}

func fromFallbackService(service modelapi.FallbackService) apigapi.AiFallbackServiceConfig {
	return apigapi.AiFallbackServiceConfig{
		ServiceId: service.ServiceID, Name: unlessEmpty(service.Name), TargetModelName: unlessEmpty(service.TargetModelName),
		PassThroughModelName: &service.PassThroughModelName,
	}
}

func fromAPIEnvironment(found modelapi.API) apigapi.HttpApiEnvironment {
	config := found.DeployConfig
	environment := apigapi.HttpApiEnvironment{
		EnvironmentId:  config.EnvironmentID,
		Name:           found.EnvironmentName,
		Alias:          found.EnvironmentAlias,
		DeployStatus:   found.DeployStatus,
		BackendScene:   config.BackendScene,
		ServiceConfigs: mapped(config.Services, fromServiceConfig),
		GatewayInfo:    apigapi.GatewayInfo{GatewayId: config.GatewayID, Name: found.GatewayName},
		CustomDomains:  mapped(found.CustomDomains, fromBoundDomain),
		SubDomains:     []apigapi.SubDomainInfo{},
	}
	if len(config.EnvDomainIDs) > 0 {
		environment.SubDomains = append(environment.SubDomains, fromSubDomain(config.EnvironmentID, found.SubDomain))
	}
	return environment
}

func fromBoundDomain(domain modelapi.BoundDomain) apigapi.HttpApiDomainInfo {
	return apigapi.HttpApiDomainInfo{DomainId: domain.ID, Name: domain.Name, Protocol: domain.Protocol}
}

func fromSubDomain(environmentID, name string) apigapi.SubDomainInfo {
	return apigapi.SubDomainInfo{DomainId: environmentID, Name: name, Protocol: "HTTP", NetworkType: "Internet"}
}

func fromDeployed(found modelapi.API) apigapi.DeployedHttpApi {
	return apigapi.DeployedHttpApi{HttpApiId: found.ID, Revision: found.DeployedRevision}
}

func fromRevisions(revisions []modelapi.Revision, page instance.Page, total int) apigapi.HttpApiRevisionPage {
	return apigapi.HttpApiRevisionPage{
		Items: mapped(revisions, fromRevision), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

func fromRevision(revision modelapi.Revision) apigapi.HttpApiRevision {
	return apigapi.HttpApiRevision{
		RevisionId: revision.ID, Revision: revision.Number, Author: revision.Author, Deployed: revision.Deployed,
		CreateTimestamp: fromTime(revision.CreatedAt),
	}
}
