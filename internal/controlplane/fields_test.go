package controlplane

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// kinds are the parameters that identify something of an account, with what: all of a name, or those of one operation
// under PRODUCT:OPERATION/NAME. More than one kind is tried where more than one is meant.
var kinds = map[string][]string{
	"DBInstanceId": {"instance"}, "DBInstanceIds": {"instance"}, "SrcDbInstanceName": {"instance"},
	"ModelServiceId": {"model service"}, "modelServiceId": {"model service"}, "DBInstanceIPArrayName": {"model service"},
	"AiNodes": {"node"}, "NodeNames": {"node"}, "AINodePoolId": {"pool"}, "ApiKeyId": {"operator key"}, "ApiKeyIds": {"operator key"},
	"ResourceGroupId": {"resource group"}, "NewResourceGroupId": {"resource group"}, "resourceGroupId": {"resource group"}, "ResourceGroupIds": {"resource group"},

	"gatewayId": {"gateway"}, "environmentId": {"environment"}, "domainId": {"domain"}, "customDomainIds": {"domain"}, "envDomainIds": {"domain"},
	"serviceId": {"service"}, "httpApiId": {"API"}, "routeId": {"route"}, "revisionId": {"revision"}, "consumerId": {"consumer"},
	"consumerIds": {"consumer"}, "consumerGroupId": {"consumer group"}, "consumerAuthorizationRuleId": {"rule"}, "consumerAuthorizationRuleIds": {"rule"},
	"resourceId": {"API"}, "ResourceId": {"gateway"}, "apig:TagResources/resourceId": {"gateway"},
	"gateway": {"gateway name"}, "environment": {"environment name"}, "domains": {"domain name"}, "consumers": {"consumer name"},
	"consumerGroups": {"consumer group name"}, "apig:ImportHttpApi/document.services[].name": {"service name"},
	"apig:ImportHttpApi/document.routes[].backend.services[].name":                                {"service name"},
	"apig:ImportHttpApi/document.policyConfigs[].aiFallbackConfig.serviceConfigs[].name":          {"service name"},
	"apig:ImportHttpApi/document.routes[].policyConfigs[].aiFallbackConfig.serviceConfigs[].name": {"service name"},
	"apig:CreateGateway/name": {"gateway name"}, "apig:CreateConsumer/name": {"consumer name"}, "apig:CreateConsumerGroup/name": {"consumer group name"},
	"apig:CreateHttpApi/name": {"API name"}, "apig:ImportHttpApi/document.name": {"API name"},
	"apig:CreateService/serviceConfigs[].name": {"service name"},
	"apig:ListUsage/httpApi":                   {"API", "API name"}, "apig:ListUsage/service": {"service", "service name"}, "apig:ListUsage/consumer": {"consumer", "consumer name"},
	"apig:ListHttpApis/name": {"API name"}, "apig:ListGateways/name": {"gateway name"}, "apig:ListServices/name": {"service name"},
	"keyword": {"anything's name"}, "nameLike": {"anything's name"}, "aliasLike": {"anything's name"}, "gatewayNameLike": {"anything's name"},
	"consumerNameLike": {"anything's name"}, "apiNameLike": {"anything's name"},
	"apig:DescribeRouteDecision/host": {"domain name"}, "apig:DebugHttpApi/domain": {"domain name"},

	"UserName": {"user"}, "GroupName": {"group"}, "RoleName": {"role"}, "PolicyName": {"policy"},
	"UserAccessKeyId": {"key"}, "RoleArn": {"role ARN"}, "PrincipalName": {"user"}, "AuthPrincipal": {"user ARN", "role ARN"}, "AuthResource": {"user ARN"},
	"EncodedDiagnosticMessage": {"denial"}, "Principal": {"user ARN"}, "Resource": {"user ARN"},
	"resourcemanager:CreateResourceGroup/Name": {"resource group name"}, "resourcemanager:ListResourceGroups/Name": {"resource group name"},
	"resourcemanager:MoveResources/Resources[].ResourceId": {"instance"}, "resourcemanager:ListResources/ResourceId": {"instance"},
	"resourcemanager:AttachPolicy/ResourceGroupId":          {"resource group", "account"},
	"resourcemanager:DetachPolicy/ResourceGroupId":          {"resource group", "account"},
	"resourcemanager:ListPolicyAttachments/ResourceGroupId": {"resource group", "account"},
}

// plain are the parameters that look as if they identified something of an account, and do not: what the operator or
// the cloud has for all, what is counted within a thing of its own, a new text, and what is ignored.
var plain = []string{
	"RegionId", "ZoneId", "StandbyZoneId", "VPCId", "VpcId", "VSwitchId", "StandbyVSwitchId", "BackupId", "OwnerId", "ResourceOwnerId",
	"ModelName", "ModelNames", "modelName", "defaultModelName", "targetModelName", "passThroughModelName", "builtinRouteNames", "certIdentifier",
	"payloadKeyName", "ExternalId", "RoleSessionName", "DisplayName", "NewDisplayName", "NewUserName", "NewGroupName", "VersionId", "name", "remoteJwks",
}

// looksLikeAnID is what the name of such a parameter is like.
var looksLikeAnID = regexp.MustCompile(`(Id|Ids|Arn|ARN|Name|Names|Identifier)$|^(name|Name)$`)

// isAnID is what the example of one is like.
var isAnID = regexp.MustCompile(`^([a-z]+-[0-9a-v]{20}|acs:ram:.*[0-9]{16}.*|ESAK.*)$`)

// field is a parameter that identifies something of an account. An item of a list is [] in its path.
type field struct {
	path string
	kind string
}

// fields are all such parameters of the operation, at any depth. One that might be and that nobody has decided about
// fails the test.
func (o operation) fields(t testing.TB) (found []field) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(o.schemas)) {
		leaves(name, o.schemas[name], 0, func(path string, schema *openapi3.Schema) {
			path = strings.TrimSuffix(path, "[]")
			name := path[strings.LastIndexByte(path, '.')+1:]
			of, decided := kinds[o.name()+"/"+path]
			if !decided {
				of, decided = kinds[name]
			}
			example, _ := schema.Example.(string)
			if !decided && (looksLikeAnID.MatchString(name) || isAnID.MatchString(example)) {
				require.Contains(t, plain, name, "%s: decide whether %s identifies something of an account", o.name(), path)
			}
			for _, kind := range of {
				if schema.Type.Is("array") {
					path += "[]"
				}
				found = append(found, field{path, kind})
			}
		})
	}
	return found
}

// makes reports whether the field is the name of what the operation makes.
func (f field) makes(o operation) bool {
	name := f.path[strings.LastIndexByte(f.path, '.')+1:]
	return f.path == "document.name" || strings.HasPrefix(o.OperationID, "Create") && strings.ToLower(name) == "name" || o.OperationID == "Create"+strings.TrimSuffix(name, "Name")
}

// leaves visits every text and number of a parameter; a list of them is one.
func leaves(path string, schema *openapi3.Schema, depth int, visit func(path string, schema *openapi3.Schema)) {
	properties := maps.Clone(schema.Properties)
	for _, part := range schema.AllOf {
		if properties == nil {
			properties = openapi3.Schemas{}
		}
		maps.Copy(properties, part.Value.Properties)
	}
	switch {
	case depth > 10:
	case len(properties) > 0:
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			leaves(path+"."+name, properties[name].Value, depth+1, visit)
		}
	case schema.Items != nil && (len(schema.Items.Value.Properties) > 0 || len(schema.Items.Value.AllOf) > 0 && schema.Items.Value.AllOf[0].Value.Properties != nil):
		leaves(path+"[]", schema.Items.Value, depth+1, visit)
	default:
		visit(path, schema)
	}
}

// put sets the parameter at a path and makes what lies above it: of a list, in the items that have it, or in the last.
func put(at any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	name, isList := strings.CutSuffix(path[0], "[]")
	members, _ := at.(object)
	if members == nil {
		members = object{}
	}
	if !isList {
		members[name] = put(members[name], path[1:], value)
		return members
	}
	items, _ := members[name].([]any)
	if len(items) == 0 {
		items = []any{nil}
	}
	among := slices.ContainsFunc(items, func(item any) bool { return look(item, path[1:]) != nil })
	for n, item := range items {
		if among && look(item, path[1:]) != nil || !among && n == len(items)-1 {
			items[n] = put(item, path[1:], value)
		}
	}
	members[name] = items
	return members
}

// look returns the first value at a path; nil: there is none.
func look(at any, path []string) any {
	if len(path) == 0 {
		return at
	}
	name, isList := strings.CutSuffix(path[0], "[]")
	members, _ := at.(object)
	if !isList {
		return look(members[name], path[1:])
	}
	items, _ := members[name].([]any)
	for _, item := range items {
		if value := look(item, path[1:]); value != nil {
			return value
		}
	}
	return nil
}

// set sets the field of params.
func (f field) set(params object, value any) { put(params, strings.Split(f.path, "."), value) }

// get is the first value of the field in params; nil: there is none.
func (f field) get(params object) any { return look(params, strings.Split(f.path, ".")) }

func (f field) String() string { return fmt.Sprintf("%s, a %s", f.path, f.kind) }
