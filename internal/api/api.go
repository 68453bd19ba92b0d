// Package api is HTTP in: it takes a request through the same steps for every operation of every product, and answers
// errors in one place.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
)

// Verifier proves who sent a request.
type Verifier interface {
	Verify(r *http.Request, body []byte) (signature.Verified, error)
}

// Authorizer decides whether a caller may.
type Authorizer interface {
	Authorize(ctx context.Context, caller access.Caller, request access.Request) (access.Decision, error)
	// Require returns nil if the caller may, and an *access.DeniedError if not.
	Require(ctx context.Context, caller access.Caller, request access.Request) error
}

// SignIns is told of requests that nobody could be proven to have sent.
type SignIns interface {
	Failed(source netip.Addr, code string)
}

// Product is one API: a version, its document, and the generated handler of its operations.
type Product struct {
	Name     string
	Version  string
	Document *openapi3.T
	Handler  http.Handler // built with Fail as its error functions
	// Paths marks a product whose operations are methods and paths, with parameters in path, query and body. The
	// operations of other products are names, called with POST.
	Paths bool
}

// Config is what New needs.
type Config struct {
	Region     string
	Products   []Product
	Verifier   Verifier
	Authorizer Authorizer
	Facts      Facts        // nil: resources have no groups and no tags
	Audit      audit.Execer // takes the rows of calls that changed nothing
	SignIns    SignIns      // nil: nobody counts them
	Log        *slog.Logger
	Timeout    time.Duration // of one call; 0: 30 s
	// TrustedProxies are the addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies []netip.Prefix
}

type server struct {
	Config
	log      *slog.Logger
	products map[string]served // by version
}

type served struct {
	Product
	operations map[string]*operation
}

// New returns the handler of the whole API. It refuses documents that lack what the steps need.
func New(config Config) (http.Handler, error) {
	s := &server{Config: config, log: config.Log, products: map[string]served{}}
	if s.Timeout == 0 {
		s.Timeout = 30 * time.Second
	}
	var complaints []error
	for _, product := range config.Products {
		found, err := operations(product)
		complaints = append(complaints, err)
		s.products[product.Version] = served{product, found}
	}
	return s, errors.Join(complaints...)
}

// answer is a finished response.
type answer struct {
	status int
	code   string // of an error
	body   []byte
}

// ServeHTTP takes one request through all steps.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	c := &call{requestID: strings.ToUpper(uuid.NewString()), region: s.Region, authorize: s.Authorizer, facts: s.Facts, from: s.source(r)}
	c.client, c.writer = r.Context(), w
	ctx, cancel := context.WithTimeout(withCall(r.Context(), c), s.Timeout)
	defer cancel()
	r = r.WithContext(ctx)
	a := s.answer(w, r, c)
	if c.streaming {
		s.logAccess(r, c, a, time.Since(started))
		if a.status != http.StatusOK {
			panic(http.ErrAbortHandler) // a stream that broke off must not end as a whole one does
		}
		return
	}
	c.identify(w.Header())
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client may be gone
	s.logAccess(r, c, a, time.Since(started))
}

// logAccess writes the one line of a call: who, what, how it ended; nothing that the caller sent as a parameter.
func (s *server) logAccess(r *http.Request, c *call, a answer, took time.Duration) {
	action := ""
	if c.operation != nil {
		action = c.operation.fullName()
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "call",
		slog.String("requestId", c.requestID), slog.String("action", action), slog.Int("status", a.status),
		slog.String("code", a.code), slog.Duration("took", took), slog.String("accountId", c.caller.AccountID),
		slog.String("accessKeyId", c.caller.AccessKeyID), slog.String("sourceIp", c.from.ip.String()))
}

func (s *server) answer(w http.ResponseWriter, r *http.Request, c *call) answer {
	var body []byte
	err := guard(func() (err error) {
		body, err = s.steps(w, r, c)
		return err
	})
	if err != nil {
		return s.refuse(r, err)
	}
	return answer{status: http.StatusOK, body: body}
}

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// steps is the order that every call goes through.
func (s *server) steps(w http.ResponseWriter, r *http.Request, c *call) ([]byte, error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	verified, err := s.Verifier.Verify(r, body)
	if err != nil {
		s.countSignIn(c.from, err)
		return nil, err
	}
	c.caller = verified.Caller
	c.caller.SourceIP, c.caller.Secure, c.caller.Time = c.from.ip, c.from.secure, time.Now()
	if c.operation, err = s.find(r, verified); err != nil {
		return nil, err
	}
	params, err := c.operation.read(r, body, verified)
	if err != nil {
		return nil, err
	}
	if err := c.operation.validate(params, s.Region); err != nil {
		return nil, err
	}
	return s.perform(access.WithCaller(r.Context(), c.caller), c, params)
}

// countSignIn counts a request that is refused. That the database is away is not the sender's fault.
func (s *server) countSignIn(from source, err error) {
	if f, ok := fault.From(err); ok && s.SignIns != nil && f.Kind != fault.Unavailable {
		s.SignIns.Failed(from.ip, f.Code)
	}
}
