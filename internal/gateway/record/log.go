package record

import (
	"bytes"
	"context"
	"io"
	"log/slog"
)

// requestLog writes the lines of requests, many at once.
type requestLog struct {
	to     io.Writer
	buffer bytes.Buffer
	lines  *slog.Logger
	attrs  []slog.Attr // of one line after the other
}

// maxBuffer is how many bytes of lines are written at once.
const maxBuffer = 64 << 10

func newRequestLog(to io.Writer) *requestLog {
	l := &requestLog{to: to}
	l.lines = slog.New(slog.NewJSONHandler(&l.buffer, nil))
	return l
}

func (l *requestLog) write(records []*Record) {
	for _, rec := range records {
		l.attrs = rec.write(l.lines, l.attrs[:0])
		if l.buffer.Len() >= maxBuffer {
			l.flush()
		}
	}
	l.flush()
}

func (l *requestLog) flush() {
	if l.buffer.Len() > 0 {
		_, _ = l.buffer.WriteTo(l.to) // a log that cannot be written has nobody to be told
		l.buffer.Reset()
	}
}

// write writes the line of a request, if it is to have one. The members of ai_log have the names that dashboards know.
func (r *Record) write(log *slog.Logger, attrs []slog.Attr) []slog.Attr {
	if r.Line == nil {
		return attrs
	}
	attrs = r.aiLog(attrs)
	var trace slog.Attr // the empty one is left out
	if r.Line.TraceID != "" {
		trace = slog.String("traceId", r.Line.TraceID)
	}
	log.LogAttrs(context.Background(), slog.LevelInfo, "request", trace,
		slog.String("requestId", r.RequestID), slog.Time("beganAt", r.BeganAt),
		slog.String("method", r.Line.Method), slog.String("path", r.Line.Path), slog.Int("status", r.Status),
		slog.String("endState", string(r.EndState)), slog.String("api", r.API), slog.String("route", r.Route),
		slog.String("service", r.Service), slog.String("consumer", r.Consumer),
		slog.Attr{Key: "ai_log", Value: slog.GroupValue(attrs...)})
	return attrs
}

func (r *Record) aiLog(attrs []slog.Attr) []slog.Attr {
	kind := "normal"
	if r.Streamed {
		kind = "stream"
	}
	attrs = append(attrs,
		slog.String("api", r.APIName), slog.String("model", r.loggedModel()), slog.String("response_type", kind),
		slog.String("consumer", r.consumerLabel()), slog.Int64("llm_service_duration", r.Total.Milliseconds()))
	if r.FirstContent > 0 {
		attrs = append(attrs, slog.Int64("llm_first_token_duration", r.FirstContent.Milliseconds()))
	}
	if u := r.Usage; u.Known {
		attrs = append(attrs, slog.Int64("input_token", u.Input), slog.Int64("output_token", u.Output),
			slog.Int64("total_token", u.Total), slog.Int64("cached_tokens", u.Cached), slog.Int64("reasoning_tokens", u.Reasoning))
	}
	if r.Line.ChatID != "" {
		attrs = append(attrs, slog.String("chat_id", clean(r.Line.ChatID)))
	}
	if r.Line.Turns > 0 {
		attrs = append(attrs, slog.Int("chat_round", r.Line.Turns))
	}
	for _, c := range r.Line.Content {
		if c.Text != "" {
			attrs = append(attrs, slog.String(c.Name, c.Text))
		}
	}
	return attrs
}

func (r *Record) loggedModel() string {
	for _, name := range []string{r.Model, r.ModelAsked} {
		if name != "" {
			return name
		}
	}
	return "UNKNOWN"
}

func (r *Record) consumerLabel() string {
	if r.ConsumerName == "" {
		return "none"
	}
	return r.ConsumerName
}
