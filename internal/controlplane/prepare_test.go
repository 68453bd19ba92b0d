package controlplane

// prepares bring about what a call needs that ends something or can be made once only, so that each operation finds
// something of its own.
var prepares = map[string]func(a *account, p object){
	"gpdb:DeleteModelService": func(a *account, p object) {
		p["DBInstanceId"] = a.newInstance("1")
		p["ModelServiceId"] = a.newModelService(p["DBInstanceId"], a.nodes(p["DBInstanceId"])...)
	},
	"gpdb:DeleteAINode": func(a *account, p object) {
		p["DBInstanceId"] = a.newInstance("2")
		p["NodeNames"] = a.nodes(p["DBInstanceId"])[:1]
	},
	"gpdb:DeleteDBInstance":          func(a *account, p object) { p["DBInstanceId"] = a.newInstance("1") },
	"gpdb:DeleteModelOperatorApiKey": func(a *account, p object) { p["ApiKeyId"] = a.newOperatorKey() },

	"apig:DeleteGateway": func(a *account, p object) { p["gatewayId"] = a.newGateway(a.named()) },
	"apig:DeleteEnvironment": func(a *account, p object) {
		p["environmentId"] = a.do("apig:CreateEnvironment", object{"gatewayId": a.things["gateway"], "name": a.named(), "alias": a.named()})["environmentId"]
	},
	"apig:DeleteDomain": func(a *account, p object) {
		p["domainId"] = a.do("apig:CreateDomain", object{"name": a.named() + ".example.com", "protocol": "HTTP"})["domainId"]
	},
	"apig:DeleteService":      func(a *account, p object) { p["serviceId"] = a.newService(a.named()) },
	"apig:DeleteHttpApi":      func(a *account, p object) { p["httpApiId"] = a.newAPI(a.named()) },
	"apig:DeleteHttpApiRoute": func(a *account, p object) { p["routeId"] = a.newRoute(a.named()) },
	"apig:UpdateHttpApiRoute": func(a *account, p object) { p["routeId"] = a.newRoute(a.named()) },
	"apig:DeleteConsumer":     func(a *account, p object) { p["consumerId"] = a.newConsumer(a.named()) },
	"apig:DeleteConsumerGroup": func(a *account, p object) {
		p["consumerGroupId"] = a.do("apig:CreateConsumerGroup", object{"name": a.named(), "gatewayType": "AI"})["consumerGroupId"]
	},
	"apig:BatchAddConsumerGroupConsumers": func(a *account, p object) { p["consumerIds"] = []any{a.newConsumer(a.named())} },
	"apig:CreateConsumerAuthorizationRules": func(a *account, p object) {
		p["authorizationRules"].([]any)[0].(object)["consumerId"] = a.newConsumer(a.named())
	},
	"apig:BatchDeleteConsumerAuthorizationRule": func(a *account, p object) {
		p["consumerAuthorizationRuleIds"] = []any{a.newRule(a.newConsumer(a.named()), a.things["API"])}
	},
	"apig:RemoveConsumerAuthorizationRule": func(a *account, p object) {
		p["consumerAuthorizationRuleId"] = a.newRule(a.newConsumer(a.named()), a.things["API"])
	},

	"ram:CreateAccessKey": func(a *account, p object) { p["UserName"] = a.newOf("User") },
	"ram:UpdateAccessKey": prepareKey,
	"ram:DeleteAccessKey": prepareKey,
	"ram:DeleteUser":      func(a *account, p object) { p["UserName"] = a.newOf("User") },
	"ram:DeleteGroup":     func(a *account, p object) { p["GroupName"] = a.newOf("Group") },
	"ram:DeleteRole":      func(a *account, p object) { p["RoleName"] = a.newOf("Role") },
	"ram:DeletePolicy":    func(a *account, p object) { p["PolicyName"] = a.newOf("Policy") },
	"ram:DeletePolicyVersion": func(a *account, p object) {
		p["PolicyName"] = a.newOf("Policy")
		a.do("ram:CreatePolicyVersion", a.creating("ram:CreatePolicyVersion", object{"PolicyName": p["PolicyName"], "SetAsDefault": true}))
	},
	"ram:AddUserToGroup":        func(a *account, p object) { p["UserName"] = a.newOf("User") },
	"ram:RemoveUserFromGroup":   undone("ram:AddUserToGroup", "User"),
	"ram:AttachPolicyToUser":    func(a *account, p object) { p["UserName"] = a.newOf("User") },
	"ram:AttachPolicyToGroup":   func(a *account, p object) { p["GroupName"] = a.newOf("Group") },
	"ram:AttachPolicyToRole":    func(a *account, p object) { p["RoleName"] = a.newOf("Role") },
	"ram:DetachPolicyFromUser":  undone("ram:AttachPolicyToUser", "User"),
	"ram:DetachPolicyFromGroup": undone("ram:AttachPolicyToGroup", "Group"),
	"ram:DetachPolicyFromRole":  undone("ram:AttachPolicyToRole", "Role"),

	"resourcemanager:DeleteResourceGroup": func(a *account, p object) { p["ResourceGroupId"] = a.newResourceGroup(a.named()) },
	"resourcemanager:AttachPolicy":        func(a *account, p object) { p["PrincipalName"] = a.newOf("User") },
	"resourcemanager:DetachPolicy": func(a *account, p object) {
		p["PrincipalName"] = a.newOf("User")
		a.do("resourcemanager:AttachPolicy", p)
	},
}

// newOf makes a User, Group, Role or Policy and returns its name.
func (a *account) newOf(kind string) (name string) {
	a.t.Helper()
	name = a.named()
	a.do("ram:Create"+kind, a.creating("ram:Create"+kind, object{kind + "Name": name}))
	return name
}

func prepareKey(a *account, p object) {
	user := a.newOf("User")
	p["UserName"], p["UserAccessKeyId"] = user, a.newKey(user).id
}

// undone does to a new thing what the operation undoes.
func undone(by, kind string) func(a *account, p object) {
	return func(a *account, p object) {
		p[kind+"Name"] = a.newOf(kind)
		a.do(by, p)
	}
}
