package downstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// codes are what clients that read the body are told.
var codes = map[int]string{
	http.StatusBadRequest: "invalid_framing", http.StatusRequestHeaderFieldsTooLarge: "headers_too_large",
	http.StatusExpectationFailed: "unsupported_expectation",
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
		Message: "The request cannot be read: " + reason.Error() + ".", Type: "invalid_request_error", Code: codes[status],
	}})
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
}
