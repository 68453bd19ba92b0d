package gateway

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/protocol"
	"github.com/engineshed/engineshed/internal/gateway/record"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// watch has the answer read while it passes.
func (c *call) watch(resp *http.Response) {
	if c.alarm == nil {
		c.answer.awaitPieces(c.idleLimit())
	}
	if c.chosen || c.alarm != nil {
		c.answer.begun = c.contentBegan
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return
	}
	header := resp.Header
	if s := c.statistics(); s != nil && s.LogResponseContent {
		c.answer.reader.Record(maxRecorded)
	}
	c.answer.reader.Begin(header.Get("Content-Type"), header.Get("Content-Encoding"), c.strips)
	if c.answer.reader.Events() {
		header.Del("Content-Length") // an error may follow
		resp.ContentLength = -1
		c.answer.passInEvents(c.isChat(), c.lastWords)
	}
}

// tellsUsageWhenAsked reports whether what is asked for tells its usage at the end of a stream only when it is asked to.
func (c *call) tellsUsageWhenAsked() bool {
	return c.protocol == openAI && strings.HasSuffix(strings.TrimSuffix(c.path, "/"), "/completions")
}

// account settles what the request used. A request for nothing that there is has no account.
func (c *call) account(outcome config.Outcome) {
	if c.asked == nil && c.service == nil && (c.operator == nil || c.refused == nil) {
		return
	}
	rec := record.New()
	rec.BeganAt, rec.RequestID, rec.EndState, rec.Status, rec.Total = c.began, c.id, c.endState(outcome), c.status, time.Since(c.began)
	c.describe(rec)
	if c.request != nil {
		rec.ModelAsked = c.request.Model
	}
	reader := &c.answer.reader
	reader.End()
	rec.Usage, rec.Model, rec.Streamed = reader.Usage, reader.Model, reader.Stream
	if reader.Stream && !c.answer.first.IsZero() {
		rec.FirstContent = max(c.answer.first.Sub(c.began), 1)
	}
	configured := c.configuredModel()
	rec.Model = cmp.Or(rec.Model, configured, rec.ModelAsked)
	if c.operator != nil { // may have named the service, which an engine then answers with
		rec.Model = cmp.Or(configured, rec.ModelAsked)
	}
	if s := c.statistics(); s != nil {
		c.records.Count(rec, configured)
		rec.Log(c.line(s))
		c.span.End(rec, c.operation())
	}
	c.records.Add(rec)
}

// statistics is what the API that was asked has recorded beside the usage; nil: nothing.
func (c *call) statistics() *snapshot.Statistics {
	if c.asked == nil {
		return nil
	}
	return c.asked.Statistics
}

// recordsQuestion reports whether the log gets what was asked.
func (c *call) recordsQuestion() bool {
	s := c.statistics()
	return s != nil && s.LogRequestContent
}

// maxRecorded is how much is recorded of each part of what is asked and answered.
const maxRecorded = 32_000

// line is what the log says of the request.
func (c *call) line(s *snapshot.Statistics) record.Line {
	path, _, _ := strings.Cut(c.in.RequestURI, "?") // as it was asked for
	l := record.Line{
		Method: c.in.Method, Path: path[:min(len(path), maxLoggedPath)], TraceID: c.span.TraceID(), ChatID: c.answer.reader.ID,
	}
	if c.request != nil {
		l.Turns = c.request.Turns()
	}
	if c.recordsQuestion() && c.request != nil {
		q := protocol.ReadQuestion(c.request.Body(), maxRecorded)
		l.Content = append(l.Content, record.Content{Name: "question", Text: q.Text},
			record.Content{Name: "system", Text: q.System}, record.Content{Name: "messages", Text: q.Messages})
	}
	if s.LogResponseContent {
		answer, reasoning, toolCalls := c.answer.reader.Recorded()
		l.Content = append(l.Content, record.Content{Name: "answer", Text: answer},
			record.Content{Name: "reasoning", Text: reasoning}, record.Content{Name: "tool_calls", Text: toolCalls})
	}
	return l
}

const maxLoggedPath = 512

// operation is what traces call the kind of the request.
func (c *call) operation() string {
	path := strings.TrimSuffix(c.path, "/")
	for suffix, name := range operations {
		if strings.HasSuffix(path, suffix) {
			return name
		}
	}
	return "request"
}

var operations = map[string]string{
	"/chat/completions": "chat", "/messages": "chat", "/responses": "chat", "/v1/completions": "text_completion",
	"/embeddings": "embeddings", "/rerank": "rerank", "/text-rerank": "rerank", "/images/generations": "image_generation",
}

// describe names who was asked for what.
func (c *call) describe(rec *record.Record) {
	switch {
	case c.asked != nil:
		rec.AccountID, rec.API, rec.APIName = c.asked.AccountID, c.asked.ID, c.asked.Name
	case c.service != nil:
		rec.AccountID, rec.Service = c.service.AccountID, c.service.ID
	}
	if c.operator != nil {
		rec.AccountID, rec.OperatorKey = c.operator.AccountID, c.operator.Number
	}
	if c.route != nil {
		rec.Route = c.route.Name
	}
	if c.upstream != nil {
		rec.Service, rec.ServiceName = c.upstream.ID, c.upstream.Name
	}
	if c.consumer != nil {
		rec.Consumer, rec.ConsumerName = c.consumer.ID, c.consumer.Name
	}
}

// configuredModel is the model that the API or the model service is set to, "" when it is the client's choice.
func (c *call) configuredModel() string {
	switch {
	case c.route != nil && c.written() != "":
		return c.written()
	case c.service != nil:
		return c.service.ModelName
	}
	return ""
}

func (c *call) endState(outcome config.Outcome) record.EndState {
	switch {
	case c.refused == errFirstContent || c.refused == errIdle || outcome == config.Cut && errors.Is(c.answer.err, errIdleTooLong):
		return record.UpstreamTimeout
	case c.refused == errEngine || outcome == config.Cut:
		return record.UpstreamCut
	case outcome == config.Gone:
		return record.ClientGone
	case c.refused != nil:
		return record.Refused
	case c.answer.reader.Failed:
		return record.UpstreamError
	}
	return record.Complete
}

// isChat reports whether what is asked for is an answer whose stream says when it is over.
func (c *call) isChat() bool {
	path := strings.TrimSuffix(c.path, "/")
	switch c.protocol {
	case anthropic:
		return strings.HasSuffix(path, "/messages")
	case "", openAI:
		return strings.HasSuffix(path, "/completions")
	}
	return false
}
