package apig

import (
	"strings"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/instance"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

func toServiceSpecs(body *apigapi.CreateServiceRequest) aiservice.CreateSpec {
	return aiservice.CreateSpec{
		GatewayID:       body.GatewayId,
		SourceType:      body.SourceType,
		ResourceGroupID: orZero(body.ResourceGroupId),
		Services:        mapped(body.ServiceConfigs, toServiceSpec),
	}
}

func toServiceSpec(config apigapi.ServiceConfig) aiservice.ServiceSpec {
	ai := orZero(config.AiServiceConfig)
	return aiservice.ServiceSpec{
		Name:           config.Name,
		Addresses:      orZero(config.Addresses),
		ModelServiceID: orZero(config.ModelServiceId),
		AI: aiservice.AIConfig{
			Provider:            orZero(ai.Provider),
			Protocols:           orZero(ai.Protocols),
			CompatibleProtocols: orZero(ai.CompatibleProtocols),
			Address:             orZero(ai.Address),
			APIKeys:             orZero(ai.ApiKeys),
			DefaultModelName:    orZero(ai.DefaultModelName),
			EnableHealthCheck:   orZero(ai.EnableHealthCheck),
		},
	}
}

func toServiceUpdate(body *apigapi.UpdateServiceRequest) aiservice.UpdateSpec {
	update := aiservice.UpdateSpec{Addresses: orZero(body.Addresses)}
	if ai := body.AiServiceConfig; ai != nil {
		update.AI = &aiservice.AIUpdate{
			Provider:            ai.Provider,
			Protocols:           orZero(ai.Protocols),
			CompatibleProtocols: orZero(ai.CompatibleProtocols),
			Address:             ai.Address,
			APIKeys:             orZero(ai.ApiKeys),
			DefaultModelName:    ai.DefaultModelName,
			EnableHealthCheck:   ai.EnableHealthCheck,
		}
	}
	return update
}

func toServiceFilter(params apigapi.ListServicesParams) aiservice.Filter {
	types := toSourceTypes(orZero(params.SourceTypes))
	if one := orZero(params.SourceType); one != "" {
		types = append(types, one)
	}
	return aiservice.Filter{
		GatewayID:       orZero(params.GatewayId),
		Name:            orZero(params.Name),
		SourceTypes:     types,
		ResourceGroupID: orZero(params.ResourceGroupId),
		Page:            toPage(params.PageNumber, params.PageSize),
	}
}

// toSourceTypes reads AI,DNS and ["AI","DNS"] alike: no type has a character that would tell them apart.
func toSourceTypes(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(`[]", `, r) })
}

func fromServices(services []aiservice.Service, page instance.Page, total int) apigapi.ServicePage {
	return apigapi.ServicePage{
		Items: mapped(services, fromService), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

func fromService(service aiservice.Service) apigapi.Service {
	converted := apigapi.Service{
		ServiceId:       service.ID,
		Name:            service.Name,
		GatewayId:       service.GatewayID,
		SourceType:      service.SourceType,
		Addresses:       orEmpty(service.Addresses),
		ModelServiceId:  unlessEmpty(service.ModelServiceID),
		ResourceGroupId: service.ResourceGroupID,
		CreateTimestamp: fromTime(service.CreatedAt),
		UpdateTimestamp: fromTime(service.UpdatedAt),
	}
	converted.HealthStatus = unlessEmpty(service.HealthStatus())
	if len(service.Health) > 0 {
		outliers, health := service.Outliers(), mapped(service.Health, fromGatewayHealth)
		converted.OutlierEndpoints, converted.GatewayHealth = &outliers, &health
	}
	if service.SourceType == aiservice.AI {
		converted.AiServiceConfig = fromAIConfig(service.AI)
	}
	return converted
}

// fromAIConfig shows the keys as the service shows them, which is masked.
func fromAIConfig(ai aiservice.AIConfig) *apigapi.AiServiceConfig {
	protocols, compatible, keys := orEmpty(ai.Protocols), orEmpty(ai.CompatibleProtocols), orEmpty(ai.APIKeys)
	return &apigapi.AiServiceConfig{
		Provider:            &ai.Provider,
		Protocols:           &protocols,
		CompatibleProtocols: &compatible,
		Address:             &ai.Address,
		ApiKeys:             &keys,
		DefaultModelName:    &ai.DefaultModelName,
		EnableHealthCheck:   &ai.EnableHealthCheck,
	}
}

func fromGatewayHealth(health aiservice.GatewayHealth) apigapi.ServiceGatewayHealth {
	return apigapi.ServiceGatewayHealth{
		ProcessId:        health.ProcessID,
		Ejected:          health.Ejected,
		OutlierEndpoints: orEmpty(health.Outliers),
		KeysSetAside:     int32(health.KeysSetAside),
		Message:          health.Message(),
		ReportTimestamp:  fromTime(health.ReportedAt),
	}
}
