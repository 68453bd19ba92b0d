package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	sdkcredentials "github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/stretchr/testify/require"
)

// answer is the decoded body of a successful call.
type answer map[string]any

func (a answer) text(field string) string {
	s, _ := a[field].(string)
	return s
}

// refusal is what a client made of an error answer.
type refusal struct {
	status int
	code   string
	detail map[string]any // AccessDeniedDetail
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.code) }

// caller performs operations of gpdb 2016-05-03 the way one official client does.
type caller interface {
	call(action string, params map[string]string) (answer, error)
}

const gpdbVersion = "2016-05-03"

// darabonba is the core of the current official SDKs: ACS3.
type darabonba struct{ client *openapi.Client }

func newDarabonba(t *testing.T, addr string, key credentials) caller {
	t.Helper()
	client, err := openapi.NewClient(&openapi.Config{
		AccessKeyId: tea.String(key.id), AccessKeySecret: tea.String(key.secret),
		Endpoint: tea.String(addr), Protocol: tea.String("HTTP"), RegionId: tea.String(region),
	})
	require.NoError(t, err)
	return &darabonba{client}
}

// inBody names the parameters that the SDK of gpdb sends in the form body.
var inBody = map[string]bool{"ClientToken": true, "ResourceGroupId": true}

// oneAtATime guards the official core: its calls share one http.Client and write to it.
var oneAtATime sync.Mutex

func (d *darabonba) call(action string, params map[string]string) (answer, error) {
	oneAtATime.Lock()
	defer oneAtATime.Unlock()
	request := &openapi.OpenApiRequest{Query: map[string]*string{}}
	body := map[string]any{}
	for name, value := range params {
		if action == "CreateModelService" && inBody[name] {
			body[name] = value
			continue
		}
		request.Query[name] = tea.String(value)
	}
	request.Body = body
	result, err := d.client.CallApi(&openapi.Params{
		Action: tea.String(action), Version: tea.String(gpdbVersion), Protocol: tea.String("HTTP"), Method: tea.String("POST"),
		Pathname: tea.String("/"), AuthType: tea.String("AK"), Style: tea.String("RPC"), ReqBodyType: tea.String("formData"),
		BodyType: tea.String("json"),
	}, request, &dara.RuntimeOptions{})
	if err != nil {
		return nil, d.refusal(err)
	}
	decoded, _ := result["body"].(map[string]any)
	return decoded, nil
}

func (d *darabonba) refusal(err error) error {
	var failure *tea.SDKError
	if !errors.As(err, &failure) {
		return err
	}
	r := &refusal{status: tea.IntValue(failure.StatusCode), code: tea.StringValue(failure.Code)}
	var data struct{ AccessDeniedDetail map[string]any }
	if json.Unmarshal([]byte(tea.StringValue(failure.Data)), &data) == nil {
		r.detail = data.AccessDeniedDetail
	}
	return r
}

// classic is alibaba-cloud-sdk-go, the core of the aliyun CLI: RPC-V1.
type classic struct {
	client *sdk.Client
	addr   string
}

func newClassic(t *testing.T, addr string, key credentials) caller {
	t.Helper()
	client, err := sdk.NewClientWithOptions(region, sdk.NewConfig(), sdkcredentials.NewAccessKeyCredential(key.id, key.secret))
	require.NoError(t, err)
	return &classic{client, addr}
}

func (c *classic) call(action string, params map[string]string) (answer, error) {
	request := requests.NewCommonRequest()
	request.Method, request.Scheme, request.Domain = "POST", "http", c.addr
	request.Version, request.ApiName, request.Product = gpdbVersion, action, "gpdb"
	for name, value := range params {
		if action == "CreateModelService" && inBody[name] {
			request.FormParams[name] = value
			continue
		}
		request.QueryParams[name] = value
	}
	response, err := c.client.ProcessCommonRequest(request)
	if err != nil {
		var failure *sdkerrors.ServerError
		if errors.As(err, &failure) {
			return nil, &refusal{status: failure.HttpStatus(), code: failure.ErrorCode()}
		}
		return nil, err
	}
	var decoded answer
	return decoded, json.Unmarshal(response.GetHttpContentBytes(), &decoded)
}

// refused asserts that err is the refusal, and returns its AccessDeniedDetail.
func refused(t *testing.T, err error, status int, code string) (detail map[string]any) {
	t.Helper()
	var r *refusal
	require.ErrorAs(t, err, &r)
	require.Equal(t, fmt.Sprintf("%d %s", status, code), r.Error())
	return r.detail
}

// newInstance makes a DB instance with simulated AI nodes and returns its id and the nodes' names.
func newInstance(t testing.TB, c caller, nodes int) (id string, names []string) {
	t.Helper()
	made, err := c.call("CreateDBInstance", map[string]string{
		"RegionId": region, "AINodeSpecInfos.1.AINodeNum": fmt.Sprint(nodes), "AINodeSpecInfos.1.AINodeSpec": "ADB.AILarge.1",
	})
	require.NoError(t, err)
	id = made.text("DBInstanceId")
	return id, nodesOf(t, c, id)
}

func nodesOf(t testing.TB, c caller, instance string) (names []string) {
	t.Helper()
	pools, err := c.call("ListAINodePools", map[string]string{"DBInstanceId": instance})
	require.NoError(t, err)
	for _, pool := range pools["AINodePoolInfos"].([]any) {
		for _, node := range pool.(map[string]any)["AINodeInfos"].([]any) {
			names = append(names, node.(map[string]any)["NodeName"].(string))
		}
	}
	return names
}

// createParams are the parameters of a plain CreateModelService.
func createParams(instance string, nodes ...string) map[string]string {
	list, _ := json.Marshal(nodes)
	return map[string]string{"DBInstanceId": instance, "ModelName": "Qwen3-8B", "AiNodes": string(list)}
}

// waitActive waits until the service answers, and returns its description.
func waitActive(t *testing.T, c caller, instance, service string, limit time.Duration) (described answer) {
	t.Helper()
	eventually(t, limit, "model service "+service+" active", func() bool {
		var err error
		described, err = c.call("DescribeModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": service})
		return err == nil && described.text("Status") == "active"
	})
	return described
}

// chat asks the service's model over the gateway and returns what it said.
func chat(ctx context.Context, url, key, prompt string, stream bool) (string, error) {
	body, _ := json.Marshal(map[string]any{
		"model": "Qwen3-8B", "stream": stream, "messages": []map[string]string{{"role": "user", "content": prompt}},
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/chat/completions", strings.NewReader(string(body)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, text)
	}
	if stream {
		return joinDeltas(string(text))
	}
	var decoded struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.Unmarshal(text, &decoded); err != nil {
		return "", err
	}
	return decoded.Choices[0].Message.Content, nil
}

func joinDeltas(events string) (said string, err error) {
	if !strings.HasSuffix(strings.TrimSpace(events), "data: [DONE]") {
		return "", fmt.Errorf("the stream does not end with [DONE]: %q", events)
	}
	for line := range strings.Lines(events) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return "", err
		}
		for _, choice := range chunk.Choices {
			said += choice.Delta.Content
		}
	}
	return said, nil
}
