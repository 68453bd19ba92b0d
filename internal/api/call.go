package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/access"
)

// call is what the steps learn about one request on its way in. It belongs to one goroutine.
type call struct {
	requestID string
	region    string
	authorize Authorizer
	facts     Facts
	from      source
	operation *operation // nil until it is known
	caller    access.Caller
	resources []string       // what was authorized
	asked     access.Request // with which words
	err       error          // what the handler returned

	client    context.Context // ends when the client leaves
	writer    http.ResponseWriter
	streaming bool // the answer is on its way
}

type contextKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// identify names the call in the headers of its answer.
func (c *call) identify(header http.Header) {
	header.Set("x-acs-request-id", c.requestID)
	header.Set("x-acs-trace-id", strings.ToLower(strings.ReplaceAll(c.requestID, "-", "")))
}

func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(contextKey{}).(*call)
	return c
}

// RequestID returns the id of the call that ctx belongs to. Every response carries it.
func RequestID(ctx context.Context) string {
	if c := callFrom(ctx); c != nil {
		return c.requestID
	}
	return ""
}

// Allowed reports whether the caller may also do action, one that the operation's x-ram lists as optional, on the
// resource the call was authorized for.
func Allowed(ctx context.Context, action string) (bool, error) {
	c := callFrom(ctx)
	if c == nil || c.operation == nil || !slices.Contains(c.operation.optional, action) {
		return false, fmt.Errorf("the operation does not list %s as optional", action)
	}
	asked := c.asked
	asked.Action = action
	decision, err := c.authorize.Authorize(ctx, c.caller, asked)
	return decision.Allowed, err
}

// Require refuses a caller who may not also call another operation with params, one that the operation's x-ram lists as
// further.
func Require(ctx context.Context, name string, params map[string]any) error {
	c := callFrom(ctx)
	if c == nil || c.operation == nil || !slices.Contains(c.operation.further, name) {
		return fmt.Errorf("the operation does not list %s as further", name)
	}
	other := c.operation.siblings[name]
	resources := other.arn.resources(c.region, c.caller, params)
	return c.authorize.Require(ctx, c.caller, c.request(other, other.arn, resources, params))
}

// RequireAction refuses a caller who may not also do action, one that the operation's x-ram lists as optional, on the
// resource of arn: * or as in x-ram, with a field of params.
func RequireAction(ctx context.Context, action, arn string, params map[string]any) error {
	c := callFrom(ctx)
	if c == nil || c.operation == nil || !slices.Contains(c.operation.optional, action) {
		return fmt.Errorf("the operation does not list %s as optional", action)
	}
	resources := arnTemplate(arn).resources(c.region, c.caller, params)
	return c.authorize.Require(ctx, c.caller, access.Request{Action: action, Resources: resources})
}

// Fail keeps the error a handler returned, for the one place that answers errors. Give it to the generated strict
// handler as its error functions.
func Fail(_ http.ResponseWriter, r *http.Request, err error) {
	if c := callFrom(r.Context()); c != nil {
		c.err = err
	}
}
