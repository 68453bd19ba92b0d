package apig_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/secret"
)

func TestCreateHttpApiTakesWhatOfficialClientsSend(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "CreateHttpApi", "POST", "/v1/http-apis", `{
		"name":"chat","type":"LLM","modelCategory":"Text","aiProtocols":["OpenAI/v1"],"basePath":"/","protocols":["HTTP","HTTPS"],
		"removeBasePathOnForward":true,"firstByteTimeout":1500,"trafficConfig":{"connectTimeout":3000,"replicaSelection":"PrefixAware"},"enableAuth":true,"authConfig":{"authType":"Apikey","authMode":"Custom"},
		"dryRun":false,"strategy":null,"deployConfigs":[{"gatewayId":"gw-1","gatewayType":"AI","environmentId":"env-1","autoDeploy":true,
		"customDomainIds":["d-1"],"backendScene":"SingleService","mock":{"enable":false},
		"serviceConfigs":[{"serviceId":"svc-1","modelName":"qwen-plus","weight":100}],
		"policyConfigs":[{"type":"AiStatistics","enable":true,"aiStatisticsConfig":{"logRequestContent":true,"logResponseContent":false}},
			{"type":"AiCache","enable":false,"aiCacheConfig":{"redisConfig":{"password":"hunter2"}}},
			{"type":"AiFallback","enable":true,"aiFallbackConfig":{"onlyRedirectUpstreamCode":true,"routeEmbedded":true,"serviceConfigs":[
				{"serviceId":"svc-2","name":"x","passThroughModelName":true},{"serviceId":"svc-2","passThroughModelName":false,"targetModelName":"qwen-turbo"}]}}]}]}`)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, object{"httpApiId": apiID, "name": "chat"}, a.Body["data"])
	got := d.asked[0].(modelapi.Spec)
	require.Equal(t, modelapi.Spec{
		Name: "chat", Type: "LLM", ModelCategory: "Text", AIProtocols: []string{"OpenAI/v1"}, BasePath: "/", RemoveBasePath: true,
		Protocols: []string{"HTTP", "HTTPS"}, EnableAuth: true, AuthConfig: &modelapi.AuthConfig{AuthType: "Apikey", AuthMode: "Custom"},
		FirstByteTimeout: 1500, TrafficConfig: modelapi.TrafficConfig{ConnectTimeout: 3000, ReplicaSelection: "PrefixAware"},
		DeployConfigs: []modelapi.DeployConfig{{
			GatewayID: "gw-1", EnvironmentID: "env-1", BackendScene: "SingleService", AutoDeploy: true,
			Services: []modelapi.ServiceConfig{{ServiceID: "svc-1", ModelName: "qwen-plus", Weight: 100}},
			PolicyConfigs: []modelapi.PolicyConfig{
				{Type: "AiStatistics", Enable: true, AiStatistics: &modelapi.AiStatistics{LogRequestContent: true}},
				{Type: "AiCache"},
				{Type: "AiFallback", Enable: true, AiFallback: &modelapi.AiFallback{
					OnlyRedirectUpstreamCode: true, Services: []modelapi.FallbackService{
						{ServiceID: "svc-2", PassThroughModelName: true}, {ServiceID: "svc-2", TargetModelName: "qwen-turbo"},
					},
				}},
			},
			CustomDomainIDs: []string{"d-1"},
		}},
	}, got)
}

func TestAbsentAndEmptyAreToldApart(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	update := func(body string) modelapi.UpdateSpec {
		a := s.Call(apitest.RootKey, "UpdateHttpApi", "PUT", "/v1/http-apis/"+apiID, body)
		require.Equal(t, 200, a.Status, a.Body)
		require.NotContains(t, a.Body, "data")
		return d.asked[0].(modelapi.UpdateSpec)
	}
	require.Equal(t, modelapi.UpdateSpec{BasePath: "/"}, update(`{"basePath":"/","deployConfigs":null,"type":"LLM"}`))
	require.Equal(t, &modelapi.TrafficConfig{}, update(`{"basePath":"/","trafficConfig":{}}`).TrafficConfig, "the defaults")
	got := update(`{"basePath":"/","deployConfigs":[{"builtinRouteNames":[],"envDomainIds":[],"customDomainIds":null}],"enableAuth":false}`)
	require.NotNil(t, got.DeployConfigs[0].BuiltinRouteNames)
	require.NotNil(t, got.DeployConfigs[0].EnvDomainIDs)
	require.Nil(t, got.DeployConfigs[0].CustomDomainIDs)
	require.False(t, *got.EnableAuth)
	require.NotNil(t, update(`{"basePath":"/","deployConfigs":[]}`).DeployConfigs, "none is not absent: the domain refuses it")

	s.Call(apitest.RootKey, "UpdateService", "PUT", "/v1/services/"+serviceID, `{"aiServiceConfig":{"apiKeys":[]}}`)
	require.Equal(t, aiservice.UpdateSpec{AI: &aiservice.AIUpdate{APIKeys: []string{}}}, d.asked[0])
	s.Call(apitest.RootKey, "UpdateService", "PUT", "/v1/services/"+serviceID, `{}`)
	require.Equal(t, aiservice.UpdateSpec{}, d.asked[0])
	s.Call(apitest.RootKey, "UpdateConsumer", "PUT", "/v1/consumers/"+consumerID, `{"enable":false}`)
	off := false
	require.Equal(t, consumer.Change{Enabled: &off}, d.asked[0])
	s.Call(apitest.RootKey, "UpdateDomain", "PUT", "/v1/domains/"+domainID, `{"certIdentifier":"new"}`)
	name := "new"
	require.Equal(t, ingress.DomainChange{CertIdentifier: &name}, d.asked[0])
	s.Call(apitest.RootKey, "UpdateEnvironment", "PUT", "/v1/environments/"+environmentID, `{"alias":"a"}`)
	require.Equal(t, []any{"a", (*string)(nil)}, d.asked)
}

func TestAModelAPIIsShownAsOfficialClientsReadIt(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	want := object{
		"httpApiId": apiID, "name": "chat", "type": "LLM", "modelCategory": "Text", "aiProtocols": []any{"OpenAI/v1"}, "basePath": "/chat",
		"protocols": []any{"HTTP", "HTTPS"}, "description": "", "gatewayId": gatewayID, "resourceGroupId": "rg-default",
		"enableAuth": false, "removeBasePathOnForward": true, "firstByteTimeout": 1500.0,
		"trafficConfig": object{
			"connectTimeout": 0.0, "idleTimeout": 0.0, "maxConcurrency": 7.0, "maxQueue": 0.0, "replicaSelection": "LeastInFlight",
		}, "deployedRevision": 2.0,
		"createTimestamp": 1772357400000.0, "updateTimestamp": 1772357400000.0,
		"deployConfigs": []any{object{
			"gatewayId": gatewayID, "gatewayType": "AI", "environmentId": environmentID, "autoDeploy": true, "backendScene": "SingleService",
			"builtinRouteNames": []any{"chat-completions"}, "serviceConfigs": []any{object{"serviceId": serviceID, "name": "qwen"}},
			"policyConfigs": []any{object{
				"type": "AiStatistics", "enable": true,
				"aiStatisticsConfig": object{"logRequestContent": true, "logResponseContent": false},
			}},
			"customDomainIds": []any{domainID}, "envDomainIds": []any{environmentID},
		}},
		"environments": []any{object{
			"environmentId": environmentID, "name": "staging", "alias": "", "deployStatus": "Deployed", "backendScene": "SingleService",
			"serviceConfigs": []any{object{"serviceId": serviceID, "name": "qwen"}},
			"gatewayInfo":    object{"gatewayId": gatewayID, "name": "models"},
			"customDomains":  []any{object{"domainId": domainID, "name": "models.example.com", "protocol": "HTTPS"}},
			"subDomains": []any{object{
				"domainId": environmentID, "name": environmentID + ".localhost", "protocol": "HTTP", "networkType": "Internet",
			}},
		}},
	}
	a := s.Call(apitest.RootKey, "GetHttpApi", "GET", "/v1/http-apis/"+apiID, nil)
	one := maps.Clone(want)
	one["serving"] = []any{
		object{"processId": "host/one", "revision": 2.0, "newest": true, "reportTimestamp": 1772357400000.0},
		object{"processId": "host/two", "gatewayId": gatewayID, "newest": false, "reportTimestamp": 1772357400000.0},
	}
	one["servedEverywhere"] = false
	require.Equal(t, one, a.Body["data"])

	a = s.Call(apitest.RootKey, "ListHttpApis", "GET", "/v1/http-apis", nil)
	require.Equal(t, object{"pageNumber": 1.0, "pageSize": 10.0, "totalSize": 7.0, "items": []any{object{
		"name": "chat", "type": "LLM", "versionEnabled": false, "GatewayId": gatewayID, "versionedHttpApis": []any{want},
	}}}, a.Body["data"])
}

func TestAServiceTellsHowItIs(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	data := s.Call(apitest.RootKey, "GetService", "GET", "/v1/services/"+serviceID, nil).Body["data"].(object)
	require.Equal(t, "Unhealthy", data["healthStatus"])
	require.Equal(t, []any{"h:1"}, data["outlierEndpoints"])
	require.Equal(t, []any{
		object{
			"processId": "host/one", "ejected": false, "outlierEndpoints": []any{"h:1"}, "keysSetAside": 0.0, "reportTimestamp": 1772357400000.0,
			"message": "Requests to 1 of its 1 endpoints or replicas failed again and again: others are asked first, and these now and then.",
		},
		object{
			"processId": "host/two", "ejected": false, "outlierEndpoints": []any{}, "keysSetAside": 1.0, "reportTimestamp": 1772357400000.0,
			"message": "1 of its 2 keys are refused by the service, or have reached a limit there: check them with the provider.",
		},
	}, data["gatewayHealth"])
	items := s.Call(apitest.RootKey, "ListServices", "GET", "/v1/services", nil).Body["data"].(object)["items"].([]any)
	require.Equal(t, data, items[0])
	require.NotContains(t, items[1], "healthStatus", "nothing is known")
	require.NotContains(t, items[1], "gatewayHealth")
}

func TestListsAreFiltered(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	page := instance.Page{Number: 2, Size: 30}
	const at = "pageNumber=2&pageSize=30&resourceGroupId=rg&"
	for _, c := range []struct {
		action, target string
		want           any
	}{
		{"ListHttpApis", "/v1/http-apis?" + at + "gatewayId=g&name=n&keyword=k&types=LLM,Ai", modelapi.Filter{
			GatewayID: "g", Name: "n", Keyword: "k", Types: []string{"LLM", "Ai"}, ResourceGroupID: "rg", Page: page,
		}},
		{"ListHttpApiRoutes", "/v1/http-apis/" + apiID + "/routes?" + at + "name=n&nameLike=l&pathLike=p", modelapi.RouteFilter{
			Name: "n", NameLike: "l", PathLike: "p", Page: page,
		}},
		{"ListGateways", "/v1/gateways?" + at + "gatewayId=g&name=n&keyword=k", ingress.GatewayFilter{
			ID: "g", Name: "n", Keyword: "k", ResourceGroupID: "rg", Page: page,
		}},
		{"ListEnvironments", "/v1/environments?" + at + "gatewayId=g&nameLike=n&aliasLike=a&gatewayNameLike=l", ingress.EnvironmentFilter{
			GatewayID: "g", NameLike: "n", AliasLike: "a", GatewayNameLike: "l", ResourceGroupID: "rg", Page: page,
		}},
		{"ListDomains", "/v1/domains?" + at + "nameLike=n", ingress.DomainFilter{NameLike: "n", ResourceGroupID: "rg", Page: page}},
		{"ListServices", "/v1/services?" + at + "gatewayId=g&name=n&sourceTypes=%5B%22AI%22%2C%20%22DNS%22%5D&sourceType=VIP", aiservice.Filter{
			GatewayID: "g", Name: "n", SourceTypes: []string{"AI", "DNS", "VIP"}, ResourceGroupID: "rg", Page: page,
		}},
		{"ListServices", "/v1/services?sourceTypes=AI,DNS", aiservice.Filter{
			SourceTypes: []string{"AI", "DNS"}, Page: instance.Page{Number: 1, Size: 10},
		}},
		{"ListConsumers", "/v1/consumers?" + at + "nameLike=n", consumer.Filter{NameLike: "n", Page: page}},
		{"ListConsumerGroups", "/v1/consumer-groups?" + at + "nameLike=n", consumer.Filter{NameLike: "n", Page: page}},
		{"ListConsumerGroupConsumers", "/v1/consumer-groups/" + groupID + "/consumers?" + at, page},
		{"ListHttpApiRevisions", "/v1/http-apis/" + apiID + "/revisions?" + at, page},
		{
			"QueryConsumerAuthorizationRules", "/v1/authorization-rules?" + at +
				"consumerId=c&consumerGroupId=g&principalType=Consumer&consumerNameLike=n&apiNameLike=a&resourceId=r&environmentId=e",
			consumer.RuleFilter{
				ConsumerID: "c", GroupID: "g", PrincipalType: "Consumer", ConsumerNameLike: "n", APINameLike: "a", APIID: "r",
				EnvironmentID: "e", Page: page,
			},
		},
	} {
		a := s.Call(apitest.RootKey, c.action, "GET", c.target, nil)
		require.Equal(t, 200, a.Status, "%s: %v", c.action, a.Body)
		require.Equal(t, []any{c.want}, d.asked, c.action)
	}
}

func TestCreateServiceHappensOnce(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "CreateService", "POST", "/v1/services?clientToken=t", `{"gatewayId":"`+gatewayID+`","sourceType":"AI",
		"serviceConfigs":[{"name":"qwen","validationOptions":{"skipVerifyAIChatCompletion":true},"aiServiceConfig":{"provider":"qwen",
		"protocols":["OpenAI/v1"],"address":"https://dashscope.aliyuncs.com","apiKeys":["sk-x"],"defaultModelName":"qwen-plus","enableHealthCheck":true}}]}`)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, object{"serviceIds": []any{serviceID}}, a.Body["data"])
	require.Equal(t, []string{"apig:CreateService", "t"}, []string{d.key.Action, d.key.Token})
	require.Equal(t, aiservice.CreateSpec{
		GatewayID: gatewayID, SourceType: "AI", Services: []aiservice.ServiceSpec{{Name: "qwen", AI: aiservice.AIConfig{
			Provider: "qwen", Protocols: []string{"OpenAI/v1"}, Address: "https://dashscope.aliyuncs.com", APIKeys: []string{"sk-x"},
			DefaultModelName: "qwen-plus", EnableHealthCheck: true,
		}}},
	}, d.asked[0])
	require.NotContains(t, s.Log.String(), "sk-x")
}

func TestConsumersAndTheirKeys(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "CreateConsumer", "POST", "/v1/consumers", `{"name":"alice","enable":true,"gatewayType":"AI",
		"apikeyIdentityConfig":{"type":"Apikey","apikeySource":{"source":"Header","value":"x-key"},
		"credentials":[{"generateMode":"System"},{"apikey":"my-own-key","generateMode":"Custom"}]}}`)
	require.Equal(t, 200, a.Status, a.Body)
	on := true
	require.Equal(t, consumer.Spec{
		Name: "alice", Enabled: &on, KeySource: "Header", KeyName: "x-key",
		Keys: []consumer.Key{{GenerateMode: "System"}, {Secret: secret.New("my-own-key"), GenerateMode: "Custom"}},
	}, d.asked[0])
	a = s.Call(apitest.RootKey, "GetConsumer", "GET", "/v1/consumers/"+consumerID, nil)
	require.Equal(t, object{
		"type": "Apikey", "apikeySource": object{"source": "Default", "value": "Authorization"},
		"credentials": []any{object{"apikey": consumerKey, "generateMode": "System"}},
	}, a.Body["data"].(object)["apiKeyIdentityConfig"])
	a = s.Call(apitest.RootKey, "ListConsumers", "GET", "/v1/consumers", nil)
	require.NotContains(t, a.Body["data"].(object)["items"].([]any)[0], "apiKeyIdentityConfig")
	require.NotContains(t, s.Log.String(), consumerKey)
}

func TestConsumersTokensAndAccessKeys(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	const identities = `"jwtIdentityConfig":{"type":"Jwt","secretType":"Symmetry","jwks":"KEYS","jwtPayloadConfig":{"payloadKeyName":"sub",
		"payloadKeyValue":"7"},"jwtTokenConfig":{"position":"HEADER","key":"X-Token","prefix":"","pass":false},"issuer":"i","audience":"a"},
		"akSkIdentityConfigs":[{"type":"AkSk","generateMode":"System"},{"type":"AkSk","ak":"mine","sk":"secret","generateMode":"Custom"}]`
	token := &consumer.TokenIdentity{
		SecretType: "Symmetry", KeySet: secret.New("KEYS"), Claim: "sub", Value: "7", Position: "HEADER", Name: "X-Token",
		Prefix: new(string), Issuer: "i", Audience: "a",
	}
	on := true
	accessKeys := []consumer.AccessKey{{GenerateMode: "System"}, {ID: "mine", Secret: secret.New("secret"), GenerateMode: "Custom"}}
	a := s.Call(apitest.RootKey, "CreateConsumer", "POST", "/v1/consumers", `{"name":"alice","enable":true,`+identities+`}`)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, consumer.Spec{Name: "alice", Enabled: &on, Token: token, AccessKeys: accessKeys}, d.asked[0])
	s.Call(apitest.RootKey, "UpdateConsumer", "PUT", "/v1/consumers/"+consumerID, `{`+identities+`}`)
	require.Equal(t, consumer.Change{Token: token, AccessKeys: &accessKeys}, d.asked[0])
	s.Call(apitest.RootKey, "UpdateConsumer", "PUT", "/v1/consumers/"+consumerID, `{"jwtIdentityConfig":{"type":"Jwt"},"akSkIdentityConfigs":[]}`)
	require.Equal(t, consumer.Change{Token: &consumer.TokenIdentity{}, AccessKeys: &[]consumer.AccessKey{}}, d.asked[0], "none of either")

	a = s.Call(apitest.RootKey, "GetConsumer", "GET", "/v1/consumers/"+consumerID, nil)
	data := a.Body["data"].(object)
	require.Equal(t, object{
		"type": "Jwt", "secretType": "Symmetry", "jwks": `{"keys":[]}`, "audience": "models",
		"jwtPayloadConfig": object{"payloadKeyName": "uid", "payloadKeyValue": "alice"},
		"jwtTokenConfig":   object{"position": "QUERY", "key": "token", "prefix": "", "pass": false},
	}, data["jwtIdentityConfig"])
	require.Equal(t, []any{
		object{"type": "AkSk", "ak": "AKMADE", "sk": "made-for-it", "generateMode": "System"},
		object{"type": "AkSk", "ak": "brought-along", "sk": "****WXYZ", "generateMode": "Custom"},
	}, data["akSkIdentityConfigs"])
	require.NotContains(t, fmt.Sprint(data), "canary")
}

func TestAuthorizationRules(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "CreateConsumerAuthorizationRules", "POST", "/v1/authorization-rules", `{"authorizationRules":[
		{"consumerId":"`+consumerID+`","resourceType":"LLM","resourceIdentifier":{"resourceId":"`+apiID+`","environmentId":"e"},"expireMode":"LongTerm"},
		{"principalType":"ConsumerGroup","consumerGroupId":"`+groupID+`","resourceType":"LLM","resourceIdentifier":{"resourceId":"`+apiID+`"}}]}`)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, []consumer.RuleSpec{
		{ConsumerID: consumerID, ResourceType: "LLM", APIID: apiID, EnvironmentID: "e", ExpireMode: "LongTerm"},
		{GroupID: groupID, ResourceType: "LLM", APIID: apiID},
	}, d.asked[0])
	a = s.Call(apitest.RootKey, "QueryConsumerAuthorizationRules", "GET", "/v1/authorization-rules", nil)
	data := a.Body["data"].(object)
	require.Equal(t, "2", data["totalSize"], "a text, as in the original")
	own, grouped := data["items"].([]any)[0].(object), data["items"].([]any)[1].(object)
	require.Equal(t, []any{"Consumer", consumerID, nil}, []any{own["principalType"], own["consumerId"], own["consumerGroupId"]})
	require.Equal(t, []any{"ConsumerGroup", nil, groupID}, []any{grouped["principalType"], grouped["consumerId"], grouped["consumerGroupId"]})

	s.Call(apitest.RootKey, "BatchDeleteConsumerAuthorizationRule", "DELETE", "/v1/authorization-rules?consumerAuthorizationRuleIds="+ruleID+","+ruleID, nil)
	require.Equal(t, []any{[]string{ruleID, ruleID}}, d.asked)
	a = s.Call(apitest.RootKey, "BatchDeleteConsumerAuthorizationRule", "DELETE", "/v1/authorization-rules", nil)
	require.Equal(t, "MissingParameter", a.Code)
}

func TestWhatWouldPromiseTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "CreateDomain", "POST", "/v1/domains", `{"name":"a.example.com","protocol":"HTTPS","mTLSEnabled":true}`)
	require.Equal(t, []any{400, "UnsupportedParameter"}, []any{a.Status, a.Code})
	require.Contains(t, a.Body["message"], "mTLSEnabled")
	require.Nil(t, d.asked)
	a = s.Call(apitest.RootKey, "CreateDomain", "POST", "/v1/domains", `{"name":"a.example.com","protocol":"HTTPS","mTLSEnabled":false,"http2Option":"Open"}`)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, ingress.DomainSpec{Name: "a.example.com", Protocol: "HTTPS", HTTP2: "Open"}, d.asked[0])
}

func TestOneRouteIsNotUndeployed(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	a := s.Call(apitest.RootKey, "UndeployHttpApi", "POST", "/v1/http-apis/"+apiID+"/undeploy", object{"routeId": routeID})
	require.Equal(t, "UnsupportedParameter", a.Code, "it would take the whole API down")
	a = s.Call(apitest.RootKey, "UndeployHttpApi", "POST", "/v1/http-apis/"+apiID+"/undeploy", object{"environmentId": environmentID})
	require.Equal(t, 200, a.Status, a.Body)
}

func TestADomainRefusalReachesTheCaller(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	d.err = modelapi.ErrPlaceTaken
	a := s.Call(apitest.RootKey, "DeployHttpApi", "POST", "/v1/http-apis/"+apiID+"/deploy", nil)
	require.Equal(t, []any{409, "Conflict.ApiRouteConflict", "Conflict.ApiRouteConflict"}, []any{a.Status, a.Body["code"], a.Body["Code"]})
}

// The shapes in which the official clients send them: lists as JSON in the query, members of both spellings.
func TestTagsTravelAsOfficialClientsSendThem(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	tags := func(method string, query url.Values) apitest.Answer {
		action := map[string]string{"GET": "ListTagResources", "DELETE": "UntagResources"}[method]
		return s.Call(apitest.RootKey, action, method, "/v1/tags?"+query.Encode(), nil)
	}
	a := s.Call(apitest.RootKey, "TagResources", "POST", "/v1/tags",
		`{"resourceId":["`+gatewayID+`"],"resourceType":"Gateway","tag":[{"key":"team, or [two]","value":"a&b"},{"key":"alone"}]}`)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, []any{"Gateway", []string{gatewayID}, []resource.Tag{{Key: "team, or [two]", Value: "a&b"}, {Key: "alone"}}}, d.asked)

	a = tags("GET", url.Values{
		"ResourceType": {"Gateway"}, "ResourceId": {`["a,b","c"]`}, "Tag": {`[{"Key":"k,\"","Value":"v"},{"Key":"l"}]`}, "NextToken": {"n"},
	})
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, []any{resource.Filter{
		Kind: "Gateway", IDs: []string{"a,b", "c"}, Tags: []resource.Tag{{Key: `k,"`, Value: "v"}, {Key: "l"}}, NextToken: "n",
	}}, d.asked)
	require.Equal(t, []any{a.Body["requestId"], "more", []any{object{
		"ResourceId": gatewayID, "ResourceType": "Gateway", "TagKey": "team", "TagValue": "search",
	}}}, []any{a.Body["RequestId"], a.Body["NextToken"], a.Body["TagResources"]})
	tags("GET", url.Values{"ResourceType": {"Gateway"}, "ResourceId.1": {"x"}, "ResourceId.2": {"y"}, "Tag.1.Key": {"k"}})
	require.Equal(t, []any{resource.Filter{Kind: "Gateway", IDs: []string{"x", "y"}, Tags: []resource.Tag{{Key: "k"}}}}, d.asked)

	a = tags("DELETE", url.Values{"ResourceType": {"Gateway"}, "ResourceId": {`["` + gatewayID + `"]`}, "TagKey": {`["a,b"]`}, "All": {"False"}})
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, []any{"Gateway", []string{gatewayID}, []string{"a,b"}, false}, d.asked)
	for _, bad := range []url.Values{{"ResourceId": {"gw-1"}}, {"ResourceId": {`{"a":1}`}}, {"ResourceId": {`[1]`}}, {"TagKey": {`[["a"]]`}}, {"All": {"maybe"}}} {
		require.Equal(t, "InvalidParameter", tags("DELETE", bad).Code, bad)
	}

	target := "/move-resource-group?ResourceType=Gateway&ResourceGroupId=rg-default&ResourceId=" + gatewayID
	a = s.Call(apitest.RootKey, "ChangeResourceGroup", "POST", target+"&Service=apig", nil)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, []any{"Gateway", gatewayID, "rg-default"}, d.asked)
	require.Equal(t, a.Body["requestId"], a.Body["RequestId"])
	a = s.Call(apitest.RootKey, "ChangeResourceGroup", "POST", target+"&Service=ecs", nil)
	require.Equal(t, []any{"InvalidParameter", "The parameter Service is not valid: it is APIG or absent."}, []any{a.Code, a.Body["message"]})
}

func TestAGatewayIsMadeAndFoundByItsTags(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "CreateGateway", "POST", "/v1/gateways", `{"name":"models","tag":[{"key":"team","value":"search"}]}`)
	require.Equal(t, 200, a.Status, a.Body)
	tags := []resource.Tag{{Key: "team", Value: "search"}}
	require.Equal(t, []any{ingress.GatewaySpec{Name: "models", Tags: tags}}, d.asked)
	a = s.Call(apitest.RootKey, "ListGateways", "GET", "/v1/gateways?tag="+url.QueryEscape(`[{"key":"team","value":"search"}]`), nil)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, tags, d.asked[0].(ingress.GatewayFilter).Tags)
	require.Equal(t, []any{object{"key": "team", "value": "search"}}, a.Body["data"].(object)["items"].([]any)[0].(object)["tags"])
}

// Sample requests with several services, read back as they were sent.
func TestSeveralServicesAreReadBackAsTheyWereSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		scene    string
		services []any
	}{
		"by-name": {"MultiServiceByModelName", []any{
			object{"serviceId": serviceID, "name": "qwen", "modelNamePattern": "qwen-*"},
			object{"serviceId": serviceID, "name": "qwen", "modelNamePattern": "gpt-4?", "modelName": "gpt-4o"},
		}},
		"by-ratio": {"MultiServiceByRatio", []any{
			object{"serviceId": serviceID, "name": "qwen", "weight": 70.0},
			object{"serviceId": serviceID, "name": "qwen", "weight": 30.0, "modelName": "m2"},
		}},
		"by-observability": {"MultiServiceByObservability", []any{
			object{
				"serviceId": serviceID, "name": "qwen", "multiServiceRouteStrategy": "ByObservability",
				"observabilityRouteConfig": object{"mode": "LeastTotalLatency", "queueSize": 50.0, "rateLimit": 0.8},
			},
			object{
				"serviceId": serviceID, "name": "qwen", "modelName": "m2", "multiServiceRouteStrategy": "ByObservability",
				"observabilityRouteConfig": object{"mode": "LeastTotalLatency"},
			},
		}},
	} {
		data := func(a apitest.Answer) object {
			require.Equal(t, 200, a.Status, a.Body)
			return a.Body["data"].(object)
		}
		call := func(operation, method, target string, body any) apitest.Answer {
			if body == nil {
				return w.Call(apitest.RootKey, operation, method, w.replace(target), nil)
			}
			return w.Call(apitest.RootKey, operation, method, w.replace(target), w.replace(encode(t, body)))
		}
		var want []any
		require.NoError(t, json.Unmarshal([]byte(w.replace(encode(t, c.services))), &want))
		id := data(call("CreateHttpApi", "POST", "/v1/http-apis", object{
			"name": name, "type": "LLM", "modelCategory": "Text", "aiProtocols": []any{"OpenAI/v1"}, "basePath": "/" + name,
			"deployConfigs": []any{object{
				"gatewayId": gatewayID, "environmentId": environmentID, "autoDeploy": true, "backendScene": c.scene, "serviceConfigs": c.services,
			}},
		}))["httpApiId"].(string)
		route := data(call("CreateHttpApiRoute", "POST", "/v1/http-apis/"+id+"/routes", object{
			"name": "mine", "match": object{"path": object{"type": "Exact", "value": "/mine"}},
			"backendConfig": object{"scene": c.scene, "services": c.services},
		}))["routeId"].(string)
		api := data(call("GetHttpApi", "GET", "/v1/http-apis/"+id, nil))
		for _, config := range []string{"deployConfigs", "environments"} {
			read := api[config].([]any)[0].(object)
			require.Equal(t, []any{c.scene, want}, []any{read["backendScene"], read["serviceConfigs"]}, config)
		}
		backend := data(call("GetHttpApiRoute", "GET", "/v1/http-apis/"+id+"/routes/"+route, nil))["backend"]
		require.Equal(t, object{"scene": c.scene, "services": want}, backend)
		document := data(call("GetHttpApiRevision", "GET", "/v1/http-apis/"+id+"/revisions/1", nil))["document"].(object)
		for _, service := range want {
			delete(service.(object), "serviceId")
			delete(service.(object), "multiServiceRouteStrategy")
		}
		require.Equal(t, []any{c.scene, want}, []any{document["backendScene"], document["services"]})
	}
}

func TestAServiceAmongSeveralCannotBeDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.Call(apitest.RootKey, "CreateService", "POST", "/v1/services", object{
		"gatewayId": w.replace(gatewayID), "sourceType": "VIP", "serviceConfigs": []any{
			object{"name": "second", "addresses": []any{"192.0.2.1:80"}},
			object{"name": "third", "addresses": []any{"192.0.2.2:80"}},
			object{"name": "fourth", "addresses": []any{"192.0.2.3:80"}},
			object{"name": "fifth", "addresses": []any{"192.0.2.4:80"}},
		},
	})
	require.Equal(t, 200, made.Status, made.Body)
	ids := made.Body["data"].(object)["serviceIds"].([]any)
	second, third, fourth, fifth := ids[0].(string), ids[1].(string), ids[2].(string), ids[3].(string)
	fallback := func(service string) []any {
		return []any{object{"type": "AiFallback", "enable": true, "aiFallbackConfig": object{"serviceConfigs": []any{object{"serviceId": service}}}}}
	}
	a := w.Call(apitest.RootKey, "CreateHttpApi", "POST", "/v1/http-apis", w.replace(encode(t, object{
		"name": "both", "type": "LLM", "modelCategory": "Text", "aiProtocols": []any{"OpenAI/v1"}, "basePath": "/both",
		"deployConfigs": []any{object{
			"gatewayId": gatewayID, "environmentId": environmentID, "backendScene": "MultiServiceByRatio", "serviceConfigs": []any{
				object{"serviceId": serviceID, "weight": 1}, object{"serviceId": second, "weight": 99},
			}, "policyConfigs": fallback(fourth),
		}},
	})))
	require.Equal(t, 200, a.Status, a.Body)
	id := a.Body["data"].(object)["httpApiId"].(string)
	a = w.Call(apitest.RootKey, "CreateHttpApiRoute", "POST", "/v1/http-apis/"+id+"/routes", w.replace(encode(t, object{
		"name": "mine", "match": object{"path": object{"type": "Exact", "value": "/mine"}},
		"backendConfig": object{"scene": "MultiServiceByContent", "services": []any{
			object{"serviceId": serviceID, "modelNamePattern": "a"}, object{"serviceId": third, "modelNamePattern": "b"},
		}}, "policyConfigs": fallback(fifth),
	})))
	require.Equal(t, 200, a.Status, a.Body)
	for _, service := range []string{second, third, fourth, fifth} {
		a = w.Call(apitest.RootKey, "DeleteService", "DELETE", "/v1/services/"+service, nil)
		require.Equal(t, 409, a.Status, a.Body)
		require.Contains(t, a.Body["message"], "both")
	}
}

// What a client reads it may send again, and nothing has changed then.
func TestWhatIsReadCanBeSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	call := func(operation, method, target string, body any) object {
		t.Helper()
		text := ""
		if body != nil {
			text = w.replace(encode(t, body))
		}
		a := w.Call(apitest.RootKey, operation, method, w.replace(target), text)
		require.Equal(t, 200, a.Status, a.Body)
		data, _ := a.Body["data"].(object)
		return data
	}
	observed := object{"mode": "LeastBusy", "rateLimit": 0.5}
	id := call("CreateHttpApi", "POST", "/v1/http-apis", object{
		"name": "full", "type": "LLM", "modelCategory": "Text", "aiProtocols": []any{"OpenAI/v1"}, "basePath": "/full", "firstByteTimeout": 3000,
		"trafficConfig": object{"maxConcurrency": 10, "maxQueue": 20, "replicaSelection": "LeastInFlight"},
		"deployConfigs": []any{object{
			"gatewayId": gatewayID, "environmentId": environmentID, "autoDeploy": true, "backendScene": "MultiServiceByRatio",
			"serviceConfigs": []any{
				object{"serviceId": serviceID, "weight": 50, "multiServiceRouteStrategy": "ByObservability", "observabilityRouteConfig": observed},
				object{"serviceId": serviceID, "weight": 50, "modelName": "m2"},
			},
			"policyConfigs": []any{
				object{"type": "AiFallback", "enable": true, "aiFallbackConfig": object{"routeEmbedded": true, "serviceConfigs": []any{
					object{"serviceId": serviceID}, object{"serviceId": serviceID, "targetModelName": "qwen-turbo"},
				}}},
				object{"type": "AiStatistics", "enable": true, "aiStatisticsConfig": object{"pathFieldConfigs": []any{}}},
			},
		}},
	})["httpApiId"].(string)
	read := call("GetHttpApi", "GET", "/v1/http-apis/"+id, nil)
	require.Equal(t, object{
		"connectTimeout": 0.0, "idleTimeout": 0.0, "maxConcurrency": 10.0, "maxQueue": 20.0, "replicaSelection": "LeastInFlight",
	}, read["trafficConfig"])
	config := read["deployConfigs"].([]any)[0].(object)
	require.Equal(t, "MultiServiceByObservability", config["backendScene"])
	require.Equal(t, object{"type": "AiFallback", "enable": true, "aiFallbackConfig": object{
		"onlyRedirectUpstreamCode": false, "serviceConfigs": []any{
			object{"serviceId": w.replace(serviceID), "name": "qwen", "passThroughModelName": true},
			object{"serviceId": w.replace(serviceID), "name": "qwen", "targetModelName": "qwen-turbo", "passThroughModelName": false},
		},
	}}, config["policyConfigs"].([]any)[0])

	update := maps.Clone(read)
	update["onlyChangeConfig"] = true
	call("UpdateHttpApi", "PUT", "/v1/http-apis/"+id, update)
	again := call("GetHttpApi", "GET", "/v1/http-apis/"+id, nil)
	require.Equal(t, "Deployed", again["environments"].([]any)[0].(object)["deployStatus"], "it is as it is deployed")
	for _, answer := range []object{read, again} {
		delete(answer, "updateTimestamp")
	}
	require.Equal(t, read, again)
	require.Equal(t, []any{}, call("DiffHttpApiRevision", "GET", "/v1/http-apis/"+id+"/diff", nil)["changes"])
}
