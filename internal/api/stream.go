package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// streamTimeout bounds a call whose answer is a stream.
const streamTimeout = 10 * time.Minute

// stream passes the answer of an operation on as its handler writes it. What is written before the answer begins is
// still refused like that of any other.
func (s *server) stream(ctx context.Context, c *call, r *http.Request) error {
	ctx, cancel := context.WithTimeout(outlasting{c.client, ctx}, streamTimeout)
	defer cancel()
	c.operation.handler.ServeHTTP(&streamed{c.writer, c}, r.WithContext(ctx))
	if c.err == nil && !c.streaming {
		c.err = fmt.Errorf("the handler of %s answered nothing", c.operation.name)
	}
	return c.err
}

// outlasting is a context with the values of another, whose deadline does not count.
type outlasting struct {
	context.Context
	values context.Context
}

func (o outlasting) Value(key any) any { return o.values.Value(key) }

// streamed is the response that a generated handler streams into.
type streamed struct {
	http.ResponseWriter
	call *call
}

func (w *streamed) WriteHeader(status int) {
	if status != http.StatusOK {
		w.call.err = fmt.Errorf("the handler of %s answered %d", w.call.operation.name, status)
		return
	}
	w.call.streaming = true
	w.call.identify(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	w.ResponseWriter.WriteHeader(status)
}

func (w *streamed) Write(data []byte) (int, error) {
	if !w.call.streaming {
		return 0, errors.New("the answer has not begun")
	}
	return w.ResponseWriter.Write(data)
}

// Flush sends what was written.
func (w *streamed) Flush() {
	if w.call.streaming {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
}
