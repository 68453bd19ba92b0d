// Package record keeps what each request used: counted at once, made into a line of the log and a row of Postgres after its answer, and
// written by goroutines of its own.
package record

import (
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/protocol"
)

// EndState is how a request ended.
type EndState string

// The end states.
const (
	Complete        EndState = "complete"
	ClientGone      EndState = "client_gone"
	UpstreamCut     EndState = "upstream_cut"     // the service broke off, in its answer or before it
	UpstreamTimeout EndState = "upstream_timeout" // the service fell silent, in its answer or before it
	UpstreamError   EndState = "upstream_error"   // the service's stream told of an error
	Refused         EndState = "refused"          // the gateway answered by itself; the status says why
)

// Record is one request and what it used.
type Record struct {
	BeganAt      time.Time
	RequestID    string
	AccountID    string
	API, APIName string // "": a model service was called directly
	Route        string
	Service      string
	ServiceName  string
	ModelAsked   string // as the client wrote it
	Model        string // as it was served
	Consumer     string
	ConsumerName string
	OperatorKey  int32 // the number of the key a model service was asked with; 0: in another way
	EndState     EndState
	Status       int
	Streamed     bool
	Usage        protocol.Usage
	FirstContent time.Duration // 0: not streamed, or no content came
	Total        time.Duration

	Line *Line // what the log gets; nil: nothing

	line Line // memory for Line
	next *Record
}

// Log has the log say this, beside the record.
func (r *Record) Log(l Line) {
	r.line = l
	r.Line = &r.line
}

// Line is what the log says of a request beside its record.
type Line struct {
	Method, Path string
	TraceID      string
	ChatID       string
	Turns        int
	Content      []Content // what was asked and answered, of APIs that have it recorded
}

// Content is a part of what was asked or answered.
type Content struct{ Name, Text string }

// size is how much memory the content takes.
func (l *Line) size() (n int64) {
	if l == nil {
		return 0
	}
	for _, c := range l.Content {
		n += int64(len(c.Text))
	}
	return n
}

// maxName bounds what clients and services name.
const maxName = 256

// clean makes text of others fit for a database and a log.
func clean(text string) string {
	if len(text) > maxName {
		text = text[:maxName]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
