package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/sdk"
)

func TestBadInputIsRefusedAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 3)
	_, others := newInstance(t, c, 1)
	_, err := c.call("CreateModelService", createParams(instance, nodes[2]))
	require.NoError(t, err)
	unchanged := map[string]int{
		`SELECT count(*) FROM model_service`: 1, `SELECT count(*) FROM replica`: 1, `SELECT count(*) FROM client_token`: 0,
		`SELECT count(*) FROM ai_node WHERE model_service_id IS NOT NULL`: 1, `SELECT count(*) FROM ip_array WHERE name <> 'default'`: 0,
	}
	for name, test := range map[string]struct {
		param, value string
		status       int
		code         string
	}{
		"unknown model":               {"ModelName", "nope", 404, "InvalidModelName.NotFound"},
		"node of another instance":    {"AiNodes", `["` + others[0] + `"]`, 404, "InvalidAiNode.NotFound"},
		"bound node":                  {"AiNodes", `["` + nodes[2] + `"]`, 409, "OperationDenied.AiNodeBound"},
		"no nodes":                    {"AiNodes", `[]`, 400, "InvalidParameter"},
		"a node twice":                {"AiNodes", `["` + nodes[0] + `","` + nodes[0] + `"]`, 400, "InvalidParameter"},
		"nodes that are no JSON":      {"AiNodes", `[`, 400, "InvalidParameter"},
		"replicas 0":                  {"Replicas", "0", 400, "InvalidParameter"},
		"replicas -1":                 {"Replicas", "-1", 400, "InvalidParameter"},
		"replicas 10^9":               {"Replicas", "1000000000", 400, "InvalidParameter"},
		"replicas no number":          {"Replicas", "two", 400, "InvalidParameter"},
		"more replicas than nodes":    {"Replicas", "2", 409, "OperationDenied.InsufficientCapacity"},
		"another engine":              {"InferenceEngine", "sglang", 400, "InvalidParameter"},
		"unknown argument":            {"ModelParams", `{"nope": 1}`, 400, "InvalidParameter"},
		"--middleware":                {"ModelParams", `{"--middleware": "os.system"}`, 400, "InvalidParameter"},
		"--config":                    {"ModelParams", `{"--config": "/etc/passwd"}`, 400, "InvalidParameter"},
		"trust_remote_code":           {"ModelParams", `{"trust_remote_code": true}`, 400, "InvalidParameter"},
		"duplicate keys in a JSON":    {"ModelParams", `{"seed": 1, "seed": 2}`, 400, "InvalidParameter"},
		"IP garbage":                  {"SecurityIPList", "not an address", 400, "InvalidSecurityIPList.Malformed"},
		"IP twice":                    {"SecurityIPList", "10.0.0.1,10.0.0.1", 400, "InvalidSecurityIPList.Duplicate"},
		"too many IPs":                {"SecurityIPList", strings.Repeat("10.0.0.1,", 1001), 400, "InvalidSecurityIPListLength.Malformed"},
		"token too long":              {"ClientToken", strings.Repeat("x", 65), 400, "InvalidParameter"},
		"public connection no bool":   {"EnablePublicConnection", "maybe", 400, "InvalidParameter"},
		"instance id of another kind": {"DBInstanceId", nodes[0], 404, "InvalidDBInstanceId.NotFound"},
		"instance id with a wildcard": {"DBInstanceId", "gp-*", 404, "InvalidDBInstanceId.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			params := createParams(instance, nodes[0])
			params[test.param] = test.value
			_, err := c.call("CreateModelService", params)
			refused(t, err, test.status, test.code)
			s.requireRows(unchanged)
		})
	}
	body, err := json.Marshal(map[string]any{"DBInstanceId": instance, "ModelName": "Qwen3-8B", "AiNodes": nodes[:1]})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		body   []byte
		status int
		code   string
	}{
		"11 MiB":                   {bytes.Repeat([]byte(" "), 11<<20), 413, "RequestEntityTooLarge"},
		"a duplicate key":          {bytes.Replace(body, []byte("{"), []byte(`{"ModelName":"x",`), 1), 400, "InvalidParameter"},
		"invalid UTF-8":            {bytes.Replace(body, []byte("Qwen3"), []byte("\xff\xfe"), 1), 400, "InvalidParameter"},
		"a parameter nobody knows": {bytes.Replace(body, []byte("{"), []byte(`{"Replica":2,`), 1), 400, "InvalidParameter"},
		"no JSON at all":           {[]byte("DBInstanceId=x"), 400, "InvalidParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			status, code := post(t, control.addr, test.body)
			require.Equal(t, test.status, status)
			require.Equal(t, test.code, code)
			s.requireRows(unchanged)
		})
	}
}

// post sends a signed CreateModelService with a body of our making.
func post(t *testing.T, addr string, body []byte) (status int, code string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/CreateModelService", bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	signer := sdk.Signer{AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret}
	require.NoError(t, signer.Sign(request, "CreateModelService", gpdbVersion))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var said struct{ Code, Message, RequestId string }
	require.NoError(t, json.Unmarshal(text, &said), "%s", text)
	require.NotEmpty(t, said.Message)
	require.NotEmpty(t, said.RequestId)
	return response.StatusCode, said.Code
}
