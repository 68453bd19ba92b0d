package gateway

import (
	"net/http"
	"slices"
	"strings"
)

var (
	// answerNames are the headers of a service that reach a consumer. Others could set cookies for the API's domain, name
	// the account that the service is used with, or say where it lives.
	answerNames = []string{
		"Accept-Ranges", "Age", "Allow", "Cache-Control", "Date", "Etag", "Expires", "Last-Modified", "Pragma", "Retry-After", "Vary",
		"Request-Id", "X-Should-Retry", "X-Accel-Buffering", "X-Content-Type-Options",
	}
	answerPrefixes = []string{"Content-", "X-Ratelimit-", "Anthropic-Ratelimit-", "Openai-", "X-Dashscope-"}
	// answerUpgrade belong to the answer of a WebSocket's handshake.
	answerUpgrade = []string{"Connection", "Upgrade", "Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions"}
)

// allowAnswerHeaders takes out of an answer what is not known to be for consumers.
func allowAnswerHeaders(resp *http.Response) {
	for name := range resp.Header {
		if !passesToConsumer(name, resp.StatusCode == http.StatusSwitchingProtocols) {
			delete(resp.Header, name)
		}
	}
}

func passesToConsumer(name string, upgrade bool) bool {
	if slices.Contains(withheldFromConsumers, name) {
		return false
	}
	return slices.Contains(answerNames, name) || upgrade && slices.Contains(answerUpgrade, name) ||
		slices.ContainsFunc(answerPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}
