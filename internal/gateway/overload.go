package gateway

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/engineshed/engineshed/internal/gateway/admission"
	"github.com/engineshed/engineshed/internal/gateway/stall"
)

// load is what the gateway carries and whom it has given up, of all its listeners together.
type load struct {
	gate       admission.Gate
	memory     *admission.Memory // of bodies that are held
	clients    *stall.Clients
	apiRefused atomic.Uint64 // for the limits of Model APIs
}

func newLoad(s Settings) *load {
	l := &load{memory: admission.NewMemory(s.MaxBodyMemory), clients: stall.New(s.BodyIdleTimeout, s.WriteIdleTimeout)}
	l.gate.SetLimits(s.MaxConcurrency, s.MaxQueue)
	return l
}

// enter takes the call through the gate of its API and then that of the gateway: who waits for the one takes no room from
// others at the other. The body of a call that has to wait is read meanwhile, because only then does net/http notice that
// its client leaves.
func (c *call) enter(w http.ResponseWriter) *refusal {
	if gate := c.traffic.Gate(); gate != nil {
		if refused := c.join(w, gate, &c.turns[0], errConcurrency); refused != nil {
			if refused == errConcurrency {
				c.load.apiRefused.Add(1)
			}
			return refused
		}
	}
	return c.join(w, &c.load.gate, &c.turns[1], errOverloaded)
}

// join takes the call through one gate, which is full when it is refused so.
func (c *call) join(w http.ResponseWriter, gate *admission.Gate, turn *admission.Turn, full *refusal) *refusal {
	var err error
	if *turn, err = gate.Join(); err != nil {
		return full
	}
	if !turn.Waits() {
		return nil
	}
	if refused := c.readBody(w); refused != nil {
		return refused
	}
	if turn.Wait(c.in.Context()) == nil {
		return nil
	}
	if c.ending.Err() != nil {
		return errShutdown
	}
	panic(http.ErrAbortHandler) // nobody is left to be answered
}

// leave gives back the call's place.
func (c *call) leave() {
	for i := range c.turns {
		c.turns[i].Leave()
	}
}

// release gives back the memory of the body, which others may be lent still. The call does not read it any more.
func (c *call) release() {
	c.held.Release()
	c.held, c.body = nil, nil
}

// take reads a whole body, which is the one that was signed if the request is.
func (c *call) take(w http.ResponseWriter) (body []byte, refused *refusal) {
	var err error
	if c.held, err = c.load.memory.Read(c.bounded(w), c.in.ContentLength); err != nil {
		return nil, refuseBody(err)
	}
	if c.signature != nil && !c.signature.Covers(c.held.Bytes) {
		return nil, errSignedBody
	}
	return c.held.Bytes, nil
}

// bounded is the body of a client that may stand still, or send more than it may.
func (c *call) bounded(w http.ResponseWriter) io.ReadCloser {
	body := c.load.clients.Body(w, c.in.Body)
	if limit := c.limit(); c.in.ContentLength < 0 || c.in.ContentLength > limit {
		return http.MaxBytesReader(w, body, limit)
	}
	return body
}

// refuseBody is for a body that could not be read.
func refuseBody(err error) *refusal {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.Is(err, stall.ErrBody):
		return errStalled
	case errors.Is(err, admission.ErrMemory):
		return errNoMemory
	}
	return errBody
}
