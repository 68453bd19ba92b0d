package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// refusal is an answer of the gateway itself, in the shape that clients of the protocol expect of an error.
type refusal struct {
	status  int
	kind    string // OpenAI's "type"
	code    string
	cause   string
	next    string      // what the caller does about it
	header  http.Header // beside the usual ones
	failure bool        // of the service: another one may do better
}

func (r *refusal) Error() string { return r.code + ": " + r.message() }

func (r *refusal) message() string { return r.cause + " " + r.next }

// Each says what to do about it, in literals, of which docs/errors.md is made. None says more about a service than its caller
// may know.
var (
	errMalformed = &refusal{
		status: 400, kind: "invalid_request_error", code: "invalid_url",
		cause: "The path of the request is not in its plain form.",
		next:  "Send it without empty or dot segments, and under /services/ without encoded slashes.",
	}
	errBody = &refusal{
		status: 400, kind: "invalid_request_error", code: "incomplete_body",
		cause: "The body of the request ended before its Content-Length.",
		next:  "Send the whole request again.",
	}
	errKey = &refusal{
		status: 401, kind: "invalid_request_error", code: "invalid_api_key",
		cause: "The API key is missing or wrong.",
		next:  "Send the model service's ApiKey as 'Authorization: Bearer <key>'.",
	}
	errAddress = &refusal{
		status: 403, kind: "permission_error", code: "ip_not_allowed",
		cause: "Your address is not in the IP array of this model service.",
		next:  "Add it to SecurityIPList.",
	}
	errUnknownURL = &refusal{
		status: 404, kind: "invalid_request_error", code: "unknown_url",
		cause: "There is nothing at this URL.",
		next:  "A model service is served at /services/<id>/v1/…, a Model API at its domains and base path.",
	}
	errUnknownService = &refusal{
		status: 404, kind: "invalid_request_error", code: "model_service_not_found",
		cause: "There is no such model service at this address.",
		next:  "Take the address that DescribeModelService shows.",
	}
	errStalled = &refusal{
		status: 408, kind: "invalid_request_error", code: "body_timeout",
		cause: "The body of the request stopped coming.",
		next:  "Send the request again.",
	}
	errTooLarge = &refusal{
		status: 413, kind: "invalid_request_error", code: "request_too_large",
		cause: "The body of the request is larger than this gateway or its Model API accepts.",
		next:  "Send less in one request, or have the limit raised.",
	}
	errEncoded = &refusal{
		status: 415, kind: "invalid_request_error", code: "unsupported_content_encoding",
		cause: "The body of the request is compressed.",
		next:  "Send it without Content-Encoding.",
	}
	errConcurrency = &refusal{
		status: 429, kind: "rate_limit_error", code: "concurrency_limit_exceeded",
		cause: "As many requests to this API are under way as it takes at once.",
		next:  "Try again in a moment.",
	}
	errEngine = &refusal{
		status: 502, kind: "server_error", code: "engine_failed", failure: true,
		cause: "The engine broke off before it answered.",
		next:  "Try again.",
	}
	errCut = &refusal{
		status: 502, kind: "server_error", code: "upstream_cut",
		cause: "The service broke off in the middle of its answer, of which this is the end.",
		next:  "Send the request again.",
	}
	errIdle = &refusal{
		status: 504, kind: "server_error", code: "upstream_idle_timeout", failure: true,
		cause: "The service fell silent in the middle of its answer, and was not waited for any longer.",
		next:  "Send the request again.",
	}
	errFirstContent = &refusal{
		status: 504, kind: "server_error", code: "first_content_timeout", failure: true,
		cause: "The service sent no content in the time that this API gives it.",
		next:  "Try again, or have its firstByteTimeout raised.",
	}
	// errAnswered stands for a service's own refusal, which passes as it came unless another service is asked.
	errAnswered = &refusal{failure: true}
	// errEjected stands for a service that is not asked, because it failed too often, unless there is no other.
	errEjected  = &refusal{failure: true}
	errShutdown = &refusal{
		status: 503, kind: "server_error", code: "gateway_shutting_down",
		cause: "The gateway shuts down and could not wait for the end of this answer.",
		next:  "Send the request again.",
	}
	errNoReplica = &refusal{
		status: 503, kind: "server_error", code: "no_healthy_replica", failure: true,
		cause: "No engine of this model service can be reached right now.",
		next:  "Try again in a moment.",
	}
	errOverloaded = &refusal{
		status: 503, kind: "server_error", code: "gateway_overloaded",
		cause: "As many requests are under way as this gateway takes at once.",
		next:  "Try again in a moment.",
	}
	errNoMemory = &refusal{
		status: 503, kind: "server_error", code: "gateway_overloaded",
		cause: "As many bodies of requests are under way as this gateway holds at once.",
		next:  "Try again in a moment.",
	}
	errNotReady = &refusal{
		status: 503, kind: "server_error", code: "gateway_not_ready",
		cause: "The gateway has no configuration yet.",
		next:  "Try again in a moment.",
	}
)

// Of ModelOperator keys.
var (
	errOperatorKey = &refusal{
		status: 401, kind: "invalid_request_error", code: "invalid_api_key",
		cause: "The API key is missing or wrong.",
		next:  "Send a ModelOperator key as 'Authorization: Bearer <key>'.",
	}
	errUnnamedModel = &refusal{
		status: 400, kind: "invalid_request_error", code: "model_required",
		cause: "The request names no model.",
		next:  "Send the ModelName or the ModelServiceId of a model service as 'model'.",
	}
	errUnopenedModel = &refusal{
		status: 404, kind: "invalid_request_error", code: "model_not_found",
		cause: "The account has no model service of this ModelName or ModelServiceId.",
		next:  "GET /operator/v1/models lists them.",
	}
)

// Of Model APIs.
var (
	errNoModel = &refusal{
		status: 404, kind: "invalid_request_error", code: "model_not_found",
		cause: "No service of this Model API is for the model that the request names.",
		next:  "Name another one.",
	}
	errNoRoute = &refusal{
		status: 404, kind: "invalid_request_error", code: "unknown_url",
		cause: "This API has no route for the path.",
		next:  "Compare the path with the routes of the API.",
	}
	errConsumerKey = &refusal{
		status: 401, kind: "invalid_request_error", code: "invalid_api_key",
		cause: "The API key is missing or wrong.",
		next:  "Send one key of a consumer, where the consumer is to carry it ('Authorization: Bearer <key>' unless it was set otherwise).",
	}
	errToken = &refusal{
		status: 401, kind: "invalid_request_error", code: "invalid_token",
		cause: "The token is missing or not valid.",
		next:  "Send one JSON Web Token of a consumer, with exp, where the consumer is to carry it ('Authorization: Bearer <token>' unless it was set otherwise).",
	}
	errTokenExpired = &refusal{
		status: 401, kind: "invalid_request_error", code: "token_expired",
		cause: "The token has expired.",
		next:  "Get a new one.",
	}
	errSignature = &refusal{
		status: 401, kind: "invalid_request_error", code: "invalid_signature", header: signedOnly,
		cause: "The signature is wrong, or nobody's access key.",
		next:  "Sign the method, the headers, the path and the query as they are sent, with the secret of the x-ca-key.",
	}
	errSignatureDate = &refusal{
		status: 401, kind: "invalid_request_error", code: "signature_expired", header: signedOnly,
		cause: "The x-ca-timestamp is more than 15 minutes from now.",
		next:  "Set the clock, and sign each request when it is sent.",
	}
	errSignedBody = &refusal{
		status: 401, kind: "invalid_request_error", code: "invalid_signature", header: signedOnly,
		cause: "The body is not the one that was signed.",
		next:  "Send as content-md5 the base64 of this body's MD5, and sign that.",
	}
	errReplay = &refusal{
		status: 401, kind: "invalid_request_error", code: "nonce_used", header: signedOnly,
		cause: "The x-ca-nonce was used before.",
		next:  "Sign each request with a new one.",
	}
	errNonces = &refusal{
		status: 503, kind: "server_error", code: "too_many_signatures",
		cause: "The gateway remembers as many signed requests as it can.",
		next:  "Try again in a few minutes, or call less often.",
	}
	errForbidden = &refusal{
		status: 403, kind: "permission_error", code: "consumer_not_authorized",
		cause: "The consumer may not call this API.",
		next:  "It needs an authorization rule: CreateConsumerAuthorizationRules makes one.",
	}
	errNotAllowed = &refusal{
		status: 502, kind: "server_error", code: "upstream_not_allowed", failure: true,
		cause: "The service has an address that this gateway may not reach.",
		next:  "Its operator allows one with --allow-upstream.",
	}
	errUnreachable = &refusal{
		status: 503, kind: "server_error", code: "upstream_unreachable", failure: true,
		cause: "The service cannot be reached right now.",
		next:  "Try again in a moment.",
	}
	errNoService = &refusal{
		status: 503, kind: "server_error", code: "service_not_found", failure: true,
		cause: "The service behind this API is not known to the gateway.",
		next:  "Try again in a moment.",
	}
)

// signedOnly says to whoever is not known that requests are to be signed.
var signedOnly = http.Header{"Www-Authenticate": {"HMAC"}}

// refuseSignature is for a request that is not signed as it must be, whoever its sender is.
func refuseSignature(err error) *refusal {
	return &refusal{
		status: 401, kind: "invalid_request_error", code: "invalid_signature", header: signedOnly,
		cause: "The request is not signed as it must be: " + err.Error() + ".",
		next:  "Correct that and sign the request again.",
	}
}

// refuseMethod is for a path that is there for other methods.
func refuseMethod(allow string) *refusal {
	return &refusal{
		status: http.StatusMethodNotAllowed, kind: "invalid_request_error", code: "method_not_allowed",
		cause: "This path takes other methods: " + allow + ".", next: "Use one of them.", header: http.Header{"Allow": {allow}},
	}
}

// refuseModel is for a body that the API's model could not be written into.
func refuseModel(err error) *refusal {
	return &refusal{
		status: http.StatusBadRequest, kind: "invalid_request_error", code: "invalid_body",
		cause: "The request could not be read as its route needs it: " + err.Error() + ".",
		next:  "Correct the body and send it again.",
	}
}

// The protocols whose errors have a shape of their own; all others have OpenAI's.
const (
	openAI    = "OpenAI/v1"
	anthropic = "Anthropic"
	dashScope = "DashScope"
)

func (r *refusal) write(w http.ResponseWriter, protocol, requestID string) {
	header := w.Header()
	maps.Copy(header, r.header)
	header.Set("Content-Type", "application/json")
	header.Set(requestIDHeader, requestID)
	switch r.status {
	case http.StatusUnauthorized:
		if r.header == nil {
			header.Set("WWW-Authenticate", "Bearer")
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	}
	body, _ := json.Marshal(r.shape(protocol, requestID)) // strings never fail
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // the client may be gone; nobody is left to tell
}

func (r *refusal) shape(protocol, requestID string) any {
	switch protocol {
	case anthropic:
		type details struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		}
		return struct {
			Type      string  `json:"type"`
			Error     details `json:"error"`
			RequestID string  `json:"request_id"`
		}{"error", details{named(anthropicTypes, r.status, "api_error"), r.message()}, requestID}
	case dashScope:
		return struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			RequestID string `json:"request_id"`
		}{named(dashScopeCodes, r.status, "InternalError"), r.message(), requestID}
	}
	type details struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	return map[string]details{"error": {r.message(), r.kind, nil, r.code}}
}

// event is the refusal as an event of a stream whose status has been sent.
func (r *refusal) event(protocol, requestID string) []byte {
	body, _ := json.Marshal(r.shape(protocol, requestID)) // strings never fail
	var event bytes.Buffer
	switch protocol {
	case anthropic:
		event.WriteString("event: error\n")
	case dashScope:
		fmt.Fprintf(&event, "event:error\n:HTTP_STATUS/%d\n", r.status)
	}
	fmt.Fprintf(&event, "data: %s\n\n", body)
	return event.Bytes()
}

var anthropicTypes = map[int]string{
	308: "invalid_request_error", 400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
	404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error", 413: "request_too_large", 415: "invalid_request_error", 429: "rate_limit_error",
	502: "api_error", 503: "overloaded_error", 504: "timeout_error",
}

var dashScopeCodes = map[int]string{
	308: "InvalidURL", 400: "InvalidParameter", 401: "InvalidApiKey", 403: "AccessDenied", 404: "InvalidURL",
	405: "MethodNotAllowed", 408: "RequestTimeOut", 413: "RequestTooLarge", 415: "UnsupportedContentEncoding", 429: "Throttling", 502: "BadGateway", 503: "ServiceUnavailable", 504: "RequestTimeOut",
}

func named(names map[int]string, status int, otherwise string) string {
	if name, ok := names[status]; ok {
		return name
	}
	return otherwise
}

const (
	lingerTime  = 2 * time.Second
	lingerBytes = 32 << 20
)

// linger reads on for a moment after a refusal: a connection that is closed while its client still sends is reset, and
// most clients would then report the reset instead of the refusal.
func linger(w http.ResponseWriter, r *http.Request, body io.Reader) {
	if r.ContentLength == 0 || r.Header["Expect"] != nil { // who expects 100 Continue does not send after a refusal
		return
	}
	connection := http.NewResponseController(w)
	_ = connection.EnableFullDuplex() // or Flush would wait for the body
	_ = connection.SetReadDeadline(time.Now().Add(lingerTime))
	_ = connection.Flush()
	_, _ = io.CopyN(io.Discard, body, lingerBytes)
}
