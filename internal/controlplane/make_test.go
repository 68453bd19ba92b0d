package controlplane

func (a *account) newInstance(nodes string) any {
	a.t.Helper()
	return a.do("gpdb:CreateDBInstance", object{
		"RegionId": theRegion, "DBInstanceDescription": a.word, "AINodeSpecInfos": []any{object{"AINodeSpec": "ADB.AILarge.1", "AINodeNum": nodes}},
	})["DBInstanceId"]
}

// nodes are the AI nodes of an instance.
func (a *account) nodes(instance any) (names []any) {
	a.t.Helper()
	for _, pool := range a.do("gpdb:ListAINodePools", object{"DBInstanceId": instance})["AINodePoolInfos"].([]any) {
		for _, node := range pool.(object)["AINodeInfos"].([]any) {
			names = append(names, node.(object)["NodeName"])
		}
	}
	return names
}

func (a *account) pool(instance any) any {
	a.t.Helper()
	pools := a.do("gpdb:ListAINodePools", object{"DBInstanceId": instance})["AINodePoolInfos"].([]any)
	return pools[0].(object)["AINodePoolId"]
}

func (a *account) newModelService(instance any, nodes ...any) any {
	a.t.Helper()
	return a.do("gpdb:CreateModelService", object{"DBInstanceId": instance, "ModelName": "Qwen3-0.6B", "AiNodes": nodes})["ModelServiceId"]
}

func (a *account) newOperatorKey() any {
	a.t.Helper()
	return a.do("gpdb:CreateModelOperatorApiKey", object{"Description": a.word})["ApiKeyId"]
}

func (a *account) newResourceGroup(name string) any {
	a.t.Helper()
	return a.do("resourcemanager:CreateResourceGroup", object{"Name": name, "DisplayName": name})["ResourceGroup"].(object)["Id"]
}

func (a *account) newGateway(name string) any {
	a.t.Helper()
	return a.do("apig:CreateGateway", object{"name": name, "gatewayType": "AI"})["gatewayId"]
}

func (a *account) environmentOf(gateway any) any {
	a.t.Helper()
	listed := a.do("apig:ListEnvironments", object{"gatewayId": gateway})["items"].([]any)
	return listed[0].(object)["environmentId"]
}

func (a *account) newService(name any) any {
	a.t.Helper()
	made := a.do("apig:CreateService", object{"gatewayId": a.things["gateway"], "sourceType": "AI", "serviceConfigs": []any{object{
		"name": name, "aiServiceConfig": object{"provider": "qwen", "protocols": []any{"OpenAI/v1"}, "apiKeys": []any{"sk-of-" + a.word}},
	}}})
	return made["serviceIds"].([]any)[0]
}

func (a *account) newConsumer(name any) any {
	a.t.Helper()
	return a.do("apig:CreateConsumer", object{"name": name, "gatewayType": "AI", "apikeyIdentityConfig": object{
		"type": "Apikey", "apikeySource": object{"source": "Default"}, "credentials": []any{object{"generateMode": "System"}},
	}})["consumerId"]
}

func (a *account) newAPI(name string) any {
	a.t.Helper()
	return a.do("apig:CreateHttpApi", object{
		"name": name, "type": "LLM", "modelCategory": "Text", "aiProtocols": []any{"OpenAI/v1"}, "basePath": "/" + name,
		"enableAuth": true, "authConfig": object{"authType": "Apikey", "authMode": "Custom"},
		"deployConfigs": []any{object{
			"gatewayId": a.things["gateway"], "gatewayType": "AI", "environmentId": a.things["environment"], "autoDeploy": true,
			"backendScene": "SingleService", "serviceConfigs": []any{object{"serviceId": a.things["service"]}},
		}},
	})["httpApiId"]
}

func (a *account) newRoute(name string) any {
	a.t.Helper()
	params := a.creating("apig:CreateHttpApiRoute", object{"httpApiId": a.things["API"], "name": name, "policyConfigs": []any{}})
	params["match"].(object)["path"].(object)["value"] = "/v1/" + name
	params["backendConfig"] = object{"scene": "SingleService", "services": []any{object{"serviceId": a.things["service"]}}}
	return a.do("apig:CreateHttpApiRoute", params)["routeId"]
}

func (a *account) newRule(consumer, api any) any {
	a.t.Helper()
	made := a.do("apig:CreateConsumerAuthorizationRules", object{"authorizationRules": []any{object{
		"principalType": "Consumer", "consumerId": consumer, "resourceType": "LLM", "expireMode": "LongTerm",
		"resourceIdentifier": object{"resourceId": api, "environmentId": a.things["environment"]},
	}}})
	return made["consumerAuthorizationRuleIds"].([]any)[0]
}
