package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/idempotency"
)

type object = map[string]any

// document describes a small product: Get reads, Make mutates.
const document = `
openapi: 3.0.3
info: {title: test, version: "2016-05-03"}
paths:
  /Get:
    post:
      operationId: Get
      x-ram: {action: "test:Get", level: get, resource: dbinstance, arn: "acs:test:{region}:{account}:dbinstance/{DBInstanceId}", optional: ["test:Peek"], further: [Make]}
      requestBody: &body
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              required: [DBInstanceId]
              properties:
                DBInstanceId: {type: string, minLength: 1}
                RegionId: {type: string}
                ClientToken: {type: string, maxLength: 64, pattern: '^[ -~]*$', x-message: it takes at most 64 printable ASCII characters}
                Count: {type: integer, format: int32, minimum: 1, maximum: 1000, default: 1}
                Big: {type: integer, format: int64}
                Mode: {type: string, enum: [fast, slow]}
                Flag: {type: boolean}
                Names: {type: array, maxItems: 3, uniqueItems: true, items: {type: string, minLength: 1}}
                Free: {type: object, additionalProperties: true}
                Parts:
                  type: array
                  items:
                    type: object
                    additionalProperties: false
                    required: [Num]
                    properties:
                      Num: {type: string, pattern: '^[1-9]$', x-message: it takes a digit}
      responses: {default: {description: refused}}
  /Make:
    post:
      operationId: Make
      x-ram: {action: "test:Make", level: create, resource: dbinstance, arn: "acs:test::{account}:dbinstance/{DBInstanceId}"}
      x-client-token: true
      requestBody: *body
      responses: {default: {description: refused}}
`

// handler is what the generated code is in a real product.
type handler struct {
	answer func(ctx context.Context, params object) error
	calls  atomic.Int32
	params object
	key    idempotency.Key
	caller access.Caller
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.calls.Add(1)
	h.key, h.caller, h.params = idempotency.KeyFrom(r.Context()), access.CallerFrom(r.Context()), nil
	if err := json.NewDecoder(r.Body).Decode(&h.params); err != nil {
		api.Fail(w, r, err)
		return
	}
	if h.answer != nil {
		if err := h.answer(r.Context(), h.params); err != nil {
			api.Fail(w, r, err)
			return
		}
	}
	w.WriteHeader(http.StatusOK)
	_ = json.NewEncoder(w).Encode(object{"RequestId": api.RequestID(r.Context())})
}

func productOf(t testing.TB, text string, h http.Handler) api.Product {
	t.Helper()
	parsed, err := api.LoadDocument(fstest.MapFS{"test.yaml": {Data: []byte(text)}}, "test.yaml")
	require.NoError(t, err)
	return api.Product{Name: "test", Version: "2016-05-03", Document: parsed, Handler: h}
}

func serve(t testing.TB) (*apitest.Server, *handler) {
	t.Helper()
	h := &handler{}
	return apitest.New(t, productOf(t, document, h)), h
}
