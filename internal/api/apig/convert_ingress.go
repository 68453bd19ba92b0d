package apig

import (
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

func toGatewaySpec(body *apigapi.CreateGatewayRequest) ingress.GatewaySpec {
	return ingress.GatewaySpec{
		Name: body.Name, ResourceGroupID: orZero(body.ResourceGroupId), Tags: optional(body.Tag, toTag),
	}
}

func toGatewayFilter(params apigapi.ListGatewaysParams) ingress.GatewayFilter {
	return ingress.GatewayFilter{
		ID:              orZero(params.GatewayId),
		Name:            orZero(params.Name),
		Keyword:         orZero(params.Keyword),
		ResourceGroupID: orZero(params.ResourceGroupId),
		Tags:            optional(params.Tag, toTag),
		Page:            toPage(params.PageNumber, params.PageSize),
	}
}

func fromGateways(gateways []ingress.Gateway, page instance.Page, total int) apigapi.GatewayPage {
	return apigapi.GatewayPage{
		Items: mapped(gateways, fromGateway), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int64(total),
	}
}

func fromGateway(gateway ingress.Gateway) apigapi.Gateway {
	return apigapi.Gateway{
		GatewayId:       gateway.ID,
		Name:            gateway.Name,
		GatewayType:     "AI",
		Status:          gateway.Status,
		ResourceGroupId: gateway.ResourceGroupID,
		Tags:            mapped(gateway.Tags, fromTag),
		Environments:    mapped(gateway.Environments, fromGatewayEnvironment),
		CreateTimestamp: fromTime(gateway.CreatedAt),
		UpdateTimestamp: fromTime(gateway.UpdatedAt),
	}
}

func fromGatewayEnvironment(environment ingress.Environment) apigapi.GatewayEnvironment {
	return apigapi.GatewayEnvironment{EnvironmentId: environment.ID, Name: environment.Name, Alias: environment.Alias}
}

func toEnvironmentSpec(body *apigapi.CreateEnvironmentRequest) ingress.EnvironmentSpec {
	return ingress.EnvironmentSpec{
		GatewayID:       body.GatewayId,
		Name:            body.Name,
		Alias:           orZero(body.Alias),
		Description:     orZero(body.Description),
		ResourceGroupID: orZero(body.ResourceGroupId),
	}
}

func toEnvironmentFilter(params apigapi.ListEnvironmentsParams) ingress.EnvironmentFilter {
	return ingress.EnvironmentFilter{
		GatewayID:       orZero(params.GatewayId),
		NameLike:        orZero(params.NameLike),
		AliasLike:       orZero(params.AliasLike),
		GatewayNameLike: orZero(params.GatewayNameLike),
		ResourceGroupID: orZero(params.ResourceGroupId),
		Page:            toPage(params.PageNumber, params.PageSize),
	}
}

func fromEnvironments(environments []ingress.Environment, page instance.Page, total int) apigapi.EnvironmentPage {
	return apigapi.EnvironmentPage{
		Items: mapped(environments, fromEnvironment), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

func fromEnvironment(environment ingress.Environment) apigapi.EnvironmentInfo {
	return apigapi.EnvironmentInfo{
		EnvironmentId:   environment.ID,
		Name:            environment.Name,
		Alias:           environment.Alias,
		Description:     environment.Description,
		Default:         environment.Default,
		GatewayInfo:     apigapi.GatewayInfo{GatewayId: environment.GatewayID, Name: environment.GatewayName},
		SubDomainInfos:  []apigapi.SubDomainInfo{fromSubDomain(environment.ID, environment.SubDomain)},
		ResourceGroupId: environment.ResourceGroupID,
		CreateTimestamp: fromTime(environment.CreatedAt),
		UpdateTimestamp: fromTime(environment.UpdatedAt),
	}
}

func toDomainSpec(body *apigapi.CreateDomainRequest) ingress.DomainSpec {
	return ingress.DomainSpec{
		Name:            body.Name,
		Protocol:        body.Protocol,
		ForceHTTPS:      orZero(body.ForceHttps),
		HTTP2:           orZero(body.Http2Option),
		CertIdentifier:  orZero(body.CertIdentifier),
		TLSMin:          orZero(body.TlsMin),
		TLSMax:          orZero(body.TlsMax),
		ResourceGroupID: orZero(body.ResourceGroupId),
	}
}

func toDomainChange(body *apigapi.UpdateDomainRequest) ingress.DomainChange {
	return ingress.DomainChange{
		Protocol:       body.Protocol,
		ForceHTTPS:     body.ForceHttps,
		HTTP2:          body.Http2Option,
		CertIdentifier: body.CertIdentifier,
		TLSMin:         body.TlsMin,
		TLSMax:         body.TlsMax,
	}
}

func toDomainFilter(params apigapi.ListDomainsParams) ingress.DomainFilter {
	return ingress.DomainFilter{
		NameLike:        orZero(params.NameLike),
		ResourceGroupID: orZero(params.ResourceGroupId),
		Page:            toPage(params.PageNumber, params.PageSize),
	}
}

func fromDomains(domains []ingress.Domain, page instance.Page, total int) apigapi.DomainPage {
	return apigapi.DomainPage{
		Items: mapped(domains, fromDomain), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

func fromDomain(domain ingress.Domain) apigapi.DomainInfo {
	return apigapi.DomainInfo{
		DomainId:        domain.ID,
		Name:            domain.Name,
		Protocol:        domain.Protocol,
		Status:          "Published",
		ForceHttps:      domain.ForceHTTPS,
		CertIdentifier:  domain.CertIdentifier,
		Http2Option:     domain.HTTP2,
		TlsMin:          domain.TLSMin,
		TlsMax:          domain.TLSMax,
		ResourceGroupId: domain.ResourceGroupID,
		CreateTimestamp: fromTime(domain.CreatedAt),
		UpdateTimestamp: fromTime(domain.UpdatedAt),
	}
}
