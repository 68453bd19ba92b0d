package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxBody bounds a request; a prompt of a million tokens fits.
const maxBody = 32 << 20

func (e *engine) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /ping", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"version": version})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/models", e.models)
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { e.complete(w, r, chatForm{}) })
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) { e.complete(w, r, textForm{}) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuseHTTP(w, http.StatusNotFound, "Not Found", "Not Found", nil)
	})
	return e.authenticated(mux)
}

// authenticated asks for a key on /v1 only, as vLLM does: health, metrics and version stay open.
func (e *engine) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(e.keys) > 0 && strings.HasPrefix(r.URL.Path, "/v1") && !e.knows(r.Header.Get("Authorization")) {
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "Unauthorized"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (e *engine) knows(authorization string) bool {
	scheme, presented, _ := strings.Cut(authorization, " ")
	got := sha256.Sum256([]byte(presented))
	return strings.EqualFold(scheme, "bearer") && slices.ContainsFunc(e.keys, func(key string) bool {
		want := sha256.Sum256([]byte(key))
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	})
}

func (e *engine) models(w http.ResponseWriter, _ *http.Request) {
	cards := make([]map[string]any, len(e.names))
	for i, name := range e.names {
		cards[i] = map[string]any{
			"id": name, "object": "model", "created": e.now().Unix(), "owned_by": "vllm",
			"root": e.root, "parent": nil, "max_model_len": e.maxModelLen,
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": cards})
}

// read takes the request from the body. It reads to the end: only then does net/http notice that the client left.
func (e *engine) read(w http.ResponseWriter, r *http.Request) (*request, bool) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		refuseHTTP(w, http.StatusUnsupportedMediaType, "Unsupported Media Type", "Unsupported Media Type: Only 'application/json' is allowed", nil)
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		refuseHTTP(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large", fmt.Sprintf("The body must not be larger than %d bytes.", maxBody), nil)
		return nil, false
	}
	if err != nil {
		return nil, false // the client is gone
	}
	request := &request{Model: e.names[0]}
	if err := json.Unmarshal(body, request); err != nil {
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", err.Error(), nil)
		return nil, false
	}
	if request.Model != "" && !slices.Contains(e.names, request.Model) {
		refuseHTTP(w, http.StatusNotFound, "NotFoundError", fmt.Sprintf("The model `%s` does not exist.", request.Model), "model")
		return nil, false
	}
	return request, true
}

// complete answers a chat completion or a completion; form knows how the two differ on the wire.
func (e *engine) complete(w http.ResponseWriter, r *http.Request, form form) {
	request, ok := e.read(w, r)
	if !ok {
		return
	}
	_, chat := form.(chatForm)
	g, err := request.plan(chat, e.maxModelLen)
	if err != nil {
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", err.Error(), nil)
		return
	}
	answer := envelope{ID: form.prefix() + requestID(r), Created: e.now().Unix(), Model: e.names[0], Fingerprint: "vllm-sim"}
	if request.Stream {
		err = e.stream(w, r, answer, &g, form, request.StreamOptions)
	} else {
		err = e.answer(w, r, answer, &g, form)
	}
	if err != nil {
		panic(http.ErrAbortHandler) // a cut answer must not look like a whole one
	}
}

func (e *engine) answer(w http.ResponseWriter, r *http.Request, answer envelope, g *generation, form form) error {
	var text strings.Builder
	err := e.generate(r.Context(), g, func(_ int, token string) error {
		text.WriteString(token)
		return nil
	})
	if err != nil {
		return err
	}
	answer.Object, answer.Choices = form.object(), []any{form.choice(text.String(), g.finish)}
	answer.Usage = e.usage(g, g.length)
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// stream sends every token as soon as it is there.
func (e *engine) stream(w http.ResponseWriter, r *http.Request, answer envelope, g *generation, form form, o *streamOptions) error {
	if o == nil {
		o = &streamOptions{}
	}
	events := sse{w: w, flush: http.NewResponseController(w).Flush}
	answer.Object = form.chunkObject()
	send := func(produced int, choices ...any) error {
		chunk := answer
		chunk.Choices = choices
		if o.ContinuousUsageStats {
			chunk.Usage = e.usage(g, produced)
		}
		return events.send(chunk)
	}
	opening := func() error {
		if first := form.opening(); first != nil {
			return send(0, first)
		}
		return nil
	}
	err := e.generate(r.Context(), g, func(i int, token string) error {
		if i == 0 {
			if err := opening(); err != nil {
				return err
			}
		}
		finish := any(nil)
		if i == g.length-1 {
			finish = g.finish
		}
		return send(i+1, form.delta(token, finish))
	})
	if err == nil && g.length == 0 { // a stop string at the very start: an opening and an end, no token
		err = errors.Join(opening(), send(0, form.delta("", g.finish)))
	}
	if err == nil && o.IncludeUsage {
		answer.Choices, answer.Usage = []any{}, e.usage(g, g.length)
		err = events.send(answer)
	}
	if err == nil {
		err = events.done()
	}
	return err
}

// requestID is the client's own id when it sends one, as in vLLM.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); id != "" {
		return id
	}
	return strings.ToLower(rand.Text())
}
