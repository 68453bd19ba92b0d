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
	paths := map[string]map[string]fields{} // of the OpenAPI document: path, method
	handle := func(method, path string, answer http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, answer)
		paths[path] = map[string]fields{strings.ToLower(method): {}}
	}
	handle("GET", "/health", func(http.ResponseWriter, *http.Request) {})
	handle("GET", "/ping", func(http.ResponseWriter, *http.Request) {})
	handle("GET", "/version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"version": version})
	})
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, fields{"openapi": "3.1.0", "info": fields{"title": "vllm-sim", "version": version}, "paths": paths})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.metrics.registry, promhttp.HandlerOpts{}))
	handle("GET", "/v1/models", e.models)
	handle("POST", "/tokenize", e.tokenize)
	handle("POST", "/detokenize", e.detokenize)
	if e.pooling {
		handle("POST", "/v1/embeddings", e.embeddings)
		for _, path := range []string{"/rerank", "/v1/rerank", "/v2/rerank"} {
			handle("POST", path, e.rerank)
		}
		for _, path := range []string{"/score", "/v1/score"} {
			handle("POST", path, e.score)
		}
	} else {
		handle("POST", "/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { e.complete(w, r, chatForm{}) })
		handle("POST", "/v1/completions", func(w http.ResponseWriter, r *http.Request) { e.complete(w, r, textForm{}) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, fields{"detail": "Not Found"})
	})
	return e.authenticated(mux)
}

// guarded are the beginnings of the paths that vLLM asks for a key on. Everything else stays open: /rerank and /score too.
var guarded = []string{"/v1", "/v2"}

func (e *engine) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		under := func(prefix string) bool { return strings.HasPrefix(r.URL.Path, prefix) }
		if len(e.keys) > 0 && slices.ContainsFunc(guarded, under) && !e.knows(r.Header.Get("Authorization")) {
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

// asked is a request that may name the model; without a name it asks for the first one.
type asked interface{ model() string }

// read takes the request from the body. It reads to the end: only then does net/http notice that the client left.
// It answers itself what cannot be read.
func (e *engine) read(w http.ResponseWriter, r *http.Request, into asked) bool {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		refuseHTTP(w, http.StatusBadRequest, "Bad Request", "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed", nil)
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		refuseHTTP(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large", fmt.Sprintf("The body must not be larger than %d bytes.", maxBody), nil)
		return false
	}
	if err != nil {
		return false // the client is gone
	}
	if err := json.Unmarshal(body, into); err != nil {
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", err.Error(), nil)
		return false
	}
	if name := into.model(); name != "" && !slices.Contains(e.names, name) {
		refuseHTTP(w, http.StatusNotFound, "NotFoundError", fmt.Sprintf("The model `%s` does not exist.", name), nil)
		return false
	}
	return true
}

// complete answers a chat completion or a completion; form knows how the two differ on the wire.
func (e *engine) complete(w http.ResponseWriter, r *http.Request, form form) {
	var request request
	if !e.read(w, r, &request) {
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
