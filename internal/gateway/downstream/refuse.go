package downstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Refusal is what a client is told whose request cannot be read.
type Refusal struct {
	Code  string // what programs branch on
	Cause string // what is wrong, in every case; the answer says it of the particular one
	Next  string // what the client does next
}

// Refusals are all of them, by the status of the answer.
var Refusals = map[int]Refusal{
	http.StatusBadRequest: {
		"invalid_framing", "The request is not HTTP/1.1 that can be read in one way only.",
		"Send one length, whole header lines, one Host and a path, as every HTTP library does.",
	},
	http.StatusRequestHeaderFieldsTooLarge: {
		"headers_too_large", "The head of the request is longer than 64 KiB.", "Send fewer or shorter headers.",
	},
	http.StatusExpectationFailed: {
		"unsupported_expectation", "The request expects something other than 100-continue.", "Send it without that Expect.",
	},
}

// refuse answers instead of a request that cannot be read.
func (c *conn) refuse(status int, reason error) {
	c.server.refused(reason)
	_ = c.socket.SetWriteDeadline(time.Now().Add(answerTimeout))
	if _, err := c.socket.Write(refusal(status, reason)); err == nil {
		c.lingerOn()
	}
}

// refusal is an answer in OpenAI's shape: which protocol is spoken cannot be known of such a request.
func refusal(status int, reason error) []byte {
	type details struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	body, _ := json.Marshal(map[string]details{"error": { // strings never fail
		Message: "The request cannot be read: " + reason.Error() + ". " + Refusals[status].Next,
		Type:    "invalid_request_error", Code: Refusals[status].Code,
	}})
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
}
