package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// names are the texts of a list in an answer.
func names(list any) (texts []string) {
	for _, item := range list.([]any) {
		texts = append(texts, item.(string))
	}
	return texts
}

func TestAINodesAreAddedUsedAndDeleted(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	c := newDarabonba(t, control.addr, rootKey)
	instance, first := newInstance(t, c, 1)
	added, err := c.call("AddAINode", map[string]string{
		"DBInstanceId": instance, "AINodeSpecInfos.1.NodeSpec": "ADB.AILarge.1", "AINodeSpecInfos.1.NodeNum": "2",
		"AINodeSpecInfos.2.NodeSpec": "ADB.AIMedium.6", "AINodeSpecInfos.2.NodeNum": "1",
	})
	require.NoError(t, err)
	nodes := names(added["NodeNames"])
	require.Len(t, nodes, 3)
	require.ElementsMatch(t, append(first, nodes...), nodesOf(t, c, instance))

	service := deploy(t, c, instance, nodes[0])
	waitActive(t, c, instance, service, 20*time.Second)
	_, err = c.call("DeleteAINode", map[string]string{"DBInstanceId": instance, "AINodeNum": "2", "NodeNames.1": nodes[1], "NodeNames.2": nodes[0]})
	refused(t, err, 409, "OperationDenied.AiNodeBound")
	_, err = c.call("DeleteAINode", map[string]string{"DBInstanceId": instance, "AINodeNum": "4"})
	refused(t, err, 409, "OperationDenied.AiNodeBound")
	require.Len(t, nodesOf(t, c, instance), 4, "all or none")
	_, err = c.call("DeleteAINode", map[string]string{"DBInstanceId": instance, "AINodeNum": "1", "NodeNames.1": nodes[1]})
	require.NoError(t, err)
	_, err = c.call("CreateModelService", createParams(instance, nodes[1]))
	refused(t, err, 404, "InvalidAiNode.NotFound")
	deleted, err := c.call("DeleteAINode", map[string]string{"DBInstanceId": instance, "AINodeNum": "2"})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{first[0], nodes[2]}, names(deleted["NodeNames"]), "what is free")
	require.Equal(t, nodes[:1], nodesOf(t, c, instance))
	s.expectEngines(5*time.Second, 1)

	_, err = c.call("AddAINode", map[string]string{"DBInstanceId": instance, "AINodeSpecInfos.1.NodeSpec": "ADB.AILarge.1", "AINodeSpecInfos.1.NodeNum": "0"})
	refused(t, err, 400, "InvalidParameter")
	_, err = c.call("DeleteAINode", map[string]string{"DBInstanceId": instance})
	refused(t, err, 400, "MissingParameter")
	s.requireRows(map[string]int{
		`SELECT count(*) FROM audit_event WHERE action = 'gpdb:AddAINode' AND outcome = 'done'`:      1,
		`SELECT count(*) FROM audit_event WHERE action = 'gpdb:DeleteAINode' AND outcome = 'done'`:   2,
		`SELECT count(*) FROM audit_event WHERE action = 'gpdb:DeleteAINode' AND outcome = 'failed'`: 3,
	})
}

func TestAnInstanceIsDescribedMovedAndDeleted(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	c := newDarabonba(t, control.addr, rootKey)
	regions, err := c.call("DescribeRegions", map[string]string{})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"Region": []any{map[string]any{
		"RegionId": region, "Zones": map[string]any{"Zone": []any{map[string]any{"ZoneId": "host-a", "VpcEnabled": false}}},
	}}}, regions["Regions"])
	_, err = c.call("DescribeRegions", map[string]string{"Region": "cn-nowhere"})
	refused(t, err, 404, "InvalidRegionId.NotFound")

	instance, nodes := newInstance(t, c, 1)
	attributes := func() map[string]any {
		t.Helper()
		shown, err := c.call("DescribeDBInstanceAttribute", map[string]string{"DBInstanceId": instance, "OwnerId": "7"})
		require.NoError(t, err)
		return shown["Items"].(map[string]any)["DBInstanceAttribute"].([]any)[0].(map[string]any)
	}
	require.Equal(t, []any{instance, "Running", region, "rg-default", "127.0.0.1"}, []any{
		attributes()["DBInstanceId"], attributes()["DBInstanceStatus"], attributes()["RegionId"], attributes()["ResourceGroupId"], attributes()["SecurityIPList"],
	})
	_, err = c.call("ModifyDBInstanceResourceGroup", map[string]string{"DBInstanceId": instance, "NewResourceGroupId": "rg-default"})
	require.NoError(t, err)
	_, err = c.call("ModifyDBInstanceResourceGroup", map[string]string{"DBInstanceId": instance, "NewResourceGroupId": "rg-acfmxno4vh5muoq"})
	refused(t, err, 404, "InvalidResourceGroupId.NotFound")
	require.Equal(t, "rg-default", attributes()["ResourceGroupId"])

	service := deploy(t, c, instance, nodes[0])
	gone := map[string]string{"DBInstanceId": instance, "ClientToken": "it-goes"}
	_, err = c.call("DeleteDBInstance", gone)
	refused(t, err, 409, "OperationDenied.ModelServiceExists")
	_, err = c.call("DeleteModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": service})
	require.NoError(t, err)
	eventually(t, 20*time.Second, "the instance can be deleted once its service is gone", func() bool {
		_, err := c.call("DeleteDBInstance", gone)
		return err == nil
	})
	_, err = c.call("DeleteDBInstance", gone)
	require.NoError(t, err, "repeated")
	_, err = c.call("DescribeDBInstanceAttribute", map[string]string{"DBInstanceId": instance})
	refused(t, err, 404, "InvalidDBInstanceId.NotFound")
	other, _ := newInstance(t, c, 1)
	_, err = c.call("DeleteDBInstance", map[string]string{"DBInstanceId": other, "ClientToken": "it-goes"})
	refused(t, err, 400, "IdempotentParameterMismatch")
	s.expectEngines(5*time.Second, 0)
	s.requireRows(map[string]int{
		fmt.Sprintf(`SELECT count(*) FROM ai_node WHERE db_instance_id = '%s'`, instance):                     0,
		fmt.Sprintf(`SELECT count(*) FROM ip_array WHERE db_instance_id = '%s'`, instance):                    0,
		`SELECT count(*) FROM audit_event WHERE action = 'gpdb:DeleteDBInstance' AND outcome = 'done'`:        1,
		`SELECT count(*) FROM audit_event WHERE action = 'gpdb:DeleteDBInstance' AND outcome = 'repeated'`:    1,
		`SELECT count(*) FROM audit_event WHERE action = 'gpdb:ModifyDBInstanceResourceGroup'`:                2,
		`SELECT count(*) FROM (SELECT request_id FROM audit_event GROUP BY request_id HAVING count(*) > 1) x`: 0,
	})
}

// forged asks url for its models from 127.0.0.1 with headers that say otherwise.
func forged(t *testing.T, url, key, claimed string) (status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/models", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP"} {
		r.Header.Set(name, claimed)
	}
	r.Header.Set("Forwarded", "for="+claimed)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	return response.StatusCode
}

func TestAChangedIPArrayIsInForceWithinASecond(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 2)
	follows := waitActive(t, c, instance, deploy(t, c, instance, nodes[0]), 20*time.Second)
	params := createParams(instance, nodes[1])
	params["SecurityIPList"] = "127.0.0.1"
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	own := waitActive(t, c, instance, made.text("ModelServiceId"), 20*time.Second)
	status := func(from string, of answer) int {
		t.Helper()
		return statusFrom(t, from, of.text("PrivateConnectUrl"), of.text("ApiKey"))
	}
	eventually(t, 5*time.Second, "both are served", func() bool {
		return status("127.0.0.1", follows) == 200 && status("127.0.0.1", own) == 200
	})
	modify := func(array, mode, list string) {
		t.Helper()
		params := map[string]string{"DBInstanceId": instance, "ModifyMode": mode, "SecurityIPList": list}
		if array != "" {
			params["DBInstanceIPArrayName"] = array
		}
		_, err := c.call("ModifySecurityIps", params)
		require.NoError(t, err)
	}
	inForce := func(what string, from string, of answer, want int) {
		t.Helper()
		eventually(t, time.Second, what, func() bool { return status(from, of) == want })
	}
	require.Equal(t, 403, status("127.0.0.2", follows))
	require.Equal(t, 403, status("127.0.0.2", own))
	modify("", "Append", "127.0.0.2")
	inForce("appended to default", "127.0.0.2", follows, 200)
	require.Equal(t, 403, status("127.0.0.2", own), "its own array decides alone")
	modify(own.text("ModelServiceId"), "1", "127.0.0.2")
	inForce("appended to its own", "127.0.0.2", own, 200)
	modify(own.text("ModelServiceId"), "Cover", "192.0.2.0/24")
	inForce("covered", "127.0.0.1", own, 403)
	require.Equal(t, 403, forged(t, own.text("PrivateConnectUrl"), own.text("ApiKey"), "192.0.2.7"))
	modify("default", "2", "127.0.0.2")
	inForce("deleted", "127.0.0.2", follows, 403)
	require.Equal(t, 200, status("127.0.0.1", follows))
	modify("office", "0", "0.0.0.0/0")
	require.Equal(t, 403, status("127.0.0.2", follows), "another array decides nothing")

	listed, err := c.call("DescribeDBInstanceIPArrayList", map[string]string{"DBInstanceId": instance})
	require.NoError(t, err)
	array := func(name, list string) map[string]any {
		return map[string]any{"DBInstanceIPArrayName": name, "DBInstanceIPArrayAttribute": "", "SecurityIPList": list}
	}
	require.Equal(t, map[string]any{"DBInstanceIPArray": []any{
		array("default", "127.0.0.1"), array(own.text("ModelServiceId"), "192.0.2.0/24"), array("office", "0.0.0.0/0"),
	}}, listed["Items"])
	for name, test := range map[string]struct {
		array, list, code string
		status            int
	}{
		"garbage":           {"default", "nonsense", "InvalidSecurityIPList.Malformed", 400},
		"twice":             {"default", "10.0.0.1,10.0.0.1", "InvalidSecurityIPList.Duplicate", 400},
		"too many":          {"default", strings.Repeat("10.0.0.1,", 1001), "InvalidSecurityIPListLength.Malformed", 400},
		"no such service":   {"ms-00000000000000000000", "10.0.0.1", "InvalidModelServiceId.NotFound", 404},
		"no name":           {"!", "10.0.0.1", "InvalidParameter", 400},
		"nothing to delete": {"default", "10.0.0.1", "InvalidSecurityIPList.NotFound", 404},
	} {
		params := map[string]string{"DBInstanceId": instance, "DBInstanceIPArrayName": test.array, "SecurityIPList": test.list, "ModifyMode": "Append"}
		if name == "nothing to delete" {
			params["ModifyMode"] = "Delete"
		}
		_, err := c.call("ModifySecurityIps", params)
		refused(t, err, test.status, test.code)
	}
	require.Equal(t, 200, status("127.0.0.1", follows), "what was refused has changed nothing")
}

// completion asks for a chat completion at an endpoint and returns the status.
func completion(t *testing.T, from, endpoint, key, model string) (status int) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	text, err := json.Marshal(map[string]any{"model": model, "messages": []any{map[string]string{"role": "user", "content": "hello"}}})
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"/chat/completions", strings.NewReader(string(text)))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Forwarded-For", "127.0.0.1")
	response, err := client.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	return response.StatusCode
}

func TestAModelOperatorKeyOpensTheServicesOfItsAccount(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	s.writePolicies(map[string]string{"accounts.yaml": strings.ReplaceAll(accountsFile, "{name: OneInstance, document: one-instance.json}",
		"{name: OneInstance, document: no-create.json}"), "no-create.json": noCreate})
	control := s.controlPlane("both")
	s.startGateway()
	c, stranger := newDarabonba(t, control.addr, rootKey), newDarabonba(t, control.addr, strangerKey)
	instance, nodes := newInstance(t, c, 2)
	qwen, twin := deploy(t, c, instance, nodes[0]), deploy(t, c, instance, nodes[1])
	waitActive(t, c, instance, qwen, 20*time.Second)
	waitActive(t, c, instance, twin, 20*time.Second)
	listed, err := c.call("ListModelOperatorServices", map[string]string{"PageSize": "50"})
	require.NoError(t, err)
	require.ElementsMatch(t, []any{
		map[string]any{"ServiceId": qwen, "ModelName": "Qwen3-8B"}, map[string]any{"ServiceId": twin, "ModelName": "Qwen3-8B"},
	}, listed["Services"])

	newKey := func(c caller) (id, endpoint, key string) {
		t.Helper()
		made, err := c.call("CreateModelOperatorApiKey", map[string]string{"Description": "of the tests"})
		require.NoError(t, err)
		id = fmt.Sprint(made["ApiKeyId"])
		shown, err := c.call("DescribeModelOperatorApiKey", map[string]string{"ApiKeyId": id})
		require.NoError(t, err)
		return id, shown.text("Endpoint"), shown.text("ApiKey")
	}
	id, endpoint, key := newKey(c)
	_, _, theirs := newKey(stranger)
	require.Equal(t, s.gateway+"/operator/v1", endpoint)
	opens := func(from, key, model string, want int) {
		t.Helper()
		eventually(t, 2*time.Second, fmt.Sprintf("%s from %s is %d", model, from, want), func() bool {
			status := completion(t, from, endpoint, key, model)
			return status == want
		})
	}
	opens("127.0.0.1", key, "Qwen3-8B", 200)
	opens("127.0.0.1", key, qwen, 200)
	opens("127.0.0.1", key, "nope", 404)
	opens("127.0.0.1", theirs, "Qwen3-8B", 404)
	opens("127.0.0.1", theirs, qwen, 404)
	opens("127.0.0.1", "wrong", qwen, 401)
	opens("127.0.0.2", key, qwen, 403)
	require.Equal(t, 200, statusFrom(t, "127.0.0.1", endpoint, key), "the models")
	_, err = c.call("ModifySecurityIps", map[string]string{
		"DBInstanceId": instance, "DBInstanceIPArrayName": twin, "ModifyMode": "Cover", "SecurityIPList": "127.0.0.2",
	})
	require.NoError(t, err)
	opens("127.0.0.2", key, twin, 200)
	opens("127.0.0.2", key, "Qwen3-8B", 200)
	opens("127.0.0.1", key, twin, 403)

	eventually(t, 10*time.Second, "what was used is told", func() bool {
		used, err := c.call("DescribeModelOperatorUsage", map[string]string{"GroupBy": "model,api_key", "Period": "3600", "Keys": "request_count,total_token,success_count"})
		require.NoError(t, err)
		counts := map[string]string{}
		for _, k := range used["Keys"].([]any) {
			k := k.(map[string]any)
			for _, series := range k["Series"].([]any) {
				series := series.(map[string]any)
				if series["Name"] != "Qwen3-8B" {
					continue
				}
				require.Equal(t, []any{"model,api_key", id}, []any{series["Role"], fmt.Sprint(series["ApiKeyId"])}, "nobody else's")
				for _, v := range series["Values"].([]any) {
					counts[k["Name"].(string)] += v.(map[string]any)["Point"].([]any)[1].(string)
				}
			}
		}
		return counts["request_count"] != "" && counts["success_count"] == "4" && counts["total_token"] > "0"
	})

	for _, operation := range []string{"DescribeModelOperatorApiKey", "DeleteModelOperatorApiKey"} {
		_, err = stranger.call(operation, map[string]string{"ApiKeyId": id})
		refused(t, err, 404, "InvalidApiKeyId.NotFound")
		_, err = stranger.call(operation, map[string]string{"ApiKeyId": "2000000"})
		refused(t, err, 404, "InvalidApiKeyId.NotFound")
	}
	_, err = c.call("DeleteModelOperatorApiKey", map[string]string{"ApiKeyId": id})
	require.NoError(t, err)
	eventually(t, time.Second, "a deleted key opens nothing", func() bool {
		status := completion(t, "127.0.0.1", endpoint, key, qwen)
		return status == 401
	})
	keys, err := c.call("ListModelOperatorApiKeys", map[string]string{})
	require.NoError(t, err)
	require.Empty(t, keys["ApiKeys"])
	require.NotContains(t, s.dump(t), key, "a key is kept sealed and as a hash")
}
