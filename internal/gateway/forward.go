package gateway

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"

	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/gateway/upstream/http1"
)

var (
	// forwarded are the only headers of a client that reach an engine: its key, cookies and claims about itself do not.
	forwarded = []string{"Accept", "Content-Type", "Traceparent", "Tracestate", "User-Agent"}
	// withheld are headers of an engine that do not reach a client: what it is, where it listens, its cookies.
	withheld = []string{"Server", "Set-Cookie", "Location", "Via", "Alt-Svc"}

	silent = log.New(io.Discard, "", 0) // the call reports its own errors
)

// forward passes the request to an engine and its answer to the client as it comes. It panics with
// http.ErrAbortHandler when the answer breaks off, so that the client never sees a clean end.
func (c *call) forward(w http.ResponseWriter) *refusal {
	c.traffic.InFlight.Add(1)
	defer c.traffic.InFlight.Add(-1)
	proxy := httputil.ReverseProxy{
		Rewrite:        c.rewrite,
		Transport:      c,
		ModifyResponse: c.answered,
		ErrorHandler:   c.failed,
		BufferPool:     buffers{}, // FlushInterval stays 0: event streams and answers of unknown length are flushed at once anyway
		ErrorLog:       silent,
	}
	if c.api != nil && c.in.Header["Upgrade"] != nil {
		w = tunnelWriter{w}
	}
	proxy.ServeHTTP(w, c.in)
	return c.refused
}

// rewrite makes the engine's request from nothing, so that nothing of the client's passes unseen.
func (c *call) rewrite(p *httputil.ProxyRequest) {
	out := p.Out
	if c.api != nil {
		c.rewriteForAPI(p)
		return
	}
	decoded := p.In.URL.Path[len(servicesPath)+len(c.service.ID):]
	out.URL = upstream.Path(decoded, c.path, out.URL.RawQuery)
	out.Header = make(http.Header, len(forwarded)+2)
	for _, name := range forwarded {
		if values := p.In.Header[name]; values != nil {
			out.Header[name] = values
		}
	}
	out.Header[requestIDHeader] = []string{c.id}
	out.Trailer = nil
}

// RoundTrip asks the least busy replica; one that cannot be reached hands the request to the next.
func (c *call) RoundTrip(out *http.Request) (*http.Response, error) {
	if c.service == nil {
		return c.askOutside(out)
	}
	for {
		replica := upstream.Choose(c.service.Replicas, c.tried)
		if replica == nil {
			return nil, errNoReplica
		}
		replica.Begin()
		c.replica = replica
		resp, err := replica.Send(c.attempt(out))
		if err == nil || !upstream.Undelivered(err) || c.in.Context().Err() != nil {
			return resp, err
		}
		c.warn("replica could not be reached", err)
		c.replica = nil
		replica.End()
		replica.SetAside()
		c.tried = append(c.tried, replica)
	}
}

// attempt is out for one replica. Its context is the client's alone: interim (1xx) answers of an engine end here.
func (c *call) attempt(out *http.Request) *http.Request {
	attempt := out.WithContext(c.in.Context())
	switch {
	case c.spliced != nil:
		setBody(attempt, c.spliced[:]...)
	case len(c.body) > 0:
		setBody(attempt, c.body)
	case out.Body != nil:
		attempt.Body = io.NopCloser(out.Body) // a failed attempt must not close it for the next
	}
	return attempt
}

// setBody gives a request a whole body, which may be sent again.
func setBody(r *http.Request, pieces ...[]byte) {
	body := http1.NewBytes(pieces...)
	r.Body, r.ContentLength, r.TransferEncoding = body, body.Len(), nil
	r.GetBody = func() (io.ReadCloser, error) { return http1.NewBytes(pieces...), nil }
}

// answered looks at the engine's answer before any of it is passed on.
func (c *call) answered(resp *http.Response) error {
	c.answerModels(resp)
	for _, name := range withheld {
		delete(resp.Header, name)
	}
	if c.api != nil {
		allowAnswerHeaders(resp)
	}
	dropTrailer(resp)
	resp.Header[requestIDHeader] = []string{c.id}
	c.status = resp.StatusCode
	if c.status == http.StatusSwitchingProtocols {
		return c.upgraded(resp)
	}
	c.answer.ReadCloser = resp.Body
	resp.Body = &c.answer
	c.watch(resp)
	c.endInOrder(resp)
	return nil
}

// failed takes note that there is no answer to pass on.
func (c *call) failed(_ http.ResponseWriter, _ *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &c.refused):
	case errors.As(err, &tooLarge):
		c.refused = errTooLarge
	case c.in.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody is left to be answered
	case c.upload.broken.Load():
		c.refused = errBody
	default:
		c.refused = errEngine
		c.warn("engine broke off before it answered", err)
	}
}

// uploadBody remembers that a client's body could not be read, to tell a client that left from a broken engine. The
// transport reads it in a goroutine of its own.
type uploadBody struct {
	io.ReadCloser
	broken atomic.Bool
}

func (b *uploadBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.broken.Store(true)
	}
	return n, err
}

// buffers lends the buffers that answers are copied through.
type buffers struct{}

const bufferSize = 32 << 10

var pool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (buffers) Get() []byte  { return pool.Get().(*[bufferSize]byte)[:] }
func (buffers) Put(b []byte) { pool.Put((*[bufferSize]byte)(b)) }
