package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
)

// recorder keeps what it was sent, heads and bodies.
type recorder struct {
	*httptest.Server
	mu  sync.Mutex
	all strings.Builder
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := new(recorder)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		text, _ := httputil.DumpRequest(request, true)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all.Write(text)
		if strings.Contains(string(text), "break off") {
			panic(http.ErrAbortHandler)
		}
		if strings.Contains(string(text), "hold on") {
			r.mu.Unlock()
			<-request.Context().Done()
			r.mu.Lock()
			return
		}
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"an answer that nobody else may read"}}]}`)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.String()
}
