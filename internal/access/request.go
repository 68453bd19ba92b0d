package access

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/engineshed/engineshed/internal/access/ram"
)

// Request is what a caller wants to do.
type Request struct {
	Action    string   // PRODUCT:OPERATION
	Resources []string // equivalent spellings of the resource's ARN, or "*"; the first is the one reported
	// ResourceGroupID is the group that contains the resource, "" when it has none or is not known.
	ResourceGroupID string
	// Context holds the values of condition keys, such as acs:RequestTag/KEY. What follows from the caller and the time
	// (acs:SourceIp, acs:CurrentTime …) is added to it and cannot be set here.
	Context map[string]string
	// Look finds out more about the resource; nil: there is no more. It is asked once, and only when a policy of the
	// caller depends on its answer.
	Look func(context.Context) (Facts, error)
}

// Facts are what a resource has that policies ask for.
type Facts struct {
	ResourceGroupID string            // "" when it has none
	Tags            map[string]string // become acs:ResourceTag/KEY
}

func (r Request) check() error {
	if r.Action == "" || len(r.Resources) == 0 {
		return errors.New("the request names no action or no resource")
	}
	return nil
}

// question is a request while the stages are asked.
type question struct {
	caller  Caller
	request Request
	group   string
	context ram.Context
	looked  bool
}

func newQuestion(caller Caller, request Request) *question {
	q := &question{caller: caller, request: request, group: request.ResourceGroupID, context: ram.Context{}}
	for key, value := range request.Context {
		q.context.Set(key, value)
	}
	q.setCommonKeys()
	return q
}

// setCommonKeys sets what the caller and the time say, and nobody else may.
func (q *question) setCommonKeys() {
	c := q.caller
	when := c.Time
	if when.IsZero() {
		when = time.Now()
	}
	q.context.Set("acs:CurrentTime", when.UTC().Format(time.RFC3339))
	q.context.Set("acs:SecureTransport", strconv.FormatBool(c.Secure))
	q.context.Set("acs:MFAPresent", "false") // access keys have no second factor
	q.context.Set("acs:PrincipalARN", c.ARN())
	q.context.Unset("acs:SourceIp")
	if c.SourceIP.IsValid() {
		q.context.Set("acs:SourceIp", c.SourceIP.Unmap().WithZone("").String())
	}
}

// look finds out about the resource, once.
func (q *question) look(ctx context.Context) error {
	if q.looked || q.request.Look == nil {
		return nil
	}
	facts, err := q.request.Look(ctx)
	if err != nil {
		return fmt.Errorf("find out about %s: %w", q.request.Resources[0], err)
	}
	q.looked = true
	if q.group == "" {
		q.group = facts.ResourceGroupID
	}
	for key, value := range facts.Tags {
		q.context.Set("acs:ResourceTag/"+key, value)
	}
	return nil
}

func (q *question) ram() ram.Request {
	return ram.NewRequest(q.request.Action, q.request.Resources, q.context)
}
