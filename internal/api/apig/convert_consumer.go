package apig

import (
	"strconv"

	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/instance"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
	"github.com/engineshed/engineshed/internal/secret"
)

func toConsumerSpec(body *apigapi.CreateConsumerRequest) consumer.Spec {
	identity := orZero(body.ApikeyIdentityConfig)
	source := orZero(identity.ApikeySource)
	return consumer.Spec{
		Name:        body.Name,
		Description: orZero(body.Description),
		Enabled:     body.Enable,
		KeySource:   orZero(source.Source),
		KeyName:     orZero(source.Value),
		Keys:        optional(identity.Credentials, toConsumerKey),
		Token:       toTokenIdentity(body.JwtIdentityConfig),
		AccessKeys:  optional(body.AkSkIdentityConfigs, toAccessKey),
	}
}

func toConsumerKey(credential apigapi.ApiKeyCredential) consumer.Key {
	return consumer.Key{Secret: secret.New(orZero(credential.Apikey)), GenerateMode: orZero(credential.GenerateMode)}
}

// toTokenIdentity makes an empty one of a config that says nothing but its type.
func toTokenIdentity(config *apigapi.JwtIdentityConfig) *consumer.TokenIdentity {
	if config == nil {
		return nil
	}
	token, payload := orZero(config.JwtTokenConfig), orZero(config.JwtPayloadConfig)
	identity := &consumer.TokenIdentity{
		SecretType: orZero(config.SecretType),
		KeySet:     secret.New(orZero(config.Jwks)),
		Claim:      orZero(payload.PayloadKeyName),
		Value:      orZero(payload.PayloadKeyValue),
		Position:   orZero(token.Position),
		Name:       orZero(token.Key),
		Prefix:     token.Prefix,
		Issuer:     orZero(config.Issuer),
		Audience:   orZero(config.Audience),
	}
	switch {
	case orZero(config.RemoteJwks) != "":
		identity.Unserved = "jwtIdentityConfig.remoteJwks"
	case len(orZero(config.ClaimsToHeadersConfigs)) > 0:
		identity.Unserved = "jwtIdentityConfig.claimsToHeadersConfigs"
	case orZero(token.Pass):
		identity.Unserved = "jwtIdentityConfig.jwtTokenConfig.pass"
	}
	return identity
}

func toAccessKey(config apigapi.AkSkIdentityConfig) consumer.AccessKey {
	return consumer.AccessKey{ID: orZero(config.Ak), Secret: secret.New(orZero(config.Sk)), GenerateMode: orZero(config.GenerateMode)}
}

func toConsumerChange(body *apigapi.UpdateConsumerRequest) consumer.Change {
	identity := orZero(body.ApikeyIdentityConfig)
	source := orZero(identity.ApikeySource)
	change := consumer.Change{
		Description: body.Description, Enabled: body.Enable, KeySource: source.Source, KeyName: source.Value,
		Token: toTokenIdentity(body.JwtIdentityConfig),
	}
	if identity.Credentials != nil {
		keys := mapped(*identity.Credentials, toConsumerKey)
		change.Keys = &keys
	}
	if body.AkSkIdentityConfigs != nil {
		keys := mapped(*body.AkSkIdentityConfigs, toAccessKey)
		change.AccessKeys = &keys
	}
	return change
}

func fromConsumers(consumers []consumer.Consumer, page instance.Page, total int) apigapi.ConsumerPage {
	return apigapi.ConsumerPage{
		Items: mapped(consumers, fromConsumerSummary), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

func fromConsumerSummary(c consumer.Consumer) apigapi.ConsumerSummary {
	return apigapi.ConsumerSummary{
		ConsumerId:      c.ID,
		Name:            c.Name,
		Enable:          c.Enabled,
		Description:     c.Description,
		CreateTimestamp: fromTime(c.CreatedAt),
		UpdateTimestamp: fromTime(c.UpdatedAt),
	}
}

// fromConsumer shows API keys in full, and so the secrets that were generated: there is no other way to learn those.
func fromConsumer(c consumer.Consumer) apigapi.Consumer {
	kind, credentials := "Apikey", mapped(c.Keys, fromConsumerKey)
	return apigapi.Consumer{
		ConsumerId:  c.ID,
		Name:        c.Name,
		Enable:      c.Enabled,
		Description: c.Description,
		ApiKeyIdentityConfig: apigapi.ApiKeyIdentityConfig{
			Type: &kind, ApikeySource: &apigapi.ApiKeySource{Source: &c.KeySource, Value: &c.KeyName}, Credentials: &credentials,
		},
		JwtIdentityConfig:   fromTokenIdentity(c.Token),
		AkSkIdentityConfigs: fromAccessKeys(c.AccessKeys),
		CreateTimestamp:     fromTime(c.CreatedAt),
		UpdateTimestamp:     fromTime(c.UpdatedAt),
	}
}

func fromConsumerKey(key consumer.Key) apigapi.ApiKeyCredential {
	text := key.Secret.Reveal()
	return apigapi.ApiKeyCredential{Apikey: &text, GenerateMode: &key.GenerateMode}
}

func fromTokenIdentity(t *consumer.TokenIdentity) *apigapi.JwtIdentityConfig {
	if t == nil {
		return nil
	}
	kind, pass := "Jwt", false
	return &apigapi.JwtIdentityConfig{
		Type: &kind, SecretType: &t.SecretType, Jwks: &t.Shown, Issuer: unlessEmpty(t.Issuer), Audience: unlessEmpty(t.Audience),
		JwtPayloadConfig: &apigapi.JwtPayloadConfig{PayloadKeyName: &t.Claim, PayloadKeyValue: &t.Value},
		JwtTokenConfig:   &apigapi.JwtTokenConfig{Position: &t.Position, Key: &t.Name, Prefix: t.Prefix, Pass: &pass},
	}
}

func fromAccessKeys(keys []consumer.AccessKey) *[]apigapi.AkSkIdentityConfig {
	if len(keys) == 0 {
		return nil
	}
	kind := "AkSk"
	shown := mapped(keys, func(key consumer.AccessKey) apigapi.AkSkIdentityConfig {
		text := key.Shown()
		return apigapi.AkSkIdentityConfig{Type: &kind, Ak: &key.ID, Sk: &text, GenerateMode: &key.GenerateMode}
	})
	return &shown
}

func fromGroups(groups []consumer.Group, page instance.Page, total int) apigapi.ConsumerGroupPage {
	return apigapi.ConsumerGroupPage{
		Items: mapped(groups, fromGroup), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: int32(total),
	}
}

func fromGroup(group consumer.Group) apigapi.ConsumerGroup {
	return apigapi.ConsumerGroup{
		ConsumerGroupId: group.ID,
		Name:            group.Name,
		Description:     group.Description,
		ConsumerCount:   int32(group.Members),
		CreateTimestamp: fromTime(group.CreatedAt),
		UpdateTimestamp: fromTime(group.UpdatedAt),
	}
}

func toRuleSpec(spec apigapi.ConsumerAuthorizationRuleSpec) consumer.RuleSpec {
	return consumer.RuleSpec{
		ConsumerID:    orZero(spec.ConsumerId),
		GroupID:       orZero(spec.ConsumerGroupId),
		ResourceType:  spec.ResourceType,
		APIID:         spec.ResourceIdentifier.ResourceId,
		EnvironmentID: orZero(spec.ResourceIdentifier.EnvironmentId),
		ExpireMode:    orZero(spec.ExpireMode),
	}
}

func toRuleFilter(params apigapi.QueryConsumerAuthorizationRulesParams) consumer.RuleFilter {
	return consumer.RuleFilter{
		ConsumerID:       orZero(params.ConsumerId),
		GroupID:          orZero(params.ConsumerGroupId),
		PrincipalType:    orZero(params.PrincipalType),
		ConsumerNameLike: orZero(params.ConsumerNameLike),
		APINameLike:      orZero(params.ApiNameLike),
		APIID:            orZero(params.ResourceId),
		EnvironmentID:    orZero(params.EnvironmentId),
		Page:             toPage(params.PageNumber, params.PageSize),
	}
}

func fromRules(rules []consumer.Rule, page instance.Page, total int) apigapi.ConsumerAuthorizationRulePage {
	return apigapi.ConsumerAuthorizationRulePage{
		Items: mapped(rules, fromRule), PageNumber: int32(page.Number), PageSize: int32(page.Size), TotalSize: strconv.Itoa(total),
	}
}

func fromRule(rule consumer.Rule) apigapi.ConsumerAuthorizationRule {
	converted := apigapi.ConsumerAuthorizationRule{
		ConsumerAuthorizationRuleId: rule.ID,
		PrincipalType:               rule.PrincipalType(),
		ResourceId:                  rule.APIID,
		ResourceType:                consumer.ModelAPI,
		ApiInfo:                     apigapi.CreatedHttpApi{HttpApiId: rule.APIID, Name: rule.APIName},
		EnvironmentInfo: apigapi.GatewayEnvironment{
			EnvironmentId: rule.EnvironmentID, Name: rule.EnvironmentName, Alias: rule.EnvironmentAlias,
		},
		GatewayInfo:     apigapi.GatewayInfo{GatewayId: rule.GatewayID, Name: rule.GatewayName},
		ExpireMode:      "LongTerm",
		ExpireStatus:    "InEffect",
		CreateTimestamp: fromTime(rule.CreatedAt),
		UpdateTimestamp: fromTime(rule.UpdatedAt),
	}
	if rule.GroupID != "" {
		converted.ConsumerGroupId = &rule.GroupID
		converted.ConsumerGroupInfo = &apigapi.ConsumerGroupInfo{ConsumerGroupId: rule.GroupID, Name: rule.GroupName}
	} else {
		converted.ConsumerId = &rule.ConsumerID
		converted.ConsumerInfo = &apigapi.ConsumerInfo{ConsumerId: rule.ConsumerID, Name: rule.ConsumerName, Enable: rule.ConsumerEnabled}
	}
	return converted
}
