package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/apig"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// server answers with what a test says.
func server(t *testing.T, answer http.HandlerFunc) (*sdk.Client, string) {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	client, err := sdk.New(sdk.Config{Endpoint: s.URL + "/", AccessKeyID: "id", AccessKeySecret: "secret"})
	require.NoError(t, err)
	return client, s.URL
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := sdk.New(sdk.Config{Endpoint: "127.0.0.1:8080", AccessKeyID: "id", AccessKeySecret: "secret"})
	require.ErrorContains(t, err, "http://")
	_, err = sdk.New(sdk.Config{Endpoint: "http://127.0.0.1:8080"})
	require.ErrorContains(t, err, "access key")
}

func TestEveryRequestIsSignedOnce(t *testing.T) {
	t.Parallel()
	nonces := map[string]bool{}
	client, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		nonces[r.Header.Get("x-acs-signature-nonce")] = true
		assert.Equal(t, "/ListSupportModels", r.URL.Path)
		assert.Equal(t, "ListSupportModels", r.Header.Get("x-acs-action"))
		assert.Equal(t, "2016-05-03", r.Header.Get("x-acs-version"))
		assert.Contains(t, r.Header.Get("Authorization"), "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=content-type;host;x-acs-action;")
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.JSONEq(t, `{"RegionId":"r"}`, string(body))
		_, _ = io.WriteString(w, `{"RequestId":"R","ModelNames":{"modelNames":["m"]}}`)
	})
	region := "r"
	for range 2 {
		models, err := client.ListSupportModels(t.Context(), gpdb.ListSupportModelsRequest{RegionId: &region})
		require.NoError(t, err)
		require.Equal(t, []string{"m"}, models.ModelNames.ModelNames)
	}
	require.Len(t, nonces, 2)
}

func TestRefusalsAreErrors(t *testing.T) {
	t.Parallel()
	client, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-acs-action") == "ListSupportModels" {
			http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"RequestId":"R","HostId":"h","Code":"C","Message":"It is so.","Recommend":"Do this."}`)
	})
	_, err := client.CreateModelService(t.Context(), gpdb.CreateModelServiceRequest{})
	var refused *sdk.Error
	require.True(t, errors.As(err, &refused))
	require.Equal(t, sdk.Error{StatusCode: 409, Code: "C", Message: "It is so.", Recommend: "Do this.", RequestID: "R"}, *refused)
	require.Equal(t, "It is so. (C, request R)", err.Error())

	_, err = client.ListSupportModels(t.Context(), gpdb.ListSupportModelsRequest{})
	require.True(t, errors.As(err, &refused))
	require.Equal(t, 502, refused.StatusCode)
}

func TestWaitEndsWithTheDeployment(t *testing.T) {
	t.Parallel()
	statuses := []gpdb.ModelServiceStatus{gpdb.Deploying, gpdb.Active}
	client, _ := server(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(gpdb.DescribeModelServiceResponse{Status: statuses[0], StatusReason: "Because."})
		statuses = statuses[1:]
	})
	var seen []gpdb.ModelServiceStatus
	note := func(s *gpdb.DescribeModelServiceResponse) { seen = append(seen, s.Status) }
	service, err := client.WaitModelService(t.Context(), "gp-1", "ms-1", note)
	require.NoError(t, err)
	require.Equal(t, gpdb.Active, service.Status)
	require.Equal(t, []gpdb.ModelServiceStatus{gpdb.Deploying, gpdb.Active}, seen)

	statuses = []gpdb.ModelServiceStatus{gpdb.Failed}
	_, err = client.WaitModelService(t.Context(), "gp-1", "ms-1", nil)
	require.EqualError(t, err, "the model service ms-1 is failed: Because.")

	statuses = []gpdb.ModelServiceStatus{gpdb.Deploying}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = client.WaitModelService(ctx, "gp-1", "ms-1", func(*gpdb.DescribeModelServiceResponse) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
}

func TestChatReadsTheStream(t *testing.T) {
	t.Parallel()
	piece := func(text string) string {
		return fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", text)
	}
	for name, c := range map[string]struct {
		status int
		stream string
		want   string
		err    string
	}{
		"an answer":    {200, ": hello\n\nevent: x\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n" + piece("Hel") + piece("lo") + "data: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n", "Hello", ""},
		"cut short":    {200, piece("Hel"), "Hel", "ended before it was complete"},
		"an error":     {200, piece("Hel") + "data: {\"error\":{\"message\":\"gone\"}}\n\n", "Hel", "gone"},
		"not an event": {200, "data: {\n\n", "", "read the answer"},
		"refused":      {401, `{"error":{"message":"Wrong key.","code":"invalid_api_key"}}`, "", "Wrong key. (invalid_api_key)"},
		"no JSON":      {503, `<html>`, "", "503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, url := server(t, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "/services/ms-1/v1/chat/completions", r.URL.Path)
				assert.Equal(t, "Bearer key", r.Header.Get("Authorization"))
				assert.Empty(t, r.Header.Get("x-acs-action"))
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.stream)
			})
			var got strings.Builder
			service := &gpdb.DescribeModelServiceResponse{ModelName: "m", ApiKey: "key", PrivateConnectUrl: url + "/services/ms-1/v1"}
			err := client.Chat(t.Context(), service, []sdk.Message{{Role: "user", Content: "hi"}}, func(text string) error {
				got.WriteString(text)
				return nil
			})
			require.Equal(t, c.want, got.String())
			if c.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.err)
		})
	}
}

func TestChatWaitsForTheGatewayToLearnOfAService(t *testing.T) {
	t.Parallel()
	asked := 0
	client, url := server(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	service := &gpdb.DescribeModelServiceResponse{PrivateConnectUrl: url}
	require.NoError(t, client.Chat(t.Context(), service, nil, func(string) error { return nil }))
	require.Equal(t, 3, asked)
}

func TestADebugEndsWithItsResult(t *testing.T) {
	t.Parallel()
	var answer string
	client, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "DebugHttpApi", r.Header.Get("x-acs-action"))
		if answer == "" {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"RequestId":"R","Code":"Conflict.HttpApiNotDeployed","Message":"no"}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, answer)
	})
	debug := func() (told []apig.DebugEvent, err error) {
		err = client.DebugHttpApi(t.Context(), "api-1", apig.DebugHttpApiRequest{}, func(e apig.DebugEvent) error {
			told = append(told, e)
			return nil
		})
		return told, err
	}
	_, err := debug()
	refused, ok := errors.AsType[*sdk.Error](err)
	require.True(t, ok, err)
	require.Equal(t, "Conflict.HttpApiNotDeployed", refused.Code)

	answer = "event: decision\ndata: {\"status\":200}\n\nevent: content\ndata: {\"text\":\"hi\"}\n\n"
	told, err := debug()
	require.ErrorContains(t, err, "before it was complete")
	require.Len(t, told, 2)
	answer += "event: result\ndata: {\"totalMs\":7}\n\n"
	told, err = debug()
	require.NoError(t, err)
	require.Equal(t, []any{int32(200), "hi", int64(7)}, []any{told[0].Decision.Status, *told[1].Content.Text, told[2].Result.TotalMs})
}
