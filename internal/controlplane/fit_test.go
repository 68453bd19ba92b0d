package controlplane

import (
	"slices"
	"strings"
)

// fit are parameters that the operation takes in the account: the example of the document with what the account has,
// and with names that nothing has. Of an operation that only reads they are those that it needs, so that nothing else
// narrows what is found.
func (a *account) fit(op operation) object {
	a.t.Helper()
	params := copied(a.t, op.example)
	if !op.mutates() {
		for name := range params {
			if !op.needs(name) && name != "UserName" { // which users may leave out, and no account
				delete(params, name)
			}
		}
	}
	for _, f := range op.fields(a.t) {
		if f.get(params) != nil || op.needs(f.path) {
			f.set(params, a.things[f.kind])
		}
	}
	if token, takes := op.takesToken(); takes {
		params[token] = a.named()
	}
	if further := fits[op.name()]; further != nil {
		further(a, params)
	}
	return params
}

// needs reports whether a call without the parameter is refused.
func (o operation) needs(name string) bool {
	if o.paths {
		for _, parameter := range o.Parameters {
			if parameter.Value.Name == name {
				return parameter.Value.Required
			}
		}
	}
	return o.RequestBody != nil && slices.Contains(o.RequestBody.Value.Content.Get("application/json").Schema.Value.Required, name)
}

// fits are what an operation takes beyond that.
var fits = map[string]func(a *account, p object){
	"gpdb:CreateModelService": func(a *account, p object) { p["AiNodes"] = []any{a.things["free node"]} },
	"gpdb:ModifyModelService": func(_ *account, p object) {
		delete(p, "Replicas")
		p["Description"] = "changed"
	},
	"gpdb:DeleteAINode":                   func(a *account, p object) { p["NodeNames"] = []any{a.things["free node"]} },
	"apig:CreateHttpApi":                  func(a *account, p object) { p["name"], p["basePath"] = a.named(), "/"+a.named() },
	"apig:UpdateHttpApi":                  func(a *account, p object) { p["basePath"] = "/" + a.things["API name"].(string) },
	"apig:ImportHttpApi":                  fitDocument,
	"apig:DebugHttpApi":                   func(_ *account, p object) { delete(p, "domain") },
	"apig:ListTagResources":               func(a *account, p object) { p["ResourceType"], p["ResourceId"] = "Gateway", []any{a.things["gateway"]} },
	"apig:CreateHttpApiRoute":             fitRoute,
	"apig:UpdateHttpApiRoute":             fitRoute,
	"apig:CreateGateway":                  func(a *account, p object) { p["name"] = a.named() },
	"apig:UpdateGatewayName":              func(a *account, p object) { p["name"] = a.named() },
	"apig:CreateEnvironment":              func(a *account, p object) { p["name"] = a.named() },
	"apig:CreateDomain":                   func(a *account, p object) { p["name"] = a.named() + ".example.com"; overHTTP(p) },
	"apig:UpdateDomain":                   func(_ *account, p object) { overHTTP(p) },
	"apig:CreateService":                  func(a *account, p object) { fitService(a, p["serviceConfigs"].([]any)[0].(object)) },
	"apig:UpdateService":                  func(_ *account, p object) { p["aiServiceConfig"].(object)["apiKeys"] = []any{"sk-another"} },
	"apig:CreateConsumer":                 fitConsumer,
	"apig:CreateConsumerGroup":            func(a *account, p object) { p["name"] = a.named() },
	"apig:UpdateConsumerGroup":            func(a *account, p object) { p["name"] = a.named() },
	"ram:CreateUser":                      func(a *account, p object) { p["UserName"] = a.named() },
	"ram:CreateGroup":                     func(a *account, p object) { p["GroupName"] = a.named() },
	"ram:CreateRole":                      func(a *account, p object) { p["RoleName"] = a.named() },
	"ram:CreatePolicy":                    func(a *account, p object) { p["PolicyName"] = a.named() },
	"resourcemanager:CreateResourceGroup": func(a *account, p object) { p["Name"] = a.named() },
}

func overHTTP(p object) {
	for name := range p {
		if name != "name" && name != "domainId" && name != "resourceGroupId" {
			delete(p, name)
		}
	}
	p["protocol"] = "HTTP"
}

func fitDocument(a *account, p object) {
	document := p["document"].(object)
	document["name"], document["basePath"], document["protocols"] = a.named(), "/"+a.named(), []any{"HTTP"}
}

func fitRoute(a *account, p object) {
	if _, named := p["name"]; named {
		p["name"] = a.named()
	}
	p["match"].(object)["path"].(object)["value"] = "/v1/" + a.named()
	backend := p["backendConfig"].(object)
	backend["scene"], backend["services"] = "SingleService", backend["services"].([]any)[:1]
}

func fitService(a *account, config object) { config["name"] = a.named() }

func fitConsumer(a *account, p object) {
	p["name"] = a.named()
	p["jwtIdentityConfig"].(object)["jwtPayloadConfig"].(object)["payloadKeyValue"] = a.named()
}

// suit makes params ones in which the field counts.
func (a *account) suit(op operation, f field, params object) {
	a.t.Helper()
	switch {
	case strings.HasSuffix(f.path, "modelServiceId"):
		params["sourceType"] = "ModelService"
		params["serviceConfigs"] = []any{object{"name": a.named(), "modelServiceId": a.things["model service"]}}
	case strings.HasSuffix(f.path, "routes[].policyConfigs[].aiFallbackConfig.serviceConfigs[].name"):
		document := params["document"].(object)
		document["routes"].([]any)[0].(object)["policyConfigs"] = copied(a.t, document["policyConfigs"])
	case op.OperationID == "CreateConsumerAuthorizationRules" && strings.HasSuffix(f.path, "consumerGroupId"):
		rule := params["authorizationRules"].([]any)[0].(object)
		delete(rule, "consumerId")
		rule["principalType"] = "ConsumerGroup"
	}
}
