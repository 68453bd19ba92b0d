package controlplane

import (
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	accountA = "1000000000000001"
	accountB = "1000000000000002"
)

// account is an account of an installation, called as its root.
type account struct {
	*installation
	id         string
	word       string // in the name of everything that it has
	root       signer
	user       signer               // a user of it that may do everything
	operations map[string]operation // by PRODUCT:OPERATION
	things     map[string]any       // what identifies one thing of each kind
}

// open makes an account with nothing in it.
func (i *installation) open(id, word string) *account {
	i.t.Helper()
	a := &account{installation: i, id: id, word: word, root: i.newAccount(id), operations: map[string]operation{}}
	for _, op := range everyOperation(i.t) {
		a.operations[op.name()] = op
	}
	return a
}

// do calls an operation, which must succeed, and returns what it answers.
func (a *account) do(name string, params object) object {
	a.t.Helper()
	op, known := a.operations[name]
	require.True(a.t, known, name)
	got := a.call(a.root, op, params)
	require.Equal(a.t, 200, got.status, "%s %v: %s", name, params, got.text)
	if data, ok := got.body["data"].(object); ok {
		return data
	}
	return got.body
}

// named is a name of the account that nothing else has.
func (a *account) named() string { return a.word + "-" + strings.TrimPrefix(ids.New("x"), "x-") }

// furnish gives the account one thing of every kind, each with the account's word in its name.
func (a *account) furnish() {
	a.t.Helper()
	a.things = map[string]any{
		"instance": a.newInstance("4"), "gateway name": a.named(), "domain name": a.word + ".example.com", "anything's name": a.word,
		"account": a.id,
	}
	nodes := a.nodes(a.things["instance"])
	a.things["node"], a.things["free node"] = nodes[0], nodes[1]
	a.things["pool"] = a.pool(a.things["instance"])
	a.things["model service"] = a.newModelService(a.things["instance"], nodes[0])
	a.things["operator key"] = a.newOperatorKey()
	a.furnishIdentities()
	a.furnishGateway()
}

func (a *account) furnishIdentities() {
	a.t.Helper()
	for kind, of := range map[string]struct{ action, param string }{
		"user": {"ram:CreateUser", "UserName"}, "group": {"ram:CreateGroup", "GroupName"},
		"role": {"ram:CreateRole", "RoleName"}, "policy": {"ram:CreatePolicy", "PolicyName"},
	} {
		a.things[kind] = a.named()
		a.do(of.action, a.creating(of.action, object{of.param: a.things[kind]}))
	}
	a.do("ram:CreateUser", object{"UserName": "everything"})
	a.do("ram:AttachPolicyToUser", object{"UserName": "everything", "PolicyType": "System", "PolicyName": "AdministratorAccess"})
	a.user = a.newKey("everything")
	key := a.newKey(a.things["user"].(string))
	a.things["key"] = key.id
	a.things["role ARN"] = "acs:ram::" + a.id + ":role/" + a.things["role"].(string)
	a.things["user ARN"] = "acs:ram::" + a.id + ":user/" + a.things["user"].(string)
	denied := a.call(key, a.operations["ram:ListUsers"], object{})
	require.Equal(a.t, 403, denied.status, denied.text)
	a.things["denial"] = denied.body["AccessDeniedDetail"].(object)["EncodedDiagnosticMessage"]
	a.things["resource group name"] = a.named()
	a.things["resource group"] = a.newResourceGroup(a.things["resource group name"].(string))
}

func (a *account) furnishGateway() {
	a.t.Helper()
	a.things["gateway"] = a.newGateway(a.things["gateway name"].(string))
	a.things["environment"] = a.environmentOf(a.things["gateway"])
	a.things["environment name"] = a.do("apig:GetEnvironment", object{"environmentId": a.things["environment"]})["name"]
	a.things["domain"] = a.do("apig:CreateDomain", object{"name": a.things["domain name"], "protocol": "HTTP"})["domainId"]
	a.things["service name"] = a.named()
	a.things["service"] = a.newService(a.things["service name"])
	a.things["consumer name"], a.things["consumer group name"] = a.named(), a.named()
	a.things["consumer"] = a.newConsumer(a.things["consumer name"])
	a.things["consumer group"] = a.do("apig:CreateConsumerGroup", object{"name": a.things["consumer group name"], "gatewayType": "AI"})["consumerGroupId"]
	a.do("apig:BatchAddConsumerGroupConsumers", object{"consumerGroupId": a.things["consumer group"], "consumerIds": []any{a.things["consumer"]}})
	a.things["API name"] = a.named()
	a.things["API"] = a.newAPI(a.things["API name"].(string))
	a.things["route"] = a.newRoute(a.named())
	a.do("apig:DeployHttpApi", object{"httpApiId": a.things["API"]})
	revisions := a.do("apig:ListHttpApiRevisions", object{"httpApiId": a.things["API"]})["items"].([]any)
	a.things["revision"] = revisions[0].(object)["revisionId"]
	a.things["rule"] = a.newRule(a.things["consumer"], a.things["API"])
	for _, item := range [][2]string{{snapshot.KindAIService, "service"}, {snapshot.KindConsumer, "consumer"}, {snapshot.KindModelAPI, "API"}} {
		require.NoError(a.t, a.publisher.Publish(a.t.Context(), item[0], a.things[item[1]].(string)))
	}
}

// creating is the example of an operation with other values.
func (a *account) creating(action string, with object) object {
	params := copied(a.t, a.operations[action].example)
	delete(params, "ClientToken")
	for name, value := range with {
		params[name] = value
	}
	return params
}

// unknown is what could identify a thing of the kind and identifies none.
func (a *account) unknown(kind string) any {
	a.t.Helper()
	like, known := a.things[kind]
	require.True(a.t, known, "there is no %s", kind)
	text, ok := like.(string)
	if !ok {
		return 987654
	}
	switch {
	case kind == "account":
		return "1000000000000009"
	case kind == "denial": // sealed by nobody
		return strings.Repeat("A", len(text))
	case kind == "key":
		return "ESAK" + strings.Repeat("z", len(text)-4)
	case strings.Contains(text, a.word):
		other := []rune(a.word)
		slices.Reverse(other)
		return strings.ReplaceAll(text, a.word, string(other))
	case strings.HasPrefix(text, "acs:"):
		return text + "x"
	}
	prefix, _, _ := strings.Cut(text, "-")
	return ids.New(prefix)
}
