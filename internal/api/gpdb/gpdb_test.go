package gpdb_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelservice"
)

type object = map[string]any

func TestCreateModelServiceIsTheSameInBothDialects(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	replicas, ips := 2, ""
	want := modelservice.Spec{
		AccountID: apitest.Account, RegionID: apitest.Region, DBInstanceID: instanceA, ModelName: "m", Description: "d",
		AINodes: []string{"ai-1", "ai-2"}, Replicas: &replicas, ModelParams: object{"max-model-len": 4096.0},
		InferenceEngine: "vllm", ResourceGroupID: "rg-1", SecurityIPList: &ips, Public: true,
	}
	answer := s.JSON(apitest.RootKey, "CreateModelService", object{
		"DBInstanceId": instanceA, "ModelName": "m", "Description": "d", "AiNodes": []string{"ai-1", "ai-2"}, "Replicas": 2,
		"ModelParams": object{"max-model-len": 4096}, "ResourceGroupId": "rg-1", "SecurityIPList": "",
		"EnablePublicConnection": true, "ClientToken": "one",
	})
	require.Equal(t, 200, answer.Status, answer.Body)
	require.Equal(t, object{"ModelServiceId": serviceID, "RequestId": answer.Header.Get("x-acs-request-id")}, answer.Body)
	require.Equal(t, want, d.spec)
	first := d.key
	require.Equal(t, idempotency.Key{
		AccountID: apitest.Account, RegionID: apitest.Region, Action: "gpdb:CreateModelService", Token: "one", Fingerprint: first.Fingerprint,
	}, first)

	answer = s.RPC(apitest.RootKey, "CreateModelService", url.Values{
		"DBInstanceId": {instanceA}, "ModelName": {"m"}, "Description": {"d"}, "AiNodes.1": {"ai-1"}, "AiNodes.2": {"ai-2"},
		"Replicas": {"2"}, "ModelParams": {`{"max-model-len": 4.096e3}`}, "ResourceGroupId": {"rg-1"}, "SecurityIPList": {""},
		"EnablePublicConnection": {"true"}, "ClientToken": {"one"}, "RegionId": {apitest.Region}, "InferenceEngine": {"vllm"},
	})
	require.Equal(t, 200, answer.Status, answer.Body)
	require.Equal(t, want, d.spec)
	require.Equal(t, first, d.key, "the same request has the same fingerprint in both dialects")

	s.JSON(apitest.RootKey, "CreateModelService", object{"DBInstanceId": instanceA, "ModelName": "m", "AiNodes": []string{"ai-1"}})
	require.Nil(t, d.spec.SecurityIPList, "no list is not an empty list")
	require.Empty(t, d.key.Token)
	require.NotEqual(t, first.Fingerprint, d.key.Fingerprint)
}

func TestTheApiKeyIsShownToWhoMayReadIt(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	const grant = `{"Version":"1","Statement":[{"Effect":"Allow","Action":%s,"Resource":"acs:gpdb:*:*:dbinstance/` + instanceA + `"}]}`
	s.Users(map[string]string{
		"reader": fmt.Sprintf(grant, `["gpdb:DescribeModelService","gpdb:ListModelServices"]`),
		"user":   fmt.Sprintf(grant, `["gpdb:DescribeModelService","gpdb:ListModelServices","gpdb:GetModelServiceApiKey"]`),
	})
	ask := object{"DBInstanceId": instanceA, "ModelServiceId": serviceID}
	for keyID, want := range map[string]string{
		apitest.RootKey: apiKey, apitest.KeyOf("user"): apiKey, apitest.KeyOf("reader"): "****WXYZ",
	} {
		described := s.JSON(keyID, "DescribeModelService", ask)
		require.Equal(t, 200, described.Status, described.Body)
		require.Equal(t, want, described.Body["ApiKey"])
		listed := s.JSON(keyID, "ListModelServices", object{"DBInstanceId": instanceA})
		require.Equal(t, "****WXYZ", listed.Body["ModelServices"].([]any)[0].(object)["ApiKey"])
	}
	require.NotContains(t, s.Log.String(), apiKey)
}

func TestDescribeAndListSayTheSameInTheirOwnWords(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	described := s.JSON(apitest.RootKey, "DescribeModelService", object{"DBInstanceId": instanceA, "ModelServiceId": serviceID})
	delete(described.Body, "RequestId")
	require.Equal(t, object{
		"ModelServiceId": serviceID, "ModelName": "m", "ModelParams": object{"max-model-len": 4096.0, "dtype": "auto"},
		"Description": "", "AiNodes": []any{"ai-1"}, "Status": "degraded", "StatusReason": "One of two replicas answers.",
		"ApiKey": apiKey, "PrivateConnectUrl": "http://g/services/" + serviceID + "/v1",
		"PublicConnectUrl": "http://p/services/" + serviceID + "/v1", "SecurityIpList": "127.0.0.1", "CreateTime": "2026-03-01T09:30:00Z",
		"ReplicaCount": 2.0, "Replicas": []any{
			object{"Replica": 0.0, "AiNode": "ai-1", "Status": "active", "StatusReason": "", "UpToDate": true},
			object{"Replica": 1.0, "AiNode": "ai-2", "Status": "failed", "StatusReason": "exited 1", "UpToDate": false},
		},
	}, described.Body)

	listed := s.JSON(apitest.RootKey, "ListModelServices", object{"DBInstanceId": instanceA, "PageSize": 30, "PageNumber": 2})
	require.Equal(t, instance.Page{Number: 2, Size: 30}, d.page)
	delete(listed.Body, "RequestId")
	require.Equal(t, object{
		"PageNumber": 2.0, "PageRecordCount": 1.0, "TotalRecordCount": 7.0,
		"ModelServices": []any{object{
			"ModelServiceId": serviceID, "ModelName": "m", "ModelParams": object{"max-model-len": "4096", "dtype": "auto"},
			"Description": "", "AiNodes": []any{"ai-1"}, "Status": "degraded", "StatusReason": "One of two replicas answers.",
			"ApiKey": "****WXYZ", "PrivateConnUrl": "http://g/services/" + serviceID + "/v1",
			"PublicConnUrl": "http://p/services/" + serviceID + "/v1", "SecurityIPList": "127.0.0.1", "CreateTime": "2026-03-01T09:30:00Z",
		}},
	}, listed.Body)

	s.RPC(apitest.RootKey, "ListModelServices", url.Values{"DBInstanceId": {instanceA}})
	require.Equal(t, instance.Page{Number: 1, Size: 20}, d.page)
}

func TestAChangeNamesOnlyWhatChanges(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	two, none := 2, ""
	for name, c := range map[string]struct {
		params object
		want   modelservice.Change
	}{
		"nothing":    {object{}, modelservice.Change{}},
		"replicas":   {object{"Replicas": 2}, modelservice.Change{Replicas: &two}},
		"no note":    {object{"Description": ""}, modelservice.Change{Description: &none}},
		"defaults":   {object{"ModelParams": object{}}, modelservice.Change{ModelParams: map[string]any{}}},
		"nodes":      {object{"AiNodes": []any{"ai-1"}}, modelservice.Change{AINodes: []string{"ai-1"}}},
		"may be out": {object{"AllowInterruption": true}, modelservice.Change{AllowInterruption: true}},
	} {
		t.Run(name, func(t *testing.T) {
			c.params["DBInstanceId"], c.params["ModelServiceId"] = instanceA, serviceID
			changed := s.JSON(apitest.RootKey, "ModifyModelService", c.params)
			require.Equal(t, 200, changed.Status, changed.Body)
			require.Equal(t, serviceID, changed.Body["ModelServiceId"])
			c.want.AccountID, c.want.DBInstanceID, c.want.ID = apitest.Account, instanceA, serviceID
			require.Equal(t, c.want, d.modify)
		})
	}
}

func TestEventsAndLogsAreShown(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	events := s.JSON(apitest.RootKey, "ListModelServiceEvents", object{"DBInstanceId": instanceA, "ModelServiceId": serviceID, "PageSize": 50})
	require.Equal(t, []any{object{"EventId": "17", "Time": "2026-03-01T09:30:00Z", "Kind": "state", "Message": "It is active."}}, events.Body["Events"])
	require.Equal(t, instance.Page{Number: 1, Size: 50}, d.page)
	require.Equal(t, 7.0, events.Body["TotalRecordCount"])

	log := s.JSON(apitest.RootKey, "GetModelServiceLogs", object{"DBInstanceId": instanceA, "ModelServiceId": serviceID, "Replica": 1})
	require.Equal(t, 1, *d.ordinal)
	delete(log.Body, "RequestId")
	require.Equal(t, object{
		"Replica": 1.0, "AiNode": "ai-1", "EngineGeneration": "3", "LogOffset": "6", "PreviousLog": "", "Log": "hello\n", "Time": "2026-03-01T09:30:00Z",
	}, log.Body)
}

func TestListsWrapAsTheOfficialClientsExpect(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	models := s.JSON(apitest.RootKey, "ListSupportModels", object{})
	require.Equal(t, object{"modelNames": []any{"m"}}, models.Body["ModelNames"])

	pools := s.JSON(apitest.RootKey, "ListAINodePools", object{"DBInstanceId": instanceA})
	node := func(name, status, object, service string) map[string]any {
		return map[string]any{
			"NodeName": name, "NodeSpec": "s", "BindStatus": status, "BindObject": object, "ModelServiceId": service,
			"Namespace": "", "ZoneId": "h", "CreateTime": "2026-03-01T09:30:00Z", "UpdateTime": "2026-03-01T09:30:00Z",
		}
	}
	require.Equal(t, []any{object{"AINodePoolId": "aipool-1", "NodeNum": "2", "AINodeInfos": []any{
		node("ai-1", "bound", "model_serving", serviceID), node("ai-2", "unbound", "", ""),
	}}}, pools.Body["AINodePoolInfos"])
}

func TestCreateDBInstanceTakesEveryParameterAndUsesSome(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	answer := s.RPC(apitest.RootKey, "CreateDBInstance", url.Values{
		"RegionId": {apitest.Region}, "DBInstanceDescription": {"d"}, "SecurityIPList": {"10.0.0.0/8"},
		"AINodeSpecInfos.1.AINodeSpec": {"s"}, "AINodeSpecInfos.1.AINodeNum": {"2"},
		"Tag.1.Key": {"a"}, "Tag.1.Value": {"1"}, "Tag.2.Key": {"b"}, "ClientToken": {"t"},
		"Engine": {"gpdb"}, "EngineVersion": {"7.0"}, "StorageSize": {"200"}, "EnableSSL": {"true"}, "IdleTime": {"600"}, "ZoneId": {"z"},
	})
	require.Equal(t, 200, answer.Status, answer.Body)
	require.Equal(t, instanceA, answer.Body["DBInstanceId"])
	require.Equal(t, instance.Spec{
		AccountID: apitest.Account, RegionID: apitest.Region, Description: "d", SecurityIPList: "10.0.0.0/8",
		Nodes: []instance.NodeSpec{{Spec: "s", Count: 2}}, Tags: map[string]string{"a": "1", "b": ""},
	}, d.made)
	require.Equal(t, "t", d.key.Token)

	require.Equal(t, 200, s.JSON(apitest.RootKey, "CreateDBInstance", object{"RegionId": apitest.Region}).Status, "the region is enough")
}

func TestDescribeDBInstancesFilters(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	answer := s.RPC(apitest.RootKey, "DescribeDBInstances", url.Values{
		"RegionId": {apitest.Region}, "DBInstanceIds": {instanceA + ", " + instanceB}, "DBInstanceDescription": {"d"},
		"Tag.1.Key": {"a"}, "DBInstanceStatuses": {"Running,Creating"}, "ResourceGroupId": {"rg-1"},
	})
	require.Equal(t, 200, answer.Status, answer.Body)
	require.Equal(t, instance.Filter{
		RegionID: apitest.Region, IDs: []string{instanceA, instanceB}, Description: "d", ResourceGroupID: "rg-1",
		Tags: map[string]string{"a": ""}, Page: instance.Page{Number: 1, Size: 20},
	}, d.filter)
	delete(answer.Body, "RequestId")
	require.Equal(t, object{
		"PageNumber": 1.0, "PageRecordCount": 1.0, "TotalRecordCount": 3.0,
		"Items": object{"DBInstance": []any{object{
			"DBInstanceId": instanceA, "DBInstanceDescription": "d", "DBInstanceStatus": "Running", "RegionId": apitest.Region,
			"ResourceGroupId": "rg-default", "CreateTime": "2026-03-01T09:30:00Z",
			"Tags": object{"Tag": []any{object{"Key": "a", "Value": ""}, object{"Key": "b", "Value": "2"}}},
		}}},
	}, answer.Body)
}
