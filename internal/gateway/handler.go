package gateway

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/admission"
	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/identity"
	"github.com/engineshed/engineshed/internal/gateway/model"
	"github.com/engineshed/engineshed/internal/gateway/record"
	"github.com/engineshed/engineshed/internal/route"
)

const (
	requestIDHeader = "X-Request-Id"
	// A body up to this size is read before an engine is chosen: a slow client then costs no engine's connection, and
	// the request can be sent again when the engine has just closed the connection.
	smallBody = 64 << 10
)

// handler serves one listener.
type handler struct {
	current   func(now time.Time) *config.Config
	public    bool   // of the model services, serves the public ones only
	apis      bool   // serves Model APIs
	httpsPort string // where force-HTTPS sends: ":port", or "" for the usual one
	maxBody   int64
	load      *load
	nobody    *config.Traffic // what nobody is charged for
	log       *boundedLog
	records   *record.Recorder
	tracer    *record.Tracer
	tokens    *identity.Memory[*config.Consumer] // that were verified
	nonces    *identity.Nonces

	running    *atomic.Int64   // requests that have not ended
	websockets *sync.WaitGroup // connections that became WebSockets
	ending     context.Context // done when requests that still run are cut
}

// ServeHTTP is one request from top to bottom: what is asked for, may the caller have it, which engine, stream.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{handler: h, in: r, id: newRequestID(), began: time.Now(), traffic: h.nobody}
	c.ids[0], c.attempt = c.id, &c.firstAttempt
	h.running.Add(1)
	defer h.running.Add(-1)
	unread := r.Body
	defer c.end()
	refused := c.admit()
	if refused == nil {
		refused = c.enter(w)
	}
	if refused == nil {
		refused = c.readBody(w)
	}
	if refused == nil && c.isOpen() { // it has no body
		refused = c.choose("")
	}
	if refused == nil {
		refused = c.forward(w)
	}
	if refused != nil {
		c.leave() // the client may take its time to hear it
		if !c.recordsQuestion() {
			c.release()
		}
		refused.write(w, c.protocol, c.id)
		linger(w, r, unread)
		c.status, c.refused = refused.status, refused
	}
	c.answered = true
}

// refusedFraming takes note of a request that never became one.
func (h *handler) refusedFraming(reason error) {
	h.nobody.Ended(config.ClientError)
	h.log.Warn("request refused: it cannot be read, or it could be read in more than one way", "reason", reason)
}

// call is one request on its way through the gateway.
type call struct {
	*handler
	in           *http.Request
	id           string
	ids          [1]string // as headers have it
	began        time.Time
	span         *record.Span
	asked        *config.API         // at whose place the request came, whether it may or not
	consumer     *config.Consumer    // who asks, where it is known
	operator     *config.OperatorKey // whose key opens the service; nil: asked in another way
	signature    *identity.Signature // of the consumer; nil: its API asks for none
	api          *config.API         // nil: a model service is called directly
	route        *route.Route        // of api
	ways         *config.Ways        // where a consumer's key may be
	cfg          *config.Config      // of the whole call
	canonical    string              // the path that was asked for
	match        route.Match
	protocol     string // of the route: the shape of errors
	traffic      *config.Traffic
	body         []byte         // the whole body, unless it is large and passes as it comes
	request      *model.Request // what the body says; nil where that is not read, or cannot be
	unreadable   error
	upload       uploadBody        // a body that passes as it comes
	held         *admission.Body   // where body is
	turns        [2]admission.Turn // at the gates of the API and the gateway
	*attempt                       // the service that is asked
	firstAttempt attempt
	fallbacks    int                // how many of the route's other targets were turned to
	silent       []*config.Standing // of the services that were asked and gave no answer
	refused      *refusal           // instead of an engine's answer
	status       int
	taken        bool // readBody has been
	upgrade      bool // the connection became a WebSocket
	answered     bool // to the end
}

// admit decides whether the caller may ask for this.
func (c *call) admit() *refusal {
	cfg := c.current(c.began)
	target, _, _ := strings.Cut(c.in.RequestURI, "?")
	path, ok := route.Canonical(target)
	switch {
	case strings.HasPrefix(target, servicesPath):
		return c.admitService(cfg)
	case target == operatorPath, strings.HasPrefix(target, operatorPath+"/"):
		return c.admitOperator(cfg)
	case !ok:
		return errMalformed
	case route.Reserved(path) || !c.apis:
		return errUnknownURL
	case cfg == nil:
		return errNotReady
	}
	return c.admitAPI(cfg, path)
}

// admitService decides whether the caller may ask the service for this. A service that this listener does not serve is
// answered exactly as one that does not exist.
func (c *call) admitService(cfg *config.Config) *refusal {
	id, path, refused := splitTarget(c.in.RequestURI)
	if refused != nil {
		return refused
	}
	if cfg == nil {
		return errNotReady
	}
	service := cfg.Service(id)
	switch {
	case service == nil || c.public && !service.Public:
		return errUnknownService
	case !service.Allows(clientAddr(c.in)):
		return errAddress
	case !service.Opens(bearer(c.in)):
		return errKey
	}
	c.service, c.traffic, c.path = service, service.Traffic, path
	switch {
	case !strings.HasPrefix(path, route.EnginePath):
		return errUnknownURL
	case c.in.ContentLength > c.maxBody:
		return errTooLarge
	case c.in.Header["Content-Encoding"] != nil:
		return errEncoded
	}
	return nil
}

// clientAddr is the address of the socket: nothing a client claims counts.
func clientAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero address is in no prefix
	return addr.Addr()
}

// bearer is the key of the one Authorization header; "" opens nothing.
func bearer(r *http.Request) string {
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return ""
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

// readBody takes a small body in at once and bounds a large one. A body whose model is written, or that is signed, is taken
// in whole.
func (c *call) readBody(w http.ResponseWriter) (refused *refusal) {
	if c.taken {
		return nil
	}
	c.taken = true
	if c.operator != nil {
		return c.readNamed(w)
	}
	if c.readsModel() {
		return c.readWhole(w)
	}
	if c.signature == nil && (c.in.ContentLength < 0 || c.in.ContentLength > smallBody) {
		c.upload.ReadCloser = c.bounded(w)
		c.in.Body = &c.upload
		return nil
	}
	c.body, refused = c.take(w)
	return refused
}

// end settles the accounts, however the call ended: an answer that breaks off ends in a panic.
func (c *call) end() {
	outcome := c.outcome()
	c.attempt.end(c.endedAs(outcome))
	c.leave()
	if c.upgrade {
		c.websockets.Done()
	}
	if outcome == config.Cut {
		c.warn("engine broke off in the middle of its answer", c.answer.err)
	}
	c.traffic.Ended(outcome)
	c.account(outcome)
	c.release()
}

// outcome is how the call ended, as it is counted.
func (c *call) outcome() config.Outcome {
	switch {
	case c.answered && c.answer.err != nil && c.refused == nil && c.status < http.StatusMultipleChoices:
		return config.Cut // and an error followed
	case c.answered:
		return config.Of(c.status)
	case c.answer.err != nil && c.in.Context().Err() == nil:
		return config.Cut
	}
	return config.Gone
}

// warn reports what went wrong with whoever was asked.
func (c *call) warn(message string, err error) {
	args := []any{"requestId", c.id, "error", err}
	if c.api != nil {
		args = append(args, "api", c.api.ID)
	}
	if c.upstream != nil {
		args = append(args, "service", c.upstream.ID)
	}
	if c.peer != nil && c.service != nil {
		args = append(args, "modelService", c.service.ID, "replica", c.peer.ID())
	} else if c.peer != nil {
		args = append(args, "endpoint", c.peer.ID())
	}
	c.log.Warn(message, args...)
}

func newRequestID() string {
	var id [16]byte
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	var text [2 * len(id)]byte
	hex.Encode(text[:], id[:])
	return string(text[:])
}
