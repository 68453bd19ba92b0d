package trial_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
	"github.com/engineshed/engineshed/internal/trial"
)

const (
	account = "1000000000000001"
	id      = "api-0123456789abcdefghij"
	env     = "env-0123456789abcdefghij"
)

// world is what a trial depends on: what is published, and a gateway.
type world struct {
	t         *testing.T
	db        *pgtest.DB
	published *snapshot.ModelAPI
	decision  modelapi.Decision
	asked     modelapi.Question
	who       consumer.Consumer
	gateway   *httptest.Server
	trials    *trial.Trials
}

func newWorld(t *testing.T, gateway http.HandlerFunc) *world {
	t.Helper()
	w := &world{t: t, db: pgtest.New(t), published: &snapshot.ModelAPI{
		ID: id, Name: "chat", AccountID: account, EnvironmentID: env, BasePath: "/chat", Category: "Text", Protocols: []string{"OpenAI/v1"},
		Hosts: []string{"*.example.com", "api.example.com", env + ".shed.localhost"},
	}}
	w.decision = modelapi.Decision{Status: 200, API: w.published, Model: "written"}
	w.gateway = httptest.NewServer(gateway)
	t.Cleanup(w.gateway.Close)
	w.trials = trial.New(trial.Config{APIs: w, Consumers: w, Audit: w.db.Control, Gateway: w.gateway.URL})
	return w
}

func (w *world) Published(context.Context, string, string) (*snapshot.ModelAPI, error) {
	return w.published, nil
}

func (w *world) Decide(_ context.Context, _ string, q modelapi.Question) (modelapi.Decision, error) {
	w.asked = q
	return w.decision, nil
}

func (w *world) Get(_ context.Context, _, consumerID string) (consumer.Consumer, error) {
	if consumerID != w.who.ID {
		return consumer.Consumer{}, consumer.ErrNotFound
	}
	return w.who, nil
}

// told is everything that a trial told.
type told struct {
	decision *modelapi.Decision
	text     string
	thought  string
	pieces   int
	result   trial.Result
}

func (w *world) run(spec trial.Spec) (all told) {
	w.t.Helper()
	started, err := w.trials.Start(w.t.Context(), account, id, spec)
	require.NoError(w.t, err)
	ended := false
	require.NoError(w.t, started.Run(w.t.Context(), func(e trial.Event) error {
		require.False(w.t, ended, "the result is the last")
		switch {
		case e.Decision != nil:
			require.Zero(w.t, all, "the decision is the first")
			all.decision = e.Decision
		case e.Content != nil:
			all.text, all.thought, all.pieces = all.text+e.Content.Text, all.thought+e.Content.Reasoning, all.pieces+1
		default:
			all.result, ended = *e.Result, true
		}
		return nil
	}))
	require.True(w.t, ended)
	return all
}

func hello() []map[string]any { return []map[string]any{{"role": "user", "content": "hello"}} }

func yes() *bool { b := true; return &b }

func TestAStreamedAnswerIsToldAsItComes(t *testing.T) {
	t.Parallel()
	var body map[string]any
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		require.Equal(t, []any{"/chat/v1/chat/completions", env + ".shed.localhost"}, []any{r.URL.Path, r.Host})
		require.NoError(t, json.NewDecoder(r.Body).Decode(&body))
		rw.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		rw.Header().Set("X-Request-Id", "abc")
		for _, data := range []string{
			`{"choices":[{"delta":{"role":"assistant","content":""}}]}`, `{"choices":[{"delta":{"reasoning_content":"hm"}}]}`,
			`{"choices":[{"delta":{"content":"good"}}]}`, `{"choices":[{"delta":{"content":" day"},"finish_reason":"stop"}]}`,
			`{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`, "[DONE]",
		} {
			fmt.Fprintf(rw, ": a comment\ndata: %s\n\n", data)
		}
	})
	got := w.run(trial.Spec{Model: "mine", Messages: hello(), Stream: yes(), Params: map[string]any{"temperature": 0.5}})
	require.Equal(t, map[string]any{
		"model": "mine", "messages": []any{map[string]any{"role": "user", "content": "hello"}}, "stream": true, "temperature": 0.5,
		"stream_options": map[string]any{"include_usage": true},
	}, body)
	require.Equal(t, []any{"good day", "hm", 3}, []any{got.text, got.thought, got.pieces})
	require.Equal(t, []any{200, "abc", "stop", "", &trial.Usage{PromptTokens: 3, CompletionTokens: 2, TotalTokens: 5}},
		[]any{got.result.Status, got.result.RequestID, got.result.FinishReason, got.result.Error, got.result.Usage})
	require.LessOrEqual(t, *got.result.FirstContent, got.result.Total)
	require.Equal(t, modelapi.Question{
		Method: "POST", Scheme: "http", Host: env + ".shed.localhost", Path: "/chat/v1/chat/completions", Model: "mine",
		Headers: map[string]string{"Content-Type": "application/json"},
	}, w.asked)
}

func TestAWholeAnswerIsToldAtOnce(t *testing.T) {
	t.Parallel()
	var body map[string]any
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		require.NoError(t, json.NewDecoder(r.Body).Decode(&body))
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"choices":[{"message":{"content":"good day"},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`)
	})
	w.published.BasePath = "/"
	got := w.run(trial.Spec{Domain: "api.example.com", Body: map[string]any{"messages": hello(), "n": 1, "stream_options": nil}})
	require.Equal(t, []any{"written", 1.0}, []any{body["model"], body["n"]}, "a model is named that the service will see")
	require.Equal(t, []any{"good day", 1, "length", int64(3), ""}, []any{got.text, got.pieces, got.result.FinishReason, got.result.Usage.TotalTokens, got.result.Error})
	require.Equal(t, "/v1/chat/completions", w.asked.Path)
}

func TestAConsumersKeyGoesWhereItIsCarried(t *testing.T) {
	t.Parallel()
	var seen *http.Request
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		seen = r
		_, _ = io.WriteString(rw, `{}`)
	})
	w.published.Auth = true
	w.who = consumer.Consumer{ID: "cs-1", Keys: []consumer.Key{{Secret: secret.New("a&key")}}}
	carried := func() []any {
		w.run(trial.Spec{Messages: hello(), ConsumerID: "cs-1"})
		return []any{seen.Header.Get("Authorization"), seen.Header.Get("X-Key"), seen.URL.Query().Get("k")}
	}
	w.who.KeySource = consumer.Default
	require.Equal(t, []any{"Bearer a&key", "", ""}, carried())
	w.who.KeySource, w.who.KeyName = consumer.Header, "X-Key"
	require.Equal(t, []any{"", "a&key", ""}, carried())
	w.who.KeySource, w.who.KeyName = consumer.QueryString, "k"
	require.Equal(t, []any{"", "", "a&key"}, carried())

	w.gateway.Close()
	got := w.run(trial.Spec{Messages: hello(), ConsumerID: "cs-1"})
	require.Contains(t, got.result.Error, "did not answer")
	require.NotContains(t, got.result.Error, "a&key")
	require.NotContains(t, got.result.Error, "a%26key")
}

func TestWhatGoesWrongIsPartOfTheResult(t *testing.T) {
	t.Parallel()
	answer := func(status int, kind, text string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", kind)
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, text)
		}
	}
	const events = "text/event-stream"
	for name, c := range map[string]struct {
		gateway http.HandlerFunc
		want    string
		text    string
	}{
		"a refusal":        {answer(404, "application/json", `{"error":{"message":"no such model"}}`), "404 Not Found: no such model", ""},
		"another's":        {answer(500, "text/plain", " oops "), "500 Internal Server Error: oops", ""},
		"not JSON":         {answer(200, "application/json", "hello"), "no chat completion", ""},
		"cut":              {answer(200, events, "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n"), "ended without [DONE]", "half"},
		"an error between": {answer(200, events, "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n"), "stopped answering: overloaded", "half"},
		"a redirect": {func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "302 Found", ""},
		"broken": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", events)
			_, _ = io.WriteString(rw, "data: {}\n\n")
			_ = http.NewResponseController(rw).Flush()
			conn, _, err := http.NewResponseController(rw).Hijack()
			require.NoError(t, err)
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}, "broke off", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := newWorld(t, c.gateway).run(trial.Spec{Messages: hello(), Stream: yes()})
			require.Contains(t, got.result.Error, c.want)
			require.Equal(t, c.text, got.text)
			require.Equal(t, c.text != "", got.result.FirstContent != nil)
		})
	}
}

func TestARequestGoesToTheAPIThatWasNamedOrNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	w.decision = modelapi.Decision{Status: 405, Reason: "The path takes other methods."}
	got := w.run(trial.Spec{Messages: hello()})
	require.Equal(t, 405, got.decision.Status)
	require.Contains(t, got.result.Error, "was not sent: The path takes other methods.")
	require.Zero(t, got.result.Status)
	w.decision = modelapi.Decision{Status: 200, API: &snapshot.ModelAPI{ID: "api-other", Name: "other"}}
	require.Contains(t, w.run(trial.Spec{Messages: hello()}).result.Error, "other answers there")
}

func TestATrialIsRefusedBeforeItBegins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	refused := func(spec trial.Spec, code string) {
		t.Helper()
		_, err := w.trials.Start(t.Context(), account, id, spec)
		f, ok := fault.From(err)
		require.True(t, ok, err)
		require.Equal(t, code, f.Code)
	}
	refused(trial.Spec{}, "MissingParameter")
	refused(trial.Spec{Messages: hello(), ConsumerID: "cs-unknown"}, "NotFound.ConsumerNotFound")
	w.published.Auth = true
	refused(trial.Spec{Messages: hello()}, "MissingParameter")
	w.published.AuthType = snapshot.AuthByToken
	refused(trial.Spec{Messages: hello(), ConsumerID: "cs-1"}, "UnsupportedParameter")
	w.published.AuthType = snapshot.AuthByKey
	w.published.Category = "Image"
	refused(trial.Spec{Messages: hello()}, "UnsupportedParameter")
	w.published.Category, w.published.Protocols = "Text", []string{"Anthropic"}
	refused(trial.Spec{Messages: hello()}, "UnsupportedParameter")
	w.published = nil
	refused(trial.Spec{Messages: hello()}, "Conflict.HttpApiNotDeployed")
	require.Zero(t, w.audits(), "the edge writes the row of a refusal")
}

func (w *world) audits() (n int) {
	w.t.Helper()
	require.NoError(w.t, w.db.Owner.QueryRow(w.t.Context(), `SELECT count(*) FROM audit_event WHERE resource_id = $1 AND outcome = 'done'`, id).Scan(&n))
	return n
}

func TestATrialIsAuditedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	var w *world
	w = newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		require.Equal(t, 1, w.audits())
		_, _ = io.WriteString(rw, `{}`)
	})
	ctx := audit.With(t.Context(), &audit.Entry{RequestID: "r", AccountID: account, Outcome: audit.Done})
	started, err := w.trials.Start(ctx, account, id, trial.Spec{Messages: hello()})
	require.NoError(t, err)
	require.NoError(t, started.Run(ctx, func(trial.Event) error { return nil }))
	require.Equal(t, 1, w.audits())
}

func TestAReaderWhoLeavesEndsTheRequest(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"context", "emit"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(rw, "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n")
				_ = http.NewResponseController(rw).Flush()
				<-r.Context().Done()
				close(gone)
			})
			started, err := w.trials.Start(t.Context(), account, id, trial.Spec{Messages: hello(), Stream: yes()})
			require.NoError(t, err)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			left := errors.New("left")
			err = started.Run(ctx, func(e trial.Event) error {
				switch {
				case e.Content == nil:
					return nil
				case how == "emit":
					return left
				}
				leave()
				return nil
			})
			if how == "emit" {
				require.ErrorIs(t, err, left)
			}
			select {
			case <-gone:
			case <-time.After(5 * time.Second):
				t.Fatal("the request goes on")
			}
		})
	}
}

func TestAHostIsChosenThatNeedsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, `{}`) })
	for want, hosts := range map[string][]string{
		"api.example.com":   {"*.example.com", "api.example.com"},
		"debug.example.com": {"*.example.com"},
	} {
		w.published.Hosts = hosts
		w.run(trial.Spec{Messages: hello()})
		require.Equal(t, want, w.asked.Host, strings.Join(hosts, " "))
	}
}
