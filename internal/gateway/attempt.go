package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/model"
	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// defaultIdle is how long nothing may come of an answer that has begun, where the API says nothing else.
const defaultIdle = 10 * time.Minute

// attempt is what a call knows of the one service that it asks.
type attempt struct {
	target   snapshot.Target
	upstream *config.Upstream // what the API forwards to; nil with a service that is called directly
	service  *config.Service  // whose replica answers
	missing  *refusal         // why there is nobody to ask
	path     string           // what is asked for
	spliced  *model.Splice    // what is sent, if it is not the body as it came
	strips   bool             // the gateway, not the client, asked for the usage at the end of the stream
	tried    []*upstream.Replica
	replica  *upstream.Replica // counted in until the attempt ends
	answer   answer

	ctx    context.Context // of what is asked
	alarm  *time.Timer     // gives up when no content has come; nil: content may take its time
	giveUp context.CancelCauseFunc
}

// end lets go of what the attempt holds. Its answer has been closed.
func (a *attempt) end() {
	if a.replica != nil {
		a.replica.End()
	}
	if a.alarm != nil {
		a.alarm.Stop()
		a.giveUp(nil)
	}
	a.answer.stop()
}

// ask asks the service. It returns an answer that may be passed on, and why another service should be asked instead, one
// of them or both.
func (c *call) ask() (*http.Response, *refusal) {
	if c.missing != nil {
		return nil, c.missing
	}
	resp, err := c.RoundTrip(c.outgoing())
	if err != nil {
		return nil, c.failed(err)
	}
	if err := c.accept(resp); err != nil {
		_ = resp.Body.Close()
		return nil, c.failed(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return resp, errAnswered
	}
	if !c.holds() {
		return resp, nil
	}
	err = c.answer.hold()
	switch {
	case err != nil:
		_ = resp.Body.Close()
		return nil, c.failed(err)
	case c.answer.reader.Failed && !c.answer.reader.Content:
		return resp, errAnswered
	}
	if c.alarm != nil {
		c.alarm.Stop()
	}
	return resp, nil
}

// holds reports whether the answer is held back until its content begins, so that another can still take its place.
func (c *call) holds() bool {
	return c.api != nil && c.status != http.StatusSwitchingProtocols && (c.route.Fallback != nil || c.alarm != nil)
}

// fallsBack turns to the next service that can take the place of one that failed so, and reports whether there is one. The
// failed one's answer is not passed on then.
func (c *call) fallsBack(resp *http.Response, why *refusal) bool {
	if c.api == nil || c.route.Fallback == nil || !why.failure {
		return false
	}
	if c.route.Fallback.UpstreamCodesOnly && (resp == nil || resp.StatusCode < http.StatusBadRequest) {
		return false
	}
	failed := c.attempt
	for c.fallbacks < len(c.route.Fallback.Targets) {
		target := c.route.Fallback.Targets[c.fallbacks]
		c.fallbacks++
		c.attempt = new(attempt)
		if c.turnTo(target) != nil || len(c.body) > 0 && c.write() != nil {
			continue
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		failed.end()
		c.refused, c.status = nil, 0
		return true
	}
	c.attempt = failed
	return false
}

// firstContentLimit is how long a service has until the content of a stream begins; 0: as long as it takes.
func (c *call) firstContentLimit() time.Duration {
	if c.api == nil || c.api.Limits == nil || !c.wantsStream() {
		return 0
	}
	return time.Duration(c.api.Limits.FirstContent) * time.Millisecond
}

// wantsStream reports whether the client asks for a stream, in the way of any protocol.
func (c *call) wantsStream() bool {
	return c.request != nil && c.request.Stream || strings.EqualFold(c.in.Header.Get("X-Dashscope-Sse"), "enable")
}

// isLate reports whether the service was given up because no content came.
func (c *call) isLate() bool { return errors.Is(context.Cause(c.ctx), errFirstContentLate) }

// idleLimit is how long nothing may come of an answer that has begun.
func (c *call) idleLimit() time.Duration {
	if c.api == nil || c.api.Limits == nil || c.api.Limits.Idle == 0 {
		return defaultIdle
	}
	return time.Duration(c.api.Limits.Idle) * time.Millisecond
}

// limited is the context of what is asked of the service.
func (c *call) limited() context.Context {
	ctx := c.in.Context()
	if c.api != nil && c.api.Limits != nil && c.api.Limits.Connect > 0 {
		ctx = upstream.WithConnectTimeout(ctx, time.Duration(c.api.Limits.Connect)*time.Millisecond)
	}
	if limit := c.firstContentLimit(); limit > 0 {
		ctx, c.giveUp = context.WithCancelCause(ctx)
		giveUp := c.giveUp
		c.alarm = time.AfterFunc(limit, func() { giveUp(errFirstContentLate) })
	}
	return ctx
}

// lastWords is what a stream ends with that broke off: an error, unless nobody is left to hear it.
func (c *call) lastWords(err error) []byte {
	says := errCut
	switch {
	case c.ending.Err() != nil:
		says = errShutdown
		c.status = says.status // as it is counted
	case c.in.Context().Err() != nil:
		return nil
	case errors.Is(err, errIdleTooLong):
		says = errIdle
	}
	return says.event(c.protocol, c.id)
}
