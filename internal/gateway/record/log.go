package record

import (
	"context"
	"log/slog"
)

// write writes the line of a request, if it is to have one. The members of ai_log have the names that dashboards know.
func (r *Record) write(log *slog.Logger) {
	if r.Line == nil {
		return
	}
	var trace slog.Attr // the empty one is left out
	if r.Line.TraceID != "" {
		trace = slog.String("traceId", r.Line.TraceID)
	}
	log.LogAttrs(context.Background(), slog.LevelInfo, "request", trace,
		slog.String("requestId", r.RequestID), slog.Time("beganAt", r.BeganAt),
		slog.String("method", r.Line.Method), slog.String("path", r.Line.Path), slog.Int("status", r.Status),
		slog.String("endState", string(r.EndState)), slog.String("api", r.API), slog.String("route", r.Route),
		slog.String("service", r.Service), slog.String("consumer", r.Consumer),
		slog.Attr{Key: "ai_log", Value: slog.GroupValue(r.aiLog()...)})
}

func (r *Record) aiLog() []slog.Attr {
	kind := "normal"
	if r.Streamed {
		kind = "stream"
	}
	attrs := []slog.Attr{
		slog.String("api", r.APIName), slog.String("model", r.loggedModel()), slog.String("response_type", kind),
		slog.String("consumer", r.consumerLabel()), slog.Int64("llm_service_duration", r.Total.Milliseconds()),
	}
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
