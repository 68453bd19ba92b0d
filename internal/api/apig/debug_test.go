package apig_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/trial"
	"github.com/engineshed/engineshed/sdk"
)

const debugTarget = "/v1/http-apis/" + apiID + "/debug"

func TestADebugAnswersWithEvents(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "DebugHttpApi", "POST", debugTarget, `{"domain":"a.example.com","model":"m","stream":true,
		"messages":[{"role":"user","content":"hi"}],"params":{"top_p":0.5},"body":{"n":1},"consumerId":"`+consumerID+`"}`)
	require.Equal(t, 200, a.Status, a.Body)
	stream := true
	require.Equal(t, []any{trial.Spec{
		Domain: "a.example.com", Model: "m", Messages: []map[string]any{{"role": "user", "content": "hi"}}, Stream: &stream,
		Params: map[string]any{"top_p": 0.5}, Body: map[string]any{"n": 1.0}, ConsumerID: consumerID,
	}}, d.asked)
	require.Len(t, a.Events, 3)
	require.Equal(t, []any{"decision", 200.0}, []any{a.Events[0].Name, a.Events[0].Data["status"]})
	require.Equal(t, apitest.Event{Name: "content", Data: object{"text": "hello", "reasoning": "hm"}}, a.Events[1])
	result := a.Events[2].Data
	require.Equal(t, []any{200.0, 1.0, 2.0, 3.0, "stop"}, []any{
		result["status"], result["promptTokens"], result["completionTokens"], result["totalTokens"], result["finishReason"],
	})
	require.Contains(t, result, "firstContentMs")
	require.NotContains(t, result, "error")
	require.Equal(t, 1, audited(t, s, "done"))
	require.NotContains(t, s.Log.String(), consumerKey)
}

func audited(t *testing.T, s *apitest.Server, outcome string) (n int) {
	t.Helper()
	require.NoError(t, s.DB.Owner.QueryRow(t.Context(), `
		SELECT count(*) FROM audit_event WHERE action = 'apig:DebugHttpApi' AND outcome = $1`, outcome).Scan(&n))
	return n
}

func TestADebugThatCannotBeginIsRefusedAsAnyCall(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	a := s.Call(apitest.RootKey, "DebugHttpApi", "POST", debugTarget, `{}`)
	require.Equal(t, []any{400, "MissingParameter"}, []any{a.Status, a.Code})
	d.err = trial.ErrNotDeployed
	a = s.Call(apitest.RootKey, "DebugHttpApi", "POST", debugTarget, `{"messages":[{}]}`)
	require.Equal(t, []any{409, "Conflict.HttpApiNotDeployed"}, []any{a.Status, a.Code})
	d.err = modelapi.ErrNotFound
	require.Equal(t, 404, s.Call(apitest.RootKey, "DebugHttpApi", "POST", debugTarget, `{"messages":[{}]}`).Status)
	require.Equal(t, 3, audited(t, s, "failed"))
	require.Zero(t, audited(t, s, "done"))
}

// open starts a debug and returns its answer while it is on its way.
func open(ctx context.Context, t *testing.T, s *apitest.Server) io.Reader {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+debugTarget, strings.NewReader(`{"messages":[{}],"stream":true}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	signer := sdk.Signer{AccessKeyID: apitest.RootKey, AccessKeySecret: apitest.KeySecret}
	require.NoError(t, signer.Sign(r, "DebugHttpApi", "2024-03-27"))
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { response.Body.Close() })
	return response.Body
}

func TestADebugMayTakeLongerThanOtherCalls(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	s, d := serveWithin(t, timeout)
	d.gateway = func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(timeout + timeout/2): // longer than the call would have been given
			say(w, r)
		case <-r.Context().Done():
		}
	}
	a := s.Call(apitest.RootKey, "DebugHttpApi", "POST", debugTarget, `{"messages":[{}],"stream":true}`)
	require.Len(t, a.Events, 3)
	require.NotContains(t, a.Events[2].Data, "error")
}

func TestADebugIsShownAsItGoes(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	proceed, gone := make(chan struct{}), make(chan struct{})
	d.gateway = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-proceed: // the reader has this piece
			case <-r.Context().Done():
				close(gone)
				return
			}
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	lines := bufio.NewScanner(open(ctx, t, s))
	for n := 0; n < 2 && lines.Scan(); {
		if lines.Text() == `data: {"text":"x"}` {
			n++
			if n == 2 {
				break
			}
			proceed <- struct{}{}
		}
	}
	leave()
	select {
	case <-gone:
	case <-time.After(time.Second):
		t.Fatal("the client left, and the gateway is still asked")
	}
	require.Equal(t, 1, audited(t, s, "done"))
}
