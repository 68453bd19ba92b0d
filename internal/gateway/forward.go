package gateway

import (
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/engineshed/engineshed/internal/gateway/admission"
	"github.com/engineshed/engineshed/internal/gateway/balance"
	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/gateway/upstream/http1"
	"github.com/engineshed/engineshed/internal/snapshot"
)

var (
	// forwarded are the only headers of a client that reach an engine: its key, cookies and claims about itself do not.
	forwarded = []string{"Accept", "Content-Type", "Traceparent", "Tracestate", "User-Agent"}
	// withheld are headers of an engine that do not reach a client: what it is, where it listens, its cookies.
	withheld = []string{"Server", "Set-Cookie", "Location", "Via", "Alt-Svc"}
)

// forward passes the request to a service and its answer to the client as it comes. It panics with
// http.ErrAbortHandler when the answer breaks off, so that the client never sees a clean end.
func (c *call) forward(w http.ResponseWriter) *refusal {
	c.traffic.Begin()
	defer c.traffic.End()
	if c.operator != nil && c.service == nil {
		return c.answerOpened(w)
	}
	if c.api != nil && c.asksForWebSocket() {
		return c.tunnel(w)
	}
	if c.missing == nil && c.api != nil && c.route.Fallback != nil && isAside(c.standing()) {
		c.fallsBack(nil, errEjected) // if no other is better, this one is asked
	}
	for {
		resp, why := c.ask()
		switch {
		case why != nil && c.fallsBack(resp, why):
		case resp == nil:
			return why
		default:
			defer resp.Body.Close()
			if !c.recordsQuestion() {
				c.release() // an answer may take long, and nobody else will be asked
			}
			return c.pass(w, resp)
		}
	}
}

// outgoing makes the service's request from nothing, so that nothing of the client's passes unseen.
func (c *call) outgoing() (out http.Request) {
	out = http.Request{
		Method: c.in.Method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: c.in.Body, ContentLength: c.in.ContentLength,
	}
	if out.ContentLength == 0 || out.Body == http.NoBody {
		out.Body, out.ContentLength = nil, 0
	}
	c.address(&out)
	return out
}

// address fills in what a service is asked for, and the headers that it sees.
func (c *call) address(out *http.Request) {
	if c.api != nil {
		c.addressForAPI(out)
		return
	}
	decoded := c.in.URL.Path[c.under():]
	c.url = url.URL{Path: decoded, RawPath: c.path, RawQuery: c.in.URL.RawQuery}
	out.URL = &c.url
	out.Header = make(http.Header, len(forwarded)+2)
	for _, name := range forwarded {
		copyValues(out.Header, c.in.Header, name)
	}
	out.Header[requestIDHeader] = c.ids[:]
}

// pass sends an answer on. A stream of events begins at once, anything else with its first piece: until then the client can
// be told that there is none.
func (c *call) pass(w http.ResponseWriter, resp *http.Response) *refusal {
	buffer := takeBuffer(resp.ContentLength)
	defer func() { buffer.put() }()
	var n int
	var err error
	if !c.answer.events {
		if n, err = resp.Body.Read(buffer); n == 0 && err != nil && !errors.Is(err, io.EOF) {
			return c.failed(err)
		}
	}
	giveHeader(w, resp.Header)
	w.WriteHeader(resp.StatusCode)
	if err = c.copyAnswer(w, resp, &buffer, n, err); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// giveHeader makes the headers of a service's answer the client's, but those about one connection. The map is given away.
func giveHeader(w http.ResponseWriter, header http.Header) {
	for name := range optionsOf(header["Connection"]) {
		delete(header, name)
	}
	for name := range header {
		if hopByHop[name] {
			delete(header, name)
		}
	}
	if taker, ok := w.(interface{ TakeHeader(header http.Header) }); ok {
		taker.TakeHeader(header)
		return
	}
	maps.Copy(w.Header(), header)
}

// hopByHop are headers about one connection.
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// optionsOf are the headers that a Connection header says are about the connection, too.
func optionsOf(connection []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, value := range connection {
			for name := range strings.SplitSeq(value, ",") {
				if !yield(textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))) {
					return
				}
			}
		}
	}
}

// makeWay gives back what others wait for, before the client hears the end of its answer: it may ask again at once.
func (c *call) makeWay() {
	c.leave()
	c.letGo(endingOf(c.status))
}

// copyAnswer sends what n bytes and err of a first Read have left in the buffer, and then the rest through it. Of a stream,
// and of an answer of unknown length, head and pieces go out at once. One that comes in small pieces, as events are, keeps a
// small buffer.
func (c *call) copyAnswer(w http.ResponseWriter, resp *http.Response, buffer *buffer, n int, err error) error {
	atOnce := resp.ContentLength < 0
	controller := http.NewResponseController(w)
	for left := resp.ContentLength; ; {
		if left -= int64(n); left == 0 || c.answer.isWhole() {
			c.makeWay()
		}
		if n > 0 {
			if _, err := w.Write((*buffer)[:n]); err != nil {
				return err
			}
		}
		if atOnce && err == nil {
			if err := controller.Flush(); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if n == smallBuffer {
			buffer.put()
			*buffer = takeBuffer(largeBuffer)
		}
		n, err = resp.Body.Read(*buffer)
	}
}

// RoundTrip asks one of the service's replicas or endpoints.
func (c *call) RoundTrip(out *http.Request) (*http.Response, error) {
	if c.ctx == nil {
		c.ctx = c.limited()
	}
	if len(c.silent) == 0 || !slices.Contains(c.silent, c.standing()) {
		c.standing().Earn()
	}
	if c.service != nil {
		return deliver(c, c.service.Replicas, c.chooseReplica, func(r *upstream.Replica) (*http.Response, error) {
			return r.Send(c.copyOf(out))
		})
	}
	return deliver(c, c.upstream.Endpoints, upstream.Choose, func(e *upstream.Endpoint) (*http.Response, error) {
		return e.Send(c.path, c.copyOf(out))
	})
}

// chooseReplica chooses the least busy one, or where the API wants that the one that has seen the beginning of the prompt.
func (c *call) chooseReplica(replicas, tried []*upstream.Replica) *upstream.Replica {
	if c.api != nil && c.api.Limits != nil && c.api.Limits.ReplicaChoice == snapshot.PrefixAware {
		if key, ok := balance.PrefixKey(c.body); ok {
			return upstream.ChooseFor(replicas, tried, key)
		}
	}
	return upstream.Choose(replicas, tried)
}

// deliver sends a request to one target after the other: one that cannot be reached hands it to the next, as far as the
// service's budget goes.
func deliver[T upstream.Target](
	c *call, targets []T, choose func(targets, tried []T) T, send func(T) (*http.Response, error),
) (*http.Response, error) {
	var tried []T
	var err error
	for len(tried) < len(targets) && (len(tried) == 0 || c.standing().Spend()) {
		one := choose(targets, tried)
		one.Begin()
		c.peer = one
		var resp *http.Response
		if resp, err = send(one); err == nil || !upstream.Undelivered(err) || c.ctx.Err() != nil {
			return resp, err
		}
		c.warn("could not be reached", err)
		c.noteEjection(one.SetAside())
		c.peer = nil
		one.End()
		tried = append(tried, one)
	}
	switch {
	case errors.Is(err, snapshot.ErrUpstreamNotAllowed):
		return nil, errNotAllowed
	case c.service != nil:
		return nil, errNoReplica
	}
	return nil, errUnreachable
}

// copyOf is out for one replica or endpoint. What is sent to the next is another request: whoever sent the one before may
// not have let go of it.
func (c *call) copyOf(out *http.Request) *http.Request {
	s := &c.firstSent
	if s.request.URL != nil {
		s = new(sentRequest)
	}
	s.request, s.url = *out.WithContext(c.ctx), *out.URL
	s.request.URL = &s.url
	one := &s.request
	switch {
	case c.spliced:
		setBody(one, c.held, c.pieces[:]...)
	case len(c.body) > 0:
		setBody(one, c.held, c.body)
	case out.Body != nil:
		one.Body = io.NopCloser(out.Body) // who fails must not close it for the next
	}
	return one
}

// sentRequest is a request to a service, in one piece of memory.
type sentRequest struct {
	request http.Request
	url     url.URL
}

// setBody gives a request a whole body, which may be sent again. Its pieces are held memory, which the request is lent.
func setBody(r *http.Request, held *admission.Body, pieces ...[]byte) {
	held.Lend()
	body := http1.Lent(held, pieces...)
	r.Body, r.ContentLength, r.TransferEncoding = body, body.Len(), nil
}

// accept looks at the engine's answer before any of it is passed on.
func (c *call) accept(resp *http.Response) error {
	c.answerModels(resp)
	if c.api != nil {
		allowAnswerHeaders(resp)
	} else {
		for _, name := range withheld {
			delete(resp.Header, name)
		}
	}
	resp.Header[requestIDHeader] = c.ids[:]
	c.status = resp.StatusCode
	if c.status == http.StatusSwitchingProtocols {
		return c.upgraded(resp)
	}
	c.answer.from = resp.Body
	resp.Body = &c.answer
	c.watch(resp)
	return nil
}

// failed is what is to be said of an error because of which there is no answer to pass on.
func (c *call) failed(err error) *refusal {
	var said *refusal
	unread := c.upload.broken.Load()
	switch {
	case errors.As(err, &said):
		return said
	case c.ending.Err() != nil:
		return errShutdown
	case c.in.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody is left to be answered
	case unread != nil:
		return unread
	case c.isLate():
		c.warn("service sent no content in time", err)
		return errFirstContent
	case errors.Is(err, errIdleTooLong):
		c.warn("service fell silent before its content", err)
		return errIdle
	}
	c.warn("engine broke off before it answered", err)
	return errEngine
}

// uploadBody remembers why a client's body could not be read, to tell a client that left from a broken engine. The
// transport reads it in a goroutine of its own.
type uploadBody struct {
	io.ReadCloser
	broken atomic.Pointer[refusal]
}

func (b *uploadBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.broken.Store(refuseBody(err))
	}
	return n, err
}

// buffer is lent for answers to be copied through.
type buffer []byte

const (
	smallBuffer = 8 << 10 // more than a reader of answers holds back
	largeBuffer = 32 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// takeBuffer returns a buffer for so many bytes: a large one, unless a small one is enough.
func takeBuffer(size int64) buffer {
	if size <= smallBuffer {
		return smallBuffers.Get().(*[smallBuffer]byte)[:]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:]
}

// put gives a buffer back.
func (b buffer) put() {
	if len(b) == smallBuffer {
		smallBuffers.Put((*[smallBuffer]byte)(b))
	} else {
		largeBuffers.Put((*[largeBuffer]byte)(b))
	}
}
