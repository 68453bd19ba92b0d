package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/postgres"
)

// statuses is the one table of HTTP statuses.
var statuses = map[fault.Kind]int{
	fault.Invalid:          http.StatusBadRequest,
	fault.Denied:           http.StatusForbidden,
	fault.NotFound:         http.StatusNotFound,
	fault.MethodNotAllowed: http.StatusMethodNotAllowed,
	fault.Conflict:         http.StatusConflict,
	fault.TooLarge:         http.StatusRequestEntityTooLarge,
	fault.UnsupportedMedia: http.StatusUnsupportedMediaType,
	fault.Throttled:        http.StatusTooManyRequests,
	fault.Unavailable:      http.StatusServiceUnavailable,
}

// What a caller sees of an error that is not a fault: nothing of it.
var (
	errInternal = fault.New(0, "InternalError",
		"The call failed inside the server.",
		"Try again with the same ClientToken; if it keeps failing, look for the request id in the server's log.")
	errUnavailable = fault.New(fault.Unavailable, "ServiceUnavailable",
		"The service cannot answer right now.", "Try again in a few seconds, with the same ClientToken.")
)

// errorBody is what every client can read: members in this spelling, and strings only.
type errorBody struct {
	RequestID          string                     `json:"RequestId"`
	HostID             string                     `json:"HostId"`
	Code               string                     `json:"Code"`
	Message            string                     `json:"Message"`
	Recommend          string                     `json:"Recommend"`
	AccessDeniedDetail *access.AccessDeniedDetail `json:"AccessDeniedDetail,omitempty"`
}

// bothSpellings is the error body of path-style products: clients of one age read the members in the first spelling,
// those of another age in this one.
type bothSpellings struct {
	errorBody
	RequestID          string                     `json:"requestId"`
	HostID             string                     `json:"hostId"`
	Code               string                     `json:"code"`
	Message            string                     `json:"message"`
	Recommend          string                     `json:"recommend"`
	AccessDeniedDetail *access.AccessDeniedDetail `json:"accessDeniedDetail,omitempty"`
}

func (b errorBody) inBothSpellings() bothSpellings {
	return bothSpellings{b, b.RequestID, b.HostID, b.Code, b.Message, b.Recommend, b.AccessDeniedDetail}
}

// meaning returns the fault that err is answered as. What it does not recognise is logged in full.
func (s *server) meaning(ctx context.Context, err error) *fault.Fault {
	if f, ok := fault.From(err); ok {
		return f
	}
	f := errInternal
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || postgres.IsUnavailable(err) {
		f = errUnavailable
	}
	s.log.ErrorContext(ctx, "call failed", slog.String("requestId", RequestID(ctx)), slog.String("code", f.Code), slog.Any("error", err))
	return f
}

// refuse answers err.
func (s *server) refuse(r *http.Request, err error) answer {
	f := s.meaning(r.Context(), err)
	body := errorBody{RequestID: RequestID(r.Context()), HostID: r.Host, Code: f.Code, Message: f.Message, Recommend: f.Next}
	if denied, ok := errors.AsType[*access.DeniedError](err); ok {
		body.AccessDeniedDetail = &denied.AccessDeniedDetail
	}
	status, ok := statuses[f.Kind]
	if !ok {
		status = http.StatusInternalServerError
	}
	a := answer{status: status, code: f.Code}
	// Only the spelling depends on what the request says of itself before it is proven.
	if s.products[r.Header.Get("x-acs-version")].Paths {
		a.body = marshal(body.inBothSpellings())
	} else {
		a.body = marshal(body)
	}
	return a
}

func marshal(body any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // a string to sign is full of &, and clients compare it
	_ = encoder.Encode(body)     // strings always encode
	return b.Bytes()
}
