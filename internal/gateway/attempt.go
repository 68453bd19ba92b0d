package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/balance"
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
	spliced  bool             // pieces are sent, and not the body as it came
	pieces   model.Splice
	strips   bool          // the gateway, not the client, asked for the usage at the end of the stream
	sent     time.Time     // when it was asked
	turn     balance.Turn  // that the service has, if it was chosen by what is observed
	chosen   bool          // it was
	peer     peer          // who is sent it, counted in until the attempt ends
	left     bool          // it has been counted out
	key      *upstream.Key // that it is sent; nil: none
	answer   answer

	url       url.URL     // of what is asked, without whose it is
	firstSent sentRequest // of those that were sent

	ctx    context.Context // of what is asked
	alarm  *time.Timer     // gives up when no content has come; nil: content may take its time
	giveUp context.CancelCauseFunc
}

// peer is the replica or endpoint that a request was sent to.
type peer interface {
	ID() string
	End()
	Succeeded()
	Failed() bool
}

// standing is how requests to the service went.
func (a *attempt) standing() *config.Standing {
	if a.service != nil {
		return a.service.Standing
	}
	return a.upstream.Standing
}

// end lets go of what the attempt holds. Its answer has been closed.
func (a *attempt) end(how balance.Ending) {
	a.letGo(how)
	if a.alarm != nil {
		a.alarm.Stop()
		a.giveUp(nil)
	}
	a.answer.stop()
}

// letGo counts the request out of the service and of whoever was sent it. Once more it does nothing.
func (a *attempt) letGo(how balance.Ending) {
	if a.left {
		return
	}
	a.left = true
	var took time.Duration
	if !a.sent.IsZero() {
		took = time.Since(a.sent)
	}
	a.turn.End(took, how)
	if a.peer != nil {
		a.peer.End()
	}
}

// ask asks the service. It returns an answer that may be passed on, and why another service should be asked instead, one
// of them or both.
func (c *call) ask() (*http.Response, *refusal) {
	if c.missing != nil {
		return nil, c.missing
	}
	c.sent = time.Now()
	out := c.outgoing()
	resp, err := c.RoundTrip(&out)
	for err == nil && c.wantsOtherKey(resp) {
		_ = resp.Body.Close()
		c.peer.End()
		c.peer = nil
		out = c.outgoing()
		resp, err = c.RoundTrip(&out)
	}
	if err == nil {
		if err = c.accept(resp); err == nil && resp.StatusCode < http.StatusBadRequest && c.holds() {
			err = c.answer.hold()
		}
		if err != nil {
			_ = resp.Body.Close()
		}
	}
	if err != nil {
		why := c.failed(err)
		if why.failure {
			c.noteHealth(false)
		}
		return nil, why
	}
	c.noteHealth(resp.StatusCode < http.StatusInternalServerError)
	if c.alarm != nil { // until here it alone has limited the wait
		c.alarm.Stop()
		c.answer.awaitPieces(c.idleLimit())
	}
	if resp.StatusCode >= http.StatusBadRequest || c.answer.reader.Failed && !c.answer.reader.Content {
		return resp, errAnswered
	}
	return resp, nil
}

// contentBegan takes note that content has come.
func (c *call) contentBegan() {
	if c.alarm != nil {
		c.alarm.Stop()
	}
	if c.answer.reader.Stream {
		c.turn.FirstContent(time.Since(c.sent))
	}
}

// wantsOtherKey takes note of what the service says to the key it was sent, and reports whether it is to be asked with
// another one.
func (c *call) wantsOtherKey(resp *http.Response) bool {
	return c.key != nil && c.key.Answered(resp.StatusCode, resp.Header) && c.upstream.HasOtherKey() && (c.spliced || c.upload.ReadCloser == nil)
}

// noteHealth takes note of whether the service, and whoever was sent the request, answered.
func (c *call) noteHealth(answered bool) {
	s := c.standing()
	switch {
	case answered:
		s.Succeeded()
		if c.peer != nil {
			c.peer.Succeeded()
		}
		return
	case s.Failed():
		c.warn("service fails again and again: others are asked first, where there are any", nil)
	}
	if c.peer != nil {
		c.noteEjection(c.peer.Failed())
	}
}

// noteEjection takes note of a replica or endpoint that is left alone for a while.
func (c *call) noteEjection(ejected bool) {
	if ejected {
		c.standing().Ejections.Add(1)
		c.warn("fails again and again: others are asked first", nil)
	}
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
	if resp == nil && failed.missing == nil {
		c.silent = append(c.silent, failed.standing())
	}
	for c.fallbacks < len(c.route.Fallback.Targets) {
		target := c.route.Fallback.Targets[c.fallbacks]
		c.fallbacks++
		c.attempt = new(attempt)
		if c.turnTo(target) != nil || !c.mayAsk() || len(c.body) > 0 && c.write() != nil {
			continue
		}
		status := http.StatusBadGateway
		if resp != nil {
			status = resp.StatusCode
			_ = resp.Body.Close()
		}
		failed.end(endingOf(status))
		c.status = 0
		c.traffic.FellBack()
		return true
	}
	c.attempt = failed
	return false
}

// endedAs is how the request ended for the service that was asked.
func (c *call) endedAs(outcome config.Outcome) balance.Ending {
	switch outcome {
	case config.Gone:
		return balance.Abandoned
	case config.Cut:
		return balance.Failed
	}
	return endingOf(c.status)
}

// endingOf is what an answer with this status says of its service. Of a request that it could not accept it says nothing.
func endingOf(status int) balance.Ending {
	switch {
	case status < http.StatusBadRequest:
		return balance.Complete
	case status >= http.StatusInternalServerError,
		status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusTooManyRequests:
		return balance.Failed
	}
	return balance.Abandoned
}

// mayAsk reports whether the service is one to turn to: it is not ejected, and did not just leave the same request without
// an answer more often than its budget allows.
func (c *call) mayAsk() bool {
	s := c.standing()
	return !isAside(s) && (!slices.Contains(c.silent, s) || s.Spend())
}

// isAside reports whether other services are asked first.
func isAside(s *config.Standing) bool { return s.Aside() && !s.Probe() }

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
