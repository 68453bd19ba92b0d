package record

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer sends a span for each request of an API with statistics to a collector. The nil one sends nothing.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// CheckEndpoint refuses what is no address of a collector.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("the OTLP endpoint %q is not of the form http://host:4318 or https://host:4318", endpoint)
	}
	return nil
}

// NewTracer returns a tracer for the collector whose OTLP over HTTP is at endpoint, and nil for "". It does not connect:
// a collector that is away costs spans and nothing else.
func NewTracer(endpoint, process string, log *slog.Logger) (*Tracer, error) {
	if endpoint == "" {
		return nil, nil //nolint:nilnil // the nil one is a tracer, too
	}
	if err := CheckEndpoint(endpoint); err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(strings.TrimSuffix(endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("prepare traces for %s: %w", endpoint, err)
	}
	ours := resource.NewSchemaless(attribute.String("service.name", "engineshed-gateway"),
		attribute.String("service.instance.id", process))
	described, err := resource.Merge(ours, resource.Environment()) // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(described),
		sdktrace.WithBatcher(&exporting{exporter, log, 0}, sdktrace.WithBatchTimeout(time.Second)))
	return &Tracer{provider, provider.Tracer("github.com/engineshed/engineshed/internal/gateway")}, nil
}

// Close sends what is left.
func (t *Tracer) Close(ctx context.Context) {
	if t != nil {
		_ = t.provider.Shutdown(ctx) // whoever cannot be told has been logged
	}
}

// exporting logs what a collector does not take, once a minute. Its one caller is the batcher.
type exporting struct {
	sdktrace.SpanExporter
	log    *slog.Logger
	warned int64
}

// ExportSpans is part of sdktrace.SpanExporter.
func (e *exporting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if now := time.Now().Unix(); err != nil && now-e.warned >= 60 {
		e.warned = now
		e.log.Warn("traces could not be sent, they are lost", "spans", len(spans), "error", err)
	}
	return nil
}

// Span is one request in a trace. The nil one is none.
type Span struct{ span trace.Span }

var traceContext propagation.TraceContext

// Start begins the span of a request, in the trace that its client names in header.
func (t *Tracer) Start(ctx context.Context, header http.Header, began time.Time) *Span {
	if t == nil {
		return nil
	}
	ctx = traceContext.Extract(ctx, propagation.HeaderCarrier(header))
	_, span := t.tracer.Start(ctx, "llm", trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindServer))
	return &Span{span}
}

// Inject names the span to whoever is asked next.
func (s *Span) Inject(header http.Header) {
	if s != nil {
		header.Del("Tracestate")
		traceContext.Inject(trace.ContextWithSpan(context.Background(), s.span), propagation.HeaderCarrier(header))
	}
}

// End says what the request was. What was asked and answered is never in a trace.
func (s *Span) End(r *Record, operation string) {
	if s == nil {
		return
	}
	s.span.SetName(operation)
	s.span.SetAttributes(
		attribute.String("gen_ai.span.kind", "LLM"), attribute.String("gen_ai.operation.name", operation),
		attribute.String("gen_ai.model_name", clean(r.loggedModel())), attribute.String("gen_ai.request.model", clean(r.ModelAsked)),
		attribute.String("gen_ai.response.model", clean(r.Model)),
		attribute.Bool("gen_ai.request.stream", r.Streamed), attribute.Int("http.response.status_code", r.Status),
		attribute.String("engineshed.request.id", r.RequestID), attribute.String("engineshed.end_state", string(r.EndState)),
		attribute.String("engineshed.api", r.APIName), attribute.String("engineshed.route", r.Route),
		attribute.String("engineshed.service", r.ServiceName), attribute.String("engineshed.consumer", r.consumerLabel()))
	if r.Line != nil && r.Line.ChatID != "" {
		s.span.SetAttributes(attribute.String("gen_ai.response.id", clean(r.Line.ChatID)))
	}
	if u := r.Usage; u.Known {
		s.span.SetAttributes(attribute.Int64("gen_ai.usage.input_tokens", u.Input),
			attribute.Int64("gen_ai.usage.output_tokens", u.Output), attribute.Int64("gen_ai.usage.total_tokens", u.Total))
	}
	if r.FirstContent > 0 {
		s.span.AddEvent("gen_ai.first_content", trace.WithTimestamp(r.BeganAt.Add(r.FirstContent)))
	}
	if r.EndState != Complete || r.Status >= http.StatusInternalServerError {
		s.span.SetStatus(codes.Error, string(r.EndState))
	}
	s.span.End(trace.WithTimestamp(r.BeganAt.Add(r.Total)))
}

// TraceID names the trace; "" when there is none.
func (s *Span) TraceID() string {
	if s == nil || !s.span.SpanContext().IsValid() {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}
