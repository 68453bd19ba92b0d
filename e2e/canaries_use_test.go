package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/sts"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
)

// The versions of the products that the walk calls.
const (
	ramVersion = "2015-05-01"
	stsVersion = "2015-04-01"
)

// send calls an operation with a key and returns the answer as it came. RPC operations take their parameters in the query,
// path-style ones a body.
func (w *walk) send(key sdk.Signer, action, version, method, path string, params url.Values, body string) (status int, text string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.control.addr+path+"?"+params.Encode(), bytes.NewReader([]byte(body)))
	require.NoError(w.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	require.NoError(w.t, key.Sign(r, action, version))
	response, err := http.DefaultClient.Do(r)
	require.NoError(w.t, err)
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return response.StatusCode, string(read)
}

// do calls an operation of ram with the root key, which must succeed, and decodes the answer.
func (w *walk) do(action string, params url.Values, into any) {
	w.t.Helper()
	status, text := w.send(w.root, action, ramVersion, "POST", "/", params, "")
	require.Equal(w.t, 200, status, "%s: %s", action, text)
	if into != nil {
		require.NoError(w.t, json.Unmarshal([]byte(text), into))
	}
}

// serveModels deploys a model whose files come from a hub that asks for the token, and makes a ModelOperator key.
func (w *walk) serveModels() {
	w.t.Helper()
	instance, nodes := newInstance(w.t, w.official, 1)
	params := createParams(instance, nodes...)
	params["ModelName"] = "Acme-7B"
	made, err := w.official.call("CreateModelService", params)
	require.NoError(w.t, err)
	service := made.text("ModelServiceId")
	before := waitActive(w.t, w.official, instance, service, 30*time.Second)
	_, requests := w.hub.Served("model.safetensors")
	require.Positive(w.t, requests, "the token was in use")
	require.Empty(w.t, w.hub.Leaked())

	ids := map[string]string{"DBInstanceId": instance, "ModelServiceId": service}
	_, err = w.official.call("RotateModelServiceApiKey", ids)
	require.NoError(w.t, err)
	described := waitActive(w.t, w.official, instance, service, 30*time.Second)
	made, err = w.official.call("CreateModelOperatorApiKey", map[string]string{"Description": "all"})
	require.NoError(w.t, err)
	operator := fmt.Sprint(made["ApiKeyId"])
	shown, err := w.official.call("DescribeModelOperatorApiKey", map[string]string{"ApiKeyId": operator})
	require.NoError(w.t, err)
	w.secrets["a model service's key before it was rotated"], w.secrets["a model service's key"] = before.text("ApiKey"), described.text("ApiKey")
	w.secrets["a ModelOperator key"], w.secrets["an engine's key"] = shown.text("ApiKey"), w.engineKey(w.t)
	w.ids = url.Values{
		"RegionId": {region}, "DBInstanceId": {instance}, "ModelServiceId": {service}, "ApiKeyId": {operator}, "model": {described.text("PrivateConnectUrl")},
		"GroupBy": {"model"}, "Period": {"3600"}, "Keys": {"request_count"},
	}
}

// serveModelAPIs puts an outside service behind one Model API for each way in which consumers prove who they are.
func (w *walk) serveModelAPIs() {
	w.t.Helper()
	w.secrets["an upstream's key"] = "sk-" + canary()
	gateway, environment := seedGateway(w.t, w.official)
	service := w.create("CreateService", "/v1/services", "serviceIds", map[string]any{
		"gatewayId": gateway, "sourceType": "AI", "serviceConfigs": []any{w.openAI("openai", "openai")},
	})
	apis := map[string]string{}
	for _, kind := range []string{"Apikey", "Jwt", "AkSk"} {
		apis[kind] = w.create("CreateHttpApi", "/v1/http-apis", "httpApiId", map[string]any{
			"name": kind, "type": "LLM", "modelCategory": "Text", "aiProtocols": []string{"OpenAI/v1"}, "basePath": "/" + kind,
			"removeBasePathOnForward": true, "enableAuth": true, "authConfig": map[string]any{"authType": kind, "authMode": "Custom"},
			"deployConfigs": []any{map[string]any{
				"gatewayId": gateway, "gatewayType": "AI", "environmentId": environment, "autoDeploy": true, "backendScene": "SingleService",
				"serviceConfigs": []any{map[string]any{"serviceId": service}},
				"policyConfigs": []any{map[string]any{
					"type": "AiStatistics", "enable": true, "aiStatisticsConfig": map[string]any{"logRequestContent": false, "logResponseContent": false},
				}},
			}},
		})
	}
	domain := w.create("CreateDomain", "/v1/domains", "domainId", map[string]any{
		"name": "models.example.com", "protocol": "HTTPS", "certIdentifier": "models",
	})
	keyed, key := newConsumer(w.t, w.official, "keyed")
	w.secrets["a consumer's key"], w.secrets["a consumer's shared secret"] = key, canary()
	w.secrets["a consumer's signing secret"], w.secrets["a consumer's refused secret"] = canary(), canary()
	token := w.create("CreateConsumer", "/v1/consumers", "consumerId", map[string]any{
		"name": "token", "gatewayType": "AI", "jwtIdentityConfig": map[string]any{
			"type": "Jwt", "secretType": "Symmetry", "jwtPayloadConfig": map[string]any{"payloadKeyValue": "bob"},
			"jwks": `{"keys":[{"kty":"oct","alg":"HS256","k":"` + base64.RawURLEncoding.EncodeToString([]byte(w.secrets["a consumer's shared secret"])) + `"}]}`,
		},
	})
	w.secrets["a consumer's token"] = tokenOf("bob", "HS256", func(text string) []byte {
		mac := hmac.New(sha256.New, []byte(w.secrets["a consumer's shared secret"]))
		_, _ = io.WriteString(mac, text)
		return mac.Sum(nil)
	})
	team := w.create("CreateConsumer", "/v1/consumers", "consumerId", signingTeam("team", w.secrets["a consumer's signing secret"]))
	shown, err := w.official.roa("GetConsumer", "GET", "/v1/consumers/"+team, nil)
	generated := data(w.t, shown, err)["akSkIdentityConfigs"].([]any)[0].(map[string]any)
	w.secrets["a consumer's generated secret"] = generated["sk"].(string)
	group := w.create("CreateConsumerGroup", "/v1/consumer-groups", "consumerGroupId", map[string]any{"name": "all"})
	for kind, consumer := range map[string]string{"Apikey": keyed, "Jwt": token, "AkSk": team} {
		allow(w.t, w.official, consumer, apis[kind], environment)
	}
	for name, id := range map[string]string{
		"gatewayId": gateway, "environmentId": environment, "serviceId": service, "httpApiId": apis["Apikey"], "domainId": domain, "consumerGroupId": group,
		"consumerId": team, "keyed": keyed, "token": token,
	} {
		w.ids.Set(name, id)
	}
}

func (w *walk) openAI(name, provider string) map[string]any {
	return map[string]any{"name": name, "aiServiceConfig": map[string]any{
		"provider": provider, "protocols": []string{"OpenAI/v1"}, "address": w.upstream.URL + "/v1", "apiKeys": []string{w.secrets["an upstream's key"]},
	}}
}

// signingTeam is a consumer with a generated secret and one of its own, for the access key walk-team.
func signingTeam(name, secret string) map[string]any {
	return map[string]any{"name": name, "gatewayType": "AI", "akSkIdentityConfigs": []any{
		map[string]any{"type": "AkSk", "generateMode": "System"},
		map[string]any{"type": "AkSk", "generateMode": "Custom", "ak": "walk-team", "sk": secret},
	}}
}

// create makes something of apig and returns its id: the member of the answer, or the first of several.
func (w *walk) create(action, path, member string, body any) string {
	w.t.Helper()
	made, err := w.official.roa(action, "POST", path, body)
	switch id := data(w.t, made, err)[member].(type) {
	case string:
		return id
	case []any:
		return id[0].(string)
	}
	require.Fail(w.t, "no id", "%s: %v", action, made)
	return ""
}

// lendASession makes a user with a key, and borrows a role with it.
func (w *walk) lendASession() {
	w.t.Helper()
	named := url.Values{"UserName": {"walker"}, "GroupName": {"walkers"}, "RoleName": {"walking"}, "PolicyName": {"AliyunGPDBReadOnlyAccess"}, "PolicyType": {"System"}}
	w.do("CreateUser", named, nil)
	w.do("CreateGroup", named, nil)
	w.do("AddUserToGroup", named, nil)
	var key struct {
		AccessKey struct{ AccessKeyId, AccessKeySecret string }
	}
	w.do("CreateAccessKey", named, &key)
	w.do("AttachPolicyToUser", url.Values{"UserName": {"walker"}, "PolicyName": {"AliyunSTSAssumeRoleAccess"}, "PolicyType": {"System"}}, nil)
	trust := url.Values{"RoleName": {"walking"}, "AssumeRolePolicyDocument": {strings.ReplaceAll(trustAlice, "user/alice", "user/walker")}}
	var made struct{ Role struct{ Arn string } }
	w.do("CreateRole", trust, &made)
	w.do("AttachPolicyToRole", named, nil)
	w.do("CreatePolicy", url.Values{"PolicyName": {"Walks"}, "PolicyDocument": {onlyModels}}, nil)

	user := sdk.Signer{AccessKeyID: key.AccessKey.AccessKeyId, AccessKeySecret: key.AccessKey.AccessKeySecret}
	status, text := w.send(user, "AssumeRole", stsVersion, "POST", "/", url.Values{"RoleArn": {made.Role.Arn}, "RoleSessionName": {"walk"}}, "")
	require.Equal(w.t, 200, status, text)
	var lent struct{ Credentials sts.Credentials }
	require.NoError(w.t, json.Unmarshal([]byte(text), &lent))
	w.secrets["an access key's secret of the API"] = user.AccessKeySecret
	w.secrets["a session's secret"], w.secrets["a session's token"] = lent.Credentials.AccessKeySecret, lent.Credentials.SecurityToken
	for _, algorithm := range []string{"ACS3-HMAC-SHA256", "v2"} {
		session := newSession(w.t, w.control.addr, lent.Credentials, algorithm)
		_, err := session.call("DescribeDBInstances", map[string]string{"RegionId": region})
		require.NoError(w.t, err)
		_, err = session.roa("ListGateways", "GET", "/v1/gateways", nil)
		refused(w.t, err, 403, "NoPermission")
	}
	session := sdk.Signer{
		AccessKeyID: lent.Credentials.AccessKeyId, AccessKeySecret: lent.Credentials.AccessKeySecret, SecurityToken: lent.Credentials.SecurityToken,
	}
	user.SecurityToken = session.SecurityToken
	w.refuse(user, "InvalidSecurityToken.MismatchWithAccessKey")
	user.SecurityToken, session.AccessKeySecret = "", "wrong-"+session.AccessKeySecret
	w.refuse(session, "SignatureDoesNotMatch")
	w.show(w.send(user, "GetService", apigVersion, "GET", "/v1/services/"+w.ids.Get("serviceId"), nil, ""))
	for name, values := range named {
		w.ids[name] = values
	}
	w.ids.Set("role", made.Role.Arn)
}

// refuse shows what a key is answered that does not sign as it must.
func (w *walk) refuse(key sdk.Signer, code string) {
	w.t.Helper()
	status, text := w.send(key, "DescribeDBInstances", gpdbVersion, "POST", "/", url.Values{"RegionId": {region}}, "")
	require.Contains(w.t, text, code)
	w.show(status, text)
}

// ask asks for a chat completion and shows what is not an answer.
func (w *walk) ask(url, prompt string, stream bool, prove func(r *http.Request, body string)) int {
	w.t.Helper()
	body := fmt.Sprintf(`{"model":"Acme-7B","stream":%t,"messages":[{"role":"user","content":%q}]}`, stream, prompt)
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, url+"/chat/completions", strings.NewReader(body))
	require.NoError(w.t, err)
	if !strings.Contains(url, "/services/") {
		r.Host = w.ids.Get("environmentId") + ".engineshed.localhost"
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Mse-Consumer", "an identity that the client made up")
	r.Header.Set("X-Forwarded-For", "203.0.113.99")
	prove(r, body)
	response, err := http.DefaultClient.Do(r)
	require.NoError(w.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	if response.StatusCode != http.StatusOK {
		w.show(response.StatusCode, string(text))
	}
	return response.StatusCode
}

// bearing proves with a secret in the Authorization header.
func (w *walk) bearing(name string) func(*http.Request, string) {
	return func(r *http.Request, _ string) { r.Header.Set("Authorization", "Bearer "+w.secrets[name]) }
}

// askTheGateway asks in every way, rightly and wrongly.
func (w *walk) askTheGateway() {
	w.t.Helper()
	signed := func(r *http.Request, body string) {
		signLikeAGatewayClient(r, "walk-team", w.secrets["a consumer's signing secret"], body)
	}
	prompt, model := w.secrets["a prompt"], w.ids.Get("model")
	for url, prove := range map[string]func(*http.Request, string){
		model: w.bearing("a model service's key"), w.gateway + "/operator/v1": w.bearing("a ModelOperator key"),
		w.gateway + "/Apikey/v1": w.bearing("a consumer's key"), w.gateway + "/Jwt/v1": w.bearing("a consumer's token"), w.gateway + "/AkSk/v1": signed,
	} {
		eventually(w.t, 20*time.Second, url+" answers", func() bool { return w.ask(url, prompt, false, prove) == http.StatusOK })
		require.Equal(w.t, 200, w.ask(url, prompt, true, prove))
		require.Equal(w.t, 401, w.ask(url, prompt, true, w.bearing("a key that opens nothing")))
		require.Equal(w.t, 401, w.ask(url, prompt, true, func(r *http.Request, _ string) { r.Header.Set("X-Elsewhere", w.secrets["a consumer's key"]) }))
	}
	require.Equal(w.t, 401, w.ask(model, prompt, false, w.bearing("a model service's key before it was rotated")))
	require.Equal(w.t, 502, w.ask(w.gateway+"/Apikey/v1", prompt+": break off", false, w.bearing("a consumer's key")))
	for _, path := range []string{"/nowhere?key=" + w.secrets["a consumer's key"], "/Apikey/" + w.secrets["a key that opens nothing"], "/Apikey/v1/models?api_key=" + w.secrets["a consumer's key"]} {
		response, err := http.Get(w.gateway + path)
		require.NoError(w.t, err)
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		require.NoError(w.t, err)
		w.show(response.StatusCode, string(text))
	}
	status, events := w.send(w.root, "DebugHttpApi", apigVersion, "POST", "/v1/http-apis/"+w.ids.Get("httpApiId")+"/debug", nil,
		fmt.Sprintf(`{"consumerId":%q,"stream":true,"messages":[{"role":"user","content":%q}]}`, w.ids.Get("keyed"), w.secrets["a prompt of a trial"]))
	require.Equal(w.t, 200, status, events)
	w.show(status, strings.ReplaceAll(events, w.secrets["an answer"], "")) // for whoever asked

	seen := w.upstream.String()
	for _, used := range []string{"a prompt", "a prompt of a trial", "an upstream's key"} {
		require.Contains(w.t, seen, w.secrets[used], "it was in use")
	}
	require.Contains(w.t, seen, "Authorization: Bearer "+w.secrets["an upstream's key"])
	require.NotContains(w.t, seen, "an identity that the client made up")
	require.NotContains(w.t, seen, "203.0.113.99")
	require.NotContains(w.t, strings.ToLower(seen), "x-ca-")
	for name, secret := range w.secrets {
		if name != "an answer" && !strings.HasPrefix(name, "a prompt") && name != "an upstream's key" {
			require.NotContains(w.t, seen, secret, "the upstream is sent %s", name)
		}
	}
}

// beRefused sends secrets in calls that are refused.
func (w *walk) beRefused() {
	w.t.Helper()
	w.refuse(sdk.Signer{AccessKeyID: rootKey.id, AccessKeySecret: "wrong-" + rootKey.secret}, "SignatureDoesNotMatch")
	w.refuse(sdk.Signer{AccessKeyID: aliceKey.id, AccessKeySecret: aliceKey.secret}, "Forbidden.RAM")
	w.refuse(sdk.Signer{AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret, SecurityToken: w.secrets["a token that is none"]}, "InvalidSecurityToken")
	w.show(w.send(w.root, "DescribeDBInstances", gpdbVersion, "POST", "/", url.Values{"RegionId": {region}, "SecurityToken": {w.secrets["a token that is none"]}}, ""))
	w.show(w.send(w.root, "DescribeModelService", gpdbVersion, "POST", "/", url.Values{"DBInstanceId": {w.ids.Get("DBInstanceId")}, "ModelServiceId": {"ms-0"}}, ""))
	whole, err := json.Marshal(map[string]any{"gatewayId": w.ids.Get("gatewayId"), "sourceType": "AI", "serviceConfigs": []any{w.openAI("other", "nobody")}})
	require.NoError(w.t, err)
	team, err := json.Marshal(signingTeam("other", w.secrets["a consumer's refused secret"]))
	require.NoError(w.t, err)
	wrong, err := json.Marshal(map[string]any{"name": w.secrets["a consumer's refused secret"], "gatewayType": "AI", "akSkIdentityConfigs": w.secrets["a consumer's refused secret"]})
	require.NoError(w.t, err)
	taken, err := json.Marshal(map[string]any{"name": "other", "gatewayType": "AI", "apikeyIdentityConfig": map[string]any{
		"type": "Apikey", "apikeySource": map[string]any{"source": "Default", "value": "Authorization"},
		"credentials": []any{map[string]any{"generateMode": "Custom", "apikey": w.secrets["a consumer's key"]}},
	}})
	require.NoError(w.t, err)
	for _, call := range []struct{ action, path, body string }{
		{"CreateConsumer", "/v1/consumers", string(taken)},
		{"CreateService", "/v1/services", string(whole)},
		{"CreateService", "/v1/services", string(whole[:len(whole)-9])},
		{"CreateConsumer", "/v1/consumers", string(team)},
		{"CreateConsumer", "/v1/consumers", string(wrong)},
	} {
		status, text := w.send(w.root, call.action, apigVersion, "POST", call.path, nil, call.body)
		require.GreaterOrEqual(w.t, status, 400, text)
		w.show(status, text)
	}
}

// useTheCommandLine shows what verbs print, rightly and wrongly signed. Keys travel in the environment.
func (w *walk) useTheCommandLine() {
	w.t.Helper()
	service := []string{w.ids.Get("ModelServiceId"), "--db-instance-id", w.ids.Get("DBInstanceId")}
	for _, key := range []string{rootKey.secret, "wrong-" + rootKey.secret} {
		for _, verb := range [][]string{
			{"whoami"},
			{"model-service", "list", "--db-instance-id", w.ids.Get("DBInstanceId")},
			append([]string{"model-service", "events"}, service...),
			append([]string{"model-service", "logs"}, service...),
			{"model-api", "list"},
			{"model-api", "export", "Apikey"},
			{"operator-key", "list"},
			{"ram", "access-key", "list", "walker"},
			{"audit", "list"},
			{"audit", "list", "-o", "json"},
			{"policy", "explain", "--as", "walker", "--action", "gpdb:CreateModelService"},
		} {
			cmd := exec.CommandContext(w.t.Context(), filepath.Join(binaries, "engineshed"), verb...)
			cmd.Env = append(os.Environ(), "ENGINESHED_ENDPOINT=http://"+w.control.addr, "ENGINESHED_ACCESS_KEY_ID="+rootKey.id, "ENGINESHED_ACCESS_KEY_SECRET="+key)
			out, err := cmd.CombinedOutput()
			require.Equal(w.t, key == rootKey.secret, err == nil, "%s: %s", verb, out)
			w.show(0, string(out))
		}
	}
}

var (
	onlyReads  = regexp.MustCompile(`^(Describe|List|Get|Query|Export|Diff)`)
	pathMember = regexp.MustCompile(`\{(\w+)\}`)
)

// operation is one of a document.
type operation struct{ path, method, action string }

// readsOf are the operations of a product's document that only read, and the version of it.
func readsOf(t *testing.T, product string) (version string, found []operation) {
	t.Helper()
	document, err := os.ReadFile("../openapi/" + product + ".yaml")
	require.NoError(t, err)
	var at operation
	for line := range strings.Lines(string(document)) {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case indent == 2 && key == "version":
			version = strings.Trim(value, ` "`)
		case indent == 2 && strings.HasPrefix(key, "/"):
			at.path = key
		case indent == 4 && strings.HasPrefix(at.path, "/"):
			at.method = key
		case indent == 6 && key == "operationId":
			if at.action = strings.TrimSpace(value); onlyReads.MatchString(at.action) {
				found = append(found, at)
			}
		}
	}
	return version, found
}

// shownOnPurpose are the secrets that operations show to whoever may call them.
var shownOnPurpose = map[string][]string{
	"DescribeModelService":        {"a model service's key"},
	"DescribeModelOperatorApiKey": {"a ModelOperator key"},
	"GetConsumer":                 {"a consumer's generated secret"},
}

// readEverything calls every operation that reads, of all documents.
func (w *walk) readEverything() {
	w.t.Helper()
	routes, text := w.send(w.root, "ListHttpApiRoutes", apigVersion, "GET", "/v1/http-apis/"+w.ids.Get("httpApiId")+"/routes", nil, "")
	require.Equal(w.t, 200, routes, text)
	w.ids.Set("routeId", regexp.MustCompile(`"routeId":"([^"]+)"`).FindStringSubmatch(text)[1])
	w.ids.Set("revisionId", "1")
	w.ids.Set("gatewayType", "AI")
	w.ids.Set("ResourceType", "Gateway")
	w.ids.Set("ResourceId", `["`+w.ids.Get("gatewayId")+`"]`)
	w.ids.Set("VersionId", "v1")
	w.ids.Set("ResourceGroupId", "rg-default")
	w.ids.Set("AuthAction", "gpdb:DescribeDBInstances")
	called := 0
	for _, product := range []string{"gpdb", "apig", "ram", "sts", "resourcemanager", "audit"} {
		version, found := readsOf(w.t, product)
		require.NotEmpty(w.t, found, product)
		for _, operation := range found {
			w.read(product, version, operation)
			called++
		}
	}
	require.Greater(w.t, called, 60)
}

func (w *walk) read(product, version string, o operation) {
	w.t.Helper()
	path, method, body := o.path, o.method, ""
	switch {
	case product != "apig":
		path, method = "/", "POST"
	case method == "post":
		body = `{"host":"models.example.com","path":"/Apikey/v1/models"}`
	}
	path = pathMember.ReplaceAllStringFunc(path, func(name string) string { return w.ids.Get(strings.Trim(name, "{}")) })
	status, text := w.send(w.root, o.action, version, strings.ToUpper(method), path, w.ids, body)
	require.Equal(w.t, 200, status, "%s: %s", o.action, text)
	w.show(status, text, shownOnPurpose[o.action]...)
}
