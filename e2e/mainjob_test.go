package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestTheMainJobWorksWithEveryClient(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	for name, newCaller := range map[string]func(*testing.T, string, credentials) caller{
		"darabonba-openapi, ACS3":      newDarabonba,
		"alibaba-cloud-sdk-go, RPC-V1": newClassic,
		"the generated SDK, ACS3":      newGenerated,
	} {
		t.Run(name, func(t *testing.T) {
			mainJob(t, s, newCaller(t, control.addr, rootKey))
		})
	}
}

func mainJob(t *testing.T, s *shed, c caller) {
	t.Helper()
	instance, nodes := newInstance(t, c, 2)
	params := createParams(instance, nodes...)
	params["Replicas"], params["ClientToken"], params["Description"] = "2", "token-"+instance, "main job"
	params["ModelParams"] = `{"max-model-len": 4096}`
	made, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	service := made.text("ModelServiceId")
	again, err := c.call("CreateModelService", params)
	require.NoError(t, err)
	require.Equal(t, service, again.text("ModelServiceId"))
	require.NotEqual(t, made.text("RequestId"), again.text("RequestId"))

	described := waitActive(t, c, instance, service, 20*time.Second)
	s.expectEngines(10*time.Second, 2)
	url, key := described.text("PrivateConnectUrl"), described.text("ApiKey")
	require.Equal(t, s.gateway+"/services/"+service+"/v1", url)
	var whole string
	eventually(t, 5*time.Second, "an answer over the gateway", func() bool {
		whole, err = chat(t.Context(), url, key, "What is an engine shed?", false)
		return err == nil
	})
	streamed, err := chat(t.Context(), url, key, "What is an engine shed?", true)
	require.NoError(t, err)
	require.Equal(t, whole, streamed)
	require.Contains(t, whole, "simulated")
	_, err = chat(t.Context(), url, "sk-wrong", "hello", false)
	require.ErrorContains(t, err, "401")

	listed, err := c.call("ListModelServices", map[string]string{"DBInstanceId": instance})
	require.NoError(t, err)
	shown := listed["ModelServices"].([]any)[0].(map[string]any)
	require.Equal(t, service, shown["ModelServiceId"])
	require.NotContains(t, shown["ApiKey"], key)

	_, err = c.call("DeleteModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": service})
	require.NoError(t, err)
	s.expectEngines(20*time.Second, 0)
	eventually(t, 10*time.Second, "the service is gone", func() bool {
		_, err = c.call("DescribeModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": service})
		return err != nil
	})
	refused(t, err, 404, "InvalidModelServiceId.NotFound")
	eventually(t, 2*time.Second, "the gateway has forgotten the service", func() bool {
		_, err = chat(t.Context(), url, key, "hello", false)
		return err != nil && strings.Contains(err.Error(), "404")
	})
}
