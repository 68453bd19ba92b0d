package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// refusal is an answer of the gateway itself, in the shape OpenAI's clients expect of an error.
type refusal struct {
	status  int
	kind    string // OpenAI's "type"
	code    string
	message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

// Each says what to do about it. None says more about a service than its caller may know.
var (
	errMalformed = &refusal{
		400, "invalid_request_error", "invalid_url",
		"The path of the request is not in its plain form: use /services/<id>/v1/… without encoded slashes, empty or dot segments.",
	}
	errBody = &refusal{
		400, "invalid_request_error", "incomplete_body",
		"The body of the request ended before its Content-Length.",
	}
	errKey = &refusal{
		401, "invalid_request_error", "invalid_api_key",
		"The API key is missing or wrong: send the model service's ApiKey as 'Authorization: Bearer <key>'.",
	}
	errAddress = &refusal{
		403, "permission_error", "ip_not_allowed",
		"Your address is not in the IP array of this model service: add it to SecurityIPList.",
	}
	errUnknownURL = &refusal{
		404, "invalid_request_error", "unknown_url",
		"There is nothing at this URL: a model service is served at /services/<id>/v1/…",
	}
	errUnknownService = &refusal{
		404, "invalid_request_error", "model_service_not_found",
		"There is no such model service at this address.",
	}
	errTooLarge = &refusal{
		413, "invalid_request_error", "request_too_large",
		"The body of the request is larger than this gateway accepts.",
	}
	errEncoded = &refusal{
		415, "invalid_request_error", "unsupported_content_encoding",
		"The body of the request is compressed: send it without Content-Encoding.",
	}
	errEngine = &refusal{
		502, "server_error", "engine_failed",
		"The engine broke off before it answered: try again.",
	}
	errNoReplica = &refusal{
		503, "server_error", "no_healthy_replica",
		"No engine of this model service can be reached right now: try again in a moment.",
	}
	errNotReady = &refusal{
		503, "server_error", "gateway_not_ready",
		"The gateway has no configuration yet: try again in a moment.",
	}
)

func (r *refusal) write(w http.ResponseWriter, requestID string) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set(requestIDHeader, requestID)
	switch r.status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	}
	type details struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	body, _ := json.Marshal(map[string]details{"error": {r.message, r.kind, nil, r.code}}) // strings never fail
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // the client may be gone; nobody is left to tell
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
	_ = connection.Flush()
	_ = connection.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, body, lingerBytes)
}
